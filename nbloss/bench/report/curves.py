"""The points of `bench scaling` as text and as a picture with one panel per sweep."""

from ..measure.scaling import per_number
from ..problem import Problem
from .picture import INK, MEMORY, OURS, entitle, figure_of
from .report import duration

COLOURS = {"nbloss": OURS, "nbloss_fresh": "#f4b183", "copy": MEMORY, "torch": "#5b7db1", "jax": "#9467bd", "numpy": "#8c8c8c"}
NAMES = {"nbloss_fresh": "nbloss without out=", "copy": "copy (memory baseline)"}


def line(record):
    """One point in one line."""
    if "sweep" not in record:
        raise ValueError("these results are from bench, not from bench scaling")
    found = [f"{name} {per_number(record, name):.3g}" for name in record["contenders"] if per_number(record, name)]
    ours = record["contenders"]["nbloss"].get("seconds")
    shown = "-" if ours is None else duration(ours)
    return f"{record['sweep']:<24}{record['shape']:>14}  {record['threads']} threads  {shown:>8}  ns per logit: {', '.join(found)}"


def curves(records, facts):
    """The figure."""
    sweeps = dict.fromkeys(record["sweep"] for record in records)
    lines = [name for name in sweeps if not name.startswith("threads")]
    threads = [record for record in records if record["sweep"].startswith("threads")]
    count = len(lines) + bool(threads)
    figure = figure_of((4.4 * min(count, 2), 3.5 * -(-count // 2) + 0.4))
    from matplotlib.ticker import LogLocator, NullFormatter  # after figure_of, which reports a missing matplotlib

    grid = list(figure.subplots(-(-count // 2), min(count, 2), squeeze=False).flat)
    panels = grid[:count]
    for unused in grid[count:]:
        unused.remove()
    for name, panel in zip(lines, panels, strict=False):
        over_rows = name.startswith("rows")
        some = [record for record in records if record["sweep"] == name]
        _lines(panel, some, lambda record, axis=not over_rows: Problem.parse(record["shape"]).shape[axis])
        panel.set_xscale("log", base=2 if not over_rows else 10)
        panel.set_xlabel("rows" if over_rows else "classes (at a constant number of logits)")
        panel.set_title(name if over_rows else f"{name} ({_size(some)} logits)", fontsize=10)
    if threads:
        panel = panels[-1]
        for name, style in zip((s for s in sweeps if s.startswith("threads")), ("-", "--"), strict=False):
            _lines(panel, [r for r in threads if r["sweep"] == name], lambda r: r["threads"], style, name.removeprefix("threads at "))
        panel.set_xlabel("threads")
        panel.set_xticks(sorted({record["threads"] for record in threads}))
        panel.set_title("threads", fontsize=10)
    for panel in panels:
        panel.set_yscale("log")
        panel.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=20))
        panel.yaxis.set_major_formatter("{x:g}")
        panel.yaxis.set_minor_formatter(NullFormatter())
        panel.grid(True, which="major", color="#dddddd", lw=0.6)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, colors=INK)
        part = 0.04 + 0.07 * len(panel.get_legend_handles_labels()[0])  # of the height, for the legend above the lines
        low, high = panel.get_ylim()
        panel.set_ylim(low, high * (high / low) ** (part / (1 - part)))
        panel.legend(fontsize=7.5, frameon=False, loc="upper right")
        panel.set_ylabel("ns per logit", fontsize=8.5)
    entitle(figure, facts, f"Loss and gradient, float32, {facts['processor']}, {facts['cpus']} cpus (lower is better; bands: quartiles)")
    return figure


def _size(records):
    return max(Problem.parse(record["shape"]).size for record in records)


def _lines(panel, records, place, style="-", at=""):
    names = dict.fromkeys(name for record in records for name in record["contenders"] if name != "read")
    for name in names:
        points = [(place(r), per_number(r, name), r["contenders"][name]) for r in records if per_number(r, name)]
        if not points:
            continue
        x, y, found = zip(*sorted(points, key=lambda point: point[0]), strict=True)
        colour = COLOURS.get(name)
        label = f"{NAMES.get(name, name)} {at}".strip()
        (drawn,) = panel.plot(x, y, style, marker="o", ms=3, lw=2 if name == "nbloss" else 1.2, color=colour, label=label)
        low = [v * f["low"] / f["seconds"] for v, f in zip(y, found, strict=True)]
        high = [v * f["high"] / f["seconds"] for v, f in zip(y, found, strict=True)]
        panel.fill_between(x, low, high, color=drawn.get_color(), alpha=0.15, lw=0)
