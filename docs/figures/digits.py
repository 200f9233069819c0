"""Draw the relative error of the loss and of the target's gradient over the margin of the right class, for nbloss and five peers.

    python docs/figures/digits.py          needs the peers and matplotlib; writes digits.svg

All get the same float32 rows of 10 classes. The target's logit is ``margin`` above the largest of nine random ones. The reference is
float64: the loss is log1p(rest), and the gradient at the target is -rest / (1 + rest), with rest = sum_c exp(x[c] - x[target]) over the
other classes. Neither is the difference of two numbers near 1.
"""

import jax
import numpy as np
import scipy.special
import torch
from canvas import GREY, panels, save
from sklearn._loss import HalfMultinomialLoss

import nbloss.functional as F
from nbloss.bench.report.picture import OURS, STYLES

MARGINS, ROWS, CLASSES = np.arange(0, 100.5, 1), 50, 10
EXACT_BELOW = 1e-8  # where the axis begins
SUBNORMAL = 126 * np.log(2) + np.log(1 + 8 * (1 - np.exp(-1)))  # the margin at which the mean row has a loss of 2^-126


def rows():
    rng = np.random.default_rng(0)
    others = rng.uniform(-1, 0, (len(MARGINS), ROWS, CLASSES))
    others[..., 1] = 0
    others[..., 0] = MARGINS[:, None]
    return (others + rng.uniform(-3, 3, (len(MARGINS), ROWS, 1))).reshape(-1, CLASSES).astype(np.float32)


def exact(x):
    wide = x.astype(np.float64)
    rest = np.exp(wide[:, 1:] - wide[:, :1]).sum(1)
    return np.log1p(rest), -rest / (1 + rest)


def by_nbloss(x, y):
    loss, grad = F.cross_entropy_value_and_grad(x, y, reduction="none")
    return loss, grad[:, 0]


def by_numpy(x, y):
    shifted = x - x.max(1, keepdims=True)
    e = np.exp(shifted)
    s = e.sum(1)
    return np.log(s) - shifted[np.arange(len(x)), y], (e[:, 0] / s) - 1


def by_scipy(x, y):
    return -scipy.special.log_softmax(x, 1)[np.arange(len(x)), y], scipy.special.softmax(x, 1)[:, 0] - 1


def by_torch(x, y):
    x = torch.tensor(x, requires_grad=True)
    loss = torch.nn.functional.cross_entropy(x, torch.tensor(y), reduction="none")
    loss.sum().backward()
    return loss.detach().numpy(), x.grad[:, 0].numpy()


def by_jax(x, y):
    def losses(x):
        return -jax.nn.log_softmax(x, 1)[np.arange(len(x)), y]

    return np.asarray(losses(x)), np.asarray(jax.grad(lambda x: losses(x).sum())(x))[:, 0]


def by_sklearn(x, y):
    loss, grad = HalfMultinomialLoss(n_classes=CLASSES).loss_gradient(y.astype(np.float32), x)
    return loss, grad[:, 0]


LIBRARIES = {  # name -> its results, colour, line, width
    "nbloss": (by_nbloss, OURS, "-", 2.4), "NumPy": (by_numpy, STYLES["numpy"][0], "-", 1.2),
    "SciPy": (by_scipy, STYLES["scipy"][0], "--", 1.2), "PyTorch": (by_torch, STYLES["torch"][0], "-", 1.2),
    "JAX": (by_jax, STYLES["jax"][0], "--", 1.2), "scikit-learn": (by_sklearn, STYLES["sklearn"][0], ":", 1.8),
}  # fmt: skip


def main():
    x = rows()
    y = np.zeros(len(x), np.int64)
    figure, both = panels(rows=2, height=5.6, sharex=True)
    right = exact(x)
    for name, (results, colour, line, width) in LIBRARIES.items():
        for panel, found, wanted in zip(both, results(x, y), right, strict=True):
            error = np.abs(found.astype(np.float64) - wanted) / np.abs(wanted)
            worst = error.reshape(len(MARGINS), ROWS).max(1)
            panel.semilogy(MARGINS, np.maximum(worst, EXACT_BELOW), line, color=colour, linewidth=width, label=name)
    for panel, title in zip(both, ("loss", "gradient at the target"), strict=True):
        panel.set_title(title, loc="left", weight="bold")
        panel.set(ylim=(EXACT_BELOW, 30), ylabel="largest relative error")
        panel.set_yticks([1e-8, 1e-6, 1e-4, 1e-2, 1], ["1e-8", "1e-6", "1e-4", "1 %", "100 %"])
        panel.set_yticks([], minor=True)
        panel.axhline(1, color=GREY, linewidth=0.8, linestyle=":")
        panel.axvline(SUBNORMAL, color=GREY, linewidth=0.8, linestyle=":")
    both[0].text(SUBNORMAL - 0.8, 1e-6, "the loss becomes a subnormal\nfloat32: it has fewer digits", fontsize=9, color=GREY, ha="right")
    both[0].text(50, 1.6, "no digit is right", fontsize=9, color=GREY, ha="center")
    both[1].set(xlabel="margin: the target's logit above the largest other logit", xlim=(0, 100))
    both[0].legend(loc="center", bbox_to_anchor=(0.55, 0.6), ncols=2)
    save(figure, "digits")


if __name__ == "__main__":
    main()
