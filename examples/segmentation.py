"""Per-pixel classification with a rare class: (N, C, H, W) logits, with and without class weights.

    python examples/segmentation.py [--quick]

Noisy pictures show discs (common) and short scratches (about 1 % of the pixels). The model is a 7 x 7 filter bank and a
ReLU. The gradient goes back through the same views, so nothing is transposed in memory.
"""

import sys

import numpy as np

import nbloss.functional as F

CLASSES, SIZE, PATCH, HIDDEN = ("background", "disc", "scratch"), 48, 7, 32


def pictures(n, rng):
    """`n` pictures as 7 x 7 patches (n, H, W, 49), and their classes (n, H, W)."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    y = np.zeros((n, SIZE, SIZE), np.int64)
    for one in y:
        row, column, radius = *rng.integers(12, SIZE - 12, 2), rng.integers(6, 12)
        one[(rows - row) ** 2 + (columns - column) ** 2 < radius**2] = 1
        row, column = rng.integers(0, SIZE - 13, 2)
        one[row + np.arange(12), column + np.arange(12)] = 2
        one[row + np.arange(1, 13), column + np.arange(12)] = 2
    x = np.array([0, 0.5, 0.8])[y] + rng.normal(0, 0.4, y.shape)
    x = np.pad(x.astype(np.float32), ((0, 0), (PATCH // 2,) * 2, (PATCH // 2,) * 2))
    return np.lib.stride_tricks.sliding_window_view(x, (PATCH, PATCH), (1, 2)).reshape(*y.shape, -1), y


def train(x, y, weight, epochs, rng):
    """Plain gradient descent with momentum; returns the function from patches to logits (N, C, H, W)."""
    shapes = (PATCH * PATCH, HIDDEN), (HIDDEN, len(CLASSES))
    params = [rng.normal(0, np.sqrt(2 / s[0]), s).astype(np.float32) for s in shapes]
    speed = [np.zeros_like(p) for p in params]
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(len(x)), len(x) // 4):
            hidden = np.maximum(x[batch] @ params[0], 0)
            logits = np.moveaxis(hidden @ params[1], -1, 1)  # (N, C, H, W), a view: the loss takes any strides
            _, grad = F.cross_entropy_value_and_grad(logits, y[batch], weight)
            grad = np.moveaxis(grad, 1, -1)
            back = (grad @ params[1].T) * (hidden > 0)
            grads = np.tensordot(x[batch], back, ((0, 1, 2),) * 2), np.tensordot(hidden, grad, ((0, 1, 2),) * 2)
            for p, g, v in zip(params, grads, speed, strict=True):
                v *= 0.9
                v -= 0.05 * g
                p += v
    return lambda x: np.moveaxis(np.maximum(x @ params[0], 0) @ params[1], -1, 1)


def main(epochs):
    (x, y), (test_x, test_y) = pictures(48, np.random.default_rng(0)), pictures(24, np.random.default_rng(1))
    share = np.bincount(y.ravel()) / y.size
    recall = {}
    print(f"share of the pixels: {', '.join(f'{c} {s:.1%}' for c, s in zip(CLASSES, share, strict=True))}")
    for name, weight in ("no weights", None), ("class weights", (1 / np.sqrt(share)).astype(np.float32)):
        guess = train(x, y, weight, epochs, np.random.default_rng(2))(test_x).argmax(1)
        hits = (guess == 2) & (test_y == 2)
        recall[name], precision = hits.sum() / (test_y == 2).sum(), hits.sum() / max((guess == 2).sum(), 1)
        right = f"pixels right {(guess == test_y).mean():.1%}"
        print(f"{name:<14} {right}   scratches found {recall[name]:.1%} (of those marked, {precision:.1%} are one)")
    learned = recall["class weights"] > max(0.5, recall["no weights"] + 0.1)
    print("the weights find the rare class" if learned else "did not learn")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main(epochs=10 if "--quick" in sys.argv else 20))
