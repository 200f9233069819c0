"""Same inputs, same bits: for every number of threads, every run, every order of compilation, every layout."""

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest
from layouts import LAYOUTS
from numpy.testing import assert_array_equal
from problems import DTYPES, class_count, class_index, logits, name, rows_shape, weights, with_ignored

import nbloss
import nbloss.functional as F

# large enough to be shared between threads, with rows, columns and images, and no power of two
SHAPES = [(40013, 10), (3001, 65), (1201, 1000), (23, 20011), (7, 21, 37, 41), (3, 1001, 97), (1, 300007), (300007, 1)]

PROBLEM = """
import hashlib, sys
import numpy as np
import nbloss
import nbloss.functional as F

def digest(dtype, shape=(1777, 129)):
    rng = np.random.default_rng(7)
    x = rng.normal(0, 3, shape).astype(dtype)
    y, w = rng.integers(0, shape[1], shape[0]), rng.uniform(0.5, 2, shape[1]).astype(dtype)
    y[::7] = -100
    parts = {
        "log_softmax": lambda: [F.log_softmax(x), F.log_softmax(x, 0)],
        "softmax": lambda: [F.softmax(x), F.softmax(x, 0), F.softmax_backward(x, x), F.softmax_backward(x, x, 0)],
        "index": lambda: [*F.cross_entropy_value_and_grad(x, y, w, label_smoothing=0.1), F.cross_entropy(x, y, reduction="none")],
        "soft": lambda: [*F.cross_entropy_value_and_grad(x, np.abs(x)), F.cross_entropy_backward(1.0, x, y, w)],
        "nll": lambda: [F.nll_loss(x, y, w), F.nll_loss_backward(1.0, x, y, w)],
    }
    return {k: lambda k=k: hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in parts[k]())).hexdigest() for k in parts}
"""


def run_python(code, **environment):
    run = subprocess.run([sys.executable, "-c", PROBLEM + code], env={**os.environ, **environment}, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return run.stdout.split()


def bits(x, y, w, device):
    """Every number that the public functions make of one problem, as one hash."""
    options = {"label_smoothing": 0.1, "device": device}
    arrays = [F.log_softmax(x, 1, device=device), F.log_softmax_backward(x, x, 1, device=device)]
    arrays += [F.softmax(x, 1, device=device), F.softmax_backward(x, x, 1, device=device)]
    for reduction in ("mean", "sum", "none"):
        arrays += F.cross_entropy_value_and_grad(x, y, w, reduction=reduction, **options)
        arrays += [F.cross_entropy(x, y, w, reduction=reduction, device=device)]
        arrays += [F.nll_loss(x, y, w, reduction=reduction, device=device)]
        arrays += [F.nll_loss_backward(1.0, x, y, w, reduction=reduction, device=device)]
        arrays += [F.cross_entropy_backward(0.7, x, y, reduction=reduction, device=device)]
    return hashlib.sha256(b"".join(np.asarray(a).tobytes() for a in arrays)).hexdigest()


@pytest.fixture
def threads():
    """Restores the number of threads."""
    before = nbloss.get_num_threads()
    yield range(1, before + 1)
    nbloss.set_num_threads(before)


def test_the_number_of_threads_can_be_read_and_set(threads):
    for count in threads:
        nbloss.set_num_threads(count)
        assert nbloss.get_num_threads() == count
    for bad in (0, -1):
        with pytest.raises(ValueError, match=str(bad)):
            nbloss.set_num_threads(bad)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=name)
def test_every_number_of_threads_and_every_run_gives_the_same_bits(shape, dtype, threads, rng, device):
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = with_ignored(rng, class_index(rng, shape), -100)
    seen = set()
    for count in threads:
        nbloss.set_num_threads(count)
        seen |= {bits(x, y, w, device) for _ in range(2)}
    assert len(seen) == 1


def test_three_threads_give_the_bits_of_one():
    code = """
found = set()
for count in (1, 2, 3):
    nbloss.set_num_threads(count)
    assert nbloss.get_num_threads() == count
    found.add(tuple(f() for d in ("float32", "float64", "float16") for f in digest(d).values()))
    found.add(tuple(f() for d in ("float32", "float64", "float16") for f in digest(d).values()))
print(*[value for run in found for value in run])
"""
    three = run_python(code, NUMBA_NUM_THREADS="3")
    assert len(three) == 15
    one = run_python('print(*[f() for d in ("float32", "float64", "float16") for f in digest(d).values()])', NUMBA_NUM_THREADS="1")
    assert three == one


