"""Arguments that are no plain NumPy arrays: which of other libraries' arrays are taken, and what is said of those that are not."""

import re

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from problems import DTYPES, class_index, logits
from refusals import LOSSES, P, X, Y, every_loss

import nbloss
import nbloss.functional as F

FLOATS = "have dtype float16, bfloat16 (ml_dtypes), float32 or float64"
CLASSES = "hold class numbers or probabilities"
REAL = "hold real numbers"


def refuses(kind, message, call, *arguments, **options):
    """The call raises this type of error with exactly this message."""
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call(*arguments, **options)


def every_form(kind, message, input=X, target=Y, weight=None, **options):
    """Each loss and each module refuses the arguments with this message."""
    for call in LOSSES.values():
        refuses(kind, message, call, input, target, weight, **options)
    for module in (nbloss.NLLLoss(weight, **options), nbloss.CrossEntropyLoss(weight, **options)):
        refuses(kind, message, module, input, target)


def close(actual, input=X, target=Y):
    """The value of the call on class numbers; one-hot probabilities may sum in another order."""
    assert_allclose(actual, F.cross_entropy(input, target), rtol=1e-6)


def same(actual, input=X, target=Y, weight=None):
    """The value of the call on the plain arrays, bit for bit."""
    assert_array_equal(actual, F.cross_entropy(input, target, weight))


# ---- one-hot targets -------------------------------------------------------------------------------------------------

ONE_HOT = np.eye(3, dtype=np.int64)[Y]
AS_FLOATS = "target should hold floats where it has input's shape (probabilities, one-hot included); got"


@pytest.mark.parametrize("dtype", [np.int64, np.uint8, np.int8, bool])
def test_one_hot_integers_are_a_type_error_with_the_cure(dtype):
    every_form(TypeError, f"{AS_FLOATS} {np.dtype(dtype)}: use target.astype(np.float32)", target=ONE_HOT.astype(dtype))
    close(F.cross_entropy(X, ONE_HOT.astype(np.float32)))


def test_one_hot_lists_are_a_type_error_with_the_cure():
    every_form(TypeError, f"{AS_FLOATS} int64: use np.asarray(target).astype(np.float32)", target=ONE_HOT.tolist())
    every_form(TypeError, f"{AS_FLOATS} int64: use np.asarray(target).astype(np.float32)", input=X[0], target=[0, 1, 0])


def test_the_one_hot_integers_of_the_report():
    y = np.eye(4, dtype=int)[[1, 0, 3]]
    refuses(TypeError, f"{AS_FLOATS} int64: use target.astype(np.float32)", F.cross_entropy, np.zeros((3, 4)), y)
    assert F.cross_entropy(np.zeros((3, 4)), y.astype(np.float32)) == pytest.approx(1.38629, abs=1e-5)


def test_one_hot_frames_of_pandas():
    pandas = pytest.importorskip("pandas")
    labels = pandas.Series(pandas.Categorical(Y, categories=range(3)))
    every_form(TypeError, f"{AS_FLOATS} bool: use target.astype(np.float32)", target=pandas.get_dummies(labels))
    close(F.cross_entropy(X, pandas.get_dummies(labels).astype(np.float32)))
    nullable = pandas.get_dummies(labels, dtype="Float64")
    advice = "target.to_numpy(dtype=np.float32, na_value=np.nan)"
    every_form(TypeError, f"target should {CLASSES}; got dtype object that holds float: use {advice}", target=nullable)
    close(F.cross_entropy(X, eval(advice, {"np": np, "target": nullable})))


@pytest.mark.parametrize("sparse", [False, True])
def test_one_hot_labels_of_scikit_learn(sparse):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    y = preprocessing.LabelBinarizer(sparse_output=sparse).fit(range(3)).transform(Y)
    got = f"target should {CLASSES}; got csr_matrix (scipy), a sparse matrix: use target.toarray()"
    every_form(TypeError, got if sparse else f"{AS_FLOATS} int64: use target.astype(np.float32)", target=y)
    close(F.cross_entropy(X, (y.toarray() if sparse else y).astype(np.float32)))


# ---- missing values --------------------------------------------------------------------------------------------------


