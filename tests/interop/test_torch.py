"""nbloss.interop.torch: values, gradients of every order, and what torch's own functions do with tensors."""

import copy
import pickle

import numpy as np
import pytest
import reference

torch = pytest.importorskip("torch")
pytest.importorskip("ml_dtypes")

import nbloss.interop.torch as nt  # noqa: E402

T = torch.nn.functional
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64]


def eps(dtype):
    return torch.finfo(dtype).eps


def close(actual, expected, dtype=torch.float64, size=1.0):
    assert tuple(actual.shape) == tuple(expected.shape)
    expected = np.asarray(expected, np.float64)
    np.testing.assert_allclose(actual.detach().double().numpy(), expected, rtol=32 * eps(dtype), atol=32 * eps(dtype) * size)


@pytest.fixture
def problem(rng):
    """Logits (6, 5) with one ignored row, probabilities, class weights, row weights and the logits of a teacher, all float64."""
    x, teacher = (torch.tensor(rng.normal(0, 2, (6, 5))) for _ in range(2))
    p = torch.softmax(torch.tensor(rng.normal(size=(6, 5))), 1)
    rows = torch.tensor([0.5, 2.0, 0.0, 1.0, 3.0, 0.7], dtype=torch.float64)
    y = torch.tensor([4, 0, 1, -100, 2, 2])
    return {"x": x, "y": y, "p": p, "w": torch.tensor(rng.uniform(0.5, 2, 5)), "rows": rows, "teacher": teacher}


# Each case: the function, the key of its targets, the options; "w" and "rows" stand for the weights of the problem.
CASES = {
    "plain": ("cross_entropy", "y", {}),
    "smoothed": ("cross_entropy", "y", {"weight": "w", "label_smoothing": 0.1}),
    "probabilities": ("cross_entropy", "p", {"weight": "w", "label_smoothing": 0.1, "sample_weight": "rows"}),
    "z-loss": ("cross_entropy", "y", {"lse_square_scale": 0.1, "sample_weight": "rows"}),
    "softcap": ("cross_entropy", "y", {"softcap": 3.0, "logit_scale": 0.7}),
    "nll": ("nll_loss", "y", {"weight": "w"}),
    "nll probabilities": ("nll_loss", "p", {"sample_weight": "rows"}),
    "focal": ("focal_loss", "y", {"gamma": 1.5, "weight": "w", "sample_weight": "rows"}),
    "distillation": ("distillation_loss", "teacher", {"temperature": 2.0, "sample_weight": "rows"}),
}


def case(name, problem, reduction, dtype=torch.float64):
    """``(function of logits, logits, oracle of value, oracle of gradient)``."""
    function, target, options = CASES[name]
    t = problem[target] if target == "y" else problem[target].to(dtype)
    tensors = {k: problem[v].to(dtype) if isinstance(v, str) else v for k, v in options.items()} | {"reduction": reduction}
    x = problem["x"].to(dtype)
    arrays = {k: v.double().numpy() if isinstance(v, torch.Tensor) else v for k, v in tensors.items()}
    a, b = x.double().numpy(), t.double().numpy() if t.is_floating_point() else t.numpy()
    if function == "focal_loss":

        def gradient(g):
            spread, hit = reference.focal_loss_terms(g, a, b, **arrays)
            return spread - hit
    else:

        def gradient(g):
            return getattr(reference, f"{function}_backward")(g, a, b, **arrays)

    return (
        lambda x: getattr(nt, function)(x, t, **tensors),
        x,
        lambda: getattr(reference, function)(a, b, **arrays),
        gradient,
    )


def test_all_names_are_there():
    assert set(nt.__all__) <= set(dir(nt))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients_are_the_oracle_s(name, reduction, problem):
    f, x, value, gradient = case(name, problem, reduction)
    leaf = x.clone().requires_grad_()
    loss = f(leaf)
    close(loss, value(), size=10)
    g = torch.linspace(0.5, 1.5, loss.numel(), dtype=loss.dtype).reshape(loss.shape)
    loss.backward(g)
    close(leaf.grad, gradient(g.numpy()))
    assert torch.equal(f(x), loss.detach())


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("name", ["plain", "probabilities", "distillation"])
def test_each_dtype_has_its_own_gradient_and_half_losses_are_float32(name, dtype, problem):
    f, x, value, gradient = case(name, problem, "mean", dtype)
    leaf = x.clone().requires_grad_()
    loss = f(leaf)
    loss.backward()
    work = torch.float64 if dtype == torch.float64 else torch.float32
    assert (loss.dtype, leaf.grad.dtype) == (work, dtype)
    close(loss, value(), work, 10)
    close(leaf.grad, gradient(1.0), dtype)


