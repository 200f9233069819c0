"""Policy gradient with masked actions in NumPy: a policy learns to win at Nim against a player that moves at random.

    python examples/policy_gradient.py [--quick]

Three heaps of up to 4 stones; a move takes stones from one heap; who takes the last stone wins. Action 4 h + k - 1 takes k
stones from heap h. Actions that a heap does not allow get a logit of -inf: probability 0 and gradient exactly 0. REINFORCE is a cross
entropy of the actions that were taken, weighted with what they won: `sample_weight`, with negative weights for lost games.
"""

import sys

import numpy as np

import nbloss.functional as F

LARGEST, HIDDEN, GAMES, RATE = 4, 128, 256, 3.0


def masked_logits(params, heaps):
    """The policy's logits (N, 21) of positions (N, 3), its hidden layer and its input."""
    seen = (heaps[..., None] == np.arange(LARGEST + 1)).reshape(len(heaps), -1).astype(np.float32)
    hidden = np.maximum(seen @ params[0], 0)
    allowed = (np.arange(1, LARGEST + 1) <= heaps[..., None]).reshape(len(heaps), -1)
    return np.where(allowed, hidden @ params[1], np.float32(-np.inf)), hidden, seen


def play(rng, params):
    """Games of the policy, which begins, against random moves: its positions, actions and their results (+1 or -1), and how many it won."""
    heaps = rng.integers(1, LARGEST + 1, (GAMES, 3))
    running, won, moves, both = np.arange(GAMES), np.zeros(GAMES, np.float32), [], [params, [0 * p for p in params]]
    while running.size:
        logits, *_ = masked_logits(both[0], heaps[running])
        action = (logits + rng.gumbel(size=logits.shape)).argmax(1)  # a sample of softmax(logits)
        moves += [(running, heaps[running], action)] if both[0] is params else []
        heaps[running, action // LARGEST] -= action % LARGEST + 1
        over = heaps[running].sum(1) == 0
        won[running[over]] = 1 if both[0] is params else -1
        running, both = running[~over], both[::-1]
    games, positions, actions = map(np.concatenate, zip(*moves, strict=True))
    return positions, actions, won[games], (won > 0).mean()


def shares(rng, steps, baseline=True):
    """Train a policy, and yield the part of the games that it wins at each step."""
    params = [rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for s in ((3 * LARGEST + 3, HIDDEN), (HIDDEN, 3 * LARGEST))]
    for _ in range(steps):
        positions, actions, won, share = play(rng, params)
        yield share
        logits, hidden, seen = masked_logits(params, positions)
        _, grad = F.cross_entropy_value_and_grad(logits, actions, sample_weight=won - baseline * won.mean(), divisor=len(won))
        params[0] -= RATE * seen.T @ ((grad @ params[1].T) * (hidden > 0))
        params[1] -= RATE * hidden.T @ grad


if __name__ == "__main__":
    won = list(shares(np.random.default_rng(0), 101 if "--quick" in sys.argv else 201))
    print(*(f"step {step:4}  games won {won[step]:.1%}" for step in range(0, len(won), 20)), sep="\n")
    learned = np.mean(won[-10:]) > 0.7  # at first it wins half of the games; one step alone varies by 3 %
    print("learned" if learned else "did not learn: the policy should win more than 70 % of the games")
    sys.exit(0 if learned else 1)