def missing(cure, what="nan", index=(1,)):
    kind = CLASSES if what != "nan" else "hold class numbers"
    return f"target should {kind}; got {what}, a missing value, at index {index}: fill missing values with ignore_index, as {cure} does"


def filled(cure, target, **names):
    """What the advice of an error gives."""
    return eval(cure, {"np": np, "target": target, **names})


def of_pandas(dtype):
    return lambda: pytest.importorskip("pandas").Series([1, None, 1], dtype=dtype)


def of_xarray():
    return pytest.importorskip("xarray").DataArray([1, np.nan, 1])


def of_polars(values=(1, None, 1)):
    return pytest.importorskip("polars").Series(values)


def of_pyarrow():
    return pytest.importorskip("pyarrow").array([1, None, 1])


def of_torch():
    return pytest.importorskip("torch").tensor([1, np.nan, 1])


MISSING = {
    "array": (lambda: np.array([1, np.nan, 1]), "np.where(np.isnan(target), -100, target).astype(np.int64)"),
    "float16": (lambda: np.array([1, np.nan, 1], np.float16), "np.where(np.isnan(target), -100, target).astype(np.int64)"),
    "list": (lambda: [1.0, np.nan, 1.0], "np.where(np.isnan(target), -100, target).astype(np.int64)"),
    "pandas": (of_pandas(None), "target.fillna(-100).astype(np.int64)"),
    "xarray": (of_xarray, "target.fillna(-100).astype(np.int64)"),
    "polars": (of_polars, "target.fill_null(-100)"),
    "polars floats": (lambda: of_polars((1.0, None, 1.0)), "target.fill_nan(None).fill_null(-100).cast(pl.Int64)"),
    "pyarrow": (of_pyarrow, 'target.fill_null(-100).cast("int64")'),
    "torch": (of_torch, "target.nan_to_num(-100).long()"),
}


@pytest.mark.parametrize("kind", MISSING)
def test_a_missing_class_number_is_named_with_its_index_and_the_cure_works(kind):
    make, cure = MISSING[kind]
    x, target = np.float32([[1, 2], [3, 4], [5, 7]]), make()
    every_form(TypeError, missing(cure), x, target)
    every_form(TypeError, missing(cure.replace("-100", "-7")), x, target, ignore_index=-7)
    names = {"pl": pytest.importorskip("polars")} if "polars" in kind else {}
    same(F.cross_entropy(x, filled(cure, target, **names)), x, np.array([1, -100, 1]))


def test_missing_values_among_objects():
    """pandas before its third version gives nullable integers as objects."""
    x, target = np.zeros((3, 2), np.float32), [0, None, 1]
    cure = "np.array([-100 if label is None else label for label in target])"
    every_form(TypeError, missing(cure, "None"), x, target)
    every_form(TypeError, missing(cure, "None"), x, np.array(target))
    same(F.cross_entropy(x, filled(cure, target)), x, np.array([0, -100, 1]))


def test_the_missing_value_of_pandas_among_objects():
    pandas = pytest.importorskip("pandas")
    x, cure = np.zeros((3, 2), np.float32), "target.fillna(-100).astype(np.int64)"
    target = pandas.Series([0, pandas.NA, 1], dtype=object)
    every_form(TypeError, missing(cure, "<NA>"), x, target)
    same(F.cross_entropy(x, filled(cure, target)), x, np.array([0, -100, 1]))


def test_a_nullable_series_of_pandas():
    pandas = pytest.importorskip("pandas")
    x, target = np.float32([[1, 2], [3, 4], [5, 7]]), pandas.Series([1, None, 1], dtype="Int64")
    with pytest.raises(TypeError, match=r"a missing value, at index \(1,\)") as info:
        F.cross_entropy(x, target)
    assert "target.fillna(-100).astype(np.int64)" in str(info.value)
    same(F.cross_entropy(x, pandas.Series([1, 0, 1], dtype="Int64")), x, np.array([1, 0, 1]))


def test_the_first_missing_value_of_many_axes_is_named(rng):
    x = logits(rng, (2, 3, 4, 5))
    y = class_index(rng, x.shape).astype(np.float64)
    y[1, 2, 3] = y[0, 3, 1] = np.nan
    every_form(TypeError, missing("np.where(np.isnan(target), -100, target).astype(np.int64)", index=(0, 3, 1)), x, y)


