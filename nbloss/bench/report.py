"""A race's records as a table for the terminal, as JSON for machines, and as a picture. Losses are shown like wins."""

import json
import os
import platform
import sys
import time
from importlib import metadata

from .peers import YARDSTICKS, cpus

_PACKAGES = ("nbloss", "numpy", "numba", "llvmlite", "scipy", "torch", "jax", "jaxlib", "scikit-learn", "ml_dtypes")
_VARIABLES = ("NUMBA_", "NBLOSS_", "OMP_", "MKL_", "OPENBLAS_", "GOMP_", "KMP_", "XLA_")


def machine():
    """What a reader has to know to judge the numbers; to be asked after the races, when the libraries are loaded."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "processor": _processor(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "cpus": cpus(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "versions": {name: v for name in _PACKAGES if (v := _version(name))},
        "threads": _threads(),
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
    }


class BusyMeter:
    """How many processors' worth of time other processes took from ours meanwhile; None where /proc does not tell.

    With fewer free processors than threads, OpenMP's spinning workers wait for the scheduler: 8 ms for a call of 10 us.
    """

    def __init__(self):
        self.start = self._now()

    def others(self):
        (all0, own0, t0), (all1, own1, t1) = self.start, self._now()
        return None if all1 is None else round(max(0.0, (all1 - all0 - (own1 - own0)) / (t1 - t0)), 2)

    def _now(self):
        own = os.times()
        return _busy_seconds(), own.user + own.system + own.children_user + own.children_system, own.elapsed


def _busy_seconds():
    """What the processors that we may use have been busy, for anybody."""
    try:
        with open("/proc/stat") as lines:
            table = {name: list(map(int, numbers)) for name, *numbers in map(str.split, lines) if name.startswith("cpu")}
        return sum(
            sum(table[f"cpu{cpu}"][:8]) - sum(table[f"cpu{cpu}"][3:5])  # user ... steal, without idle and iowait
            for cpu in os.sched_getaffinity(0)
        ) / os.sysconf("SC_CLK_TCK")
    except (OSError, KeyError, AttributeError, ValueError):
        return None


def _processor():
    try:
        with open("/proc/cpuinfo") as lines:
            return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _threads():
    """Thread counts, and Numba's layer, of the libraries that are loaded; loads none."""
    found = {}
    if numba := sys.modules.get("numba"):
        found["numba"] = numba.get_num_threads()
        try:
            found["numba_layer"] = numba.threading_layer()
        except ValueError:
            found["numba_layer"] = "not started"
    if torch := sys.modules.get("torch"):
        found["torch"] = torch.get_num_threads()
    return found


QUIET = 0.1  # processors; a desktop at rest uses less


# ---------------------------------------- text ----------------------------------------


def table(records):
    """All races, fastest contender first, and one line that counts wins and losses."""
    return "\n\n".join([*map(_race_table, records), verdict(records)])


def _race_table(record):
    columns = "{:<53}{:>11}{:>21}{:>8}{:>9}{:>10}".format
    yardstick = record["yardstick"]
    lines = [columns(_title(record), "median", "quartiles", "GB/s", f"x {yardstick}", "x nbloss")]
    timed, others = _split(record)
    for peer, r in timed:
        rate, versus = f"{record['bytes'] / r['seconds'] / 1e9:.1f}", r["to_nbloss"]
        versus = "" if versus is None else f"{versus:.2f}"
        if peer in YARDSTICKS:  # it moves other bytes than the operation does, and is no contender
            peer, rate, versus = f"({peer})", "", ""
        spread = f"{_time(r['low'])} - {_time(r['high'])}"
        lines.append(columns(f"  {peer}", _time(r["seconds"]), spread, rate, f"{r['to_yardstick']:.2f}", versus))
    lines += [f"  {peer:<20}{kind}: {reason}" for peer, kind, reason in others]
    return "\n".join(lines)


def _title(record, between="  "):
    return f"{record['operation']}{between}{'x'.join(map(str, record['shape']))} {record['dtype']}"


def _split(record):
    """(timed, fastest first), (the others, with the reason)."""
    items = record["contenders"].items()
    timed = sorted(((n, r) for n, r in items if "seconds" in r), key=lambda item: item[1]["seconds"])
    others = [(n, kind, " ".join(r[kind].split())[:160]) for n, r in items for kind in ("absent", "wrong", "failed") if kind in r]
    return timed, others