@pytest.mark.parametrize("reduction", ["mean", "none"])
@pytest.mark.parametrize("name", CASES)
def test_gradcheck_and_gradgradcheck(name, reduction, problem):
    f, x, _, _ = case(name, problem, reduction)
    leaf = x.requires_grad_()
    assert torch.autograd.gradcheck(f, (leaf,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(f, (leaf,), check_fwd_over_rev=True)


@pytest.mark.parametrize("dim", [0, -1])
@pytest.mark.parametrize("name", ["log_softmax", "softmax"])
def test_softmaxes_pass_gradcheck_and_equal_torch_s(name, dim, rng):
    x = torch.tensor(rng.normal(size=(2, 3, 4)), requires_grad=True)
    ours, theirs = (lambda x, at=at: getattr(at, name)(x, dim) for at in (nt, T))
    close(ours(x), theirs(x).detach())
    assert torch.autograd.gradcheck(ours, (x,), check_forward_ad=True, check_batched_grad=True)
    assert torch.autograd.gradgradcheck(ours, (x,), check_fwd_over_rev=True)
    integers = torch.arange(24).reshape(2, 3, 4)
    assert getattr(nt, name)(integers, dim, dtype=torch.float32).dtype == torch.float32


def transforms():
    f = torch.func
    return {
        "grad": lambda h: f.grad(lambda x, t: h(x, t).sum()),
        "jacrev": f.jacrev,
        "jacfwd": f.jacfwd,
        "hessian": f.hessian,
        "jacrev of jacrev": lambda h: f.jacrev(f.jacrev(h)),
        "jacfwd of jacfwd": lambda h: f.jacfwd(f.jacfwd(h)),
        "jacrev of jacfwd": lambda h: f.jacrev(f.jacfwd(h)),
        "jvp": lambda h: lambda x, t: f.jvp(lambda x: h(x, t), (x,), (x.cos(),))[1],
    }


@pytest.mark.parametrize("transform", transforms())
@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1, "reduction": "none"}, {"reduction": "sum", "weight": "w"}], ids=str)
def test_torch_func_gives_what_it_gives_of_torch_s_loss(transform, options, problem):
    options = {k: problem["w"] if k == "weight" else v for k, v in options.items()}
    of = transforms()[transform]
    for t in (problem["y"], problem["p"]):
        ours, theirs = (of(lambda x, t, at=at: at.cross_entropy(x, t, **options))(problem["x"], t) for at in (nt, T))
        close(ours, theirs)


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("name", CASES)
def test_vmap_and_gradients_of_each_example_equal_a_loop(name, reduction, problem, rng):
    function, target, options = CASES[name]
    options = {k: problem[v] if v == "w" else v for k, v in options.items() if v != "rows"} | {"reduction": reduction}
    x = torch.tensor(rng.normal(size=(3, 6, 5)))
    rows = torch.tensor(rng.uniform(size=(3, 6)))
    t = torch.stack([problem[target].roll(i, 0) for i in range(3)])
    if target == "y":
        t[0] = -100  # a mean of nothing

    def loss(x, t, rows):
        return getattr(nt, function)(x, t, sample_weight=rows, **options)

    def gradient(x, t, rows):
        return torch.func.grad(lambda x: loss(x, t, rows).sum())(x)

    def product(x, t, rows):
        return torch.func.jvp(lambda x: gradient(x, t, rows), (x,), (x.sin(),))[1]

    for f in (loss, gradient, product):
        close(torch.vmap(f)(x, t, rows), torch.stack([f(*each) for each in zip(x, t, rows, strict=True)]))
    by_second = torch.vmap(loss, (1, 1, 1))(x.transpose(0, 1), t.transpose(0, 1), rows.T)
    close(by_second, torch.vmap(loss)(x, t, rows))
    total = torch.func.grad(lambda x: torch.vmap(loss)(x, t, rows).nan_to_num().sum())(x)
    close(total, torch.vmap(gradient)(x, t, rows))