@every_loss
def test_floats_that_are_no_class_numbers(call):
    refuses(TypeError, "target should hold class numbers; got dtype float64: use target.astype(np.int64)", call, X, Y.astype(float))
    refuses(TypeError, "target should hold class numbers; got dtype float64: use np.asarray(target).astype(np.int64)", call, X, [0.0, 2.0])
    message = "target should hold class numbers; got 0.5 at index (1,): probabilities have input's shape"
    refuses(TypeError, message, call, X, np.array([0, 0.5]))
    refuses(TypeError, message.replace("0.5", "inf"), call, X, np.array([0, np.inf]))


# ---- objects ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ["csr_array", "coo_array", "csc_matrix", "lil_array"])
def test_sparse_matrices(make):
    sparse = pytest.importorskip("scipy.sparse")
    x = getattr(sparse, make)(X)
    cure = f"got {make} (scipy), a sparse matrix: use"
    every_form(TypeError, f"input should {FLOATS}; {cure} input.toarray()", input=x)
    every_form(TypeError, f"target should {CLASSES}; {cure} target.toarray()", target=getattr(sparse, make)(P))
    every_form(TypeError, f"weight should {REAL}; {cure} weight.toarray()", weight=x)
    refuses(TypeError, f"input should {FLOATS}; {cure} input.toarray()", F.log_softmax, x)
    refuses(TypeError, f"output should {FLOATS}; {cure} output.toarray()", F.log_softmax_backward, X, x)
    refuses(TypeError, f"grad_output should {REAL}; {cure} grad_output.toarray()", F.log_softmax_backward, x, X)


def test_mappings():
    every_form(
        TypeError,
        f"weight should {REAL}; got dict: give one number per class, such as [weight[c] for c in range(C)]",
        weight={0: 1.0, 1: 2.0, 2: 1.0},
    )
    every_form(TypeError, f"target should {CLASSES}; got dict: give the array itself", target={"labels": Y})
    every_form(TypeError, f"input should {FLOATS}; got dict: give the array itself", input={"logits": X})


def test_values_that_are_read_only_once_or_have_no_order():
    for make in (iter, lambda y: map(int, y), lambda y: (int(n) for n in y), lambda y: dict.fromkeys(y).keys()):
        what = type(make(Y.tolist())).__name__
        every_form(TypeError, f"target should {CLASSES}; got {what}: use list(target)", target=make(Y.tolist()))
    every_form(TypeError, f"target should {CLASSES}; got set, which has no order: use a list", target={0, 2})
    same(F.cross_entropy(X, range(0, 4, 2)))


STRINGS = "number the classes, e.g. np.searchsorted(classes, target) with the sorted names of all classes"


def test_strings():
    for target in (["b", "a"], np.array(["b", "a"]), np.array(["b", "a"], object)):
        every_form(TypeError, f"target should {CLASSES}; got the string 'b' at index (0,): {STRINGS}", target=target)
        same(F.cross_entropy(X, np.searchsorted(["a", "b", "c"], target)), target=np.array([1, 0]))
    advice = "use np.asarray(input).astype(np.float32) if the strings are numbers"
    every_form(TypeError, f"input should {FLOATS}; got the string '1' at index (0, 0): {advice}", input=[["1", "2", "3"]] * 2)
    every_form(TypeError, f"target should {CLASSES}; got the string 'b' at index (1,): {STRINGS}", target=np.array([0, "b"], object))


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow"])
def test_strings_of_other_libraries(library):
    module = pytest.importorskip(library)
    target = (module.array if library == "pyarrow" else module.Series)(["b", "a"])
    every_form(TypeError, f"target should {CLASSES}; got the string 'b' at index (0,): {STRINGS}", target=target)


