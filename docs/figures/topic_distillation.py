"""Draw the test accuracy of examples/distillation.py over the number of labels.

python docs/figures/topic_distillation.py          needs scikit-learn and matplotlib; writes topic_distillation.svg
"""

from functools import partial

import numpy as np
from canvas import panels, save
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from topics import BLUE, GREY, RED

import nbloss.functional as F
from examples.distillation import logits, network, train

LABELS, EPOCHS, SEEDS = (50, 100, 200, 400, 800), 30, 3


def main():
    x, y = load_digits(return_X_y=True)
    x, test_x, y, test_y = train_test_split((x / 16).astype(np.float32), y, test_size=0.3, stratify=y, random_state=0)
    hard, soft = F.cross_entropy_value_and_grad, partial(F.distillation_loss_value_and_grad, temperature=3.0)
    right = np.zeros((SEEDS, len(LABELS), 3))
    for seed in range(SEEDS):
        for column, count in enumerate(LABELS):
            rng = np.random.default_rng(seed)
            few, labels = x[:count], y[:count]
            teacher = train(rng, network(rng, 512), few, labels, hard, EPOCHS, 0.3)
            alone = train(rng, network(rng, 12), few, labels, hard, EPOCHS, 0.3)
            distilled = train(rng, network(rng, 12), x, logits(teacher, x), soft, EPOCHS, 0.1)
            right[seed, column] = [(logits(p, test_x).argmax(1) == test_y).mean() for p in (teacher, alone, distilled)]
    figure, axes = panels()
    names = "teacher, 512 units", "student, 12 units, on the labels", "student, 12 units, on the teacher's logits"
    for k, (name, colour) in enumerate(zip(names, (GREY, RED, BLUE), strict=True)):
        axes.plot(LABELS, 100 * right[:, :, k].mean(0), color=colour, marker="o", ls="--" if k == 0 else "-", label=name)
    axes.set(xscale="log", xlabel="digits with a label", ylabel="test accuracy, %")
    axes.set_xticks(LABELS, LABELS)
    axes.set_xticks([], minor=True)
    axes.legend()
    save(figure, "topic_distillation")


if __name__ == "__main__":
    main()
