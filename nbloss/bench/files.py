"""The numbers as JSON, and JSON as numbers again: what was measured once can be drawn, tabled and compared later."""

import json


def write(path, records, facts):
    with open(path, "w") as file:
        json.dump({"machine": facts, "races": records}, file, indent=1)
        file.write("\n")


def read(paths):
    """(records, facts) of files that `write` wrote; of several, the first one's machine, and the busiest of their times."""
    records, machines = {}, []
    for path in paths:
        try:
            with open(path) as file:
                content = json.load(file)
            machines.append(content["machine"])
            records |= {_key(record): record for record in content["races"]}
        except (OSError, UnicodeDecodeError, ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no file that --json wrote: {type(error).__name__}: {error}") from None
    if len({(m["processor"], m["cpus"]) for m in machines}) > 1:
        raise ValueError("the files come from different machines: their times say nothing about one another")
    busy = [m["others_cpus"] for m in machines if m["others_cpus"] is not None]
    return list(records.values()), machines[0] | {"others_cpus": max(busy, default=None)}


def _key(record):
    return record["operation"], record["shape"], record["dtype"], record["threads"]


def compare(old, new):
    """Which races of two runs nbloss has become faster or slower in, as text.

    Multiples of the yardstick are compared, not times: the machine's slow minutes fall on both. A change counts where it is
    more than both runs' quartiles explain.
    """
    before = {_key(record): record for record in old}
    lines = []
    for record in new:
        was, now = (r["contenders"].get("nbloss", {}) for r in (before.get(_key(record), {"contenders": {}}), record))
        if "seconds" not in was or "seconds" not in now:
            continue
        change = now["to_yardstick"] / was["to_yardstick"]
        spread = max(r["high"] / r["low"] for r in (was, now))
        word = "same" if 1 / spread <= change <= spread else "FASTER" if change < 1 else "SLOWER"
        name = f"{record['operation']}  {record['shape']} {record['dtype']}"
        x = f"x {record['yardstick']}"
        lines.append(f"  {word:<7}{name:<53}{was['to_yardstick']:>8.2f} -> {now['to_yardstick']:.2f} {x} ({change - 1:+.0%})")
    if not lines:
        return "The two runs have no race of nbloss in common."
    return "\n".join(["nbloss then and now, as multiples of what the memory takes (same: within the quartiles)", *lines])