def test_nullable_frames():
    pandas = pytest.importorskip("pandas")
    advice = "use input.to_numpy(dtype=np.float32, na_value=np.nan)"
    frame = pandas.DataFrame(X).astype("Float64")
    every_form(TypeError, f"input should {FLOATS}; got dtype object that holds float: {advice}", input=frame)
    same(F.cross_entropy(frame.to_numpy(dtype=np.float32, na_value=np.nan), Y))
    frame.iloc[1, 2] = pandas.NA
    every_form(TypeError, f"input should {FLOATS}; got <NA>, a missing value, at index (1, 2): {advice}", input=frame)
    assert np.isnan(F.cross_entropy(frame.to_numpy(dtype=np.float32, na_value=np.nan), Y, reduction="none")).tolist() == [False, True]


def test_objects_that_are_numbers():
    advice = "use target.astype(np.int64)"
    every_form(TypeError, f"target should {CLASSES}; got dtype object that holds int: {advice}", target=Y.astype(object))
    advice = "use input.astype(np.float32)"
    every_form(TypeError, f"input should {FLOATS}; got dtype object that holds float: {advice}", input=X.astype(object))


def test_a_column_of_arrays():
    column = np.empty(2, object)
    column[:] = list(X)
    advice = "use np.stack(np.asarray(input)) if all are of one shape"
    every_form(TypeError, f"input should {FLOATS}; got dtype object that holds ndarray (numpy) at index (0,): {advice}", input=column)
    same(F.cross_entropy(np.stack(np.asarray(column)), Y))


def test_other_objects():
    class Strange:
        pass

    one, many = Strange(), np.array([Strange(), Strange()])
    name = f"Strange ({__name__.partition('.')[0]})"
    every_form(TypeError, f"input should {FLOATS}; got {name}: convert it to an array of numbers first", input=one)
    got = f"dtype object that holds {name} at index (0,): convert it to an array of numbers first"
    every_form(TypeError, f"target should {CLASSES}; got {got}", target=many)
    every_form(TypeError, f"input should {FLOATS}; got NoneType", input=None)
    every_form(TypeError, f"target should {CLASSES}; got NoneType", target=None)


def test_what_numpy_cannot_convert_is_named():
    with pytest.raises(ValueError, match=r"^input should be an array, or what NumPy can make one of; got list: .*inhomogeneous"):
        F.cross_entropy([[1.0, 2.0], [1.0]], Y)


def test_values_that_autograd_traces():
    autograd = pytest.importorskip("autograd")
    box = "ArrayBox (autograd), and nbloss.functional is not traced by autograd: use the function of this name in nbloss.interop.autograd"
    refuses(TypeError, f"input should {FLOATS}; got {box}", autograd.grad(lambda x: F.cross_entropy(x, Y)), X)
    refuses(TypeError, f"input should {FLOATS}; got {box}", autograd.grad(lambda x: F.log_softmax(x)[0, 0]), X)
    refuses(TypeError, f"target should {CLASSES}; got {box}", autograd.grad(lambda p: F.cross_entropy(X, p)), P)
    refuses(TypeError, f"weight should {REAL}; got {box}", autograd.grad(lambda w: F.cross_entropy(X, Y, w)), np.ones(3))
    inside = box.replace(" (autograd),", " (autograd) at index (0,),").replace("use the", "use autograd.numpy.array(weight) and the")
    refuses(TypeError, f"weight should {REAL}; got {inside}", autograd.grad(lambda w: F.cross_entropy(X, Y, [w, 1.0, 1.0])), 1.0)


def test_the_advice_for_autograd_works():
    autograd, differentiable = pytest.importorskip("autograd"), pytest.importorskip("nbloss.interop.autograd")
    assert_array_equal(autograd.grad(differentiable.cross_entropy)(X, Y), F.cross_entropy_backward(1.0, X, Y))


# ---- lazy arrays -----------------------------------------------------------------------------------------------------


def lazy(name, what, method="compute"):
    stays = ", or a function of nbloss.interop.dask, which stays lazy" if "(dask)" in what else ""
    return f"{name} should be an array in memory; got {what}, which is lazy: use {name}.{method}(){stays}"


def test_dask_arrays():
    dask = pytest.importorskip("dask.array")
    every_form(TypeError, lazy("input", "Array (dask)"), input=dask.from_array(X))
    every_form(TypeError, lazy("target", "Array (dask)"), target=dask.from_array(Y))
    every_form(TypeError, lazy("weight", "Array (dask)"), weight=dask.ones(3))
    refuses(TypeError, lazy("input", "Array (dask)"), F.log_softmax, dask.from_array(X))
    refuses(TypeError, lazy("grad_output", "Array (dask)"), F.log_softmax_backward, dask.from_array(X), X)
    same(F.cross_entropy(dask.from_array(X).compute(), Y))