def _time(seconds):
    if seconds >= 1:
        return f"{seconds:.3g} s"
    return f"{seconds * 1e3:.3g} ms" if seconds >= 1e-3 else f"{seconds * 1e6:.3g} us"


def verdict(records):
    """Wins and losses of nbloss in one line each; differences within the quartiles count as a tie."""
    lines = []
    for record in records:
        timed = {n: r for n, r in _split(record)[0] if n not in YARDSTICKS}
        if "nbloss" not in timed or len(timed) < 2:
            continue
        ours = timed.pop("nbloss")
        best = min(timed, key=lambda n: timed[n]["seconds"])
        theirs, ratio = timed[best], timed[best]["to_nbloss"]
        apart = ours["high"] < theirs["low"] or theirs["high"] < ours["low"]
        word = "tie " if not apart else "win " if ratio > 1 else "LOSS"
        lines.append(f"  {word}  {_title(record):<51} next best: {best} at {ratio:.2f}x nbloss's time")
    count = {word: sum(line.startswith(f"  {word}") for line in lines) for word in ("win ", "tie ", "LOSS")}
    if not lines:
        return "nbloss ran against nobody."
    summary = (
        f"nbloss against the best of the others: {count['win ']} won, {count['LOSS']} lost, {count['tie ']} tied (the quartiles overlap)"
    )
    return "\n".join([summary, *lines])


def about(facts):
    """The machine in two lines, and a third if it was not ours alone."""
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    threads = ", ".join(f"{name} {value}" for name, value in facts["threads"].items())
    lines = [f"{facts['processor']}, {facts['cpus']} cpus; threads: {threads}", versions, _busy_note(facts)]
    return "\n".join(filter(None, lines))


def _busy_note(facts):
    others = facts.get("others_cpus") or 0
    return f"NOT A RESULT: other processes used {others} of the {facts['cpus']} cpus meanwhile" if others > QUIET else ""


# ---------------------------------------- files ----------------------------------------


def write_json(path, records, facts):
    with open(path, "w") as file:
        json.dump({"machine": facts, "races": records}, file, indent=1)
        file.write("\n")


def write_png(path, records, facts):
    """Bars of medians with quartiles, one panel per race, each with its own scale; the dashed line is the yardstick."""
    try:
        from matplotlib.figure import Figure  # without pyplot: no window system, no global state
    except ImportError:
        raise NotImplementedError("a picture needs matplotlib") from None
    columns = min(len(records), 4)
    rows = -(-len(records) // columns)
    figure = Figure(figsize=(4.2 * columns, 2.6 * rows + 0.6), layout="constrained")
    panels = figure.subplots(rows, columns, squeeze=False).flat
    for record, panel in zip(records, panels, strict=False):  # records first: zip takes no panel that it does not use
        _panel(panel, record)
    for panel in panels:  # the rest of the grid
        panel.axis("off")
    title = f"{facts['processor']}, {facts['cpus']} cpus (shorter is better; dashed: what the memory alone takes)"
    busy = _busy_note(facts)
    figure.suptitle(f"{busy}\n{title}" if busy else title, fontsize=9)
    figure.savefig(path, dpi=120, format="png")


def _panel(panel, record):
    timed = [(n, r) for n, r in _split(record)[0] if n not in YARDSTICKS]
    names, results = [n for n, _ in timed], [r for _, r in timed]
    scale, unit = (1e3, "ms") if results and results[-1]["seconds"] > 1e-3 else (1e6, "us")
    medians = [r["seconds"] * scale for r in results]
    below = [(r["seconds"] - r["low"]) * scale for r in results]
    above = [(r["high"] - r["seconds"]) * scale for r in results]
    colours = ["#d95f02" if n == "nbloss" else "#9aa5b1" for n in names]
    panel.barh(names, medians, xerr=[below, above], color=colours, ecolor="#444", height=0.7)
    panel.axvline(record["contenders"][record["yardstick"]]["seconds"] * scale, ls="--", lw=1, color="#1b9e77")
    panel.invert_yaxis()
    panel.set_xlabel(unit, fontsize=8)
    panel.tick_params(labelsize=8)
    panel.set_title(_title(record, "\n"), fontsize=8)
