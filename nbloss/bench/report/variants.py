"""The variants as text, as tables for the pages and as a heat map. What is lost is shown like what is won."""

import math

from ..measure.machine import busy_note
from ..races import title
from ..variants import wanted
from .picture import entitle, figure_of
from .report import duration

ABOVE, SLOWER = "^", "!"
LEGEND = (
    "time over the plain call's of the same shape (float32, C order, mean; `cross_entropy_backward`: an array upstream), "
    "then torch's time over nbloss's"
)
MARKS = f"{ABOVE}: above the wanted limit; {SLOWER}: slower than torch"


# ---------------------------------------- one variant ----------------------------------------


def above(record):
    """Whether the ratio is above the wanted limit."""
    return bool(record["ratio"] and record["limit"] and record["ratio"] > record["limit"])


def slower(record):
    """Whether torch is faster."""
    return bool(record["to_torch"] and record["to_torch"] < 1)


def line(record):
    """One variant in one line."""
    if "variant" not in record:
        raise ValueError("these results are from bench, not from bench --variants")
    name = f"{title(record):<76}"
    contenders = record["contenders"]
    if record["ratio"] is None:
        return name + _reason(contenders["nbloss"])
    limit = "" if record["limit"] is None else f"wanted {record['limit']:g}"
    text = f"{name}{duration(contenders['nbloss']['seconds']):>9}{record['ratio']:>8.2f}x plain "
    text += f"{record['low']:>7.2f} - {record['high']:<7.2f}{limit:<13}"
    text += _reason(contenders["torch"], "torch ") if record["to_torch"] is None else f"torch {_times(record['to_torch'])}x"
    words = ["ABOVE"] * above(record) + ["SLOWER THAN TORCH"] * slower(record)
    return "  ".join([text.rstrip(), *words])


def _times(number):
    return f"{number:.3g}" if number < 1000 else f"{number:.0f}"


def _reason(contender, who=""):
    return next(f"{who}{kind}: {' '.join(contender[kind].split())[:160]}" for kind in ("absent", "wrong", "failed") if kind in contender)


# ---------------------------------------- all variants ----------------------------------------


def matrices(records):
    """(operation, shapes, rows) for each operation: a row is (variant, its limits as text, a record or None for each shape)."""
    for operation in dict.fromkeys(r["operation"] for r in records):
        some = {(r["variant"], r["shape"]): r for r in records if r["operation"] == operation}
        shapes = sorted({shape for _, shape in some}, key=wanted.shapes().index)
        variants = sorted({variant for variant, _ in some}, key=wanted.OPERATIONS[operation][0].index)
        yield operation, shapes, [(v, _limits([some.get((v, s)) for s in shapes]), [some.get((v, s)) for s in shapes]) for v in variants]


def _limits(found):
    """The limits of a row: the usual one, and those of single shapes."""
    limits = {r["shape"]: r["limit"] for r in found if r is not None and r["limit"] is not None}
    if not limits:
        return ""
    usual = max(set(limits.values()), key=list(limits.values()).count)
    return "; ".join([f"{usual:g}", *(f"{shape}: {limit:g}" for shape, limit in limits.items() if limit != usual)])


def _cell(record, ratio="{:.2f}{}", torch=", {}x{}", marks=(ABOVE, SLOWER)):
    if record is None:
        return ""
    if record["ratio"] is None:
        return "-"
    text = ratio.format(record["ratio"], marks[0] * above(record))
    return text if record["to_torch"] is None else text + torch.format(_times(record["to_torch"]), marks[1] * slower(record))