def test_vmap_of_single_rows_of_weights_and_of_a_shared_input(problem):
    x, y = problem["x"], problem["y"].clamp(0)
    close(torch.vmap(nt.cross_entropy)(x, y), T.cross_entropy(x, y, reduction="none"))
    close(torch.vmap(nt.cross_entropy, (None, 0))(x[0], y), T.cross_entropy(x[:1].expand(6, 5), y, reduction="none"))
    w = problem["p"]
    close(torch.vmap(nt.cross_entropy, (None, None, 0))(x, y, w), torch.stack([T.cross_entropy(x, y, each) for each in w]))
    for dim in (0, -1):
        close(torch.vmap(lambda x, dim=dim: nt.log_softmax(x, dim))(x), T.log_softmax(x, -1))
    with pytest.raises(IndexError):
        torch.vmap(lambda x: nt.log_softmax(x, 1))(x)


def test_probabilities_and_weights_have_gradients_too(problem):
    def losses(at):
        x, p, w = (problem[key].clone().requires_grad_() for key in "xpw")
        at.cross_entropy(x, p, w, label_smoothing=0.1).backward()
        return x.grad, p.grad, w.grad

    for ours, theirs in zip(losses(nt), losses(T), strict=True):
        close(ours, theirs)
    with pytest.raises(ValueError, match=r"teacher\.detach\(\)"):
        nt.distillation_loss(problem["x"], problem["teacher"].requires_grad_())
    with pytest.raises(NotImplementedError, match="target"):
        torch.func.jvp(lambda p: nt.cross_entropy(problem["x"], p), (problem["p"],), (problem["p"],))


# ------------------------------ the gradient that the forward has computed ------------------------------


def test_a_second_backward_gives_the_same_gradient(problem):
    x = problem["x"].requires_grad_()
    loss = nt.cross_entropy(x, problem["y"])
    (first,) = torch.autograd.grad(loss, x, retain_graph=True)
    kept = first.clone()
    (second,) = torch.autograd.grad(loss, x)
    assert first.data_ptr() != second.data_ptr()
    assert torch.equal(kept, second)


def test_a_loss_scale_multiplies_before_the_gradient_is_rounded():
    x = torch.zeros(2**14, 8, dtype=torch.float16, requires_grad=True)
    y = torch.zeros(2**14, dtype=torch.int64)
    (nt.cross_entropy(x, y) * 2.0**16).backward()
    close(x.grad[:, 1:] * 2.0**-2, torch.full((2**14, 7), 0.125), torch.float16)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_the_gradient_becomes_grad_without_a_copy(dtype, monkeypatch):
    from_numpy, made = torch.from_numpy, []
    monkeypatch.setattr(torch, "from_numpy", lambda array: made.append(array.ctypes.data) or from_numpy(array))
    x = torch.randn(4, 3, dtype=dtype, requires_grad=True)
    nt.cross_entropy(x, torch.tensor([0, 1, 2, 0])).backward()
    assert x.grad.data_ptr() in made


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_memory_of_a_large_gradient_is_used_again_once_no_tensor_has_it(dtype, smoothing):
    x, y = torch.randn(2048, 1100).to(dtype), torch.randint(0, 1100, (2048,))

    def gradient():
        leaf = x.clone().requires_grad_()
        return torch.autograd.grad(nt.cross_entropy(leaf, y, label_smoothing=smoothing), leaf)[0]

    first = gradient()
    place, kept = first.data_ptr(), first.clone()
    view = first[1000:].view(-1)
    del first
    second = gradient()
    assert second.data_ptr() != place, "a view has it"
    assert torch.equal(view, kept[1000:].view(-1)) and torch.equal(second, kept)
    place = second.data_ptr()
    del second, view
    assert gradient().data_ptr() == place


