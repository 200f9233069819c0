"""Draw the reliability diagrams of an over-confident network before and after its temperature is fitted.

python docs/figures/topic_calibration.py          needs scikit-learn and matplotlib; writes topic_calibration.svg
"""

import numpy as np
from canvas import panels, save
from topics import BLUE, GREY, RED

import nbloss
from examples.temperature import fit_temperature, held_and_test_logits

BINS = 10


def main():
    held, held_y, test, test_y = held_and_test_logits()
    t = fit_temperature(held, held_y)
    figure, axes = panels(2, sharey=True)
    for one, name, logits in zip(axes, ("before", f"after, T = {t:.2f}"), (test, test / t), strict=True):
        result = nbloss.evaluate(logits, test_y, bins=BINS)
        bins, some = result.bins, result.bins.count > 0
        middle = (np.arange(BINS) + 0.5) / BINS
        one.bar(middle[some], bins.accuracy[some], 0.09, color=BLUE, label="accuracy")
        one.vlines(middle[some], bins.accuracy[some], bins.confidence[some], color=RED, lw=3, label="difference to the confidence")
        one.plot([0, 1], [0, 1], color=GREY, lw=1, ls="--")
        one.set_title(f"{name}\ncalibration error {result.calibration_error:.1%}")
        one.set(xlabel="confidence", xlim=(0, 1), ylim=(0, 1))
    axes[0].set_ylabel("accuracy of the bin")
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    save(figure, "topic_calibration")


if __name__ == "__main__":
    main()