def table(records):
    """All variants as text: one table for each operation."""
    lines = []
    for operation, shapes, rows in matrices(records):
        cells = [[operation, "wanted", *shapes], *([v, limits, *map(_cell, found)] for v, limits, found in rows)]
        widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
        lines += ["", *("  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in cells)]
    return "\n".join([*lines[1:], "", f"({LEGEND}; {MARKS})"])


def misses(records):
    """(those above their limits, those slower than torch), the worst first."""
    high = sorted(filter(above, records), key=lambda r: r["limit"] / r["ratio"])
    return high, sorted(filter(slower, records), key=lambda r: r["to_torch"])


def tally(records):
    """How many variants are within their limits, and how many faster than torch."""
    limited, raced = ([r for r in records if r["ratio"] and r[key]] for key in ("limit", "to_torch"))
    high, lost = misses(records)
    failed = sum(r["ratio"] is None for r in records)
    parts = [
        f"{len(limited) - len(high)} of {len(limited)} within the wanted limits",
        f"{len(raced) - len(lost)} of {len(raced)} faster than torch",
    ]
    return "; ".join(parts + [f"{failed} not timed"] * bool(failed))


def verdict(records):
    """What is above its limit, what is slower than torch, and the count of both."""
    high, lost = misses(records)
    lines = [f"  above   {title(r):<76} {r['ratio']:.2f}, wanted {r['limit']:g}" for r in high]
    lines += [f"  slower  {title(r):<76} torch takes {r['to_torch']:.2f} of the time" for r in lost]
    return "\n".join([*lines, tally(records)])


def markdown(records, facts):
    """The tables of the page."""
    lines = [
        f"Measured {facts['date'][:10]} on {facts['cpus']} cpus of an {facts['processor']}; nbloss {facts['versions']['nbloss']}"
        + (f", torch {facts['versions']['torch']}." if "torch" in facts["versions"] else "."),
        f"A cell has the {LEGEND}, above 1 where nbloss is faster. Bold: above the wanted limit, or slower than torch.",
    ]
    lines += [busy_note(facts)] * bool(busy_note(facts))
    for operation, shapes, rows in matrices(records):
        head = [f"`{operation}`", "wanted", *shapes]
        lines += ["", "| " + " | ".join(head) + " |", "| " + " | ".join(["---"] * len(head)) + " |"]
        lines += ["| " + " | ".join([variant, limits, *map(_bold, found)]) + " |" for variant, limits, found in rows]
    high, lost = misses(records)
    named = [f"`{title(r, ' ')}` ({r['ratio']:.2f}, wanted {r['limit']:g})" for r in high]
    named += [f"`{title(r, ' ')}` (torch takes {r['to_torch']:.2f} of the time)" for r in lost]
    lines += ["", "![Every variant: its time over the wanted limit](variants.png)"]
    return [*lines, "", f"{tally(records)}." + (f" Missed: {', '.join(named)}." if named else "")]


def _bold(record):
    text = _cell(record, "{:.2f}", ", {}x")
    return f"**{text}**" if record is not None and (above(record) or slower(record)) else text


# ---------------------------------------- heat map ----------------------------------------

PANELS_IN_A_ROW = 2  # of a size that can be read at the width of a page
CELL, NAMES, HEAD = (0.46, 0.235), 2.0, 1.35  # inches: a cell, the names of the variants, the title and the shapes
DARK = 0.75  # of the colour scale: from here on numbers are white


def heat_map(records, facts):
    """A panel for each operation: variants by shapes, the ratio in each cell, coloured by the ratio over its limit."""
    panels = list(matrices(records))
    grid = [panels[i : i + PANELS_IN_A_ROW] for i in range(0, len(panels), PANELS_IN_A_ROW)]
    columns = [max([3, *(len(row[k][1]) for row in grid if k < len(row))]) for k in range(len(grid[0]))]
    heights = [max(len(rows) for _, _, rows in row) for row in grid]
    width = sum(NAMES + CELL[0] * count for count in columns)
    figure = figure_of((max(width, 7), sum(HEAD + CELL[1] * count for count in heights) + 1.5))
    from matplotlib.cm import ScalarMappable  # after figure_of, which reports a missing matplotlib
    from matplotlib.colors import LinearSegmentedColormap, Normalize

    colours = ScalarMappable(Normalize(-1, 1), LinearSegmentedColormap.from_list("limit", ["#2c7fb8", "#f7f7f7", "#d7301f"]))
    axes = figure.subplots(len(grid), len(columns), squeeze=False, width_ratios=columns, height_ratios=heights)
    for row, places, height in zip(grid, axes, heights, strict=True):
        for (operation, shapes, rows), place, count in zip(row, places, columns, strict=False):
            _panel(place, operation, shapes, rows, colours)
            place.set_xlim(-0.5, count - 0.5)  # the cells of all panels have one size
            place.set_ylim(height - 0.5, -0.5)
        for place in places[len(row) :]:
            place.axis("off")
    bar = figure.colorbar(colours, ax=axes, location="bottom", shrink=0.5, aspect=40, pad=0.02)
    bar.set_ticks([-1, -0.5, 0, 0.5, 1], labels=["half the wanted limit", "0.7", "the limit", "1.4", "twice the limit"], fontsize=9)
    lines = [
        f"{facts['processor']}, {facts['cpus']} CPUs",
        "Time over the plain call's of the same shape. Grey: no limit. Frame: slower than torch.",
    ]
    entitle(figure, facts, "\n".join([*lines, tally(records)]))
    return figure


def _panel(place, operation, shapes, rows, colours):
    for y, (_, _, found) in enumerate(rows):
        for x, record in enumerate(found):
            if record is not None:
                _draw(place, x, y, record, colours)
    place.xaxis.tick_top()
    place.set_xticks(range(len(shapes)), shapes, fontsize=9, rotation=35, ha="left", rotation_mode="anchor")
    place.set_yticks(range(len(rows)), [variant for variant, _, _ in rows], fontsize=9)
    place.tick_params(length=0)
    for side in place.spines.values():
        side.set_visible(False)
    place.set_title(operation, fontsize=11, weight="bold", loc="left")


def _draw(place, x, y, record, colours):
    """One cell."""
    from matplotlib.patches import Rectangle

    ratio, limit = record["ratio"], record["limit"]
    over = None if ratio is None or limit is None else max(-1.0, min(1.0, math.log2(ratio / limit)))
    face = "#dddddd" if over is None else colours.to_rgba(over)
    place.add_patch(Rectangle((x - 0.5, y - 0.5), 1, 1, facecolor=face, edgecolor="white", lw=0.8))
    if slower(record):
        place.add_patch(Rectangle((x - 0.45, y - 0.42), 0.9, 0.84, fill=False, edgecolor="black", lw=1.3))
    colour = "white" if over is not None and abs(over) > DARK else "black"
    text = "-" if ratio is None else f"{ratio:.2f}" if ratio < 10 else f"{ratio:.3g}"
    place.text(x, y, text, ha="center", va="center", fontsize=8.5, color=colour)
