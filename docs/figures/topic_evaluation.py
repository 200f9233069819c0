"""Draw the memory that an evaluation takes beyond its logits over the number of rows: nbloss.evaluate, and NumPy on whole arrays.

python docs/figures/topic_evaluation.py          needs matplotlib; measures with tracemalloc; writes topic_evaluation.svg
"""

import tracemalloc

import numpy as np
from canvas import panels, save
from topics import BLUE, RED

import nbloss

ROWS, CLASSES = (1000, 2000, 4000, 8000, 16000, 32000), 1000


def in_numpy(logits, target):
    """Loss, accuracy and entropy, in passes over whole arrays."""
    shifted = logits - logits.max(1, keepdims=True)
    log_p = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
    return -log_p[np.arange(len(target)), target].mean(), (logits.argmax(1) == target).mean(), -(np.exp(log_p) * log_p).sum(1).mean()


def peak(function, *arguments):
    """MiB that a call takes beyond what was there."""
    function(*arguments)  # what is made once
    tracemalloc.start()
    function(*arguments)
    most = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return most / 2**20


def main():
    rng = np.random.default_rng(0)
    figure, axes = panels()
    taken = {"NumPy, whole arrays": [], "nbloss.evaluate": []}
    for rows in ROWS:
        logits, target = rng.standard_normal((rows, CLASSES), np.float32), rng.integers(0, CLASSES, rows)
        taken["NumPy, whole arrays"].append(peak(in_numpy, logits, target))
        taken["nbloss.evaluate"].append(peak(nbloss.evaluate, logits, target))
    for (name, values), colour in zip(taken.items(), (RED, BLUE), strict=True):
        axes.plot(ROWS, values, color=colour, marker="o", label=name)
    axes.set(xscale="log", yscale="log", xlabel=f"rows of {CLASSES} classes, float32", ylabel="memory beyond the logits, MiB")
    axes.set_xticks(ROWS, [f"{rows:,}" for rows in ROWS])
    axes.set_xticks([], minor=True)
    axes.set_yticks([0.1, 1, 10, 100], ["0.1", "1", "10", "100"])
    axes.set_yticks([], minor=True)
    axes.legend()
    save(figure, "topic_evaluation")


if __name__ == "__main__":
    main()
