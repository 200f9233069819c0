"""`nbloss.evaluate`: against scikit-learn and float64 formulas, for any split, from memory and from files; and its command."""

import doctest
import itertools
import json
import os
import pickle
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from numpy.testing import assert_allclose
from work import ROOT, run_script

import nbloss
import nbloss.functional as F

BF16 = ml_dtypes.bfloat16
DTYPES = [np.float16, BF16, np.float32, np.float64]
SHAPES = [(1000, 3), (700, 48), (300, 49), (90, 1000), (3, 5000), (5, 7, 60), (4, 3, 2, 11)]
by_name = {"ids": lambda value: np.dtype(value).name if isinstance(value, type) else "x".join(map(str, value))}


def problem(rng, shape, dtype=np.float32, scale=2.0, ignored=0.1):
    """Logits that prefer their targets a little, so that every rank occurs, and targets of which some are ignored."""
    y = rng.integers(0, shape[-1], shape[:-1])
    x = scale * rng.standard_normal(shape)
    np.put_along_axis(x, y[..., None], np.take_along_axis(x, y[..., None], -1) + 2 * scale * rng.random(shape[:-1])[..., None], -1)
    y[rng.random(y.shape) < ignored] = -100
    return x.astype(dtype), y


def exact(x, y, top_k=(1, 5), bins=15, ignore_index=-100):
    """The same numbers by the formulas, in float64 (extended, where there is one)."""
    rows, y = np.asarray(x).astype(np.longdouble).reshape(-1, x.shape[-1]), np.ravel(y)
    rows, y = rows[y != ignore_index], y[y != ignore_index].astype(np.int64)
    with np.errstate(all="ignore"):
        gap = rows - rows.max(1, keepdims=True)
        e = np.exp(gap)
        p = e / e.sum(1, keepdims=True)
        loss = np.log(e.sum(1)) - np.take_along_axis(gap, y[:, None], 1)[:, 0]
        entropy = np.log(e.sum(1)) - np.where(e == 0, 0, p * gap).sum(1)
    known = ~np.isnan(p).any(1)
    rank = np.where(known, (rows > np.take_along_axis(rows, y[:, None], 1)).sum(1), x.shape[-1])
    sure, first = p.max(1)[known].astype(np.float64), (rows.argmax(1) == y)[known]
    index = np.ceil(sure * bins).astype(int) - 1
    inside = [index == b for b in range(bins)]
    return {
        "count": len(y),
        "loss": float(loss.mean()) if len(y) else np.nan,
        "entropy": float(entropy.mean()) if len(y) else np.nan,
        "accuracy": {k: float((rank < min(k, x.shape[-1])).mean()) if len(y) else np.nan for k in top_k},
        "bin_count": [int(b.sum()) for b in inside],
        "bin_accuracy": [first[b].mean() if b.any() else np.nan for b in inside],
        "bin_confidence": [sure[b].mean() if b.any() else np.nan for b in inside],
    }


def check(result, x, y, **options):
    wanted = exact(x, y, **options)
    ulp = 2e-6 if result.loss != result.loss or np.dtype(x.dtype) != np.float64 else 1e-14
    assert result.count == wanted["count"]
    assert result.accuracy == pytest.approx(wanted["accuracy"], rel=1e-15, nan_ok=True)
    assert_allclose(result.loss, wanted["loss"], rtol=ulp)
    assert_allclose(result.perplexity, np.exp(wanted["loss"]), rtol=20 * ulp)
    assert_allclose(result.entropy, wanted["entropy"], rtol=ulp)
    assert result.bins.count.tolist() == wanted["bin_count"]
    assert_allclose(result.bins.accuracy, wanted["bin_accuracy"], rtol=1e-14)
    assert_allclose(result.bins.confidence, wanted["bin_confidence"], rtol=ulp)
    share = result.bins.count / max(1, result.bins.count.sum())
    assert_allclose(result.calibration_error, np.nansum(share * abs(result.bins.accuracy - result.bins.confidence)), rtol=1e-12)


# ---- values --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES, **by_name)
@pytest.mark.parametrize("shape", SHAPES, **by_name)
def test_every_shape_and_dtype(shape, dtype, rng):
    x, y = problem(rng, shape, dtype)
    check(nbloss.evaluate(x, y), x, y)


