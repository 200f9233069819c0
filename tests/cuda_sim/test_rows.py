"""Rows of contiguous classes, walked in every way that a plan can choose, with groups small enough for the simulator."""

import numpy as np
import pytest
import reference
from problems import DTYPES, eps, tiny, work

from nbloss.kernels.cuda import memory as device_memory
from nbloss.kernels.cuda import plan, rows
from nbloss.kernels.cuda.twin import Twin

STORED = {"float16": np.uint16, "bfloat16": np.int16}
ROWS = 3

# (lanes, threads, blocks), vectors, resident, classes that such a group walks
WAYS = {
    "thread": ((1, 32, 1), 4, True, [1, 3, 4]),
    "lanes": ((4, 32, 1), 3, True, [9, 10, 12]),
    "warp": ((32, 64, 1), 2, True, [17, 63, 64]),
    "wide-warp": ((32, 32, 1), 1, True, [64, 61]),
    "block": ((0, 64, 1), 2, True, [100, 125, 128]),
    "cluster": ((0, 32, 2), 1, True, [61, 64]),
    "long": ((0, 32, 1), 2, False, [200, 333]),
    "long-cluster": ((0, 32, 2), 1, False, [333]),
}
CASES = [(way, classes) for way, (*_, counts) in WAYS.items() for classes in counts]


@pytest.fixture(params=CASES, ids=lambda case: f"{case[0]}-{case[1]}")
def way(request, monkeypatch):
    name, classes = request.param
    group, vectors, resident, _ = WAYS[name]
    single = name in ("thread", "lanes", "warp")

    def chosen(stored, count, classes, aligned, capability, multiprocessors):
        width = plan.WIDTH[stored] if aligned and not single else 1
        per_vector = vectors if width > 1 or single else vectors * plan.WIDTH[stored]
        blocks = -(-count // (group[1] // group[0])) if group[0] else count * group[2]
        return plan.Plan(width, group, per_vector, resident, blocks)

    monkeypatch.setattr(plan, "rows", chosen)
    return classes


@pytest.fixture(params=[(7, 5), (9, 0)], ids=["sm75", "sm90"])
def device(request):
    twin = Twin(0, None)
    twin.modern = request.param >= (8, 0)
    return twin


def stored(values):
    return values.view(STORED.get(values.dtype.name, values.dtype))


def memory(shape, dtype, behind=0, gap=0):
    """An array whose rows begin ``behind`` numbers after a multiple of 16 bytes, ``gap`` numbers apart from each other."""
    count = shape[0] * (shape[1] + gap)
    raw = np.empty(count * np.dtype(dtype).itemsize + 64, np.uint8)
    start = -raw.ctypes.data % 16 + behind * np.dtype(dtype).itemsize
    flat = raw[start : start + count * np.dtype(dtype).itemsize].view(dtype)
    return flat.reshape(shape[0], shape[1] + gap)[:, : shape[1]]


def filled(values, **where):
    array = memory(values.shape, values.dtype, **where)
    array[...] = values
    return array


def view(array):
    geometry = stored(array)[:, :, None]
    return device_memory.DeviceArray(geometry, geometry.ctypes.data, 0, array)


def close(got, want, dtype, scale=1.0):
    """Within a few units of what is larger, the result or the terms that it is the difference of."""
    got, want = got.astype(np.longdouble), np.asarray(want, np.longdouble)
    bound = 4 * max(eps(dtype), 0) * np.maximum(np.abs(want), scale) + 2 * tiny(work(dtype))
    both = np.isnan(got) & np.isnan(want)
    return bool(np.all(both | (got == want) | (np.abs(got - want) <= bound)))


@pytest.mark.parametrize("dtype", DTYPES)
def test_log_softmax(device, way, dtype):
    rng = np.random.default_rng(way)
    x = filled((4 * rng.standard_normal((ROWS, way))).astype(dtype), behind=1, gap=0)
    out = filled(np.zeros_like(x), behind=1)
    rows.log_softmax(device, view(x), view(out))
    assert close(out, reference.log_softmax(x), dtype, 0)
