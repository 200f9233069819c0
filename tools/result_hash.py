"""Hash the results of every function x dtype x layout x option x thread count over a fixed set of inputs.

    python tools/result_hash.py [--dtype DTYPE ...] [--write FILE] [--compare FILE] [--quick]

Run it before and after a change that should keep every bit. ``--write`` saves the hash of each case, ``--compare`` names the cases that
differ from a saved file. ``--quick`` takes one thread count and small shapes.

The inputs are integers divided by a power of two, so no processor and no C library affects them: the hashes are equal on every processor
for which nbloss promises the same bits. float64 losses use the C library's log1p.
"""

import argparse
import hashlib
import json
import sys
import warnings
from pathlib import Path

import numpy as np

import nbloss
import nbloss.functional as F

SMALL = [(1, 1), (3, 2), (70, 10), (17, 3), (40, 48), (21, 49), (9, 131), (33, 1000), (3, 4099), (3, 7, 12, 12), (2, 60, 9, 9), (2, 21, 70)]
LARGE = [(30000, 10), (700, 1000), (2, 150000), (2, 21, 128, 160), (2, 200, 24, 24)]
REDUCTIONS = "none", "mean", "sum"
THREADS = 1, 2, 3


def number_array(rng, shape, dtype, scale=1.0):
    return (rng.integers(-9000, 9000, shape) / 1024 * scale).astype(dtype)


def layouts(x):
    """``(name, view)``: the same numbers with other strides."""
    yield "C", x
    yield "F", np.asfortranarray(x)
    doubled = np.zeros((*x.shape[:1], 2 * x.shape[1], *x.shape[2:]), x.dtype)
    doubled[:, ::2] = x
    yield "every second class", doubled[:, ::2]
    yield "slice of wider rows", np.concatenate([x, x], 1)[:, : x.shape[1]]
    yield "reversed rows", x[::-1].copy()[::-1]
    yield "channels last", np.moveaxis(np.ascontiguousarray(np.moveaxis(x, 1, -1)), -1, 1)


