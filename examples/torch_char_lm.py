"""A character model in PyTorch on Python's own help pages, trained with torch's loss and once more with nbloss's.

    python examples/torch_char_lm.py [--quick]

Both runs begin with the same weights and see the same batches, so the curves are the same to three digits; the times differ.
"""

import sys
import time
from pydoc_data.topics import topics

import torch

import nbloss.interop.torch as nt

CONTEXT, WIDTH, HIDDEN, BATCH = 8, 16, 128, 1024


def characters():
    """The alphabet, contexts (N, 8) and next characters (N,)."""
    text = " ".join(" ".join(topics.values()).split())
    letters = sorted(set(text))
    number = {letter: i for i, letter in enumerate(letters)}
    codes = torch.tensor([number[letter] for letter in text])
    return letters, codes.unfold(0, CONTEXT, 1)[:-1], codes[CONTEXT:]


def train(loss, letters, x, y, steps):
    """The mean loss of each fifth of the training, and the seconds of all steps."""
    torch.manual_seed(0)
    model = torch.nn.Sequential(
        torch.nn.Embedding(len(letters), WIDTH), torch.nn.Flatten(), torch.nn.Linear(CONTEXT * WIDTH, HIDDEN), torch.nn.ReLU(),
        torch.nn.Linear(HIDDEN, len(letters)),
    )  # fmt: skip
    optimizer = torch.optim.SGD(model.parameters(), 0.5)
    loss(model(x[:BATCH]), y[:BATCH]).backward()  # the first call of a process loads kernels
    losses, start = [], time.perf_counter()
    for _ in range(steps):
        batch = torch.randint(len(x), (BATCH,))
        optimizer.zero_grad()
        value = loss(model(x[batch]), y[batch])
        value.backward()
        optimizer.step()
        losses.append(value.item())
    return torch.tensor(losses).reshape(5, -1).mean(1), time.perf_counter() - start


def main(steps):
    letters, x, y = characters()
    print(f"{len(x)} characters, {len(letters)} letters")
    runs = [train(loss, letters, x, y, steps) for loss in (torch.nn.CrossEntropyLoss(), nt.CrossEntropyLoss())]
    for name, (curve, seconds) in zip(("torch", "nbloss"), runs, strict=True):
        print(f"{name:7}", "  ".join(f"{value:.3f}" for value in curve), f" {seconds:6.2f} s")
    learned = torch.allclose(runs[0][0], runs[1][0], atol=1e-3) and runs[1][0][-1] < 2.8
    print("learned" if learned else "did not learn: the curves should be the same, and fall below 2.8")
    return 0 if learned else 1


if __name__ == "__main__":
    sys.exit(main(100 if "--quick" in sys.argv else 3000))
