"""What the scripts share: axes, drawings of memory, registers, boxes and arrows, and SVG files that do not change between runs."""

from pathlib import Path

from matplotlib import pyplot as plt
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

FOLDER = Path(__file__).parent
INK, GREY, PALE, GRID = "#1f2933", "#66727f", "#eef1f4", "#e2e8f0"
BLUE, GREEN, ORANGE, PURPLE, RED = "#bcd7f5", "#c5e8c9", "#fbd9a8", "#ddcdf3", "#f6bdbd"
ROUND = "round,pad=0,rounding_size=0.18"
ROWS = [BLUE, GREEN, ORANGE, PURPLE]
plt.rcParams.update({"svg.fonttype": "path", "svg.hashsalt": "nbloss", "font.family": ["DejaVu Sans"], "text.color": INK,
                     "axes.titlesize": 10, "legend.frameon": False,
                     "figure.constrained_layout.h_pad": 0.12, "figure.constrained_layout.w_pad": 0.12})  # fmt: skip


def panels(columns=1, rows=1, width=5.6, height=3.4, **more):
    """A figure with panels, and their axes: one of them where there is one, otherwise an array.

    A telephone shows this width in 358 pixels, where its type of 10 points is still 9 pixels high.
    """
    figure, axes = plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **more)
    for one in figure.axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color=GRID, linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes


def save(figure, name):
    figure.savefig(FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)


class Canvas:
    """A drawing whose unit is one cell; y grows upwards."""

    def __init__(self, width, height, inches=0.36):
        self.figure, self.axes = plt.subplots(figsize=(width * inches, height * inches))
        self.axes.set(xlim=(0, width), ylim=(0, height), aspect="equal")
        self.axes.axis("off")
        self.figure.subplots_adjust(0, 0, 1, 1)

    def text(self, x, y, words, size=9, align="left", weight="normal", colour=INK, **more):
        self.axes.text(x, y, words, fontsize=size, ha=align, va="center", weight=weight, color=colour, **more)

    def note(self, x, y, words):
        """Small grey text."""
        self.text(x, y, words, 7.5, colour=GREY)

    def cell(self, x, y, words="", colour=PALE, width=1.0, height=1.0, size=7, edge=INK):
        self.axes.add_patch(Rectangle((x, y), width, height, facecolor=colour, edgecolor=edge, linewidth=0.7))
        if words:
            self.text(x + width / 2, y + height / 2 - 0.03, words, size, "center")

    def cells(self, x, y, words, colours, size=7):
        """Neighbouring cells; ``colours`` is one colour or one per cell."""
        for k, word in enumerate(words):
            self.cell(x + k, y, word, colours if isinstance(colours, str) else colours[k], size=size)

    def frame(self, x, y, width, height, colour=INK):
        """A thick outline: one register."""
        self.axes.add_patch(Rectangle((x, y), width, height, fill=False, edgecolor=colour, linewidth=1.8))

    def box(self, x, y, width, height, title, lines=(), colour=PALE, size=9, small=7.5):
        patch = FancyBboxPatch(
            (x, y), width, height, boxstyle="round,pad=0,rounding_size=0.18", facecolor=colour, edgecolor=INK, linewidth=0.9
        )
        self.axes.add_patch(patch)
        step = 0.62
        top = y + height / 2 + step * len(lines) / 2
        self.text(x + width / 2, top, title, size, "center", "bold")
        for k, line in enumerate(lines):
            self.text(x + width / 2, top - step * (k + 1) - 0.06, line, small, "center", colour=GREY)

    def arrow(self, start, end, colour=INK, style="-|>", bend=0.0, dashed=False):
        line = FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=9, linewidth=1.0, color=colour, shrinkA=1, shrinkB=1,
                               connectionstyle=f"arc3,rad={bend}", linestyle="--" if dashed else "-")  # fmt: skip
        self.axes.add_patch(line)

    def save(self, name):
        save(self.figure, name)