def test_xarrays_of_dask_arrays():
    pytest.importorskip("dask.array")
    array = pytest.importorskip("xarray").DataArray(X)
    every_form(TypeError, lazy("input", "DataArray (xarray)"), input=array.chunk())
    same(F.cross_entropy(array, Y))


def test_lazy_frames():
    polars = pytest.importorskip("polars")
    every_form(TypeError, lazy("input", "LazyFrame (polars)", "collect"), input=polars.DataFrame(X).lazy())
    same(F.cross_entropy(polars.DataFrame(X).lazy().collect(), Y))


# ---- torch tensors ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_tensors_of_every_dtype_are_taken_as_arrays_are(dtype, rng):
    torch = pytest.importorskip("torch")
    x, y, w = logits(rng, (5, 4), dtype), class_index(rng, (5, 4)), np.linspace(1, 2, 4)
    tensor = torch.tensor(x.astype(np.float64)).to(getattr(torch, np.dtype(dtype).name))
    for given, plain in ((tensor, x), (tensor[::2], x[::2]), (tensor.T, x.T), (tensor[0], x[0])):
        labels = y[: len(plain)] % plain.shape[-1] if plain.ndim == 2 else y[0]
        loss, grad = F.cross_entropy_value_and_grad(given, torch.tensor(labels))
        expected, expected_grad = F.cross_entropy_value_and_grad(plain, labels)
        assert_array_equal(loss, expected)
        assert_array_equal(grad, expected_grad)
        assert grad.dtype == plain.dtype
    weights = torch.tensor(w).to(tensor.dtype)
    assert_array_equal(F.nll_loss(tensor, y, weights), F.nll_loss(x, y, w.astype(dtype)))
    assert_array_equal(F.log_softmax(tensor), F.log_softmax(x))
    soft = F.log_softmax(x)
    assert_array_equal(F.cross_entropy(tensor, torch.tensor(soft.astype(np.float64)).to(tensor.dtype)), F.cross_entropy(x, soft))


def test_a_bfloat16_tensor_is_not_copied():
    torch, ml_dtypes = pytest.importorskip("torch"), pytest.importorskip("ml_dtypes")
    from nbloss.backends.host_arrays import as_numpy

    tensor = torch.zeros(3, 4, dtype=torch.bfloat16)
    array = as_numpy("input", tensor)
    assert array.dtype == ml_dtypes.bfloat16
    tensor[1, 2] = 1
    assert array[1, 2] == 1


def test_a_bfloat16_tensor_without_ml_dtypes_is_an_import_error(monkeypatch):
    torch = pytest.importorskip("torch")
    monkeypatch.setitem(__import__("sys").modules, "ml_dtypes", None)
    message = "bfloat16 arrays need the package ml_dtypes: pip install ml_dtypes"
    refuses(ImportError, message, F.cross_entropy, torch.zeros(2, 3).bfloat16(), Y)


def grad_message(name):
    return (
        f"{name} should be a tensor outside autograd; got one that requires grad: "
        f"use {name}.detach(), because nbloss returns gradients itself"
    )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_tensors_that_require_grad(dtype):
    torch = pytest.importorskip("torch")
    x = torch.tensor(X, dtype=getattr(torch, dtype), requires_grad=True)
    every_form(TypeError, grad_message("input"), input=x)
    every_form(TypeError, grad_message("input"), input=torch.nn.Parameter(x.detach()))
    every_form(TypeError, grad_message("target"), target=x)
    every_form(TypeError, grad_message("weight"), weight=x[0])
    refuses(TypeError, grad_message("input"), F.log_softmax, x)
    refuses(TypeError, grad_message("output"), F.log_softmax_backward, X, x)
    refuses(TypeError, grad_message("grad_output"), F.log_softmax_backward, x, X)
    assert_array_equal(F.cross_entropy(x.detach(), Y), F.cross_entropy(X, Y))


