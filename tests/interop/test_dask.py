"""`nbloss.interop.dask` against the same calls on arrays in memory, in every chunking and on every kind of scheduler."""

import os

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import nbloss
import nbloss.functional as F

da = pytest.importorskip("dask.array")
dask = pytest.importorskip("dask")
lazy = pytest.importorskip("nbloss.interop.dask")

HERE = {"scheduler": "synchronous"}
BY_ROWS = [(60, 12), (17, 12), ((1, 59), 12)]
BY_CLASSES = [(60, 5), (17, 5), (20, (1, 11)), (13, 1)]
WEIGHTS = np.linspace(0, 2, 12)
SAMPLE_WEIGHTS = np.arange(60) % 3
OPTIONS = {
    "none": {},
    "weights": {"weight": WEIGHTS},
    "smoothing": {"label_smoothing": 0.2, "weight": WEIGHTS, "ignore_index": 3},
    "sample weights": {"sample_weight": SAMPLE_WEIGHTS, "label_smoothing": 0.1},
    "z-loss": {"lse_square_scale": 0.1},
    "softcap": {"softcap": 5.0, "logit_scale": 0.5},
}
evaluates = pytest.mark.skipif(not hasattr(nbloss, "evaluate"), reason="no nbloss.evaluate")


def problem(dtype=np.float32, shape=(60, 12), ignore_index=-100):
    rng = np.random.default_rng(0)
    x, y = (4 * rng.standard_normal(shape)).astype(dtype), rng.integers(0, shape[1], (shape[0], *shape[2:]))
    y[::9] = ignore_index
    x[9] = np.nan  # ignored
    x[10, y[10]] += 40
    return x, y


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", BY_ROWS, ids=str)
@pytest.mark.parametrize("given", OPTIONS.values(), ids=OPTIONS)
def test_chunks_of_rows_change_no_bit_of_the_losses(dtype, chunks, given):
    x, y = problem(dtype, ignore_index=given.get("ignore_index", -100))
    losses = lazy.cross_entropy(da.from_array(x, chunks=chunks), y, reduction="none", **given)
    assert losses.dtype == dtype
    assert_array_equal(losses.compute(**HERE), F.cross_entropy(x, y, reduction="none", **given))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("chunks", BY_CLASSES, ids=str)
@pytest.mark.parametrize("given", OPTIONS.values(), ids=OPTIONS)
def test_chunks_of_classes_keep_all_digits(dtype, chunks, given):
    x, y = problem(dtype, ignore_index=given.get("ignore_index", -100))
    losses = lazy.cross_entropy(da.from_array(x, chunks=chunks), y, reduction="none", **given).compute(**HERE)
    assert losses.dtype == dtype
    assert_allclose(losses, F.cross_entropy(x, y, reduction="none", **given), rtol=8 * np.finfo(dtype).eps)


@pytest.mark.parametrize("chunks", BY_ROWS + BY_CLASSES, ids=str)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
@pytest.mark.parametrize("given", OPTIONS.values(), ids=OPTIONS)
def test_means_are_those_of_all_rows(chunks, reduction, given):
    x, y = problem(ignore_index=given.get("ignore_index", -100))
    mean = lazy.cross_entropy(da.from_array(x, chunks=chunks), y, reduction=reduction, **given).compute(**HERE)
    want = F.cross_entropy(x, y, reduction=reduction, **given)
    assert mean.dtype == want.dtype
    assert_allclose(mean, want, rtol=2.4e-7)


def test_means_of_many_small_chunks_come_from_float64_sums():
    rng = np.random.default_rng(1)
    for n in range(5):
        x, y = rng.standard_normal((3000, 4)).astype(np.float32) * n, rng.integers(0, 4, 3000)
        mean = lazy.cross_entropy(da.from_array(x, chunks=(7, 4)), y).compute(**HERE)
        rows = F.cross_entropy(x, y, reduction="none").astype(np.float64)
        assert mean == np.float32(rows.mean())


@pytest.mark.parametrize("chunks", [(2, 12, 3, 2), (3, 5, 2, 5)], ids=str)
def test_other_shapes_and_targets(chunks):
    x, y = problem(shape=(11, 12, 4, 5))
    x[9] = 0
    z = da.from_array(x, chunks=chunks)
    for target in (
        y,
        da.from_array(y, chunks=(4, 4, 1)),
        np.random.default_rng(0).dirichlet(np.ones(12), (11, 4, 5)).transpose(0, 3, 1, 2),
    ):
        given = np.asarray(target)
        for reduction in ("none", "mean"):
            actual = lazy.cross_entropy(z, target, reduction=reduction).compute(**HERE)
            assert_allclose(actual, F.cross_entropy(x, given, reduction=reduction), rtol=1e-6)
    one = lazy.cross_entropy(z[0, :, 0, 0], 3).compute(**HERE)
    assert_allclose(one, F.cross_entropy(x[0, :, 0, 0], 3), rtol=1e-6)


@pytest.mark.parametrize("empty", ["nan", "zero"])
@pytest.mark.parametrize("chunks", [(2, 4), (3, 1)], ids=str)
def test_nothing_that_counts(empty, chunks):
    x = da.zeros((6, 4), chunks=chunks)
    for given in ({}, {"sample_weight": np.zeros(6)}):
        target = np.full(6, -100) if not given else np.zeros(6, int)
        assert_array_equal(lazy.cross_entropy(x, target, empty=empty, **given).compute(**HERE), np.nan if empty == "nan" else 0)
    negative = lazy.cross_entropy(x, np.zeros(6, int), sample_weight=-np.ones(6), empty=empty).compute(**HERE)
    assert_array_equal(negative, np.nan)
    assert_allclose(lazy.cross_entropy(x, np.zeros(6, int), divisor=3).compute(**HERE), 2 * np.log(4))


