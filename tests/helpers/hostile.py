"""Calls that nobody should make, and calls that look like them: for the fuzzer.

A case is drawn fault by fault: whatever is drawn wrong adds the exception that the contract gives it. A case without faults must give
the oracle's numbers; one with faults must raise one of their exceptions.
"""

import os
import tempfile
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from hypothesis import strategies as st
from problems import FLOATS, INTEGERS

EVERYTHING = os.environ.get("NBLOSS_FUZZ") == "everything"  # every target type with every dtype, which takes CI too long
FUNCTIONS = [
    "log_softmax", "log_softmax_backward", "softmax", "softmax_backward", "nll_loss", "nll_loss_backward",
    "cross_entropy", "cross_entropy_backward", "cross_entropy_value_and_grad",
    "focal_loss", "focal_loss_backward", "focal_loss_value_and_grad",
]  # fmt: skip
DIMS = [0, 1, 1, 2, 3, 4, 5, 7, 9]
CLASSES = [0, 1, 2, 3, 7, 15, 16, 17, 33, 64, 65, 127, 130]
LARGE = [(800, 129), (9000, 12), (3, 40, 33, 31), (130001,), (2, 70000), (60000, 2)]  # large enough for several threads
WRONG_DTYPES = ["i8", "u1", "?", "c8", "O", "U3", "M8[s]", "V4", "S2"]


class Subclass(np.ndarray):
    """A subclass of NumPy's array, as other libraries have."""


@dataclass
class Case:
    function: str
    arguments: dict = field(default_factory=dict)  # what the caller passes, by name
    plain: dict = field(default_factory=dict)  # the same arrays as the oracle takes them
    beside: Any = None  # numbers between those of ``out``, all 9
    errors: set = field(default_factory=set)  # what may be raised; empty: nothing
    owners: list = field(default_factory=list)  # the memory that the arrays lie in, and its bytes before the call
    tolerated: bool = False  # an overlap that may be refused or be harmless


# ------------------------------ memory ------------------------------


def _strided(draw, case, a):
    """``a`` in the middle of poisoned memory, with steps on every axis that may be negative or more than the size of a number."""
    if a.size == 0 and np.prod([max(1, n) for n in a.shape]) > 10**6:  # the other axes alone would be gigabytes
        return a
    steps = [draw(st.sampled_from([1, 1, 2, 3])) for _ in a.shape]
    if a.size * np.prod(steps) > 10**6:
        steps = [1] * a.ndim
    order = draw(st.permutations(range(a.ndim)))
    shift = draw(st.sampled_from([0, 0, 0, 1, 3]))
    big = [max(1, n * s) for n, s in zip(a.shape, steps, strict=True)]
    size = int(np.prod(big)) * a.itemsize
    raw = np.full(size + 64 + shift, 0xFF, np.uint8)  # all ones: nan in every float, -1 in every integer
    inner = raw[32 + shift : 32 + shift + size].view(a.dtype).reshape([big[k] for k in order])
    view = inner.transpose(np.argsort(order)) if a.ndim else inner.reshape(())
    view = view[(..., *(slice(0, n * s, s) for n, s in zip(a.shape, steps, strict=True)))]
    flips = tuple(slice(None, None, -1) if n and draw(st.integers(0, 3)) == 0 else slice(None) for n in a.shape)
    view = view[(..., *flips)]
    view[...] = a
    case.owners.append(raw)
    return view


def _broadcast(draw, case, a):
    """One axis repeated with stride 0; the numbers change, so the oracle's copy is taken afterwards."""
    axes = [k for k, n in enumerate(a.shape) if n > 0]
    if not axes:
        return a
    k = draw(st.sampled_from(axes))
    return np.broadcast_to(a.take([0], axis=k), a.shape)


def _memmap(draw, case, a):
    if a.size == 0 or a.dtype.hasobject:
        return a
    with tempfile.NamedTemporaryFile() as file:
        np.ascontiguousarray(a).tofile(file)
        file.flush()
        return np.memmap(file.name, dtype=a.dtype, mode=draw(st.sampled_from(["r", "r+"])), shape=a.shape)


