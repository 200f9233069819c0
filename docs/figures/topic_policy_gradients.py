"""Draw how often the policy of examples/policy_gradient.py wins, with and without a baseline.

python docs/figures/topic_policy_gradients.py          needs matplotlib; writes topic_policy_gradients.svg
"""

import numpy as np
from canvas import panels, save
from topics import BLUE, RED

from examples.policy_gradient import shares

STEPS, SEEDS = 100, 3


def main():
    figure, axes = panels()
    for baseline, name, colour in ((True, "sample_weight=won - won.mean()", BLUE), (False, "sample_weight=won", RED)):
        runs = 100 * np.array([list(shares(np.random.default_rng(seed), STEPS, baseline)) for seed in range(SEEDS)])
        smooth = np.array([np.convolve(run, np.full(5, 0.2), "valid") for run in runs])
        steps = np.arange(2, STEPS - 2)
        axes.fill_between(steps, smooth.min(0), smooth.max(0), color=colour, alpha=0.15, lw=0)
        axes.plot(steps, smooth.mean(0), color=colour, label=name)
    axes.set(xlabel="step of 256 games", ylabel="games won, %, mean of 5 steps")
    axes.legend(loc="lower right")
    save(figure, "topic_policy_gradients")


if __name__ == "__main__":
    main()