def test_scikit_learn_says_the_same(rng):
    metrics = pytest.importorskip("sklearn.metrics")
    x, y = problem(rng, (4000, 30), np.float64, ignored=0)
    result, p = nbloss.evaluate(x, y, top_k=(1, 2, 5, 29)), np.exp(F.log_softmax(x))
    assert_allclose(result.loss, metrics.log_loss(y, p, labels=np.arange(30)), rtol=1e-12)
    for k, accuracy in result.accuracy.items():
        assert accuracy == pytest.approx(metrics.top_k_accuracy_score(y, p, k=k, labels=np.arange(30)), rel=1e-14)


@pytest.mark.parametrize("bins", [1, 2, 15, 1000])
def test_any_number_of_bins(bins, rng):
    x, y = problem(rng, (3000, 20), np.float64)
    check(nbloss.evaluate(x, y, bins=bins, top_k=(3,)), x, y, bins=bins, top_k=(3,))


def test_a_bin_holds_its_upper_edge_and_not_its_lower_one():
    x = np.log([[0.5, 0.5], [0.25, 0.75], [1.0, 0.0]], where=[[True, True], [True, True], [True, False]], out=np.full((3, 2), -np.inf))
    assert nbloss.evaluate(x, [0, 0, 0], bins=4).bins.count.tolist() == [0, 1, 1, 1]


@pytest.mark.parametrize("dtype", DTYPES, **by_name)
@pytest.mark.parametrize("classes", [5, 100])
def test_ties_count_as_right_and_a_bin_goes_by_the_first_maximum(classes, dtype):
    x = np.zeros((4, classes), dtype)
    x[:, [1, 3]] = 2
    x[3, 4] = 3
    result = nbloss.evaluate(x, [1, 3, 0, 3], top_k=(1, 2, 3))
    assert result.accuracy == {1: 0.5, 2: 0.75, 3: 1.0}
    assert sum(result.bin_right) == 1
    check(result, x, np.array([1, 3, 0, 3]), top_k=(1, 2, 3))


@pytest.mark.parametrize("dtype", [np.float16, BF16], **by_name)
def test_half_types_with_many_ties(dtype, rng):
    x, y = (rng.integers(0, 4, (500, 300)) / 2).astype(dtype), rng.integers(0, 300, 500)
    check(nbloss.evaluate(x, y, top_k=(1, 50, 100)), x, y, top_k=(1, 50, 100))


@pytest.mark.parametrize("classes", [6, 70, 3000])
def test_rows_with_nan_count_and_are_never_right(classes, rng):
    x, y = problem(rng, (40, classes), ignored=0)
    x[3, 2], x[7], x[9, 1] = np.nan, -np.inf, np.inf
    y[3] = 2
    result = nbloss.evaluate(x, y, top_k=(1, classes, classes + 9))
    assert result.count == 40 and np.isnan(result.loss) and np.isnan(result.perplexity) and np.isnan(result.entropy)
    assert result.accuracy[classes] == result.accuracy[classes + 9] == 37 / 40
    assert sum(result.bin_count) == 37
    check(result, x, y, top_k=(1, classes, classes + 9))
    y[[3, 7, 9]] = -100
    assert np.isfinite(nbloss.evaluate(x, y).loss)
    check(nbloss.evaluate(x, y), x, y)


@pytest.mark.parametrize("classes", [6, 70])
def test_masked_classes_add_nothing_and_a_masked_target_has_an_infinite_loss(classes, rng):
    x, y = problem(rng, (50, classes), ignored=0)
    x[:, 0], y = -np.inf, np.maximum(y, 1)
    check(nbloss.evaluate(x, y), x, y)
    y[5] = 0
    result = nbloss.evaluate(x, y)
    assert result.loss == result.perplexity == np.inf and np.isfinite(result.entropy)
    assert (result + result).loss == np.inf


@pytest.mark.parametrize("classes", [10, 1000])
def test_confident_rows_keep_their_digits(classes):
    x = np.full((64, classes), -40.0, np.float32)
    x[np.arange(64), np.arange(64) % classes] = 0
    result = nbloss.evaluate(x, np.arange(64) % classes)
    assert_allclose(result.loss, (classes - 1) * np.exp(-40.0), rtol=1e-6)
    assert_allclose(result.entropy, 41 * (classes - 1) * np.exp(-40.0), rtol=1e-6)
    assert result.accuracy[1] == 1 and result.bin_count[-1] == 64