def _frozen(draw, case, a):
    a = a.copy()
    a.flags.writeable = False
    return a


LAYOUTS = {
    "as it is": lambda draw, case, a: a,
    "strided": _strided,
    "broadcast": _broadcast,
    "Fortran": lambda draw, case, a: np.asfortranarray(a) if a.ndim else a,  # which would give a number an axis
    "frozen": _frozen,
    "swapped": lambda draw, case, a: a.astype(a.dtype.newbyteorder()) if a.dtype.kind in "iuf" else a,
    "subclass": lambda draw, case, a: a.view(Subclass),
    "matrix": lambda draw, case, a: np.asmatrix(a) if a.ndim == 2 and a.dtype.kind in "iuf" else a,
    "memory map": _memmap,
    "list": lambda draw, case, a: a.tolist() if a.dtype in (np.float64, np.int64) and a.size else a,
}
COMMON = ["as it is", "strided", "strided", "strided", "broadcast", "Fortran", "frozen", "swapped", "subclass", "matrix", "list"]


def lay(draw, case, name, a):
    """Pass an array in some layout."""
    how = "memory map" if draw(st.integers(0, 30)) == 0 else draw(st.sampled_from(COMMON))
    view = LAYOUTS[how](draw, case, a)
    case.arguments[name] = view
    read = np.asarray(a if isinstance(view, list) else view)
    case.plain[name] = np.array(read, read.dtype.newbyteorder("="))
    if isinstance(view, np.ndarray):
        case.owners.append(view)


def chance(draw, one_in):
    return draw(st.integers(0, one_in - 1)) == 0


# ------------------------------ arguments ------------------------------


def numbers(draw, rng, shape, dtype, tame=False):
    """Logits: ordinary, tied, huge, tiny, masked, or with what is not a number."""
    kind = draw(st.sampled_from(["ordinary", "ordinary", "tied", "confident", "huge", "tiny", "masked", "odd"]))
    x = rng.normal(0, 3, shape)
    if kind == "tied":
        x = np.round(x)
    elif kind == "confident":
        x = x * 12
    elif kind == "huge":
        x = x * (1e3 if np.dtype(dtype) == np.float16 else 1e30)
    elif kind == "tiny":
        x = x * (1e-7 if np.dtype(dtype) == np.float16 else 1e-41)
    elif kind == "masked" and not tame:
        x = np.where(rng.random(shape) < 0.3, -np.inf, x)
    elif kind == "odd" and not tame:
        x = np.where(rng.random(shape) < 0.05, rng.choice([np.nan, np.inf, -np.inf], shape), x)
    return np.asarray(x).astype(dtype)


def wrong_array(draw, shape):
    """An array of a type that no function takes."""
    dtype = draw(st.sampled_from(WRONG_DTYPES))
    if dtype == "masked":
        return np.ma.masked_array(np.zeros(shape, np.float32))
    return np.zeros(shape, dtype)


def put_input(draw, case, rng, name, shape, dtype, tame=False):
    fault = draw(st.integers(0, 40))
    if fault == 0:
        case.arguments[name] = wrong_array(draw, shape)
        case.errors.add(TypeError)
    elif fault == 1:
        case.arguments[name] = np.ma.masked_array(np.zeros(shape, np.float32))
        case.errors.add(TypeError)
    else:
        lay(draw, case, name, numbers(draw, rng, shape, dtype, tame))