UNFIT = {
    "sparse": (lambda torch: torch.tensor(X).to_sparse(), "layout torch.sparse_coo", "to_dense()"),
    "conjugated": (lambda torch: torch.tensor(X).to(torch.complex64).conj(), "one with the conjugate bit set", "resolve_conj()"),
    "negated": (lambda torch: torch.tensor(X).to(torch.complex64).conj().imag, "one with the negative bit set", "resolve_neg()"),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_tensors_that_are_no_plain_numbers(kind):
    make, got, cure = UNFIT[kind]
    x = make(pytest.importorskip("torch"))
    for name, arguments in (("input", {"input": x}), ("target", {"target": x}), ("weight", {"weight": x})):
        every_form(TypeError, f"{name} should be a dense tensor of plain numbers; got {got}: use {name}.{cure}", **arguments)


def test_tensors_that_numpy_cannot_read_are_named():
    torch = pytest.importorskip("torch")
    for x in (torch.zeros(2, 3, device="meta"), torch.zeros(2, 3).to(torch.float8_e4m3fn)):
        with pytest.raises(TypeError, match=r"^input should be an array, or what NumPy can make one of; got Tensor \(torch\): "):
            F.cross_entropy(x, Y)


def test_one_hot_and_float_tensors():
    torch = pytest.importorskip("torch")
    y = torch.nn.functional.one_hot(torch.tensor(Y), 3)
    every_form(TypeError, f"{AS_FLOATS} int64: use target.to(torch.float32)", target=y)
    close(F.cross_entropy(X, y.to(torch.float32)))
    message = "target should hold class numbers; got dtype float32: use target.to(torch.int64)"
    every_form(TypeError, message, target=torch.tensor(Y, dtype=torch.float32))


# ---- shapes ----------------------------------------------------------------------------------------------------------


def shapes(x, y, hint):
    rows = (x[0], *x[2:])
    return f"target should have shape {rows} (class numbers) or {x} (probabilities) to go with input of shape {x}; got {y}{hint}"


LAST = ", which fits if the last axis of input holds the classes: use np.moveaxis(input, -1, 1)"
FIRST = ", which fits if the first axis of input holds the classes: use np.moveaxis(input, 0, 1)"
TARGET_LAST = ", which fits if its last axis holds the classes: use np.moveaxis(target, -1, 1)"


@pytest.mark.parametrize(
    ("x", "y", "hint"),
    [
        ((2, 5, 5, 3), (2, 5, 5), LAST),
        ((2, 7, 11), (2, 7), LAST),
        ((2, 7, 11), (2, 11, 7), LAST),
        ((2, 5, 6, 3), (2, 3, 5, 6), LAST),
        ((3, 8), (8,), FIRST),
        ((3, 8), (8, 3), FIRST),
        ((3, 5, 6), (5, 6), FIRST),
        ((2, 3, 5, 6), (2, 5, 6, 3), TARGET_LAST),
        ((2, 3), (2, 1), ", which has one axis too many: use np.squeeze(target, 1)"),
        ((2, 3, 5, 6), (2, 1, 5, 6), ", which has one axis too many: use np.squeeze(target, 1)"),
        ((2, 3), (4,), ""),
        ((2, 3, 4), (2, 5), ""),
    ],
    ids=str,
)
def test_a_target_of_another_shape_is_told_what_would_fit(x, y, hint):
    logits_, target = np.zeros(x, np.float32), np.zeros(y, int)
    every_form(ValueError, shapes(x, y, hint), logits_, target)
    if hint:
        expression = hint.rpartition("use ")[2]
        fitting = eval(expression, {"np": np, "input": logits_, "target": target})
        pair = (fitting, target) if "input" in expression else (logits_, fitting)
        F.cross_entropy(pair[0], pair[1].astype(np.float32) if pair[0].ndim == pair[1].ndim else pair[1])


def test_a_square_target_stays_a_target_of_class_numbers():
    x = np.arange(27, dtype=np.float32).reshape(3, 3, 3)
    assert np.isfinite(F.cross_entropy(x, np.ones((3, 3), int)))


PER_ROW = ". Weights of the rows are no class weights: use sample_weight="


@pytest.mark.parametrize(
    ("x", "w", "hint"),
    [
        ((3, 4), (3,), PER_ROW),
        ((2, 4, 5), (2, 5), PER_ROW),
        ((2, 4, 5), (2,), PER_ROW),
        ((2, 5, 5, 3), (3,), LAST),
        ((3, 4), (5,), ""),
        ((4,), (3,), ""),
        ((4,), (), ""),
    ],
    ids=str,
)
def test_a_weight_of_another_shape_is_told_what_it_may_be(x, w, hint):
    message = f"weight should have shape ({x[0 if len(x) == 1 else 1]},), one per class; got {w}{hint}"
    every_form(ValueError, message, np.zeros(x, np.float32), np.zeros(x[:1] + x[2:] if len(x) > 1 else (), int), np.ones(w, np.float32))


def test_the_advice_for_weights_of_rows_gives_the_weighted_loss_and_its_gradient(rng):
    x, y, w = logits(rng, (5, 4), np.float64), class_index(rng, (5, 4)), np.linspace(0.5, 2, 5)
    losses, gradient = F.cross_entropy_value_and_grad(x, y, sample_weight=w, reduction="none")
    for row in range(5):
        value, grad = F.cross_entropy_value_and_grad(x[row], y[row])
        assert losses[row] == pytest.approx(w[row] * value)
        assert gradient[row] == pytest.approx(w[row] * grad)


# ---- habits from SciPy -----------------------------------------------------------------------------------------------


def test_integer_logits_are_told_how_to_become_floats():
    message = f"input should {FLOATS}; got %s.astype(np.float32), or dtype=np.float32"
    for call in (F.log_softmax, F.softmax):
        refuses(TypeError, message % "int64: use np.asarray(input)", call, [[1, 2, 3]])
        refuses(TypeError, message % "uint8: use input", call, np.uint8([[1, 2, 3]]))
    every_form(TypeError, f"input should {FLOATS}; got bool: use input.astype(np.float32)", input=X > 1)


@pytest.mark.parametrize("axis", [1, -1, 0, None, (0, 1)])
def test_axis_is_told_that_it_is_called_dim(axis):
    message = f"the axis of the classes is called dim, as in torch; got axis={axis!r}: use dim={axis!r}"
    if axis is not None:
        refuses(TypeError, message, F.log_softmax, X, axis=axis)
        refuses(TypeError, message, F.log_softmax_backward, X, X, axis=axis)
        refuses(TypeError, message, nbloss.LogSoftmax, axis=axis)
        refuses(TypeError, message, F.softmax, X, axis=axis)
        refuses(TypeError, message, F.softmax_backward, X, X, axis=axis)
        refuses(TypeError, message, nbloss.Softmax, axis=axis)


# ---- what is taken ---------------------------------------------------------------------------------------------------


def test_pandas():
    pandas = pytest.importorskip("pandas")
    same(F.cross_entropy(pandas.DataFrame(X), pandas.Series(Y), pandas.Series([1.0, 2, 3])), weight=np.array([1.0, 2, 3]))
    for dtype in ("Int64", "Int8", "UInt16", "category"):
        same(F.cross_entropy(X, pandas.Series(Y).astype(dtype)))
    same(F.cross_entropy(pandas.DataFrame(X), pandas.Series(Y, dtype="Int64").fillna(-100)))


def test_polars():
    polars = pytest.importorskip("polars")
    same(F.cross_entropy(polars.DataFrame(X), polars.Series(Y), polars.Series([1.0, 2, 3])), weight=np.array([1.0, 2, 3]))


def test_pyarrow():
    pyarrow = pytest.importorskip("pyarrow")
    same(F.cross_entropy(X, pyarrow.array(Y), pyarrow.array([1.0, 2, 3])), weight=np.array([1.0, 2, 3]))
    same(F.cross_entropy(X, pyarrow.chunked_array([Y[:1], Y[1:]])))


def test_xarray():
    xarray = pytest.importorskip("xarray")
    same(F.cross_entropy(xarray.DataArray(X), xarray.DataArray(Y)))


def test_pictures():
    image = pytest.importorskip("PIL.Image")
    x, y = np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2), np.uint8([[0, 1], [2, 0]])
    same(F.cross_entropy(x, [image.fromarray(y)]), x, y[None])