def test_nothing_counted(rng):
    for x, y in [
        (np.empty((0, 5), np.float32), np.empty(0, int)),
        (np.zeros((3, 5)), np.full(3, -100)),
        (np.empty((0, 0)), np.empty(0, int)),
    ]:
        result = nbloss.evaluate(x, y)
        assert result.count == 0 and sum(result.bin_count) == 0
        numbers = result.loss, result.perplexity, result.entropy, result.calibration_error, *result.accuracy.values()
        assert all(np.isnan(n) for n in numbers) and np.isnan(result.bins.accuracy).all() and np.isnan(result.bins.confidence).all()
    assert nbloss.evaluate(iter([])).count == 0


TARGETS = [*(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), ">i4", bool]


@pytest.mark.parametrize("kind", TARGETS, ids=str)
def test_targets_of_every_integer_type(kind, rng):
    x = rng.standard_normal((100, 7)).astype(np.float32)
    y = rng.integers(0, 2, 100).astype(kind)
    for ignore_index in (1, -100, 2**63 - 1):
        check(nbloss.evaluate(x, y, ignore_index=ignore_index), x, y, ignore_index=ignore_index)


LAYOUTS = {
    "Fortran order": np.asfortranarray,
    "reversed": lambda a: a[::-1, ..., ::-1].copy()[::-1, ..., ::-1],
    "every second class": lambda a: np.repeat(a, 2, axis=-1)[..., ::2],
    "other byte order": lambda a: a.astype(a.dtype.newbyteorder(">")),
    "classes first": lambda a: np.moveaxis(np.moveaxis(a, -1, 0).copy(), 0, -1),
    "a window": lambda a: np.pad(a, [(1, 1)] * a.ndim)[(slice(1, -1),) * a.ndim],
    "a field of records": lambda a: np.rec.fromarrays([a, a.astype("i1")]).f0,
    "a list": lambda a: a.tolist(),
}


@pytest.mark.parametrize("classes", [9, 65])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts(layout, classes, rng):
    x, y = problem(rng, (6, 10, classes), np.float64)
    assert nbloss.evaluate(LAYOUTS[layout](x), y, batch_bytes=1500) == nbloss.evaluate(x, y)


def test_one_row(rng):
    x = rng.standard_normal(20).astype(np.float32)
    check(nbloss.evaluate(x, 3), x[None], np.array([3]))


# ---- splits --------------------------------------------------------------------------------------------------------------


def sums(result):
    return [result.loss, result.entropy, result.calibration_error]


@pytest.mark.parametrize("dtype", [np.float32, np.float64], **by_name)
def test_any_split_in_any_order(dtype, rng):
    x, y = problem(rng, (20000, 12), dtype, 5.0)
    x *= 10.0 ** rng.integers(-3, 3, (20000, 1)).astype(dtype)
    whole = nbloss.evaluate(x, y)
    check(whole, x, y)
    for parts in (2, 3, 50, 400):
        cuts = np.sort(rng.integers(0, len(x), parts - 1))
        order = rng.permutation(parts)
        evaluated = [nbloss.evaluate(a, b) for a, b in zip(np.split(x, cuts), np.split(y, cuts), strict=True)]
        merged = sum(evaluated[k] for k in order)
        assert (merged.count, merged.right, merged.bin_count, merged.bin_right) == (
            whole.count, whole.right, whole.bin_count, whole.bin_right
        )  # fmt: skip
        assert_allclose(sums(merged), sums(whole), rtol=1e-15)
        assert sum(evaluated[k] for k in order) == merged


def test_blocks_threads_and_batches_do_not_matter(rng):
    x, y = problem(rng, (30000, 20))
    threads, results = nbloss.get_num_threads(), []
    try:
        for count, batch_bytes in itertools.product((1, 2), (1, 10**4, 2**26)):
            nbloss.set_num_threads(count)
            results.append(
                nbloss.evaluate(x[:3000] if batch_bytes == 1 else x, y[:3000] if batch_bytes == 1 else y, batch_bytes=batch_bytes)
            )
    finally:
        nbloss.set_num_threads(threads)
    assert results[0] == results[3]
    assert results[1] == results[2] == results[4] == results[5]
    batches = ((x[i : i + 777], y[i : i + 777]) for i in range(0, len(x), 777))
    assert_allclose(sums(nbloss.evaluate(batches)), sums(results[1]), rtol=1e-15)


