"""A bigram model of the words of the standard library's sources, whose output weight is its embedding.

    python examples/tied_bigram.py [--quick]

With 50,257 words the logits of a batch take 400 MB, and their gradient as much. `linear_cross_entropy` has the logits of some rows at
a time. The last lines compare the memory of a step with that of the plain way.
"""

import re
import sys
import sysconfig
import tracemalloc
from collections import Counter
from pathlib import Path

import numpy as np

import nbloss.functional as F

BATCH, RATE = 2048, 3.0


def words(pattern):
    """The vocabulary, and the text as numbers of words."""
    paths = sorted(path for path in Path(sysconfig.get_paths()["stdlib"]).glob(pattern) if "site-packages" not in path.parts)
    found = re.findall(r"\w+|[^\w\s]", " ".join(path.read_text(encoding="utf-8", errors="ignore") for path in paths))
    number = {word: k for k, (word, _) in enumerate(Counter(found).most_common(50_257))}
    return len(number), np.array([number.get(word, -100) for word in found])  # -100: a rare word is no target


def plain(hidden, embed, y):
    loss, grad = F.cross_entropy_value_and_grad(hidden @ embed.T, y)
    return loss, grad @ embed, grad.T @ hidden


def main(pattern, steps, width):
    (count, text), rng = words(pattern), np.random.default_rng(0)
    embed, mix = (rng.normal(0, width**-0.5, (rows, width)).astype(np.float32) for rows in (count, width))
    known, losses = np.flatnonzero(text[:-1] >= 0), []
    for _ in range(steps):
        at = rng.choice(known, BATCH)
        seen, y = embed[text[at]], text[at + 1]
        loss, of_hidden, of_embed, _ = F.linear_cross_entropy_value_and_grad(seen @ mix, embed, y)
        np.add.at(of_embed, text[at], of_hidden @ mix.T)  # the other use of the embedding
        mix -= RATE / 10 * (seen.T @ of_hidden)
        embed -= RATE * of_embed
        losses.append(loss)
    print(f"{count} words; loss", *(f"{np.mean(part):.2f}" for part in np.array_split(losses, 6)))
    for step in (F.linear_cross_entropy_value_and_grad, plain):
        tracemalloc.start()
        step(seen @ mix, embed, y)
        print(f"peak memory of a step, {step.__name__}: {tracemalloc.get_traced_memory()[1] / 1e6:.0f} MB")
        tracemalloc.stop()
    print("learned" if np.mean(losses[-5:]) < 0.9 * losses[0] else "nothing learned")


main(*(("*.py", 50, 16) if "--quick" in sys.argv else ("**/*.py", 60, 64)))
