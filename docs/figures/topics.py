"""What the scripts of the topic pages share: axes, and the examples of the repository."""

import sys
from pathlib import Path

from canvas import FOLDER, plt  # it also sets how SVG files are written

import nbloss

BLUE, GREEN, RED, GREY = "#2b6cb0", "#2f855a", "#c53030", "#718096"

sys.path.append(str(Path(nbloss.__file__).parents[1]))  # `examples`, in a clone that is installed with -e


def panels(count=1, width=7.4, height=3.4, **more):
    """A figure with ``count`` panels side by side, and their axes."""
    figure, axes = plt.subplots(1, count, figsize=(width, height), layout="constrained", **more)
    for one in [axes] if count == 1 else axes:
        one.spines[["top", "right"]].set_visible(False)
        one.grid(axis="y", color="#e2e8f0", linewidth=0.6)
        one.set_axisbelow(True)
    return figure, axes


def save(figure, name):
    figure.savefig(FOLDER / f"{name}.svg", facecolor="white", metadata={"Date": None})
    plt.close(figure)
