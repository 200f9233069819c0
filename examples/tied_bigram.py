"""A bigram model of the words of the standard library's sources, whose output weight is its embedding.

    python examples/tied_bigram.py [--quick]

Some 50,000 words: the logits of 2,048 words would take 400 MB, their gradient as much. `linear_cross_entropy` has the logits of some
rows at a time. The memory of a step beside the plain way is printed.
"""

import re
import sys
import sysconfig
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np

import nbloss.functional as F

BATCH, RATE = 2048, float(__import__("os").environ.get("RATE", "1"))


def words(files):
    """The vocabulary, and the text as numbers of words, from the sources of the standard library."""
    paths = sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py" if files else "[a-z]*/**/*.py"))
    paths = [path for path in paths if "site-packages" not in path.parts][: files or None]
    found = [word for path in paths for word in re.findall(r"\w+|[^\w\s]", path.read_text(encoding="utf-8", errors="ignore"))]
    vocabulary = [word for word, _ in Counter(found).most_common(50_257)]
    number = {word: k for k, word in enumerate(vocabulary)}
    return vocabulary, np.array([number.get(word, -100) for word in found])  # rare words are no targets


def gradients(embed, mix, x, y):
    """The loss, and the gradients of the embedding (from both of its uses) and of the matrix between them."""
    seen = embed[x]
    loss, of_hidden, of_embed, _ = F.linear_cross_entropy_value_and_grad(seen @ mix, embed, y)
    np.add.at(of_embed, x, of_hidden @ mix.T)
    return loss, of_embed, seen.T @ of_hidden


def plain(embed, mix, x, y):
    """The same with all logits."""
    seen = embed[x]
    hidden = seen @ mix
    loss, grad = F.cross_entropy_value_and_grad(hidden @ embed.T, y)
    of_embed, of_hidden = grad.T @ hidden, grad @ embed
    np.add.at(of_embed, x, of_hidden @ mix.T)
    return loss, of_embed, seen.T @ of_hidden


def peak(step, *arrays):
    """The peak memory of a step in MB, its results included."""
    tracemalloc.start()
    step(*arrays)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return most / 1e6


def main(files, steps, width):
    vocabulary, text = words(files)
    rng, count = np.random.default_rng(0), min(BATCH, len(text) // 4)
    embed, mix = (rng.normal(0, width**-0.5, (n, width)).astype(np.float32) for n in (len(vocabulary), width))
    pairs, losses = np.flatnonzero(text[:-1] >= 0), []
    for _ in range(steps):
        at = rng.choice(pairs, count)
        loss, of_embed, of_mix = gradients(embed, mix, text[at], text[at + 1])
        embed -= RATE * of_embed
        mix -= RATE / 10 * of_mix
        losses.append(loss)
    arrays = embed, mix, text[at], text[at + 1]
    print(f"{len(vocabulary)} words, batches of {count}: {peak(gradients, *arrays):.0f} MB a step, plainly {peak(plain, *arrays):.0f} MB")
    print("loss", *(f"{np.mean(part):.2f}" for part in np.array_split(losses, 6)))
    print("learned" if np.mean(losses[-5:]) < 0.9 * np.log(len(vocabulary)) else "nothing learned")


if __name__ == "__main__":
    main(*((60, 40, 16) if "--quick" in sys.argv else (0, 100, 64)))