@pytest.mark.parametrize("name", ["plain", "nll", "focal", "distillation"])
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_inplace_backward_writes_the_gradient_over_the_logits(name, reduction, problem):
    function, target, options = CASES[name]
    options = {k: problem[v] if isinstance(v, str) else v for k, v in options.items()} | {"reduction": reduction}
    f = getattr(nt, function)
    leaf = problem["x"].clone().requires_grad_()
    (expected,) = torch.autograd.grad(f(leaf * 2, problem[target], **options).sum() * 3, leaf)
    logits = leaf * 2
    before, version = logits.detach().clone(), logits._version
    loss = f(logits, problem[target], inplace_backward=True, **options).sum() * 3
    assert torch.equal(logits, before)
    loss.backward(retain_graph=True)
    assert torch.equal(leaf.grad, expected)
    assert torch.equal(logits * 2, expected)
    assert logits._version > version
    with pytest.raises(RuntimeError, match="inplace_backward=False"):
        loss.backward()


def test_inplace_backward_is_refused_where_it_would_harm(problem):
    x, y = problem["x"].requires_grad_(), problem["y"]
    with pytest.raises(ValueError, match="leaf"):
        nt.cross_entropy(x, y, inplace_backward=True)
    with pytest.raises(ValueError, match="contiguous"):
        nt.cross_entropy((x[:1] * 2).expand(6, 5), y, inplace_backward=True)
    with pytest.raises(RuntimeError, match="second derivative"):
        torch.autograd.grad(nt.cross_entropy(x * 2, y, inplace_backward=True), x, create_graph=True)
    loss = nt.cross_entropy(x.exp(), y, inplace_backward=True)  # exp needs its result in the backward
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
    plain = torch.func.grad(lambda x: nt.cross_entropy(x * 2, y, inplace_backward=True))(x.detach())  # has no meaning there
    close(plain, torch.func.grad(lambda x: T.cross_entropy(x * 2, y))(x.detach()))


# ------------------------------ tensors of all kinds ------------------------------


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_arrays_share_the_memory_of_tensors(dtype):
    x = torch.zeros(4, 6, dtype=dtype).T[::2]
    seen = nt._tensors.array(x)
    assert seen.ctypes.data == x.data_ptr()
    assert seen.shape == (3, 4)
    back = nt._tensors.tensor(seen)
    assert (back.data_ptr(), back.dtype, back.stride()) == (x.data_ptr(), x.dtype, x.stride())


def test_strides_and_negative_bits(problem):
    x, y = problem["x"], problem["y"]
    negative = torch.complex(x, -x).conj().imag
    assert negative.is_neg()
    for given in (x.T.contiguous().T, torch.stack([x, x], -1)[..., 0], negative):
        leaf = given.detach().requires_grad_()
        nt.cross_entropy(leaf, y).backward()
        close(leaf.grad, reference.cross_entropy_backward(1.0, x.numpy(), y.numpy()))


def test_what_is_no_dense_tensor_is_refused(problem):
    for given in (problem["x"].to_sparse(), torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)])):
        for of in (given, given.float().requires_grad_()):
            with pytest.raises(TypeError, match="dense"):
                nt.cross_entropy(of, problem["y"])
    with pytest.raises(TypeError, match="tensors; got list"):
        nt.cross_entropy([[1.0]], problem["y"])
    with pytest.raises(TypeError, match="int64"):
        nt.log_softmax(torch.zeros(2, 3, dtype=torch.int64))


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, torch.uint16, torch.uint64], ids=str)
def test_targets_of_every_integer_dtype(dtype, problem):
    y = problem["y"].clamp(0)
    assert torch.equal(nt.cross_entropy(problem["x"], y.to(dtype)), nt.cross_entropy(problem["x"], y))


def test_a_target_out_of_range_is_named(problem):
    y = problem["y"].clone()
    y[4] = 7
    for f in (nt.cross_entropy, nt.nll_loss, nt.focal_loss):
        with pytest.raises(IndexError, match=r"\[0, 5\).* 7 at index \(4,\)"):
            f(problem["x"].requires_grad_(), y)
    with pytest.raises(ValueError, match="reduction"):
        nt.cross_entropy(problem["x"], problem["y"], reduction="average")


def test_ignored_rows_of_nan_count_for_nothing(problem):
    x = problem["x"].clone()
    x[3] = torch.nan
    leaf = x.requires_grad_()
    loss = nt.cross_entropy(leaf, problem["y"])
    (gradient,) = torch.autograd.grad(loss, leaf)
    assert loss.isfinite()
    assert torch.equal(gradient[3], torch.zeros(5, dtype=torch.float64))


