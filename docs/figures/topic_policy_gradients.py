"""Draw how often the policy of examples/policy_gradient.py wins, with and without a baseline.

python docs/figures/topic_policy_gradients.py          needs matplotlib; writes topic_policy_gradients.svg
"""

import numpy as np
from canvas import panels, save
from topics import BLUE, RED

import nbloss.functional as F
from examples.policy_gradient import HIDDEN, LARGEST, RATE, masked_logits, play

STEPS, SEEDS = 100, 3


def shares(baseline, seed):
    """The part of the games that is won at each step."""
    rng = np.random.default_rng(seed)
    params = [rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for s in ((3 * LARGEST + 3, HIDDEN), (HIDDEN, 3 * LARGEST))]
    found = []
    for _ in range(STEPS):
        positions, actions, won, share = play(rng, params)
        found.append(share)
        logits, hidden, seen = masked_logits(params, positions)
        advantage = won - won.mean() if baseline else won
        _, grad = F.cross_entropy_value_and_grad(logits, actions, sample_weight=advantage, divisor=len(won))
        grad_hidden = (grad @ params[1].T) * (hidden > 0)
        params[1] -= RATE * hidden.T @ grad
        params[0] -= RATE * seen.T @ grad_hidden
    return found


def main():
    figure, axes = panels()
    for baseline, name, colour in ((True, "sample_weight=won - won.mean()", BLUE), (False, "sample_weight=won", RED)):
        runs = 100 * np.array([shares(baseline, seed) for seed in range(SEEDS)])
        smooth = np.array([np.convolve(run, np.full(5, 0.2), "valid") for run in runs])
        steps = np.arange(2, STEPS - 2)
        axes.fill_between(steps, smooth.min(0), smooth.max(0), color=colour, alpha=0.15, lw=0)
        axes.plot(steps, smooth.mean(0), color=colour, label=name)
    axes.set(xlabel="step of 256 games", ylabel="games won, %, mean of 5 steps")
    axes.legend(frameon=False, fontsize=9, loc="lower right")
    save(figure, "topic_policy_gradients")


if __name__ == "__main__":
    main()
