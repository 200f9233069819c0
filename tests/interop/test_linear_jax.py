"""`nbloss.interop.jax.linear_cross_entropy` is the loss of all logits, with derivatives in reverse mode."""

import numpy as np
import pytest

jax = pytest.importorskip("jax")
pytest.importorskip("ml_dtypes")

import jax.numpy as jnp  # noqa: E402
from jax.test_util import check_grads  # noqa: E402

import nbloss.interop.jax as nj  # noqa: E402


@pytest.fixture(autouse=True)
def _wide():
    with jax.enable_x64(True):
        yield


def problem(inner=()):
    rng = np.random.default_rng(0)
    x, w, b = (jnp.asarray(rng.standard_normal(s)) for s in ((6, 3), (5, *inner, 3), (5, *inner)))
    y = rng.integers(0, 5, (6, *inner))
    y[0] = -100
    return x, w, b, jnp.asarray(y)


def of_all_logits(x, w, y, *, linear_bias=0.0, **options):
    return nj.cross_entropy(jnp.tensordot(x, w, (-1, -1)) + linear_bias, y, **options)


OPTIONS = [
    {}, {"reduction": "none"}, {"reduction": "sum", "softcap": 3.0, "logit_scale": 0.5},
    {"label_smoothing": 0.1, "weight": np.arange(1.0, 6)}, {"lse_square_scale": 0.1, "divisor": 3.0},
]  # fmt: skip


@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: "-".join(o) or "plain")
@pytest.mark.parametrize("inner", [(), (2,)], ids=["2d", "kd"])
def test_value_and_gradients_are_those_of_all_logits(options, inner):
    x, w, b, y = problem(inner)

    def total(function, x, w, b):
        losses = function(x, w, y, linear_bias=b, **options)
        return (losses * jnp.linspace(0.5, 1.5, losses.size).reshape(losses.shape)).sum()

    ours, theirs = (jax.jit(jax.value_and_grad(lambda *a, f=f: total(f, *a), (0, 1, 2)))(x, w, b)
                    for f in (nj.linear_cross_entropy, of_all_logits))  # fmt: skip
    for one, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-14)


def test_derivatives_are_those_of_differences():
    x, w, b, y = problem()
    check_grads(lambda *a: nj.linear_cross_entropy(*a[:2], y, linear_bias=a[2]), (x, w, b), order=2, modes=["rev"])
    hessian = jax.hessian(lambda b: nj.linear_cross_entropy(x, w, y, linear_bias=b))(b)
    np.testing.assert_allclose(hessian, jax.hessian(lambda b: of_all_logits(x, w, y, linear_bias=b))(b), rtol=1e-10, atol=1e-14)


def test_only_the_wanted_gradients_are_computed(monkeypatch):
    import nbloss.functional as F

    asked, real = [], F.linear_cross_entropy_value_and_grad
    monkeypatch.setattr(F, "linear_cross_entropy_value_and_grad", lambda **o: asked.append(o["wrt"]) or real(**o))
    x, w, _, y = problem()
    jax.block_until_ready(jax.grad(nj.linear_cross_entropy, 1)(x, w, y))
    assert asked == [("linear_weight",)]
    jax.block_until_ready(nj.linear_cross_entropy(x, w, y))
    assert len(asked) == 1, "without differentiation, the loss alone"


def test_vmap_scan_and_probabilities():
    x, w, b, y = problem()
    each = jax.vmap(lambda x: nj.linear_cross_entropy(x, w, y))(jnp.stack([x, 2 * x]))
    np.testing.assert_allclose(each, [of_all_logits(x, w, y), of_all_logits(2 * x, w, y)], rtol=1e-12)
    steps = jax.lax.scan(
        lambda w, _: (w - 0.5 * jax.grad(nj.linear_cross_entropy, 1)(x, w, y), nj.linear_cross_entropy(x, w, y)), w, length=9
    )[1]
    assert steps[-1] < steps[0]
    q = jax.nn.softmax(jnp.asarray(np.random.default_rng(1).standard_normal((6, 5))))
    np.testing.assert_allclose(nj.linear_cross_entropy(x, w, q, linear_bias=b), of_all_logits(x, w, q, linear_bias=b), rtol=1e-12)


def test_errors():
    x, w, _, y = problem()
    with pytest.raises(ValueError, match="linear_weight should have shape"):
        nj.linear_cross_entropy(x, w[:, :2], y)
    with pytest.raises(NotImplementedError, match="sample_weight"):
        jax.grad(lambda s: nj.linear_cross_entropy(x, w, y, sample_weight=s))(jnp.ones(6))
    with pytest.raises(Exception, match=r"got 9 at index \(1,\)"):
        jax.block_until_ready(jax.jit(nj.linear_cross_entropy)(x, w, y.at[1].set(9)))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_types_give_a_float32_loss_and_gradients_of_their_own_dtype(dtype):
    x, w, _, y = problem()
    loss, grad = jax.value_and_grad(nj.linear_cross_entropy, 1)(x.astype(dtype), w.astype(dtype), y)
    assert (loss.dtype, grad.dtype) == (jnp.float32, jnp.dtype(dtype))
    np.testing.assert_allclose(grad.astype(float), jax.grad(of_all_logits, 1)(x, w, y), atol=0.02)
