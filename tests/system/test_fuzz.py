"""The fuzzer: whatever a call is given, the oracle's answer or a documented exception; and no byte written that should not be.

`make fuzz` runs 100,000 cases; the tests a few thousand: the same ones in every run, and as many that are new each time.
"""

import os

import numpy as np
import pytest
import reference
from problems import assert_within, class_count, eps, floor, rows_shape, tiny, work

import nbloss
import nbloss.functional as F

pytest.importorskip("hypothesis", reason="the cases are drawn by hypothesis")
from hostile import calls
from hypothesis import HealthCheck, Phase, given, settings

DOCUMENTED = (TypeError, ValueError, IndexError, nbloss.DeviceUnavailableError)
CASES = int(os.environ.get("NBLOSS_FUZZ_CASES", "1000"))
SHARDS = max(1, CASES // 5000)  # hypothesis remembers what it has drawn
COMMON = {
    "max_examples": CASES // SHARDS,
    "deadline": None,
    "database": None,
    "suppress_health_check": list(HealthCheck),
    "phases": [Phase.generate, Phase.shrink],
}


@given(calls())
@settings(derandomize=True, **COMMON)
def test_the_same_cases_in_every_run(case):
    judge(case)


@pytest.mark.parametrize("shard", range(SHARDS))
def test_new_cases_in_every_run(shard):
    """A failure prints the case, shrunk, and the line that reproduces it."""

    @given(calls())
    @settings(derandomize=False, print_blob=True, **COMMON)
    def run(case):
        judge(case)

    run()


# ---- what must hold of a call ------------------------------------------------------------------------------------------


def judge(case):
    out = case.arguments.get("out")
    before = [memory(a).tobytes() for a in case.owners]
    result, refusal = None, None
    try:
        with np.errstate(all="raise"):  # the caller's settings must not turn nan into an error
            result = getattr(F, case.function)(**case.arguments)
    except DOCUMENTED as error:
        refusal = error
    if refusal:
        assert isinstance(refusal, tuple(case.errors)), f"{type(refusal).__name__}: {refusal}, wanted one of {case.errors}"
        assert str(refusal)
        assert [memory(a).tobytes() for a in case.owners] == before, "a refused call wrote something"
        return
    assert not case.errors or case.tolerated, f"nothing was raised, wanted one of {case.errors}"
    check_memory(case, out, before)
    gradient = result
    if case.function.endswith("value_and_grad"):
        check_loss(case, result[0])
        gradient = result[1]
    elif "softmax" not in case.function and not case.function.endswith("backward"):
        check_loss(case, result)
        return
    if out is not None:
        assert gradient is out
    if "softmax" in case.function:
        check_log_softmax(case, gradient)
    else:
        check_gradient(case, gradient)


def memory(a):
    """The bytes of an array, and of whatever it is a view of."""
    return a if a.base is None or not isinstance(a.base, np.ndarray) else a.base


def check_memory(case, out, before):
    """Nothing but ``out`` has changed, and nothing around it."""
    assert case.beside is None or (np.asarray(case.beside, float) == 9).all(), "written between the numbers of out"
    for owner, bytes_before in zip(case.owners, before, strict=True):
        now, then = np.frombuffer(memory(owner).tobytes(), np.uint8), np.frombuffer(bytes_before, np.uint8)
        if out is None or not np.may_share_memory(memory(owner), out):
            assert (now == then).all(), "an input was written to"
        elif owner.dtype == np.uint8 and owner.size >= 64 and then[0] == 0xA5:
            assert (now[:32] == then[:32]).all() and (now[-32:] == then[-32:]).all(), "written beside out"


def options_of(case):
    """The options as the oracle takes them."""
    names = ("weight", "ignore_index", "reduction", "label_smoothing", "sample_weight", "divisor", "empty")
    options = {n: case.plain.get(n, case.arguments[n]) for n in names if n in case.arguments}
    if "label_smoothing" in options:
        options["label_smoothing"] = float(options["label_smoothing"])
    return options


def lse_terms(case, rows):
    """``(lam, L, bound)``: lse_square_scale; per row, with an axis of one class, the log-sum-exp and what its errors scale with."""
    lam = reference.WIDE(float(case.arguments.get("lse_square_scale", 0.0)))
    with np.errstate(all="ignore"):
        lse = reference.log_sum_exp(rows)
        bound = np.abs(rows.max(axis=-1, keepdims=True)) + np.abs(lse - rows.max(axis=-1, keepdims=True))
    return lam, lse, bound


def mapped_rows(case, rows):
    """``(u, du / dx, size)`` of scaled and capped logits: an error of u is an error of the exponent, and scales with ``size``."""
    cap, scale = case.arguments.get("softcap"), float(case.arguments.get("logit_scale", 1.0))
    if cap is None and scale == 1.0:
        return rows, 1, 0
    u, slope = reference.mapped(rows, cap if cap is None else float(cap), scale)
    with np.errstate(all="ignore"):
        largest = np.where(np.isfinite(u), np.abs(u), 0).max(axis=-1, keepdims=True)
        steep = 0 if cap is None else np.where(np.isfinite(rows), np.minimum(np.abs(scale * rows / float(cap)), 400), 0)
    return u, np.where(np.isnan(slope), 1, slope), 4 * (largest + steep)


def focal_rows(case, keep):
    """What the focal loss makes of each row: the oracle's ``focal_rows``."""
    return reference.focal_rows(case.plain["input"], np.where(keep, case.plain["target"], 0), case.arguments["gamma"])


def distribution_of(case):
    return reference.target_distribution(
        case.plain["input"], case.plain["target"], *(options_of(case).get(n, d) for n, d in DISTRIBUTION.items())
    )


DISTRIBUTION = {"weight": None, "ignore_index": -100, "label_smoothing": 0.0, "sample_weight": None, "divisor": None}


def not_numbers(rows, axis=-1):
    """Rows that are nan throughout, whatever else they hold."""
    return (np.isnan(rows) | np.isposinf(rows)).any(axis=axis) | (np.isneginf(rows).all(axis=axis) & (rows.shape[axis] > 0))


def unread(case, q):
    """Rows of class numbers whose weight is 0: they count for nothing, whatever they hold."""
    soft = reference.is_probability(case.plain["input"], case.plain["target"])
    return np.zeros(q.shape[:-1], bool) if soft else (q == 0).all(axis=-1) & (options_of(case).get("label_smoothing", 0.0) == 0)


def check_loss(case, loss):
    """A few units of the sum of the sizes of each row's terms."""
    x, reduction = case.plain["input"], case.arguments["reduction"]
    assert loss.dtype == work(x.dtype)
    assert np.shape(loss) == (rows_shape(x.shape) if reduction in ("none", None) else ())
    if class_count(x.shape) == 0:  # then there are no rows
        over, none = case.arguments["divisor"] or 0, np.zeros(rows_shape(x.shape))
        np.testing.assert_array_equal(loss, reference.reduced(none, over, reduction, case.arguments["empty"]))
        return
    q, keep, divisor = distribution_of(case)
    rows = logp = reference.classes_last(x)
    size = 0
    if not case.function.startswith("nll"):
        rows, _, size = mapped_rows(case, rows)
        logp = reference.log_softmax(rows)
    with np.errstate(all="ignore"):
        losses = reference.row_losses(logp, q, keep)
        if case.function.startswith("focal"):
            losses = np.where(keep, q.sum(axis=-1) * focal_rows(case, keep)[1], 0)
        lam, lse, bound = lse_terms(case, rows)
        losses = losses + np.where(keep, lam * q.sum(axis=-1) * (lse * lse)[..., 0], 0) if lam else losses
    if not case.function.startswith("nll"):
        losses = np.where(keep & not_numbers(rows), np.nan, losses)
        losses = np.where(unread(case, q), 0, losses)
    with np.errstate(all="ignore"):
        sizes = np.where((q == 0) | ~keep[..., None] | ~np.isfinite(logp), 0, np.abs(q * logp)).sum(axis=-1)
        if lam:
            more = lam * np.abs(q).sum(axis=-1) * (bound * bound)[..., 0]
            sizes = sizes + np.where(keep & np.isfinite(more), more, 0)
        if case.function.startswith("focal"):
            sizes = np.where(np.isfinite(losses), np.abs(losses), 0) * (1 + float(case.arguments["gamma"]))
        sizes = sizes + np.where(keep, np.abs(q).sum(axis=-1) * np.max(np.broadcast_to(size, logp.shape), axis=-1), 0)
        tolerance = sizes * eps(work(x.dtype)) * (8 + np.sqrt(class_count(x.shape)) / 4)
        expected = reference.reduced(losses, divisor, reduction, case.arguments["empty"])
        if reduction not in ("none", None):
            tolerance = tolerance.sum() / (np.abs(divisor) if reduction == "mean" else 1) + np.abs(expected) * 2 * eps(work(x.dtype))
    close(loss, expected, tolerance + 2 * tiny(work(x.dtype)))


def check_gradient(case, gradient):
    x = case.plain["input"]
    g = case.plain.get("grad_output", 1.0)
    assert gradient.shape == x.shape and gradient.dtype == x.dtype
    if x.size == 0:
        return
    if case.function.startswith("nll"):
        options = {n: v for n, v in options_of(case).items() if n != "label_smoothing"}
        expected = np.asarray(reference.nll_loss_backward(g, x, case.plain["target"], **options))
        close(gradient, expected, np.abs(expected) * 4 * eps(x.dtype) + floor(x.dtype))
        return
    q, keep, divisor = distribution_of(case)
    upstream = reference.upstream(g, keep.shape, divisor, case.arguments["reduction"], case.arguments["empty"])
    rows, slope, size = mapped_rows(case, reference.classes_last(x))
    with np.errstate(all="ignore"):
        p = np.exp(reference.log_softmax(rows))
        above, gamma = upstream[..., None] * slope, 0.0
        if case.function.startswith("focal"):
            above, gamma = above * focal_rows(case, keep)[2][..., None], float(case.arguments["gamma"])
        spread, hit = above * q.sum(axis=-1, keepdims=True) * p, above * q
        lam, lse, bound = lse_terms(case, rows)
        more = np.abs(above) * np.abs(q).sum(axis=-1, keepdims=True) * p * 2 * lam * bound if lam else 0
        spread = spread * (1 + 2 * lam * lse) if lam else spread
        expected = np.where((keep & not_numbers(rows))[..., None], np.nan, spread - hit)
        nothing = ~keep | unread(case, q) | (upstream == 0)
        expected = np.where(nothing[..., None], 0, expected)
        gap = np.abs(rows - rows.max(axis=-1, keepdims=True))
        gap = np.where(np.isfinite(gap), np.minimum(gap, 200), 0)
        tolerance = eps(work(x.dtype)) * (12 + gap + size + np.sqrt(class_count(x.shape)) / 4) * (np.abs(spread) + np.abs(hit) + more)
        tolerance = tolerance * (1 + gamma)
        tolerance = tolerance + eps(x.dtype) * np.abs(expected) + floor(x.dtype)
    close(gradient, reference.classes_back(expected, x), reference.classes_back(tolerance, x))


def check_log_softmax(case, result):
    given = case.plain["input" if case.function.endswith("softmax") else "output"]
    if given.size == 0:  # its sums may be many: over an empty axis, of all the others
        assert np.shape(result) == given.shape and result.dtype == given.dtype
        return
    if case.function.endswith("softmax"):
        x = case.plain["input"]
        rows = x.reshape(x.shape or (1,))
        expected = getattr(reference, case.function)(rows, case.dim)
        odd = np.expand_dims(not_numbers(rows.astype(reference.WIDE), case.dim), case.dim)
        expected = np.where(odd, np.nan, expected)
        expected = expected.reshape(x.shape)
        ulps = 6
        if case.function == "softmax":
            with np.errstate(all="ignore"):
                gap = rows.astype(float).max(axis=case.dim, keepdims=True) - rows.astype(float)
            ulps = ulps + np.nan_to_num(gap, posinf=0).reshape(x.shape) / 2
        tolerance = np.abs(expected) * (ulps * eps(work(x.dtype)) + eps(x.dtype)) + floor(x.dtype)
    else:
        x, g = case.plain["output"], np.broadcast_to(case.plain["grad_output"], case.plain["output"].shape)
        shape = x.shape or (1,)
        y, g = x.reshape(shape), np.asarray(g).reshape(shape)
        expected = getattr(reference, case.function)(g, y, case.dim).reshape(x.shape)
        p = np.exp(y.astype(reference.WIDE)) if case.function.startswith("log") else np.abs(y).astype(reference.WIDE)
        sizes = (np.abs(g) * (1 if case.function.startswith("log") else p)).astype(reference.WIDE).sum(axis=case.dim, keepdims=True) * p
        count = shape[case.dim]
        tolerance = eps(work(x.dtype)) * (12 + np.sqrt(count) / 4) * (sizes + np.abs(g)).reshape(x.shape)
        tolerance = tolerance * (1 + np.abs(x.astype(float))) + eps(x.dtype) * np.abs(expected) + floor(x.dtype)
    assert np.shape(result) == x.shape and result.dtype == x.dtype
    close(result, expected, tolerance)


def close(actual, expected, tolerance):
    """As `assert_within`, but a number too large for the result's type may be infinite."""
    with np.errstate(all="ignore"):
        held = np.asarray(expected).astype(np.asarray(actual).dtype).astype(reference.WIDE)
        expected = np.where(np.isinf(held), held, expected)
    assert_within(actual, expected, np.nan_to_num(np.asarray(tolerance, float), posinf=0))
