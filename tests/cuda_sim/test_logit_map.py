"""Scaled and capped logits, for every kernel and target, against formulas in float64 that stand here.

u = k tanh(a x / k), or a x without a cap k; the loss is that of u, and the gradient is that of u times du / dx = a / cosh(a x / k)^2.
"""

import calls
import numpy as np
import problems
import pytest
from problems import DTYPES, eps, work
from test_row_options import IGNORED, KERNELS, TARGETS, expected, problem
from test_rows import use_group

from nbloss.kernels.math.epilogue import RowOptions

MAPS = {"cap": (3.0, 1.0), "cap and scale": (2.0, 0.5), "scale": (None, 0.5)}


def mapped(x, cap, scale):
    """``(u, du / dx)`` in float64, of finite logits."""
    x = x.astype(np.float64) * float(np.float32(scale))
    if cap is None:
        return x, np.full_like(x, scale)
    return cap * np.tanh(x / cap), scale / np.cosh(np.clip(x / cap, -350, 350)) ** 2


@pytest.mark.parametrize("options", MAPS)
@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_loss_and_gradient(rng, monkeypatch, dtype, kernel, kind, options):
    shape, group = KERNELS[kernel]
    if group:
        use_group(group, monkeypatch)
    cap, scale = MAPS[options]
    x, target, arguments, q = problem(rng, shape, dtype, kind)
    g = rng.uniform(0.5, 2, (shape[0], shape[2])).astype(work(dtype))
    u, slope = mapped(np.nan_to_num(x.astype(np.float64)), cap, scale)
    exact, size, exact_gradient, gradient_size = expected(u, q, g.astype(np.float64)[:, None, :], 0.25)
    row_options = RowOptions(0.25, None, cap, scale)
    for out in (None, x.copy()):
        given = x if out is None else out
        loss, gradient = calls.cross_entropy(given, target, row_options=row_options, g=g, out=out, **arguments)
        unit = eps(work(dtype))
        problems.assert_within(loss, exact, 32 * unit * (size + np.abs(q).sum(axis=1) * np.abs(u).max(axis=1)))
        spread = 1 + np.abs(u).max(axis=1, keepdims=True)
        tolerance = unit * (32 * spread + np.sqrt(shape[1]) / 8) * gradient_size * slope
        stored = eps(dtype) * np.abs(exact_gradient * slope) if dtype != work(dtype) else 0
        problems.assert_within(gradient, exact_gradient * slope, tolerance + stored + problems.floor(dtype))
        if kind != "probabilities":  # a nan logit in an ignored position
            assert loss[0, 0] == 0 and (gradient[0, :, 0] == 0).all()
    alone, _ = calls.cross_entropy(x, target, row_options=row_options, gradient=False, **arguments)
    np.testing.assert_array_equal(alone, loss)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(4, 9, 1), (4, 9, 2)], ids=problems.name)
def test_infinite_nan_and_saturated_logits(rng, shape, dtype):
    x = problems.logits(rng, shape, dtype)
    x[0, 1], x[1, 1], x[2, 1], x[3, 1] = -np.inf, np.inf, np.nan, 1e4
    target = np.full((shape[0], shape[2]), 2)
    loss, gradient = calls.cross_entropy(x, target, row_options=RowOptions(None, None, 5.0, 1.0), ignore_index=IGNORED)
    without = np.delete(x, 1, axis=1)
    smaller, its_gradient = calls.cross_entropy(without, target - 1, row_options=RowOptions(None, None, 5.0, 1.0), ignore_index=-7)
    assert (gradient[0, 1] == 0).all()
    np.testing.assert_allclose(loss[0], smaller[0], rtol=8 * eps(work(dtype)))
    np.testing.assert_allclose(
        np.delete(gradient, 1, axis=1)[0].astype(float), its_gradient[0].astype(float), rtol=16 * eps(dtype), atol=1e-7
    )
    assert np.isnan(loss[1:3]).all() and np.isnan(gradient[1:3].astype(np.float64)).all()
    assert np.isfinite(loss[3]).all() and (gradient[3, 1] == 0).all()
