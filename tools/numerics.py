"""The table of docs/numerics.md: the largest error of nbloss and of its peers, in units in the last place, against mpmath.

    python tools/numerics.py            prints the table
    python tools/numerics.py --write    and puts it into docs/numerics.md

An error is counted in units in the last place of the exact value, in the dtype of the logits (below the smallest normal number: in
units of that one). A value that should be finite and is not, or the other way round, is an infinite error.
"""

import argparse
import os
import sys
from pathlib import Path

os.environ.setdefault("JAX_ENABLE_X64", "1")

import ml_dtypes
import mpmath
import numpy as np

PAGE = Path(__file__).parents[1] / "docs" / "numerics.md"
BEGIN, END = "<!-- begin: tools/numerics.py -->", "<!-- end -->"
DTYPES = [np.float32, np.float64, np.float16, ml_dtypes.bfloat16]
PEERS = ["nbloss", "torch", "jax", "scipy", "sklearn", "numpy"]
OPERATIONS = ["log_softmax", "loss", "gradient"]


# ------------------------------ contenders: logits, targets -> arrays in the order of OPERATIONS ------------------------------


def by_nbloss(x, y):
    import nbloss.functional as F

    return F.log_softmax(x), *F.cross_entropy_value_and_grad(x, y, reduction="none")


def by_torch(x, y):
    import torch

    bits = x.view(np.int16) if x.dtype == ml_dtypes.bfloat16 else x
    logits = torch.from_numpy(bits.copy())
    logits = (logits.view(torch.bfloat16) if x.dtype == ml_dtypes.bfloat16 else logits).requires_grad_()
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(y), reduction="none")
    loss.sum().backward()
    results = torch.nn.functional.log_softmax(logits, 1), loss, logits.grad
    return [r.detach().double().numpy() for r in results]


def by_jax(x, y):
    import jax
    import jax.numpy as jnp

    def losses(x):
        return -jnp.take_along_axis(jax.nn.log_softmax(x), y[:, None], axis=1)[:, 0]

    x = jnp.asarray(x)
    return [np.asarray(a) for a in (jax.nn.log_softmax(x), losses(x), jax.grad(lambda x: losses(x).sum())(x))]


def by_scipy(x, y):
    from scipy.special import log_softmax, softmax

    logp, p = log_softmax(x, axis=1), softmax(x, axis=1)
    p[np.arange(len(y)), y] -= x.dtype.type(1)
    return logp, -logp[np.arange(len(y)), y], p


def by_sklearn(x, y):
    from sklearn._loss.loss import HalfMultinomialLoss

    loss = HalfMultinomialLoss(n_classes=x.shape[1])
    return None, *loss.loss_gradient(y_true=y.astype(x.dtype), raw_prediction=x)


def by_numpy(x, y):
    """What is written by hand: logsumexp with the maximum taken out, and p - 1."""
    rows, m = np.arange(len(y)), x.max(axis=1, keepdims=True)
    e = np.exp(x - m)
    s = e.sum(axis=1, keepdims=True)
    p = e / s
    p[rows, y] -= x.dtype.type(1)
    return (x - m) - np.log(s), (np.log(s) + m)[:, 0] - x[rows, y], p


# ------------------------------ inputs ------------------------------


def inputs(dtype, rows, huge):
    """name -> logits and targets."""
    rng = np.random.default_rng(0)
    half, wide = np.dtype(dtype) == np.float16, np.dtype(dtype) == np.float64

    def normal(count, scale=3.0, rows=rows):
        return rng.normal(0, scale, (rows, count)), rng.integers(0, count, rows)

    yield "ordinary", *normal(10)
    for margin in (5, 10, 20, 50, 100):
        x, y = normal(10, 1.0)
        x[np.arange(rows), y] = x.max(axis=1) + margin
        yield f"confident, margin {margin}", x, y
    for shift in (1e4, 1e8, 1e30):
        if shift == 1e4 or not half:
            x, y = normal(10)
            yield f"shifted by {shift:.0e}".replace("e+0", "e").replace("e+", "e"), x + shift, y
    x, y = normal(10)
    x[rng.random(x.shape) < 0.4] = -np.inf
    x[np.arange(rows), y] = 1.0
    yield "masked (-inf)", x, y
    x, y = normal(10)
    yield "subnormal", x * (1e-310 if wide else 1e-7 if half else 1e-40), y
    yield f"{huge} classes", *normal(huge, rows=2)