@pytest.mark.parametrize("reduction", ["mean", "sum", "none", None])
def test_small_and_large_nll_losses_follow_the_same_rules(reduction, problem, monkeypatch):
    x, y = problem["x"].clone(), problem["y"]
    x[3] = torch.nan  # ignored

    def results():
        leaf = x.clone().requires_grad_()
        loss = nt.nll_loss(leaf, y, reduction=reduction)
        return loss.detach(), *torch.autograd.grad(loss.sum(), leaf)

    small = results()
    monkeypatch.setattr(nt._functional, "_NLL_ELEMENTS_OF_TORCH", 0)
    for one, other in zip(small, results(), strict=True):
        close(one, other)


def test_under_autocast_dtypes_are_torch_s():
    a, y = torch.randn(4, 4, requires_grad=True), torch.tensor([0, 1, 2, 3])
    with torch.autocast("cpu", torch.bfloat16):
        x = a @ a
        assert x.dtype == torch.bfloat16
        for f in (lambda at, x: at.cross_entropy(x, y), lambda at, x: at.nll_loss(x, y), lambda at, x: at.log_softmax(x, -1)):
            assert f(nt, x).dtype == f(T, x).dtype
            close(f(nt, x), f(T, x.double()).detach(), f(nt, x).dtype)
        assert nt.cross_entropy(x, y).dtype == torch.float32
        (gradient,) = torch.autograd.grad(nt.cross_entropy(x, y), x)
    assert gradient.dtype == torch.bfloat16
    assert nt.log_softmax(x, -1).dtype == torch.bfloat16


# ------------------------------ torch.compile ------------------------------