def put_target(draw, case, rng, shape, losses, count, dtype, ignore_index):
    """Class numbers or probabilities; returns whether it is the latter."""
    soft = draw(st.integers(0, 3)) == 0
    fault = draw(st.integers(0, 25))
    positions = int(np.prod(losses))
    if fault == 0:
        other = draw(st.sampled_from([(*losses, 1), losses[1:], (*losses[:-1], losses[-1] + 1) if losses else (2, 2)]))
        if other not in (losses, shape):
            case.arguments["target"] = np.zeros(other, np.int64)
            case.errors.add(ValueError)
            return False
    if fault == 1:
        case.arguments["target"] = np.zeros(losses, draw(st.sampled_from(["c8", "O", "U3", "M8[s]", "f4", "f8"])))
        case.errors |= {TypeError}
        return False
    if fault == 2:
        case.arguments["target"] = np.ma.masked_array(np.zeros(losses, np.int64))
        case.errors.add(TypeError)
        return False
    if fault == 25:
        case.arguments["target"] = np.zeros(shape, draw(st.sampled_from(["i8", "u1", "?"])))
        case.errors.add(TypeError)
        return False
    if soft:
        y = rng.uniform(0, 1, shape) * (rng.random(shape) < 0.6)
        lay(draw, case, "target", np.asarray(y).astype(draw(st.sampled_from([dtype, np.float32]))))
        return True
    wide = dtype is np.float32 or EVERYTHING
    integer = draw(st.sampled_from([np.dtype(bool), *INTEGERS] if wide else [np.dtype(np.int64), np.dtype(np.uint64)]))
    top = min(count, 2 if integer.kind == "b" else np.iinfo(integer).max + 1)
    y = np.asarray(rng.integers(0, max(top, 1), losses)).astype(integer)
    if integer.kind != "b" and isinstance(ignore_index, int) and np.iinfo(integer).min <= ignore_index <= np.iinfo(integer).max:
        y = np.where(rng.random(losses) < 0.3, integer.type(ignore_index), y)
    y = np.asarray(y, integer)
    if fault < 8 and positions and integer.kind != "b":
        bad = draw(st.sampled_from([count, -1, np.iinfo(integer).max, np.iinfo(integer).min, count + 1]))
        if np.iinfo(integer).min <= bad <= np.iinfo(integer).max:
            y.reshape(-1)[draw(st.sampled_from([0, positions - 1, positions // 2]))] = bad
    lay(draw, case, "target", y)
    return False


def judge_targets(case, count, ignore_index):
    """Expect an IndexError if one of the class numbers, as they are now, is no class."""
    y = case.plain.get("target")
    if y is not None and not isinstance(ignore_index, (str, float, type(None))) and y.size:
        wide = y.astype(object)
        if ((wide != ignore_index) & ((wide < 0) | (wide >= count))).any():
            case.errors.add(IndexError)


def put_weight(draw, case, rng, count):
    fault = draw(st.integers(0, 30))
    if fault < 12:
        return
    dtype = draw(st.sampled_from([*FLOATS, np.int32]))
    if fault == 12:
        case.arguments["weight"] = np.ones(draw(st.sampled_from([(count + 1,), (1, count), ()])))
        case.errors.add(ValueError)
    elif fault == 13:
        case.arguments["weight"] = np.zeros(count, draw(st.sampled_from(["c8", "O", "U3"])))
        case.errors.add(TypeError)
    elif fault == 14:
        case.arguments["weight"] = np.ma.masked_array(np.zeros(count))
        case.errors.add(TypeError)
    else:
        lay(draw, case, "weight", (rng.integers(0 if fault < 20 else 1, 9, count) / (1 if dtype is np.int32 else 4)).astype(dtype))


def put_sample_weight(draw, case, rng, losses):
    """Weights of rows that every dtype holds exactly, some of them 0 or negative."""
    fault = draw(st.integers(0, 30))
    if fault < 15:
        return
    dtype = draw(st.sampled_from([*FLOATS, np.int32]))
    if fault == 15:
        case.arguments["sample_weight"] = np.ones(draw(st.sampled_from([(*losses, 2), (1, *losses)])))
        case.errors.add(ValueError)
    elif fault == 16:
        case.arguments["sample_weight"] = np.zeros(losses, draw(st.sampled_from(["c8", "O", "U3"])))
        case.errors.add(TypeError)
    else:
        own = rng.integers(-8 if fault < 20 else 0, 9, losses) / (1 if dtype is np.int32 else 4)
        lay(draw, case, "sample_weight", np.asarray(own).astype(dtype))


def option(draw, case, name, good, bad, one_in=25):
    """A keyword; ``bad`` is (value, exception) pairs."""
    if chance(draw, one_in):
        value, error = draw(st.sampled_from(bad))
        case.errors.add(error)
    else:
        value = draw(good)
    case.arguments[name] = value
    return value


def put_grad_output(draw, case, rng, shape):
    fault = draw(st.integers(0, 25))
    if fault == 0:
        case.arguments["grad_output"] = np.ones((*shape, 2))
        case.errors.add(ValueError)
    elif fault == 1:
        case.arguments["grad_output"] = draw(st.sampled_from(["1", 1j, None, np.ma.masked_array(np.ones(shape)), np.zeros(shape, "O")]))
        case.errors.add(TypeError)
    elif fault < 12:
        case.arguments["grad_output"] = case.plain["grad_output"] = draw(
            st.sampled_from([1.0, 0.0, -2, np.float32(0.5), np.array(3.0), True])
        )
    else:
        lay(draw, case, "grad_output", np.asarray(rng.normal(0, 1, shape)).astype(draw(st.sampled_from(FLOATS))))


def put_out(draw, case, shape, dtype, source):
    """An array for the result, good or bad; ``source`` names the array that it may be."""
    how = draw(
        st.sampled_from(
            ["none"] * 4 + ["new"] * 4 + ["subclass", "own"] * 2 + ["dtype", "shape", "order", "frozen", "list", "shifted", "apart"]
        )
    )
    if how == "none" or dtype not in FLOATS:
        return
    size, x = int(np.prod(shape)) * np.dtype(dtype).itemsize, case.arguments.get(source)
    raw = np.full(size + 64, 0xA5, np.uint8)
    out = raw[32 : 32 + size].view(dtype).reshape(shape)
    if how == "own":
        if not isinstance(x, np.ndarray) or not x.flags.carray or x.dtype != dtype or x.shape != shape or isinstance(x, np.ma.MaskedArray):
            return
        case.arguments["out"] = x
        return
    if how == "subclass":
        out = out.view(Subclass)
    elif how == "dtype":
        out = np.zeros(shape, draw(st.sampled_from(["f8" if dtype != np.float64 else "f4", "i8", "O", "c8"])))
        case.errors.add(ValueError)
    elif how == "shape":
        out = np.zeros((*shape, 1), dtype)
        case.errors.add(ValueError)
    elif how == "order":
        holder = np.full((*shape, 2), 9, dtype)
        out, case.beside = holder[..., 0], holder[..., 1]
        if draw(st.booleans()):
            out, case.beside = np.zeros(shape, dtype, order="F"), None
    elif how == "frozen":
        out.flags.writeable = False
        case.errors.add(ValueError)
    elif how == "list":
        out = out.tolist()
        case.errors.add(TypeError)
    elif how == "shifted":  # a little further on in the memory of the input
        if not isinstance(x, np.ndarray) or size == 0 or x.dtype != dtype or isinstance(x, np.ma.MaskedArray) or x.shape != shape:
            return
        step = draw(st.sampled_from([1, 2, 3]))
        raw = np.zeros(size // np.dtype(dtype).itemsize + step, dtype)
        moved, out = raw[step:].reshape(shape), raw[: raw.size - step].reshape(shape)
        moved[...] = x
        case.arguments[source] = moved
        case.plain[source] = np.array(moved)
        if np.shares_memory(moved, out):
            case.errors.add(ValueError)
    elif how == "apart":  # over the memory of something else that is read
        others = [
            a for n, a in case.arguments.items() if n != source and isinstance(a, np.ndarray) and a.flags.carray and 0 < size <= a.nbytes
        ]
        if not others or isinstance(others[0], (np.memmap, np.ma.MaskedArray)) or others[0].dtype.hasobject:
            return
        out = np.asarray(others[0]).reshape(-1).view(np.uint8)[:size].view(dtype).reshape(shape)
        if not out.flags.aligned:
            return
        case.errors.add(ValueError)
        case.tolerated = True
    case.arguments["out"] = out
    case.owners.append(raw)


# ------------------------------ calls ------------------------------

BAD_INDEX = [(1.5, TypeError), ("1", TypeError), (None, TypeError), (np.nan, TypeError), (2**63, ValueError), (-(2**70), ValueError)]
BAD_REDUCTION = [(v, ValueError) for v in ("MEAN", "", "avg", 3, np.nan, True, ["mean"])]
BAD_SMOOTHING = [(v, ValueError) for v in (-0.1, 1.1, np.nan, np.inf, -np.inf, -1)]
BAD_SMOOTHING += [(v, TypeError) for v in ("0.1", None, 1j, [0.1], np.ones(1))]
BAD_SCALE = [(v, ValueError) for v in (-0.1, np.nan, np.inf, -1)] + [(v, TypeError) for v in ("0.1", None, 1j, [0.1], np.ones(1))]
BAD_DIVISOR = [(v, ValueError) for v in (0, -1, np.nan, np.inf, 0.0)] + [(v, TypeError) for v in ("2", 1j, [2.0], np.ones(1))]
BAD_EMPTY = [(v, ValueError) for v in ("", "NAN", 0, None, np.nan, ["zero"])]
BAD_DEVICE = [(v, ValueError) for v in ("tpu", "", "cuda:x", 3)]


CAPS = [None, None, None, 30.0, 2, np.float32(0.5), np.array(7.0)]
SCALES = [1.0, 1.0, 1.0, 1, 0.5, np.float32(1.5), np.array(2.0)]
BAD_CAP = [(v, ValueError) for v in (0, -0.1, np.nan, np.inf, -1)] + [(v, TypeError) for v in ("0.1", 1j, [0.1], np.ones(1))]
BAD_LOGIT_SCALE = [*BAD_CAP, (None, TypeError)]
GAMMAS = [0.0, 0.5, 1, 2.0, np.float32(3.0), np.array(5.0)]
LSE_SCALES = [0.0, 0.0, 0.0, 1e-3, np.float32(0.5), 1]


def moderate(case):
    """Whether the square of a log-sum-exp fits float32, also before a small weight scales it down."""
    logits = np.asarray(case.plain.get("input", case.arguments["input"]))
    if logits.dtype.name not in ("float16", "bfloat16", "float32", "float64"):
        return False
    logits = np.abs(logits.astype(float))
    return not (logits[np.isfinite(logits)] > 1e6).any()


@st.composite
def calls(draw):
    case = Case(draw(st.sampled_from(FUNCTIONS)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    dtype = draw(st.sampled_from(FLOATS))
    if chance(draw, 10):
        case.arguments["device"] = "cpu"
    elif chance(draw, 60):
        option(draw, case, "device", st.none(), BAD_DEVICE, 1)
    if "softmax" in case.function:
        _draw_log_softmax(draw, case, rng, dtype)
    else:
        _draw_loss(draw, case, rng, dtype)
    return case


def _draw_log_softmax(draw, case, rng, dtype):
    shape = draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 17, 66]), max_size=6).map(tuple))
    while np.prod(shape) > 20000:
        shape = shape[1:]
    if chance(draw, 60):
        shape = draw(st.sampled_from(LARGE))
    ndim = max(len(shape), 1)
    dims = st.integers(-ndim, ndim - 1)
    dim = option(
        draw, case, "dim", dims, [(ndim, IndexError), (-ndim - 1, IndexError), ("0", TypeError), (0.0, TypeError), (None, TypeError)]
    )
    if case.function.endswith("softmax"):
        put_input(draw, case, rng, "input", shape, dtype)
        source = "input"
    else:
        source = "output"
        tame = rng.normal(0, 2, shape) - 3
        lay(draw, case, "output", np.asarray(tame).astype(dtype))
        put_grad_output_of_log_softmax(draw, case, rng, shape, dtype)
    given = case.arguments[source]
    result = np.asarray(given).dtype
    put_out(draw, case, np.shape(given), result.newbyteorder("=") if result.kind in "iuf" else result, source)
    case.dim = dim


def put_grad_output_of_log_softmax(draw, case, rng, shape, dtype):
    fault = draw(st.integers(0, 25))
    if fault == 0:
        case.arguments["grad_output"] = np.ones((*shape, 2), np.float32)
        case.errors.add(ValueError)
    elif fault == 1:
        case.arguments["grad_output"] = np.zeros(shape, draw(st.sampled_from(["O", "c8", "U1"])))
        case.errors.add(TypeError)
    elif fault < 6:
        case.arguments["grad_output"] = case.plain["grad_output"] = draw(st.sampled_from([1.0, -0.5, 3]))
    else:
        lay(draw, case, "grad_output", np.asarray(rng.normal(0, 1, shape)).astype(dtype))


def _draw_loss(draw, case, rng, dtype):
    count = draw(st.sampled_from(CLASSES))
    if chance(draw, 40):
        shape = draw(st.sampled_from(LARGE))
        count = shape[0 if len(shape) == 1 else 1]
    elif chance(draw, 6):
        shape = (count,)
    else:
        shape = (draw(st.sampled_from(DIMS)), count, *draw(st.lists(st.sampled_from([0, 1, 2, 3, 5]), max_size=4)))
        while np.prod(shape) > 20000:
            shape = shape[:-1]
    if chance(draw, 60):
        shape, losses, count = (), (), 1
        case.errors.add(ValueError)
    else:
        losses = () if len(shape) == 1 else (shape[0], *shape[2:])
    positions = int(np.prod(losses))
    if count == 0 and positions:
        case.errors.add(ValueError)
    put_input(draw, case, rng, "input", shape, dtype)
    good = st.one_of(st.just(-100), st.integers(-3, 20), st.sampled_from([-(2**63), 2**63 - 1, 255, -1]))
    ignore_index = option(draw, case, "ignore_index", good, BAD_INDEX)
    soft = put_target(draw, case, rng, shape, losses, count, dtype, ignore_index)
    if soft and isinstance(ignore_index, int) and ignore_index >= 0:
        case.errors.add(ValueError)
    put_weight(draw, case, rng, count)
    reduction = option(draw, case, "reduction", st.sampled_from(["mean", "sum", "none", None]), BAD_REDUCTION)
    put_sample_weight(draw, case, rng, losses)
    divisors = [None, None, 3, 2.5, np.int64(7), np.float32(0.5), np.array(4.0)] if reduction == "mean" else [None]
    if option(draw, case, "divisor", st.sampled_from(divisors), BAD_DIVISOR) is not None and reduction != "mean":
        case.errors.add(ValueError)
    option(draw, case, "empty", st.sampled_from(["nan", "nan", "zero"]), BAD_EMPTY)
    if case.function.startswith("focal"):
        option(draw, case, "gamma", st.sampled_from(GAMMAS), BAD_SCALE)
        if soft:
            case.errors.add(TypeError)
    if case.function.startswith("cross"):
        good = st.sampled_from([0.0, 0.0, 0.1, 1.0, 0, True, np.float32(0.5), np.array(0.25)])
        option(draw, case, "label_smoothing", good, BAD_SMOOTHING)
        option(draw, case, "lse_square_scale", st.sampled_from(LSE_SCALES if moderate(case) else [0.0, 0]), BAD_SCALE)
        option(draw, case, "softcap", st.sampled_from(CAPS), BAD_CAP)
        option(draw, case, "logit_scale", st.sampled_from(SCALES if moderate(case) else [1.0]), BAD_LOGIT_SCALE)
    if case.function.endswith("backward"):
        put_grad_output(draw, case, rng, losses if reduction in ("none", None) else ())
    if case.function.endswith(("backward", "grad")):
        given = case.arguments["input"]
        put_out(draw, case, np.shape(given), np.asarray(given).dtype.newbyteorder("="), "input")
    if not soft:
        judge_targets(case, count, ignore_index)