@pytest.mark.parametrize("dtype", [None, np.float64])
@pytest.mark.parametrize("dim", [0, 1, -1])
def test_log_softmax(dim, dtype):
    x, _ = problem()
    z = da.from_array(x, chunks=(17, 5))
    result = lazy.log_softmax(z, dim, dtype=dtype)
    assert (result.chunks, result.dtype) == (z.chunks, np.dtype(dtype or np.float32))
    assert_array_equal(result.compute(**HERE), F.log_softmax(x, dim, dtype=dtype))


def test_nothing_is_computed_before_compute():
    def loaded(block):
        raise AssertionError("computed")

    x = da.zeros((6, 4), chunks=(2, 2)).map_blocks(loaded, dtype=np.float32, meta=np.empty((0, 0), np.float32))
    assert lazy.cross_entropy(x, np.zeros(6, int)).shape == ()
    assert lazy.log_softmax(x).shape == (6, 4)


# ---- errors ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "words", "given"),
    [
        (ValueError, r"target should have shape \(6,\)", {"target": np.zeros(5, int)}),
        (ValueError, "weight should have shape", {"weight": np.ones(3)}),
        (ValueError, r"sample_weight should have shape \(6,\)", {"sample_weight": np.ones(5)}),
        (ValueError, "reduction should be", {"reduction": "all"}),
        (ValueError, "label_smoothing should be", {"label_smoothing": 2.0}),
        (TypeError, "target should hold class numbers", {"target": np.zeros(6)}),
        (TypeError, "input should have dtype", {"input": da.zeros((6, 4), chunks=2, dtype=int)}),
        (ValueError, "divisor should be", {"divisor": -1.0}),
    ],
)
def test_bad_arguments_are_refused_at_once(kind, words, given):
    arguments = {"input": da.zeros((6, 4), chunks=(2, 2)), "target": np.zeros(6, int)} | given
    with pytest.raises(kind, match=words):
        lazy.cross_entropy(**arguments)


@pytest.mark.parametrize("chunks", [(2, 4), (2, 2)], ids=str)
def test_a_target_out_of_range_is_an_index_error_of_the_computation(chunks):
    loss = lazy.cross_entropy(da.zeros((6, 4), chunks=chunks), np.array([0, 1, 2, 3, 4, 0]))
    with pytest.raises(IndexError, match="4"):
        loss.compute(**HERE)


# ---- schedulers ------------------------------------------------------------------------------------------------------


def work():
    x, y = problem()
    x[9] = 0
    tasks = [lazy.cross_entropy(da.from_array(x, chunks=c), y, reduction=r) for c in ((17, 12), (17, 5)) for r in ("mean", "none")]
    return tasks, [np.asarray(task.compute(**HERE)) for task in tasks]


def same(results, wanted):
    for result, want in zip(results, wanted, strict=True):
        assert_array_equal(result, want)


@pytest.mark.parametrize("scheduler", ["threads", "processes"])
def test_schedulers_change_no_bit(scheduler):
    tasks, wanted = work()
    same(dask.compute(*tasks, scheduler=scheduler, num_workers=2), wanted)


def threads_of_a_worker():
    F.cross_entropy(np.zeros((64, 10), np.float32), np.zeros(64, int))
    return os.environ.get("OMP_NUM_THREADS"), nbloss.get_num_threads()


def test_a_cluster_of_processes():
    distributed = pytest.importorskip("distributed")
    tasks, wanted = work()
    given = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None}
    with distributed.LocalCluster(**given) as cluster, distributed.Client(cluster) as client:
        same(client.gather(client.compute(tasks)), wanted)
        assert client.submit(threads_of_a_worker).result() == ("1", 1)  # Dask sets the variable, and nbloss heeds it
        if hasattr(nbloss, "evaluate"):
            x, y = problem()
            assert lazy.evaluate(da.from_array(x, chunks=(17, 5)), y).compute() == nbloss_sum(x, y, 17)


# ---- evaluation ------------------------------------------------------------------------------------------------------


def nbloss_sum(x, y, rows):
    parts = [nbloss.evaluate(x[i : i + rows], y[i : i + rows]) for i in range(0, len(x), rows)]
    return sum(parts[1:], parts[0])


@evaluates
def test_evaluation_of_arrays():
    x, y = problem()
    actual = lazy.evaluate(da.from_array(x, chunks=(17, 5)), y, top_k=(1, 3)).compute(**HERE)
    want = nbloss.evaluate(x, y, top_k=(1, 3))
    assert (actual.count, actual.accuracy) == (want.count, want.accuracy)
    assert_allclose(actual.loss, want.loss, rtol=1e-12)


@evaluates
def test_evaluation_of_files(tmp_path):
    x, y = problem()
    np.save(tmp_path / "x.npy", x)
    np.save(tmp_path / "y.npy", y)
    want = nbloss.evaluate(x, y)
    for target in (y, tmp_path / "y.npy"):
        actual = lazy.evaluate(tmp_path / "x.npy", target, task_bytes=17 * x[0].nbytes).compute(scheduler="threads")
        assert (actual.count, actual.accuracy) == (want.count, want.accuracy)
        assert_allclose(actual.loss, want.loss, rtol=1e-12)
    twice = lazy.evaluate([tmp_path / "x.npy"] * 2, [y, tmp_path / "y.npy"]).compute(**HERE)
    assert twice.count == 2 * want.count
    with pytest.raises(ValueError, match="target should have 60 rows"):
        lazy.evaluate(tmp_path / "x.npy", y[:5])
