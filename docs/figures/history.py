"""Draw how nbloss's speed changed from commit to commit.

python docs/figures/history.py          needs matplotlib; writes history.svg from benchmarks/results, and measures nothing
"""

import json
from datetime import UTC, datetime

from canvas import FOLDER, GREY, panels, save

MACHINE = FOLDER.parents[1] / "benchmarks" / "results" / "amd-epyc-2"
BENCHMARK = "history.History.track_ratio"
SHAPES = ["32x10", "65536x10", "16384x100", "4096x1000", "256x50257", "2x21x512x512"]
COLOURS = ["#718096", "#c53030", "#d95f02", "#6b46c1", "#1b7f5c", "#2b6cb0"]
PANELS = {"copy": "times a copy of the logits", "numpy": "times the formula in NumPy"}


def points():
    """(date, {(shape, against): ratio}) of every commit that the machine measured, the oldest first."""
    found = []
    for path in sorted(MACHINE.glob("*.json")):
        if path.name != "machine.json":
            record = json.loads(path.read_text())
            values, (shapes, against) = record["results"][BENCHMARK][:2]
            keys = [(shape.strip("'"), other.strip("'")) for shape in shapes for other in against]
            found.append((record["date"], dict(zip(keys, values, strict=True))))
    return sorted(found, key=lambda point: point[0])


def draw(axes, found, against, shapes):
    for shape in shapes:
        values = [ratios[shape, against] for _, ratios in found]
        colour = COLOURS[SHAPES.index(shape)]
        axes.plot(range(len(found)), values, color=colour, marker="o", ms=4, lw=1.6, label=shape.replace("x", " x "))
    days = [datetime.fromtimestamp(date / 1000, UTC).strftime("%-d %b %H:%M") for date, _ in found]
    axes.set_xticks(range(len(found)), days, rotation=60, ha="right", rotation_mode="anchor", fontsize=7)
    drawn = [ratios[shape, against] for _, ratios in found for shape in shapes]
    axes.set(yscale="log", ylim=(0.85 * min(drawn), 1.15 * max(drawn)))
    axes.set_title(PANELS[against], loc="left", fontsize=9, color=GREY)


def main():
    found = points()
    figure, both = panels(2, width=8.6, height=4.2)
    draw(both[0], found, "copy", SHAPES[1:])  # the smallest shape measures the price of two calls, and no copy
    draw(both[1], found, "numpy", SHAPES)
    for axes, ticks in zip(both, ([2, 5, 10, 20], [0.1, 0.2, 0.5]), strict=True):
        axes.set_yticks(ticks, map(str, ticks))
        axes.set_yticks([], minor=True)
    figure.legend(*both[1].get_legend_handles_labels(), fontsize=8, ncols=6, loc="outside upper center")
    save(figure, "history")


if __name__ == "__main__":
    main()
