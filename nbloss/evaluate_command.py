"""`python -m nbloss evaluate`: loss, accuracy and calibration of logits in files."""

import json
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter

import numpy as np

import nbloss
import nbloss.functional as F

DEMO_LOGITS, DEMO_TARGETS = "nbloss-demo-logits.npy", "nbloss-demo-targets.npy"


def _complaint(option, path):
    """Why a file cannot be written; None if it can."""
    path = Path(path)
    folder = path.parent
    if path.is_dir():
        return f"{option} {path}: it is a folder"
    if not folder.is_dir():
        return f"{option} {path}: there is no folder {folder}"
    if not os.access(path if path.exists() else folder, os.W_OK):
        return f"{option} {path}: it cannot be written"
    return None


def _usage(args):
    """What is wrong with the arguments; None if nothing is."""
    if args.demo and (args.logits or args.targets or args.key):
        return "--demo makes its own files"
    if not args.demo and not (args.logits and args.targets):
        return "it needs a file of logits and one of targets, or --demo"
    if args.png and find_spec("matplotlib") is None:
        return '--png needs matplotlib: pip install "nbloss[demo]"'
    outputs = [("--json", args.json), ("--png", args.png)]
    outputs += [("--demo", DEMO_LOGITS), ("--demo", DEMO_TARGETS)] if args.demo else []
    return next((why for option, path in outputs if path and (why := _complaint(option, path))), None)


def _dataset(rng):
    """``(features, classes, in words)``: scikit-learn's digits if it is installed, else clouds of points."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        classes = rng.integers(0, 10, 2000)
        return (rng.standard_normal((10, 16))[classes] + rng.standard_normal((2000, 16))).astype(np.float32), classes, "10 clouds of points"
    features, classes = load_digits(return_X_y=True)
    return (features / 16).astype(np.float32), classes, "scikit-learn's digits"


def _write_demo():
    """Train a linear model on half of a small data set, and write its logits of the other half."""
    rng = np.random.default_rng(0)
    features, classes, words = _dataset(rng)
    order = rng.permutation(len(classes))
    train, test = np.array_split(order, 2)
    weights = np.zeros((features.shape[1], 10), np.float32)
    for _ in range(200):
        _, gradient = F.cross_entropy_value_and_grad(features[train] @ weights, classes[train])
        weights -= features[train].T @ gradient
    np.save(DEMO_LOGITS, features[test] @ weights)
    np.save(DEMO_TARGETS, classes[test])
    print(f"a linear model learnt half of {words}; its logits of the other half are in {DEMO_LOGITS}, the classes in {DEMO_TARGETS}")
    print(f"the same again: python -m nbloss evaluate {DEMO_LOGITS} {DEMO_TARGETS}\n")


def _table(result):
    """The lines of the results."""
    rows = [("rows", f"{result.count:,}"), ("loss", f"{result.loss:.6f}"), ("perplexity", f"{result.perplexity:.6g}")]
    rows += [(f"top-{k} accuracy", f"{accuracy:.4%}") for k, accuracy in result.accuracy.items()]
    rows += [("entropy", f"{result.entropy:.6f}"), ("calibration error", f"{result.calibration_error:.6f}")]
    return [f"{name:<20}{value:>16}" for name, value in rows]


def _in_words(error):
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return " ".join(str(error).split())


def main(args):
    """Run the command with the arguments of `nbloss.__main__.build_parser`; returns the exit status."""
    why = _usage(args)
    if why:
        print(f"nbloss evaluate: {why}", file=sys.stderr)
        return 2
    status, start = 0, perf_counter()
    try:
        if args.demo:
            _write_demo()
            args.logits, args.targets, start = DEMO_LOGITS, DEMO_TARGETS, perf_counter()
        options = {"ignore_index": args.ignore_index, "top_k": args.top_k, "bins": args.bins, "key": args.key}
        result = nbloss.evaluate(args.logits, args.targets, **options)
    except (OSError, ValueError, TypeError, IndexError, EOFError, ImportError) as error:
        print(f"nbloss evaluate: {_in_words(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt as interrupt:
        result, status = getattr(interrupt, "partial", None), 130  # the shell's exit status for Ctrl-C
        if result is None:
            raise
        print("stopped: of what was read so far", file=sys.stderr)
    print(*_table(result), sep="\n")
    if not status:
        print(f"{perf_counter() - start:.2f} s", file=sys.stderr)
    try:
        if args.json:
            Path(args.json).write_text(json.dumps(result.to_dict(), indent=2) + "\n", encoding="utf-8")
        if args.png:
            result.plot(args.png)
    except (OSError, ValueError) as error:  # a full disk; a suffix that matplotlib does not know
        print(f"nbloss evaluate: {_in_words(error)}", file=sys.stderr)
        return 2
    return status