def test_the_order_of_compilation_does_not_matter():
    """Another dtype or function first, another process: the same bits."""
    code = """
order = sys.argv[1:] or ORDER.split(",")
found = {}
for key in order:
    dtype, part = key.split("/")
    found[key] = digest(dtype)[part]()
print(*[found[key] for key in sorted(found)])
"""
    keys = [f"{d}/{p}" for d in ("float32", "float64", "float16") for p in ("log_softmax", "softmax", "index", "soft", "nll")]
    orders = [keys, keys[::-1], keys[1::2] + keys[::2]]
    results = [run_python(f"ORDER = {','.join(order)!r}" + code) for order in orders]
    assert len(results[0]) == len(keys)
    assert results[0] == results[1] == results[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_forked_child_computes_the_same_bits():
    """Fork after the threads were started: the child must neither hang nor die."""
    code = """
import os, signal
def everything():
    return "".join(f() for f in digest("float32").values())
parent = everything()
read, write = os.pipe()
child = os.fork()
if child == 0:
    signal.alarm(60)
    os.write(write, everything().encode())
    os._exit(0)
os.close(write)
status = os.waitpid(child, 0)[1]
answer = b"".join(iter(lambda: os.read(read, 65536), b"")).decode()
assert status == 0, f"the child ended with {status}"
assert everything() == parent
print(answer == parent)
"""
    assert run_python(code) == ["True"]


def test_python_threads_may_call_at_the_same_time():
    code = """
from concurrent.futures import ThreadPoolExecutor
parts = digest("float32")
alone = [f() for f in parts.values()]
with ThreadPoolExecutor(4) as pool:
    together = [list(run) for run in pool.map(lambda _: [f() for f in parts.values()], range(8))]
print(all(t == alone for t in together))
"""
    assert run_python(code) == ["True"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(1009, 10), (301, 65), (101, 1000), (31, 129)], ids=name)
def test_rows_channels_first_and_every_layout_have_the_same_bits(shape, dtype, rng, device):
    """(N, C), (N, C, 1), (1, C, N) and every memory order are the same rows."""
    x, w = logits(rng, shape, dtype), weights(rng, class_count(shape), dtype)
    y = with_ignored(rng, class_index(rng, shape), -100)
    options = {"reduction": "none", "label_smoothing": 0.1, "device": device}
    loss, grad = F.cross_entropy_value_and_grad(x, y, w, **options)
    logp, p = F.log_softmax(x, device=device), F.softmax(x, device=device)
    for layout, lay in LAYOUTS.items():
        other = F.cross_entropy_value_and_grad(lay(x), y, w, **options)
        assert_array_equal(other[0], loss, err_msg=layout)
        assert_array_equal(other[1], grad, err_msg=layout)
        assert_array_equal(F.log_softmax(lay(x), device=device), logp, err_msg=layout)
        assert_array_equal(F.softmax(lay(x), device=device), p, err_msg=layout)
    for kind, view, targets in (("(N, C, 1)", x[:, :, None], y[:, None]), ("(1, C, N)", x.T[None], y[None]),
                                ("(1, C, N) in C order", x.T[None].copy(), y[None])):  # fmt: skip
        other = F.cross_entropy_value_and_grad(view, targets, w, **options)
        assert_array_equal(other[0].ravel(), loss, err_msg=kind)
        rows = other[1][:, :, 0] if kind == "(N, C, 1)" else other[1][0].T
        assert_array_equal(rows, grad, err_msg=kind)
        other = F.log_softmax(view, 1, device=device)
        assert_array_equal(other[:, :, 0] if kind == "(N, C, 1)" else other[0].T, logp, err_msg=kind)


@pytest.mark.parametrize("shape", [(4099, 33), (6, 9, 50, 60)], ids=name)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_reduced_loss_does_not_depend_on_how_the_rows_are_shaped(reduction, shape, rng, device):
    x, y = logits(rng, shape), class_index(rng, shape)
    rows = np.moveaxis(x, 1, -1).reshape(-1, shape[1])
    flat = F.cross_entropy(rows, y.reshape(-1), reduction=reduction, device=device)
    assert F.cross_entropy(x, y, reduction=reduction, device=device) == flat
    assert np.shape(F.cross_entropy(x, y, reduction="none", device=device)) == rows_shape(shape)


@pytest.mark.parametrize("rows", [8191, 8192, 8193, 16384, 20000])
def test_fused_kernels_take_no_more_rows_than_their_buffers_hold(rows):
    """With one or two classes a small array has many rows; their sums have more than one group, and each needs its place in a buffer."""
    y = np.zeros(rows, np.int64)
    for classes in (1, 2):
        x = np.zeros((rows, classes), np.float32)
        loss, grad = F.cross_entropy_value_and_grad(x, y)
        assert loss == F.cross_entropy(x, y) == F.cross_entropy(x, y, np.ones(classes))
        assert (grad == F.cross_entropy_backward(1.0, x, y)).all()