@pytest.mark.parametrize("dynamic", [False, True])
def test_compiled_functions_equal_eager_ones(dynamic, problem):
    torch._dynamo.reset()

    def f(x, y, w):
        return nt.cross_entropy(x * 2, y, w, label_smoothing=0.1), nt.softmax(x, 0), nt.focal_loss(x, y, reduction="none")

    compiled = torch.compile(f, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    for rows in (6, 4) if dynamic else (6,):
        x, y = problem["x"][:rows].clone().requires_grad_(), problem["y"][:rows]
        ours, eager = (g(x, y, problem["w"]) for g in (compiled, f))
        for one, other in zip(ours, eager, strict=True):
            close(one, other.detach())
        for one, other in zip(*(torch.autograd.grad(sum((t * t).sum() for t in r), x) for r in (ours, eager)), strict=True):
            close(one, other)


def test_operators_pass_opcheck(problem):
    from nbloss.interop.torch import _compiled

    x, w = problem["x"].requires_grad_(), problem["w"]
    calls = [
        (_compiled.loss, (x, problem["y"], w, None, "cross_entropy"), {"reduction": "mean", "label_smoothing": 0.1, "ignore_index": -100}),
        (_compiled.along_axis, (x, 0, "log_softmax"), {}),
    ]
    for operator, arguments, options in calls:
        assert set(torch.library.opcheck(operator, arguments, options).values()) == {"SUCCESS"}


def test_transforms_inside_of_a_compiled_function_are_right(problem):
    torch._dynamo.reset()
    x, y = problem["x"], problem["y"]

    def directional(x):
        return torch.func.jvp(lambda x: nt.cross_entropy(x, y), (x,), (x.cos(),))[1]

    def each(x):
        return torch.vmap(torch.func.grad(lambda x: nt.log_softmax(x)[0]))(x)

    for f in (directional, each):
        close(torch.compile(f, backend="aot_eager")(x), f(x))


# ------------------------------ modules ------------------------------

OURS_AND_TORCH_S = [(nt.CrossEntropyLoss, torch.nn.CrossEntropyLoss), (nt.NLLLoss, torch.nn.NLLLoss)]


@pytest.mark.parametrize(("ours", "theirs"), OURS_AND_TORCH_S)
def test_modules_have_torch_s_constructors_and_state(ours, theirs, problem):
    w = problem["w"]
    for arguments, options in [
        ((w,), {}),
        ((None, None, 2, None, "sum"), {}),
        ((), {"weight": w, "reduction": "none"}),
        ((), {"size_average": False}),
    ]:
        a, b = copy.deepcopy(ours(*arguments, **options)), theirs(*arguments, **options)
        assert isinstance(a, theirs)
        close(a(problem["x"], problem["y"].clamp(0)), b(problem["x"], problem["y"].clamp(0)))
        if b.weight is not None:
            a.load_state_dict(theirs(w * 2).state_dict())
            assert torch.equal(a.weight, w * 2)
            assert list(a.state_dict()) == list(b.state_dict()) == ["weight"]
            assert a.to(torch.float32).weight.dtype == torch.float32


def test_modules_are_copied_shown_and_called(problem):
    x, y, w = problem["x"], problem["y"], problem["w"]
    modules = [
        (
            nt.CrossEntropyLoss(w, label_smoothing=0.1, softcap=5.0),
            (x, y),
            "CrossEntropyLoss(weight=<5 values>, label_smoothing=0.1, softcap=5.0)",
        ),
        (nt.NLLLoss(empty="zero"), (x, y), "NLLLoss(empty='zero')"),
        (nt.FocalLoss(w, gamma=1.0, reduction="sum"), (x, y), "FocalLoss(weight=<5 values>, reduction='sum', gamma=1.0)"),
        (nt.DistillationLoss(temperature=2.0), (x, problem["teacher"]), "DistillationLoss(temperature=2.0)"),
        (nt.LogSoftmax(), (x,), "LogSoftmax(dim=-1)"),
        (nt.Softmax(0), (x,), "Softmax(dim=0)"),
    ]
    for module, arguments, shown in modules:
        assert repr(module) == shown
        assert isinstance(module, torch.nn.Module)
        for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
            assert repr(other) == shown
            assert torch.equal(other(*arguments), module(*arguments))
    close(nt.CrossEntropyLoss(divisor=3.0)(x, y, divisor=6.0), nt.cross_entropy(x, y, reduction="sum") / 6)
    assert torch.equal(nt.NLLLoss()(x, y, sample_weight=problem["rows"]), nt.nll_loss(x, y, sample_weight=problem["rows"]))


def test_patch_changes_torch_s_modules_and_says_which(problem):
    class Own(torch.nn.CrossEntropyLoss):
        pass

    class Model(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.body = torch.nn.Sequential(torch.nn.Linear(5, 5), torch.nn.LogSoftmax(1))
            self.loss = torch.nn.CrossEntropyLoss(problem["w"].float(), ignore_index=1, label_smoothing=0.2)
            self.own, self.implicit = Own(), torch.nn.Softmax()

    model = Model()
    loss, calls = model.loss, []
    loss.register_forward_hook(lambda *given: calls.append(1))
    x, y = problem["x"].float(), problem["y"].clamp(0)
    before = model.loss(model.body(x), y)
    assert nt.patch(model) == ["body.1", "loss"]
    assert model.loss is loss
    assert (type(model.body[1]), type(loss), type(model.own)) == (nt.LogSoftmax, nt.CrossEntropyLoss, Own)
    close(model.loss(model.body(x), y), before.detach(), torch.float32)
    assert calls == [1, 1]
    assert nt.patch(model) == []
    alone = torch.nn.NLLLoss()
    assert nt.patch(alone) == [""]
    assert repr(pickle.loads(pickle.dumps(alone))) == "NLLLoss()"


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.float64, 1e-13)], ids=str)
def test_training_follows_torch_s_curve(dtype, tolerance):
    def curve(loss):
        torch.manual_seed(0)
        model = torch.nn.Sequential(torch.nn.Linear(8, 32), torch.nn.Tanh(), torch.nn.Linear(32, 6)).to(dtype)
        x, y = torch.randn(256, 8, dtype=dtype), torch.randint(0, 6, (256,))
        optimizer, losses = torch.optim.SGD(model.parameters(), 0.5, momentum=0.9), []
        for _ in range(50):
            value = loss(model(x), y)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
            losses.append(value.item())
        return losses

    theirs = curve(torch.nn.CrossEntropyLoss(label_smoothing=0.1))
    assert theirs[-1] < 0.8 * theirs[0]
    np.testing.assert_allclose(curve(nt.CrossEntropyLoss(label_smoothing=0.1)), theirs, rtol=tolerance * 50)
