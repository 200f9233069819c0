"""Draw the perplexity of examples/char_lm.py, with padding ignored and with padding counted.

python docs/figures/topic_language_models.py          needs matplotlib; writes topic_language_models.svg
"""

import numpy as np
from canvas import panels, save
from topics import BLUE, GREY, RED

import nbloss.functional as F
from examples.char_lm import CONTEXT, HIDDEN, IGNORE, WIDTH, forward, sentences, step

EPOCHS, SENTENCES = 4, 600


def curves(counts_padding):
    """Perplexity after each epoch: of the letters, and of all positions."""
    rng = np.random.default_rng(0)
    letters, x, y = sentences(SENTENCES)
    held, train = np.split(rng.permutation(len(x)), [len(x) // 10])
    shapes = (len(letters), WIDTH), (CONTEXT * WIDTH, HIDDEN), (HIDDEN, len(letters))
    params = [rng.normal(0, s[0] ** -0.5, s).astype(np.float32) for s in shapes]
    padded = np.maximum(y, 0)  # letter 0 stands for the end of a sentence, and for the padding
    taught = padded if counts_padding else y
    found = []
    for epoch in range(EPOCHS + 1):
        for batch in np.array_split(rng.permutation(train), len(train) // 8) if epoch else ():
            step(params, x[batch].reshape(-1, CONTEXT), taught[batch].ravel())
        logits = forward(params, x[held].reshape(-1, CONTEXT))[-1]
        losses = F.cross_entropy(logits, y[held].ravel(), ignore_index=IGNORE), F.cross_entropy(logits, padded[held].ravel())
        found.append(np.exp(losses))
    return np.array(found).T


def main():
    ignored, counted = curves(False), curves(True)
    figure, axes = panels()
    epochs = range(EPOCHS + 1)
    axes.plot(epochs, ignored[0], color=BLUE, marker="o", label="padding ignored: letters")
    axes.plot(epochs, counted[0], color=RED, marker="o", label="padding counted: letters")
    axes.plot(epochs, counted[1], color=GREY, marker="o", ls="--", label="padding counted: all positions, as reported")
    axes.set(yscale="log", xlabel="epoch", ylabel="perplexity, held-out sentences", xticks=list(epochs))
    axes.set_yticks([5, 10, 20, 50, 100], ["5", "10", "20", "50", "100"])
    axes.set_yticks([], minor=True)
    axes.legend()
    save(figure, "topic_language_models")


if __name__ == "__main__":
    main()
