"""Races as a picture."""

import sys

from ..measure.machine import busy_note
from ..measure.yardsticks import NO_PEERS
from ..races import title
from .report import duration, split

OURS, MEMORY, INK = "#d95f02", "#1b7f5c", "#333333"
BASELINE = "baseline"
STYLES = {  # colour and marker of the libraries, the same in every picture
    "numpy": ("#718096", "o"), "scipy": ("#a0aec0", "s"), "torch": ("#c53030", "o"), "torch.compile": ("#f08a8a", "s"),
    "jax": ("#6b46c1", "^"), "autograd": ("#2b6cb0", "v"), "sklearn": ("#0e7490", "P"), "naive_numba": ("#1f2933", "X"),
    "optax": ("#b7791f", "p"),
}  # fmt: skip
OTHERS = ("#d53f8c", "<"), ("#0e7490", ">"), ("#1f2933", "h"), ("#7b341e", "d")


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
    figure.get_layout_engine().set(h_pad=0.08, w_pad=0.08)
    figure.savefig(path, dpi=130, format="png")


def entitle(figure, facts, text):
    """Set the title, with a warning if other processes used the machine."""
    busy = busy_note(facts)
    figure.suptitle(f"{busy}\n{text}" if busy else text, fontsize=10)


def races(records, facts):
    """One line per race: a mark for each peer at its time as a multiple of nbloss's, on a logarithmic axis.

    Where a race has no nbloss, all times are multiples of the baseline instead.
    """
    unit = "nbloss" if all("seconds" in record["contenders"].get("nbloss", {}) for record in records) else "the baseline"
    lines = list(_lines(records))
    figure = figure_of((8, 0.27 * len(lines) + 1.6))
    from matplotlib.ticker import LogLocator, NullLocator  # after figure_of, which reports a missing matplotlib

    axes = figure.subplots()
    axes.set_xscale("log")
    styles, drawn = _styles(records), {}
    for place, line in enumerate(lines):
        if isinstance(line, str):
            axes.annotate(line, (0, place), xycoords=("axes fraction", "data"), fontsize=9, weight="bold", color=INK, va="center",
                          xytext=(4, 0), textcoords="offset points")  # fmt: skip
            continue
        _race(axes, place, line, unit, styles, drawn)
    named = {n: _name(line) for n, line in enumerate(lines) if not isinstance(line, str)}
    axes.set_yticks([*named], [*named.values()], fontsize=9)
    axes.set_ylim(len(lines) - 0.4, -0.6)
    about = "(logarithmic axis; left is faster; thin lines: quartiles)"
    axes.set_xlabel(f"time of one call, as a multiple of {_whose(unit)} {about}", fontsize=9)
    axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=30))
    axes.xaxis.set_major_formatter("{x:g}x")
    axes.xaxis.set_minor_locator(NullLocator())
    axes.grid(True, axis="x", color="#e2e8f0", lw=0.7)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, labelsize=9, colors=INK)
    axes.tick_params(axis="x", labeltop=len(lines) > 12)
    axes.spines[["top", "right", "left"]].set_visible(False)
    order = [name for name in styles if name in drawn]
    baselines = dict.fromkeys(record["yardstick"] for record in records)
    names = [f"{BASELINE} ({', '.join(baselines)})" if name == BASELINE else name for name in order]
    figure.legend([drawn[name] for name in order], names, loc="outside lower center",
                  ncols=min(5, len(order)) or 1, frameon=False, fontsize=9)  # fmt: skip
    entitle(figure, facts, f"{facts['processor']}, {facts['cpus']} CPUs. On the right: the time of nbloss")
    return figure


def _lines(records):
    """The races in the order of their operations, each operation behind its name."""
    for operation in dict.fromkeys(record["operation"] for record in records):
        yield operation
        yield from (record for record in records if record["operation"] == operation)


def _name(record):
    return title(record).removeprefix(record["operation"]).strip()


def _whose(unit):
    return "nbloss's time" if unit == "nbloss" else "the time of the baseline"


def _styles(records):
    """Name -> (colour, marker), in the order of the legend."""
    found = dict.fromkeys(name for record in records for name, r in record["contenders"].items() if "seconds" in r)
    ours = [name for name in found if name.startswith("nbloss")]
    others = [name for name in found if name not in ours and name not in NO_PEERS]
    unknown = [name for name in others if name not in STYLES]
    styles = {name: (OURS if name == "nbloss" else "#f4b183", "D") for name in ours}
    styles |= {name: STYLES.get(name) or OTHERS[unknown.index(name) % len(OTHERS)] for name in others}
    return styles | {BASELINE: (MEMORY, "|")}


def _race(axes, place, record, unit, styles, drawn):
    """The marks of one race. ``drawn`` gets one of each peer, for the legend."""
    baseline = record["contenders"][record["yardstick"]]
    timed = [*((n, r) for n, r in split(record)[0] if n not in NO_PEERS), (BASELINE, baseline)]
    one = record["contenders"]["nbloss"]["seconds"] if unit == "nbloss" else baseline["seconds"]
    axes.axhline(place, color="#edf2f7", lw=0.7, zorder=0)
    for name, r in timed:
        colour, marker = styles[name]
        axes.plot([r["low"] / one, r["high"] / one], [place, place], color=colour, lw=1.2, zorder=2)
        ours = name.startswith("nbloss")
        style = {"ms": 11, "mew": 2.4} if marker == "|" else {"ms": 8 if ours else 6.5, "mew": 0.6, "mec": "white"}
        (drawn[name],) = axes.plot(r["seconds"] / one, place, marker, color=colour, zorder=3 if ours else 4, **style)
    ours = record["contenders"].get("nbloss", {})
    axes.annotate(duration(ours["seconds"]) if "seconds" in ours else "", (1, place), xycoords=("axes fraction", "data"), fontsize=9,
                  color=OURS, va="center", xytext=(6, 0), textcoords="offset points")  # fmt: skip
