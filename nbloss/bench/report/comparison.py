"""Comparisons as text: two result files, or two source trees."""

from ..measure.files import key
from ..races import title
from .report import duration


def compare(old, new):
    """In which races of two runs nbloss became faster or slower, as text.

    It compares multiples of the memory baseline and not times, so that a temporary slowdown of the machine affects both. A change
    counts where it is larger than the quartiles of both runs explain.
    """
    before = {key(record): record for record in old}
    lines = []
    for record in new:
        was, now = (r["contenders"].get("nbloss", {}) for r in (before.get(key(record), {"contenders": {}}), record))
        if "seconds" not in was or "seconds" not in now:
            continue
        change = now["to_yardstick"] / was["to_yardstick"]
        spread = max(r["high"] / r["low"] for r in (was, now))
        word = "same" if 1 / spread <= change <= spread else "FASTER" if change < 1 else "SLOWER"
        x = f"x {record['yardstick']}"
        lines.append(f"  {word:<7}{title(record):<53}{was['to_yardstick']:>8.2f} -> {now['to_yardstick']:.2f} {x} ({change - 1:+.0%})")
    if not lines:
        return "The two runs have no race of nbloss in common."
    return "\n".join(["nbloss before and now, as multiples of the memory baseline (same: within the quartiles)", *lines])


# ---------------------------------------- two source trees ----------------------------------------

_COLUMNS = "  {:<7}{:<53}{:>10}{:>10}{:>9}   {}".format


def head(trees):
    """The two trees, and the head of the table."""
    lines = [f"{name}: nbloss {tree['version']} in {tree['path']}" for name, tree in trees.items()]
    return "\n".join([*lines, "", _COLUMNS("", "", "old", "new", "new/old", "quartiles")])


def line(record):
    """One race of two trees in one line."""
    if "verdict" not in record:
        return f"  {'-':<7}{title(record):<53}not compared: {record['failed']}"
    old, new, ratio = record["old"], record["new"], record["ratio"]
    word = record["verdict"] if record["verdict"] == "same" else record["verdict"].upper()
    quartiles = f"{ratio['low']:.3f} - {ratio['high']:.3f}"
    return _COLUMNS(word, title(record), duration(old["seconds"]), duration(new["seconds"]), f"{ratio['median']:.3f}", quartiles)


def tally(records, margin):
    """What the words mean, and how many races are slower, faster and the same."""
    count = {word: sum(record.get("verdict") == word for record in records) for word in ("slower", "faster", "same")}
    failed = len(records) - sum(count.values())
    lines = [f"(SLOWER, FASTER: both quartiles of new/old over the rounds differ from 1 by more than {margin:.0%})"]
    lines += [f"not compared: {failed}"] * bool(failed)
    return "\n".join([*lines, ", ".join(f"{word}: {n}" for word, n in count.items())])