def test_batches_may_have_unlike_classes_and_dtypes(rng):
    batches = [problem(rng, (50, 4), np.float16), problem(rng, (3, 20, 70), np.float64)]
    result = nbloss.evaluate(batches)
    assert result == nbloss.evaluate(*batches[0]) + nbloss.evaluate(*batches[1])


def test_unlike_evaluations_are_not_added(rng):
    x, y = problem(rng, (20, 10))
    result = nbloss.evaluate(x, y)
    with pytest.raises(ValueError, match=r"same top_k; got \(1, 5\) and \(1,\)"):
        result + nbloss.evaluate(x, y, top_k=1)
    with pytest.raises(ValueError, match="same number of bins; got 15 and 10"):
        result + nbloss.evaluate(x, y, bins=10)
    with pytest.raises(TypeError):
        result + 1


def test_an_evaluation_cannot_be_changed_can_be_pickled_and_reads_well(rng):
    x, y = problem(rng, (200, 10))
    result = nbloss.evaluate(x, y)
    with pytest.raises(AttributeError):
        result.count = 3
    with pytest.raises(AttributeError):
        result.loss = 3.0
    again = pickle.loads(pickle.dumps(result))
    assert again == result and hash(again) == hash(result) and sums(again) == sums(result)
    assert repr(result).startswith(f"Evaluation(count={result.count}, loss={result.loss:.6g}, perplexity=")
    values = result.to_dict()
    assert json.loads(json.dumps(values, allow_nan=False)) == values
    assert list(values) == ["count", "loss", "perplexity", "accuracy", "entropy", "calibration_error", "bins"]
    assert values["accuracy"] == {"1": result.accuracy[1], "5": result.accuracy[5]}
    assert nbloss.evaluate(x, np.full(200, -100)).to_dict()["loss"] is None


# ---- files ---------------------------------------------------------------------------------------------------------------


def saved(folder, x, y):
    np.save(folder / "logits.npy", x)
    np.save(folder / "targets.npy", y)
    return folder / "logits.npy", folder / "targets.npy"


@pytest.mark.parametrize("dtype", DTYPES, **by_name)
def test_npy_files(dtype, rng, tmp_path):
    x, y = problem(rng, (30, 5, 70), dtype)
    paths, wanted = saved(tmp_path, x, y), nbloss.evaluate(x, y)
    assert nbloss.evaluate(*paths) == nbloss.evaluate(*map(str, paths), batch_bytes=3000) == wanted
    if dtype != BF16:
        assert nbloss.evaluate(np.load(paths[0], mmap_mode="r"), np.load(paths[1], mmap_mode="r")) == wanted


def test_npy_files_in_other_orders_and_empty_ones(rng, tmp_path):
    x, y = problem(rng, (300, 70))
    wanted = nbloss.evaluate(x, y)
    assert nbloss.evaluate(*saved(tmp_path, np.asfortranarray(x), y.astype(">i2"))) == wanted
    assert nbloss.evaluate(*saved(tmp_path, x.astype(">f4"), y)) == wanted
    assert nbloss.evaluate(*saved(tmp_path, x[:0], y[:0])).count == 0


@pytest.mark.parametrize("dtype", DTYPES, **by_name)
def test_safetensors_files(dtype, rng, tmp_path):
    safetensors = pytest.importorskip("safetensors.numpy")
    x, y = problem(rng, (30, 5, 70), dtype)
    one, two = tmp_path / "one.safetensors", tmp_path / "two.safetensors"
    safetensors.save_file({"a": x}, one, metadata={"made": "by a test"})
    safetensors.save_file({"c": np.zeros(3, np.int8), "b": x, "a": x + dtype(1)}, two)
    wanted = nbloss.evaluate(x, y)
    assert nbloss.evaluate(one, y) == nbloss.evaluate(str(one), y, key="a") == nbloss.evaluate(two, y, key="b") == wanted
    for path, key in ((two, None), (two, "d"), (one, "b")):
        with pytest.raises(ValueError, match="key should name one of the tensors of"):
            nbloss.evaluate(path, y, key=key)


def safetensors_bytes(x, **changes):
    """A safetensors file, written by hand."""
    tensor = {"dtype": "F32", "shape": list(x.shape), "data_offsets": [0, x.nbytes]} | changes
    header = json.dumps({"__metadata__": {"format": "np"}, "x": tensor}).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + x.tobytes()


