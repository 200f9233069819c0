"""A character language model on Python's own help pages, in sentences of different lengths.

    python examples/char_lm.py [--quick]

Sentences are padded to one length. The targets of the padding are -100 (`ignore_index`), so padding counts neither in the
mean nor in the gradient. The model sees the last 8 characters; it has embeddings and one hidden layer.
"""

import sys
from pydoc_data.topics import topics

import numpy as np

import nbloss.functional as F

CONTEXT, WIDTH, HIDDEN, LONGEST, RATE, IGNORE = 8, 16, 192, 160, 2.0, -100


def sentences(count):
    """The alphabet, contexts (N, L, 8) and next characters (N, L); character 0 starts and ends a sentence."""
    text = " ".join(" ".join(topics.values()).split())
    lines = [line[:LONGEST] for line in text.split(". ") if len(line) > 20][:count]
    letters = "\0" + "".join(sorted(set("".join(lines))))
    y = np.full((len(lines), LONGEST + 1), IGNORE, np.int16)  # targets may have any integer type
    for row, line in zip(y, lines, strict=True):
        row[: len(line) + 1] = [letters.index(c) for c in line + "\0"]
    past = np.pad(np.maximum(y, 0), ((0, 0), (CONTEXT, 0)))[:, :-1]
    return letters, np.lib.stride_tricks.sliding_window_view(past, CONTEXT, 1), y


def forward(params, x):
    """Embedded input, hidden layer and logits of contexts (rows, 8)."""
    embed, w1, w2 = params
    seen = embed[x].reshape(len(x), -1)
    hidden = np.maximum(seen @ w1, 0)
    return seen, hidden, hidden @ w2


def step(params, x, y):
    """One step of gradient descent."""
    embed, w1, w2 = params
    seen, hidden, logits = forward(params, x)
    _, grad = F.cross_entropy_value_and_grad(logits, y, ignore_index=IGNORE, out=logits)  # in place: no second array
    back = (grad @ w2.T) * (hidden > 0)
    one_hot = np.eye(len(embed), dtype=np.float32)[x.ravel()]  # the product below adds the gradients of equal letters
    grads = one_hot.T @ (back @ w1.T).reshape(-1, WIDTH), seen.T @ back, hidden.T @ grad
    for p, g in zip(params, grads, strict=True):
        p -= RATE * g


def main(count, epochs):
    rng = np.random.default_rng(0)
    letters, x, y = sentences(count)
    held, train = np.split(rng.permutation(len(x)), [len(x) // 10])
    shapes = (len(letters), WIDTH), (CONTEXT * WIDTH, HIDDEN), (HIDDEN, len(letters))
    params = [rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for s in shapes]
    x_held, y_held, perplexity = x[held].reshape(-1, CONTEXT), y[held].ravel(), []
    print(f"{len(train)} sentences, {len(letters)} letters, {(y == IGNORE).mean():.0%} of the positions are padding")
    for epoch in range(epochs + 1):
        for batch in np.array_split(rng.permutation(train), len(train) // 8) if epoch else ():
            step(params, x[batch].reshape(-1, CONTEXT), y[batch].ravel())
        perplexity.append(np.exp(F.cross_entropy(forward(params, x_held)[-1], y_held, ignore_index=IGNORE)))
        print(f"epoch {epoch}  perplexity on held-out sentences {perplexity[-1]:6.2f}")

    past = [0] * CONTEXT
    while len(past) < LONGEST and (len(past) == CONTEXT or past[-1]):
        p = F.softmax(forward(params, np.array([past[-CONTEXT:]]))[-1][0], dtype=np.float64)
        past.append(int(rng.choice(len(letters), p=p)))
    print("it writes:", "".join(letters[i] for i in past if i))
    learned = perplexity[-1] < 12
    print("learned" if learned else "did not learn: the perplexity should fall below 12")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main(count=800, epochs=4) if "--quick" in sys.argv else main(count=None, epochs=6))
