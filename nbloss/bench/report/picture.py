"""Races as a picture."""

import sys

from ..measure.machine import busy_note
from ..measure.yardsticks import NO_PEERS
from ..races import title
from .report import duration, split

OURS, THEIRS, MEMORY, INK = "#d95f02", "#b8c2cc", "#1b7f5c", "#333333"


def figure_of(size):
    """A matplotlib figure. It does not use pyplot, which has global state and may need a window system."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise NotImplementedError("it needs matplotlib") from None
    return Figure(figsize=size, layout="constrained")


def try_write(path, records, facts, draw):
    """Draw into the file, if one is given. Without matplotlib, print a message and go on: the results are more important."""
    if not path:
        return
    try:
        figure = draw(records, facts)
    except NotImplementedError as error:
        print(f"nbloss bench: no picture was drawn: {error}", file=sys.stderr)
        return
    figure.savefig(path, dpi=110, format="png")


def entitle(figure, facts, text):
    """Set the title, with a warning if other processes used the machine."""
    busy = busy_note(facts)
    figure.suptitle(f"{busy}\n{text}" if busy else text, fontsize=10)


def races(records, facts):
    """One panel per race: bars of medians with quartiles on a logarithmic scale. The dashed line is the memory baseline."""
    columns = min(len(records), 4)
    rows = -(-len(records) // columns)
    tall = [max(len(_timed(r)) for r in records[i : i + columns]) for i in range(0, len(records), columns)]
    figure = figure_of((3.6 * columns, sum(0.2 * n + 0.75 for n in tall) + 0.5))
    panels = figure.subplots(rows, columns, squeeze=False, height_ratios=[0.2 * n + 0.75 for n in tall]).flat
    for record, panel in zip(records, panels, strict=False):  # records come first, because zip must not take a panel without using it
        _panel(panel, record)
    for panel in panels:  # the unused rest of the grid
        panel.axis("off")
    about = "shorter is better; logarithmic scale; whiskers: quartiles; dashed line: memory baseline"
    entitle(figure, facts, f"{facts['processor']}, {facts['cpus']} cpus ({about})")
    return figure


def _timed(record):
    return [(n, r) for n, r in split(record)[0] if n not in NO_PEERS]


def _panel(panel, record):
    timed = _timed(record)
    bound = record["contenders"][record["yardstick"]]["seconds"]
    least = min([bound, *(r["low"] for _, r in timed)]) / 2
    most = max([bound, *(r["high"] for _, r in timed)])
    panel.set_xscale("log")
    panel.set_xlim(least, most * (most / least) ** 0.55)  # space for the labels behind the bars
    for place, (name, r) in enumerate(timed):
        whiskers = [[r["seconds"] - r["low"]], [r["high"] - r["seconds"]]]
        panel.barh(place, r["seconds"], xerr=whiskers, color=OURS if name.startswith("nbloss") else THEIRS, ecolor=INK, height=0.72)
        ratio = r["to_nbloss"]
        text = duration(r["seconds"]) + ("" if ratio is None or name == "nbloss" else f"  ({ratio:.3g}x)")
        panel.annotate(text, (r["high"], place), (4, 0), textcoords="offset points", va="center", fontsize=7, color=INK)
    panel.axvline(bound, ls="--", lw=1.2, color=MEMORY)
    panel.set_yticks(range(len(timed)), [n for n, _ in timed], fontsize=7.5)
    panel.set_ylim(len(timed) - 0.4, -0.6)
    panel.set_xticks([], minor=False)
    panel.set_xticks([], minor=True)
    panel.tick_params(length=0)
    for side in ("top", "right", "bottom"):
        panel.spines[side].set_visible(False)
    panel.set_title(title(record, "\n") + f"; {record['yardstick']} {duration(bound)}", fontsize=8)
