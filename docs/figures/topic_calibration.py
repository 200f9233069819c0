"""Draw the reliability diagrams of an over-confident network before and after its temperature is fitted.

python docs/figures/topic_calibration.py          needs scikit-learn and matplotlib; writes topic_calibration.svg
"""

import numpy as np
from canvas import panels, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from topics import BLUE, GREY, RED

import nbloss
from examples.temperature import fit_temperature

BINS = 10


def main():
    x, y = load_digits(return_X_y=True)
    x = (x / 16 + np.random.default_rng(0).normal(0, 0.25, x.shape)).astype(np.float32)
    x, rest_x, y, rest_y = train_test_split(x, y, train_size=400, stratify=y, random_state=0)
    held_x, test_x, held_y, test_y = train_test_split(rest_x, rest_y, test_size=0.5, stratify=rest_y, random_state=0)
    model = MLPClassifier(128, solver="lbfgs", alpha=0.01, max_iter=1000, random_state=0).fit(x, y)
    (w1, w2), (b1, b2) = model.coefs_, model.intercepts_
    held, test = ((np.maximum(part @ w1 + b1, 0) @ w2 + b2).astype(np.float32) for part in (held_x, test_x))
    t = fit_temperature(held, held_y)
    figure, axes = panels(2, sharey=True)
    for one, name, logits in zip(axes, ("before", f"after, T = {t:.2f}"), (test, test / t), strict=True):
        result = nbloss.evaluate(logits, test_y, bins=BINS)
        bins, some = result.bins, result.bins.count > 0
        middle = (np.arange(BINS) + 0.5) / BINS
        one.bar(middle[some], bins.accuracy[some], 0.09, color=BLUE, label="accuracy")
        one.vlines(middle[some], bins.accuracy[some], bins.confidence[some], color=RED, lw=3, label="difference to the confidence")
        one.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        one.set_title(f"{name}: calibration error {result.calibration_error:.1%}", fontsize=10)
        one.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("accuracy of the bin")
    axes[0].legend(frameon=False, fontsize=9, loc="upper left")
    save(figure, "topic_calibration")


if __name__ == "__main__":
    main()
