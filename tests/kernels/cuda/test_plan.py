"""The plan for contiguous rows on a GPU: rules that hold for every shape, and the choices that the module describes. No CUDA is needed."""

import subprocess
import sys

import pytest

from nbloss.kernels.cuda import tuning
from nbloss.kernels.cuda.runtime import plan

CAPABILITIES = [(7, 5), (8, 0), (8, 6), (9, 0), (10, 0)]
COUNTS = [1, 7, 132, 4096, 65536, 2**31, 2**35]
CLASSES = [
    1,
    2,
    3,
    4,
    5,
    10,
    21,
    31,
    32,
    33,
    100,
    128,
    129,
    403,
    1000,
    1024,
    1025,
    4097,
    16384,
    32768,
    50257,
    128256,
    262144,
    300000,
    10**7,
]


def every_plan():
    """(stored type, rows, classes, aligned, capability, plan) of many problems."""
    for stored in plan.NUMBERS_PER_VECTOR:
        for capability in CAPABILITIES:
            for aligned in (True, False):
                for heavy in (False, True):
                    for classes in CLASSES:
                        for count in COUNTS:
                            yield (
                                stored,
                                count,
                                classes,
                                aligned,
                                capability,
                                plan.rows(stored, count, classes, aligned, capability, 132, heavy),
                            )


def test_every_row_has_its_threads_and_no_row_has_two_groups():
    for _, count, classes, *_, p in every_plan():
        lanes, threads, blocks = p.group
        rows_per_block = threads // lanes if lanes else 1 / blocks
        assert count <= p.grid * rows_per_block < count + max(rows_per_block, 1), (count, classes, p)


def test_resident_rows_fit_the_registers():
    for stored, _, classes, aligned, _, p in every_plan():
        lanes, threads, blocks = p.group
        bits = 64 if stored == "float64" else 32
        halves = 2 if p.width == 8 else 1
        assert p.vectors * p.width * bits / 32 / halves <= 32, p
        assert p.width in (1, plan.NUMBERS_PER_VECTOR[stored])
        assert aligned or p.width == 1
        if p.resident:
            assert (lanes or threads * blocks) * p.vectors * p.width >= classes, (classes, p)


def test_the_hardware_has_such_blocks_and_clusters():
    for *_, capability, p in every_plan():
        lanes, threads, blocks = p.group
        assert threads in (*tuning.BLOCK_SIZES_THREADS, tuning.BLOCK_MAX_THREADS)
        assert lanes in (0, 1, 2, 4, 8, 16, 32)
        assert blocks == 1 or (capability >= (9, 0) and blocks in (2, 4, 8) and lanes == 0)
        assert threads * p.min_blocks <= 1024  # the most that a multiprocessor of sm_75 can run
        assert p.grid % blocks == 0


def test_a_thread_holds_at_most_one_number_of_head_and_tail():
    """Head and tail are each shorter than a vector, and there are enough threads for both."""
    for *_, p in every_plan():
        lanes, threads, _ = p.group
        assert p.width == 1 or (lanes or threads) >= 2 * p.width


def test_grids_stay_within_the_driver_s_limit():
    for stored, count, classes, *_, p in every_plan():
        if count * classes * {"float64": 8, "float32": 4}.get(stored, 2) < 2**39:  # half a terabyte
            assert p.grid < 2**31, (count, classes, p)


@pytest.mark.parametrize(
    ("stored", "shape", "capability", "group", "vectors", "resident"),
    [
        ("float32", (65536, 10), (9, 0), (4, 128, 1), 3, True),
        ("float32", (32768, 1024), (9, 0), (32, 128, 1), 8, True),
        ("int16", (32768, 1024), (9, 0), (32, 128, 1), 4, True),
        ("float32", (8192, 8192), (8, 0), (0, 512, 1), 4, True),
        ("float32", (8192, 32768), (9, 0), (0, 512, 2), 8, True),
        ("float32", (8192, 32768), (8, 0), (0, 1024, 1), 8, True),
        ("float32", (4096, 128256), (9, 0), (0, 512, 8), 8, True),
        ("int16", (4096, 128256), (10, 0), (0, 512, 4), 8, True),
        ("float32", (4096, 128256), (8, 0), (0, 1024, 1), 4, False),
        ("float32", (4, 10_000_000), (9, 0), (0, 512, 8), 4, False),
    ],
)
def test_shapes_of_the_benchmark(stored, shape, capability, group, vectors, resident):
    p = plan.rows(stored, *shape, True, capability, 132)
    assert (p.group, p.vectors, p.resident) == (group, vectors, resident)


def test_which_rows_have_a_thread_each():
    assert plan.width_of_row_per_thread("float32", 10, True, True) == 4
    assert plan.width_of_row_per_thread("int16", 16, True, True) == 8
    assert plan.width_of_row_per_thread("float64", 10, True, False) == 1
    assert plan.width_of_row_per_thread("float32", 10, False, True) == 0
    assert plan.width_of_row_per_thread("float32", 17, True, True) == 0


def test_few_rows_get_more_threads():
    assert plan.rows("float32", 8, 1000, True, (9, 0), 132).group[0] == 0
    assert plan.rows("float32", 8192, 1000, True, (9, 0), 132).group[0] == 32


def test_planning_imports_no_cuda():
    code = "import sys, nbloss.kernels.cuda.runtime.plan; assert not {'numba', 'numba_cuda', 'cuda'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