def test_safetensors_written_by_hand(rng, tmp_path):
    x, y = problem(rng, (40, 60))
    path = tmp_path / "x.safetensors"
    path.write_bytes(safetensors_bytes(x))
    assert nbloss.evaluate(path, y) == nbloss.evaluate(x, y)
    path.write_bytes(safetensors_bytes(x[:0]))
    assert nbloss.evaluate(path, y[:0]).count == 0


BROKEN = {
    "cut": (lambda x: safetensors_bytes(x)[:-1], "truncated"),
    "cut in the header": (lambda x: safetensors_bytes(x)[:50], "truncated"),
    "cut in the length": (lambda x: b"123", "no .safetensors file"),
    "empty": (lambda x: b"", "no .safetensors file"),
    "no JSON": (lambda x: (8).to_bytes(8, "little") + b"not json", "no JSON object"),
    "a JSON list": (lambda x: (8).to_bytes(8, "little") + b"[1, 2]  ", "no JSON object"),
    "other offsets": (lambda x: safetensors_bytes(x, data_offsets=[0, 4]), "has shape"),
    "negative offsets": (lambda x: safetensors_bytes(x, data_offsets=[-x.nbytes, 0]), "has shape"),
    "no offsets": (lambda x: safetensors_bytes(x, data_offsets=None), "has no dtype, shape and data_offsets"),
    "a negative shape": (lambda x: safetensors_bytes(x, shape=[-40, -60]), "has shape"),
    "an infinite shape": (lambda x: safetensors_bytes(x, shape=[np.inf, 60]), "has no dtype, shape and data_offsets"),
    "a shape of fractions": (lambda x: safetensors_bytes(x, shape=[40.5, 60]), "has no dtype, shape and data_offsets"),
    "a list of dtypes": (lambda x: safetensors_bytes(x, dtype=["F32"]), "has no dtype, shape and data_offsets"),
    "a deep header": (lambda x: (200_000).to_bytes(8, "little") + b"[" * 200_000, "no JSON object"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_broken_safetensors_files(kind, rng, tmp_path):
    x, y = problem(rng, (40, 60))
    make, words = BROKEN[kind]
    (tmp_path / "x.safetensors").write_bytes(make(x))
    with pytest.raises(ValueError, match=words):
        nbloss.evaluate(tmp_path / "x.safetensors", y)


def test_broken_npy_files(rng, tmp_path):
    logits, targets = saved(tmp_path, *problem(rng, (40, 60)))
    content = logits.read_bytes()
    for length, words in ((len(content) - 1, "truncated"), (30, "no .npy file"), (3, "no .npy file"), (0, "no .npy file")):
        logits.write_bytes(content[:length])
        with pytest.raises(ValueError, match=words):
            nbloss.evaluate(logits, targets)
    logits.write_bytes(b"PK" + content)
    with pytest.raises(ValueError, match=r"no \.npy file"):
        nbloss.evaluate(logits, targets)
    for shape in (b"(-40,60)", b"(9999999999999999999, 60)"):
        header = content[:127].replace(b"(40, 60)", shape).rstrip().ljust(127)  # spaces end it, and a line break
        logits.write_bytes(header + content[127:])
        with pytest.raises(ValueError, match=r"no array has the shape in its header"):
            nbloss.evaluate(logits, targets)
    with pytest.raises(FileNotFoundError):
        nbloss.evaluate(tmp_path / "nowhere.npy", targets)
    with pytest.raises(ValueError, match=r"ends in \.npy or \.safetensors"):
        nbloss.evaluate(tmp_path / "logits.csv", targets)
    np.save(tmp_path / "objects.npy", np.array([{}, None]), allow_pickle=True)
    with pytest.raises(ValueError, match=r"no \.npy file that can be mapped"):
        nbloss.evaluate(tmp_path / "objects.npy", targets)


def resident(tmp_path, rows, classes):
    """``(rows counted, MB that its peak of memory without mapped files grew by, MB of the file)`` of a process that evaluates a file."""
    code = f"""
import numpy as np, nbloss, resource, threading
x = np.lib.format.open_memmap("logits.npy", mode="w+", dtype=np.float32, shape=({rows}, {classes}))
rng = np.random.default_rng(0)
for i in range(0, {rows}, 1000):
    x[i : i + 1000] = rng.standard_normal(x[i : i + 1000].shape, dtype=np.float32)
x.flush()
size = x.nbytes
del x
def anonymous():
    lines = dict(line.split(":") for line in open("/proc/self/status") if ":" in line)
    return int(lines["RssAnon"].split()[0]) / 1024
y = rng.integers(0, {classes}, {rows})
nbloss.evaluate(np.zeros((100, {classes}), np.float32), np.zeros(100, int))
before, seen = anonymous(), []
result = nbloss.evaluate("logits.npy", y, progress=lambda done, total: seen.append(anonymous()))
print(result.count, round(max(seen) - before, 1), size / 1e6)
"""
    return [float(n) for n in run_script(tmp_path, code.replace('"logits.npy"', repr(str(tmp_path / "logits.npy"))))]


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells how much memory is whose")
def test_a_memory_map_takes_little_memory(tmp_path):
    count, grown, size = resident(tmp_path, 40_000, 1000)
    assert count == 40_000 and size == 160
    assert grown < 32


@pytest.mark.big
def test_three_gigabytes_take_little_memory(tmp_path):
    count, grown, size = resident(tmp_path, 750_000, 1000)
    assert count == 750_000 and size == 3000 and grown < 150


# ---- arguments -----------------------------------------------------------------------------------------------------------

X, Y = np.zeros((4, 3, 7), np.float32), np.zeros((4, 3), np.int64)


def with_target(value, index, dtype=np.int64):
    y = Y.astype(dtype)
    y[index] = value
    return y


REFUSED = {
    "no target": (TypeError, "target is needed", lambda: nbloss.evaluate(X)),
    "no batches": (TypeError, "target is needed", lambda: nbloss.evaluate("logits.npy")),
    "no pairs": (TypeError, "batch 1 should be a pair", lambda: nbloss.evaluate([(X, Y), X])),
    "integers": (TypeError, "logits.astype", lambda: nbloss.evaluate(X.astype(int), Y)),
    "probabilities": (TypeError, "class numbers; got float32", lambda: nbloss.evaluate(X, X)),
    "a masked array": (TypeError, "masked", lambda: nbloss.evaluate(np.ma.masked_array(X), Y)),
    "masked targets": (TypeError, "masked", lambda: nbloss.evaluate(X, np.ma.masked_array(Y))),
    "a shape": (ValueError, r"target should have shape \(4, 3\), .*; got \(4, 7\)", lambda: nbloss.evaluate(X, np.zeros((4, 7), int))),
    "a scalar": (ValueError, "at least one class", lambda: nbloss.evaluate(np.float32(3), 0)),
    "no classes": (ValueError, "at least one class", lambda: nbloss.evaluate(np.empty((3, 0)), np.zeros(3, int))),
    "a target too large": (IndexError, r"got 7 at row 5$", lambda: nbloss.evaluate(X, with_target(7, (1, 2)), batch_bytes=30)),
    "a negative target": (IndexError, r"\[0, 7\) or -100 .*: got -3 at row 11$", lambda: nbloss.evaluate(X, with_target(-3, (3, 2)))),
    "a large target": (IndexError, f"got {2**64 - 1} at row 3", lambda: nbloss.evaluate(X, with_target(2**64 - 1, (1, 0), "u8"))),
    "of a batch": (IndexError, r"at row 17 of all batches \(batch 1\)", lambda: nbloss.evaluate([(X, Y), (X, with_target(9, (1, 2)))])),
    "top_k 0": (ValueError, "top_k should be a positive", lambda: nbloss.evaluate(X, Y, top_k=(1, 0))),
    "top_k twice": (ValueError, "once", lambda: nbloss.evaluate(X, Y, top_k=(1, 1))),
    "top_k text": (TypeError, "top_k", lambda: nbloss.evaluate(X, Y, top_k="15")),
    "top_k float": (TypeError, "top_k", lambda: nbloss.evaluate(X, Y, top_k=1.5)),
    "bins": (ValueError, "bins should be", lambda: nbloss.evaluate(X, Y, bins=0)),
    "batch_bytes": (TypeError, "batch_bytes should be", lambda: nbloss.evaluate(X, Y, batch_bytes=1e6)),
    "ignore_index": (TypeError, "ignore_index", lambda: nbloss.evaluate(X, Y, ignore_index=1.5)),
    "key of an array": (ValueError, "key names a tensor", lambda: nbloss.evaluate(X, Y, key="x")),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refusals(case):
    kind, words, call = REFUSED[case]
    with pytest.raises(kind, match=words):
        call()


class OnGpu:
    """What looks like an array of a GPU."""

    __cuda_array_interface__ = {"shape": (4, 3, 7), "typestr": "<f4", "data": (0, False), "version": 3}


def test_arrays_of_a_gpu():
    with pytest.raises(TypeError, match=r"logits should be in the memory of the host; .*: nbloss.to_host\(logits\)"):
        nbloss.evaluate(OnGpu(), Y)
    with pytest.raises(TypeError, match=r"nbloss.to_host\(target\)"):
        nbloss.evaluate(X, OnGpu())


def test_tensors_of_torch(rng):
    torch = pytest.importorskip("torch")
    x, y = problem(rng, (50, 12))
    assert nbloss.evaluate(torch.from_numpy(x), torch.from_numpy(y)) == nbloss.evaluate(x, y)
    assert nbloss.evaluate(torch.from_numpy(x).bfloat16(), y) == nbloss.evaluate(x.astype(BF16), y)


def test_a_lazy_array_is_refused():
    dask = pytest.importorskip("dask.array")
    with pytest.raises(TypeError, match="lazy"):
        nbloss.evaluate(dask.from_array(X), Y)


# ---- progress and Ctrl-C -------------------------------------------------------------------------------------------------


def test_progress_is_called_with_bytes(rng, capsys):
    x, y = problem(rng, (100, 10))
    seen = []
    nbloss.evaluate(x, y, batch_bytes=1000, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(done, 4000) for done in range(1000, 4001, 1000)]
    seen.clear()
    nbloss.evaluate([(x, y), (x, y)], progress=lambda done, total: seen.append((done, total)))
    assert seen == [(4000, None), (8000, None)]
    nbloss.evaluate(x, y)
    nbloss.evaluate(x, y, progress=False)
    assert capsys.readouterr().err == ""
    nbloss.evaluate(x, y, progress=True)
    shown = capsys.readouterr().err
    assert "100% |########################|" in shown and "GB/s, 0:00 left" in shown and shown.endswith("\r\x1b[K")


def test_a_terminal_gets_a_bar(rng, monkeypatch, capsys):
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    nbloss.evaluate(*problem(rng, (100, 10)))
    assert "GB/s" in capsys.readouterr().err


def test_an_interrupt_has_what_was_counted(rng):
    x, y = problem(rng, (100, 10), ignored=0)

    def batches():
        yield x, y
        yield x[:7], y[:7]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as caught:
        nbloss.evaluate(batches())
    assert caught.value.partial == nbloss.evaluate(x, y) + nbloss.evaluate(x[:7], y[:7])


# ---- plot and command ----------------------------------------------------------------------------------------------------


def test_the_diagram(rng, tmp_path):
    pytest.importorskip("matplotlib")
    x, y = problem(rng, (300, 10))
    nbloss.evaluate(x, y).plot(tmp_path / "a.png")
    nbloss.evaluate(x[:0], y[:0]).plot(str(tmp_path / "b.svg"))
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG") and b"<svg" in (tmp_path / "b.svg").read_bytes()


def test_without_matplotlib(rng, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(ImportError, match=r"pip install \"nbloss\[demo\]\""):
        nbloss.evaluate(*problem(rng, (3, 4))).plot(tmp_path / "a.png")


def run(folder, *words):
    """``(exit status, stdout, stderr)`` of Python in a folder."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = os.environ | {"PYTHONPATH": path}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, timeout=100)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout, done.stderr


def command(folder, *words):
    return run(folder, "-m", "nbloss", "evaluate", *words)


def test_the_command(rng, tmp_path):
    x, y = problem(rng, (2000, 20))
    y[y == -100] = 19
    saved(tmp_path, x, y)
    options = ["--json", "result.json", "--ignore-index", "19", "--top-k", "1", "3"]
    status, out, err = command(tmp_path, "logits.npy", "targets.npy", *options)
    result = nbloss.evaluate(x, y, ignore_index=19, top_k=(1, 3))
    assert status == 0 and "\r" not in err
    assert json.loads((tmp_path / "result.json").read_text()) == result.to_dict()
    lines = dict(line.rsplit(maxsplit=1) for line in out.splitlines())
    assert lines["rows"] == f"{result.count:,}" and lines["loss"] == f"{result.loss:.6f}"
    assert lines["top-3 accuracy"] == f"{result.accuracy[3]:.4%}"


def test_the_command_refuses_with_one_line(rng, tmp_path):
    x, y = problem(rng, (200, 20), ignored=0)
    logits, _ = saved(tmp_path, x, y)
    y[150] = 20
    np.save(tmp_path / "outside.npy", y)
    np.save(tmp_path / "short.npy", y[:100])
    np.save(tmp_path / "fractions.npy", y / 2)
    (tmp_path / "cut.npy").write_bytes(logits.read_bytes()[:5000])
    (tmp_path / "folder.json").mkdir()
    for words, said in [
        (["logits.npy", "outside.npy"], "got 20 at row 150"),
        (["logits.npy", "short.npy"], "got (100,)"),
        (["cut.npy", "targets.npy"], "cut.npy is truncated"),
        (["nowhere.npy", "targets.npy"], "nowhere.npy: No such file or directory"),
        (["logits.npy", "nowhere.npy"], "nowhere.npy: No such file or directory"),
        (["logits.npy", "targets.npy", "--json", "nowhere/result.json"], "there is no folder nowhere"),
        (["logits.npy", "targets.npy", "--json", "folder.json"], "it is a folder"),
        (["logits.npy"], "it needs a file of logits and one of targets, or --demo"),
        ([".", "targets.npy"], "ends in .npy or .safetensors"),
        (["logits.npy", "."], "Is a directory"),
        (["logits.npy", "fractions.npy"], "class numbers; got float64"),
        (["logits.npy", "targets.npy", "--demo"], "--demo makes its own files"),
    ]:
        status, out, err = command(tmp_path, *words)
        assert (status, out) == (2, ""), (words, err)
        assert said in err and err.count("\n") == 1, (words, err)


def test_a_result_that_cannot_be_written(rng, tmp_path):
    saved(tmp_path, *problem(rng, (20, 5)))
    cases = [["--json", "/dev/full"]] if Path("/dev/full").exists() else []
    cases += [["--png", "diagram.xyz"]] if find_spec("matplotlib") else []
    for words in cases:
        status, out, err = command(tmp_path, "logits.npy", "targets.npy", *words)
        assert status == 2 and "loss" in out and "Traceback" not in err, (words, err)


def test_the_demo(tmp_path):
    options = ["--png", "diagram.png"] if pytest.importorskip("matplotlib") else []
    status, out, _ = command(tmp_path, "--demo", *options)
    assert status == 0 and "nbloss-demo-logits.npy" in out and "top-1 accuracy" in out
    assert (tmp_path / "diagram.png").exists()
    status, again, _ = command(tmp_path, "nbloss-demo-logits.npy", "nbloss-demo-targets.npy")
    assert status == 0 and out.endswith(again)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other signals")
def test_ctrl_c_at_the_command_shows_what_was_counted(tmp_path):
    """The signal comes once the first block is done. The file is sparse: it takes no room on the disk."""
    x = np.lib.format.open_memmap(tmp_path / "logits.npy", mode="w+", dtype=np.float16, shape=(200_000, 1000))
    del x
    np.save(tmp_path / "targets.npy", np.zeros(200_000, np.int8))
    code = """
import os, signal, sys, nbloss, nbloss.__main__
evaluate = nbloss.evaluate
nbloss.evaluate = lambda *a, **k: evaluate(*a, **k, progress=lambda done, total: os.kill(os.getpid(), signal.SIGINT))
sys.exit(nbloss.__main__.main(["evaluate", "logits.npy", "targets.npy"]))
"""
    status, out, err = run(tmp_path, "-c", code)
    assert status == 130 and "stopped" in err
    assert 0 < int(out.split()[1].replace(",", "")) < 200_000


def test_the_code_of_the_guide_runs(tmp_path):
    text = (ROOT / "docs" / "evaluate.md").read_text(encoding="utf-8")
    status, out, err = run(tmp_path, "-c", "".join(re.findall(r"^```python\n(.*?)^```$", text, re.M | re.S)))
    assert status == 0, err
    assert out.startswith("Evaluation(count=2000, ") and out.endswith("100%\n")


@pytest.mark.parametrize("value", [nbloss.evaluate, nbloss.Evaluation], ids=lambda value: value.__name__)
def test_the_examples_run(value):
    tests = doctest.DocTestFinder(recurse=False).find(value, module=False, globs={})
    result = doctest.DocTestRunner().run(tests[0])
    assert result.attempted > 0 and result.failed == 0