# ------------------------------ errors ------------------------------


def exact(x, y):
    """log_softmax, losses and gradients as mpmath numbers, 50 digits."""
    logp, losses, gradient = [], [], []
    for row, target in zip(x.astype(float), y, strict=True):
        numbers = [mpmath.mpf(float(v)) for v in row]
        top = max(range(len(numbers)), key=numbers.__getitem__)
        e = [mpmath.exp(v - numbers[top]) for v in numbers]
        others = mpmath.fsum(e[:top] + e[top + 1 :])
        log_s, s = mpmath.log1p(others), 1 + others
        logp.append([(v - numbers[top]) - log_s for v in numbers])
        losses.append(log_s + (numbers[top] - numbers[target]))
        gradient.append([v / s for v in e])
        gradient[-1][target] = -(others if target == top else mpmath.fsum(e[:target] + e[target + 1 :])) / s
    return logp, losses, gradient


def worst(actual, wanted, dtype):
    """The largest error, in units in the last place."""
    info = ml_dtypes.finfo(dtype)
    smallest, digits = mpmath.mpf(float(info.smallest_normal)), info.nmant
    largest = mpmath.mpf(0)
    for a, w in zip(np.asarray(actual).astype(float).ravel(), np.array(wanted, dtype=object).ravel(), strict=True):
        if not mpmath.isfinite(w):
            largest = largest if a == float(w) else mpmath.inf
            continue
        if not np.isfinite(a):
            return mpmath.inf
        unit = mpmath.ldexp(1, mpmath.frexp(max(abs(w), smallest))[1] - 1 - digits)
        largest = max(largest, abs(mpmath.mpf(float(a)) - w) / unit)
    return largest


def written(error):
    if error is None:
        return "–"
    if mpmath.isinf(error):
        return "∞"
    return f"{float(error):.2f}" if error < 100 else f"{float(error):.0e}".replace("e+0", "e").replace("e+", "e")


def best(errors):
    """nbloss is the best, or within a tenth of the best (or half a unit: both are right)."""
    others = [e for e in errors[1:] if e is not None]
    return not others or errors[0] <= max(min(others) * 1.1, 0.5)


def measure(rows, huge):
    """One line of the table per dtype, input and operation: the texts, and whether nbloss is the best."""
    mpmath.mp.dps = 50
    for dtype in DTYPES:
        for name, x, y in inputs(dtype, rows, huge):
            x = x.astype(dtype)
            wanted, found = exact(x, y), {}
            for peer in PEERS:
                try:
                    with np.errstate(all="ignore"):
                        found[peer] = globals()[f"by_{peer}"](x, y)
                except (ImportError, TypeError, ValueError, RuntimeError):  # not installed, or not for this dtype
                    found[peer] = [None] * 3
            for k, operation in enumerate(OPERATIONS):
                errors = [None if found[p][k] is None else worst(found[p][k], wanted[k], dtype) for p in PEERS]
                yield np.dtype(dtype).name, name, operation, [written(e) for e in errors], best(errors)


def versions():
    from importlib import metadata

    names = {"numba": "numba", "torch": "torch", "jax": "jax", "scipy": "scipy", "sklearn": "scikit-learn", "numpy": "numpy"}
    found = [f"{n} {metadata.version(n)}" for n in names.values()]
    return ", ".join(found)


def table(rows, huge):
    lines = ["| dtype | input | | " + " | ".join(PEERS) + " |", "| --- | --- | --- |" + " --- |" * len(PEERS)]
    lost = cells = 0
    for dtype, name, operation, texts, won in measure(rows, huge):
        cells, lost = cells + 1, lost + (not won)
        texts[0] = f"**{texts[0]}**" if won else f"{texts[0]} (not the best)"
        lines.append(f"| {dtype} | {name} | {operation} | " + " | ".join(texts) + " |")
    words = f"{cells} cells, {rows} rows each (2 of the largest); nbloss is the best, or equal, in {cells - lost}. {versions()}."
    return "\n".join([words, "", *lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="replace the table of docs/numerics.md")
    parser.add_argument("--rows", type=int, default=100)
    parser.add_argument("--classes", type=int, default=50000, help="of the largest input")
    args = parser.parse_args()
    text = table(args.rows, args.classes)
    print(text)
    if args.write:
        page = PAGE.read_text()
        head, _, rest = page.partition(BEGIN)
        PAGE.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
