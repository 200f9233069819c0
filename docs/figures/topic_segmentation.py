"""Draw a test picture of examples/segmentation.py: the classes found with and without class weights, and the loss per pixel.

python docs/figures/topic_segmentation.py          needs matplotlib; writes topic_segmentation.svg
"""

import numpy as np
from canvas import GRID, panels, save
from matplotlib.colors import ListedColormap
from topics import BLUE, RED

import nbloss.functional as F
from examples.segmentation import pictures, train

COLOURS = ListedColormap(["#f7fafc", BLUE, RED])


def main():
    (x, y), (test_x, test_y) = pictures(48, np.random.default_rng(0)), pictures(8, np.random.default_rng(1))
    share = np.bincount(y.ravel()) / y.size
    weight = (1 / np.sqrt(share)).astype(np.float32)
    plain, weighted = (train(x, y, w, 20, np.random.default_rng(2))(test_x) for w in (None, weight))
    loss = F.cross_entropy(weighted, test_y, reduction="none")
    figure, axes = panels(5, height=1.75)
    shown = [(test_x[0, :, :, 24], "gray", "input"), (test_y[0], COLOURS, "classes"), (plain.argmax(1)[0], COLOURS, "no\nweights"),
             (weighted.argmax(1)[0], COLOURS, "class\nweights"), (loss[0], "magma_r", "loss per\npixel")]  # fmt: skip
    for one, (picture, colours, title) in zip(axes, shown, strict=True):
        limits = {"vmin": 0, "vmax": 2} if colours is COLOURS else {}
        one.imshow(picture, cmap=colours, interpolation="nearest", **limits)
        one.set_title(title)
        one.set(xticks=[], yticks=[])
        one.grid(visible=False)
        one.spines[:].set(visible=True, color=GRID)
    figure.get_layout_engine().set(w_pad=0.02, wspace=0)
    save(figure, "topic_segmentation")


if __name__ == "__main__":
    main()