def logits(rng, shape, dtype):
    """``(name, array)``: usual logits, and rows that single steps of the arithmetic treat apart."""
    x = number_array(rng, shape, dtype)
    yield "usual", x
    confident = x.copy()
    confident[:, 0] += np.asarray(25, dtype)
    yield "confident", confident
    yield "wide", number_array(rng, shape, dtype, 30.0)
    special = x.copy()
    special[0] = -np.inf
    special[-1, -1] = np.inf
    special[shape[0] // 2, 0] = np.nan
    special[:, shape[1] // 2] = -np.inf
    yield "special", special
    yield "far below 0", x - np.asarray(100, dtype)


def targets(rng, shape, number):
    """``(name, target, options)``"""
    classes, rows = shape[1], shape[:1] + shape[2:]
    y = rng.integers(0, classes, rows)
    w = (np.arange(classes) % 4 + 1).astype(number) / 2
    ignored = np.where(y % 5 == 0, -100, y)
    p = rng.integers(0, 8, shape).astype(number) / 8
    yield "int64", y, {}
    yield "uint8", (y % 256).astype(np.uint8), {}
    yield "int32 ignored", ignored.astype(np.int32), {}
    yield "weights", y, {"weight": w}
    yield "weights ignored", ignored, {"weight": w}
    yield "all ignored", np.full(rows, -100), {}
    yield "smoothing", y, {"label_smoothing": 0.1}
    yield "smoothing weights ignored", ignored, {"label_smoothing": 0.25, "weight": w}
    yield "probabilities", p, {}
    yield "probabilities weights smoothing", p, {"label_smoothing": 0.25, "weight": w}


def cases(dtype, shapes):
    """``(name, function)``; the function gives a tuple of arrays."""
    for shape in shapes:
        rng = np.random.default_rng(17)
        number = np.float64 if dtype == np.float64 else np.float32
        large = shape in LARGE
        for kind, x in logits(rng, shape, dtype):
            if large and kind not in ("usual", "wide"):
                continue
            for layout, view in layouts(x):
                if kind != "usual" and layout not in ("C", "F"):
                    continue
                g = number_array(rng, shape, dtype)
                for axis in (1, 0):
                    name = f"{shape} {kind}, {layout}, axis {axis}"
                    yield f"log_softmax {name}", lambda view=view, axis=axis: (F.log_softmax(view, axis),)
                    yield f"log_softmax_backward {name}", lambda g=g, view=view, axis=axis: (F.log_softmax_backward(g, view, axis),)
                for what, target, options in targets(rng, shape, number):
                    if large and what in ("uint8", "all ignored", "smoothing"):
                        continue
                    for reduction in ("mean",) if large or layout not in ("C", "F") else REDUCTIONS:
                        name = f"{shape} {kind}, {layout}, {what}, {reduction}"
                        given = {**options, "reduction": reduction}
                        yield f"cross_entropy {name}", lambda view=view, t=target, o=given: (F.cross_entropy(view, t, **o),)
                        yield (
                            f"cross_entropy_value_and_grad {name}",
                            lambda view=view, t=target, o=given: F.cross_entropy_value_and_grad(view, t, **o),
                        )
                        if layout == "C":
                            yield (
                                f"cross_entropy_backward in place {name}",
                                lambda view=view, t=target, o=given: (F.cross_entropy_backward(0.75, x := view.copy(), t, **o, out=x),),
                            )
                        if "label_smoothing" not in given:
                            yield f"nll_loss {name}", lambda view=view, t=target, o=given: (F.nll_loss(view, t, **o),)
                            yield (
                                f"nll_loss_backward {name}",
                                lambda view=view, t=target, o=given: (F.nll_loss_backward(0.75, view, t, **o),),
                            )


def hashes(names, quick):
    """``{dtype and case: hash}``"""
    result = {}
    for name in names:
        dtype = np.dtype(name if name != "bfloat16" else __import__("ml_dtypes").bfloat16)
        for threads in THREADS[:1] if quick else THREADS:
            nbloss.set_num_threads(threads)
            for case, function in cases(dtype, SMALL if quick else SMALL + LARGE if threads != 3 else LARGE):
                digest = hashlib.sha256()
                for array in function():
                    digest.update(_bits(array))
                key = f"{name}: {case}"
                if result.setdefault(key, digest.hexdigest()[:16]) != digest.hexdigest()[:16]:
                    print(f"{key}: differs between thread counts", file=sys.stderr)
                    result[key] = "differs between thread counts"
    nbloss.set_num_threads(None)
    return result


def _bits(array):
    """The bytes of a result; every nan alike, as its sign and payload mean nothing."""
    array = np.array(array, order="C")
    wide = array.astype(np.float64)
    array[np.isnan(wide)] = np.nan
    return array.tobytes()


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    names = "float32", "float64", "float16", "bfloat16"
    parser.add_argument("--dtype", nargs="+", choices=names, default=names)
    parser.add_argument("--write", type=Path)
    parser.add_argument("--compare", type=Path)
    parser.add_argument("--quick", action="store_true")
    options = parser.parse_args(argv)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        found = hashes(options.dtype, options.quick)
    for name in options.dtype:
        total = hashlib.sha256("".join(value for key, value in found.items() if key.startswith(f"{name}:")).encode())
        print(name, sum(key.startswith(f"{name}:") for key in found), "cases", total.hexdigest()[:32])
    if options.write:
        options.write.write_text(json.dumps(found, indent=0))
    if options.compare:
        before = json.loads(options.compare.read_text())
        different = [key for key in found if before.get(key) != found[key]]
        print(f"{len(different)} of {len(found)} cases differ from {options.compare}")
        for key in different:
            print("  " + key)
        return int(bool(different))
    return 0


if __name__ == "__main__":
    sys.exit(main())
