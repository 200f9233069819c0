"""`nbloss.interop.torch.linear_cross_entropy` is torch's own of linear and cross entropy, with derivatives of every order."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

import nbloss.interop.torch as nt  # noqa: E402

OPTIONS = [
    {}, {"reduction": "sum"}, {"reduction": "none"}, {"label_smoothing": 0.1}, {"ignore_index": 2}, {"weight": True},
    {"weight": True, "label_smoothing": 0.2, "reduction": "none"},
]  # fmt: skip
MORE = [{"softcap": 3.0, "logit_scale": 0.5}, {"lse_square_scale": 0.1, "sample_weight": True}, {"divisor": 3.0}]


def problem(dtype=None, inner=(), bias=True):
    gen = torch.Generator().manual_seed(0)
    dtype = dtype or torch.float64
    x, w, b = (torch.randn(*s, generator=gen, dtype=torch.float64).to(dtype) for s in ((6, 3), (5, *inner, 3), (5, *inner)))
    y = torch.randint(0, 5, (6, *inner), generator=gen)
    y[0] = -100
    return *(t.requires_grad_() for t in (x, w)), b.requires_grad_() if bias else None, y


def given(options, y):
    """Options with arrays in place of True."""
    arrays = {"weight": torch.tensor([1.0, 2, 0.5, 1, 3], dtype=torch.float64), "sample_weight": torch.linspace(0.5, 2, y.numel()).double()}
    return {key: arrays[key].reshape(y.shape) if value is True and key == "sample_weight" else arrays[key] if value is True else value
            for key, value in options.items()}  # fmt: skip


@pytest.mark.parametrize("inner", [(), (2,)], ids=["2d", "kd"])
@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_value_and_gradients_are_torchs(options, inner):
    x, w, b, y = problem(inner=inner)
    y = torch.where(y == -100, options.get("ignore_index", -100), y)
    options, results = given(options, y), []
    for function in (nt.linear_cross_entropy, torch.nn.functional.linear_cross_entropy):
        loss = function(x, w, y, linear_bias=b, **options)
        upstream = torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
        results.append((loss, *torch.autograd.grad(loss, (x, w, b), upstream)))
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("options", OPTIONS[:4] + MORE, ids=str)
def test_first_and_second_derivatives_are_those_of_differences(options):
    x, w, b, y = problem()
    options = given(options, y)

    def function(*arrays):
        return nt.linear_cross_entropy(*arrays[:2], y, linear_bias=arrays[2], **options)

    assert torch.autograd.gradcheck(function, (x, w, b))
    assert torch.autograd.gradgradcheck(function, (x, w, b))


def test_probabilities_and_their_gradient():
    x, w, b, _ = problem()
    q = torch.rand(6, 5, dtype=torch.float64).softmax(1).requires_grad_()
    assert torch.autograd.gradcheck(lambda *a: nt.linear_cross_entropy(*a[:2], a[3], linear_bias=a[2]), (x, w, b, q))


def test_only_the_wanted_gradients_are_computed(monkeypatch):
    import nbloss.functional as F

    asked, real = [], F.linear_cross_entropy_value_and_grad
    monkeypatch.setattr(F, "linear_cross_entropy_value_and_grad", lambda *a, **o: asked.append(o["wrt"]) or real(*a, **o))
    x, w, b, y = problem()
    nt.linear_cross_entropy(x.detach(), w, y).backward()
    assert asked == [["linear_weight"]] and x.grad is None and w.grad is not None
    with torch.no_grad():
        nt.linear_cross_entropy(x, w, y, linear_bias=b)
    assert len(asked) == 1, "without grad mode, the loss alone"


def test_a_second_backward_and_a_factor_compute_again():
    x, w, _, y = problem(bias=False)
    loss = nt.linear_cross_entropy(x, w, y)
    first = torch.autograd.grad(loss, (x, w), retain_graph=True)
    third = torch.autograd.grad(loss, (x, w), torch.tensor(3.0, dtype=torch.float64))
    for one, three in zip(first, third, strict=True):
        torch.testing.assert_close(three, 3 * one)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_loss_scale_keeps_half_gradients_that_would_round_to_0(dtype):
    x, w, _, y = problem(dtype, bias=False)
    loss = nt.linear_cross_entropy(x, w, y, divisor=1e6)
    assert loss.dtype == torch.float32
    (loss * 2.0**16).backward()
    wide = [t.detach().double().requires_grad_() for t in (x, w)]
    (nt.linear_cross_entropy(*wide, y, divisor=1e6) * 2.0**16).backward()
    for half, exact in zip((x, w), wide, strict=True):
        assert half.grad.dtype == dtype and (half.grad[1:] != 0).any()
        torch.testing.assert_close(half.grad.double(), exact.grad, rtol=0.02, atol=1e-3 * exact.grad.abs().max().item())


def test_torch_func_and_compile():
    x, w, b, y = problem()
    _, expected = torch.func.vjp(lambda w: torch.nn.functional.linear_cross_entropy(x, w, y), w)
    torch.testing.assert_close(torch.func.grad(lambda w: nt.linear_cross_entropy(x, w, y))(w), expected(torch.ones((), dtype=x.dtype))[0])
    compiled = torch.compile(lambda x, w: nt.linear_cross_entropy(x, w, y, linear_bias=b), fullgraph=True)
    torch.testing.assert_close(compiled(x, w), nt.linear_cross_entropy(x, w, y, linear_bias=b))


def test_the_module_takes_torchs_state_and_ties_an_embedding():
    x, _, _, y = problem()
    theirs = torch.nn.LinearCrossEntropyLoss(3, 5, bias=True, weight=torch.rand(5).double()).double()
    ours = nt.LinearCrossEntropyLoss(3, 5, bias=True, weight=torch.ones(5)).double()
    ours.load_state_dict(theirs.state_dict())
    torch.testing.assert_close(ours(x, y), theirs(x, y))
    embedding = torch.nn.Embedding(5, 3).double()
    ours.linear.weight = embedding.weight
    ours(x, y).backward()
    assert embedding.weight.grad is not None
    assert sum(p is embedding.weight for p in ours.parameters()) == 1
    assert "num_classes=5" in repr(ours) and "softcap=4.0" in repr(nt.LinearCrossEntropyLoss(3, 5, softcap=4.0))
    kd, target = nt.LinearCrossEntropyLoss(3, 5, out_features=(2,), bias=True).double(), torch.randint(0, 5, (6, 2))
    logits = kd.linear(x).reshape(6, 5, 2)
    torch.testing.assert_close(kd(x, target), torch.nn.functional.cross_entropy(logits, target))


def test_errors_are_those_of_nbloss():
    x, w, _, y = problem()
    with pytest.raises(IndexError, match=r"got 9 at index \(1,\)"):
        nt.linear_cross_entropy(x, w, torch.where(torch.arange(6) == 1, 9, y))
    with pytest.raises(ValueError, match="linear_weight should have shape"):
        nt.linear_cross_entropy(x, w[:, :2], y)
    with pytest.raises(TypeError, match="target should be a tensor; got ndarray"):
        nt.linear_cross_entropy(x, w, np.zeros(6, int))
    with pytest.raises(TypeError, match="linear_weight should have input's dtype"):
        nt.linear_cross_entropy(x, w.float(), y)


def test_autocast_takes_its_dtype():
    x, w, _, y = problem(torch.float32, bias=False)
    with torch.autocast("cpu", torch.bfloat16):
        loss = nt.linear_cross_entropy(x, w, y)
    loss.backward()
    assert loss.dtype == torch.float32 and x.grad.dtype == torch.float32
    torch.testing.assert_close(loss, nt.linear_cross_entropy(x, w, y), rtol=0.02, atol=0.02)
