"""From shape, type and device to the threads that work on contiguous rows. It is pure Python and needs no CUDA.

- The kernels of log_softmax and of class numbers give each row of at most 16 adjacent classes a thread (``width_of_row_per_thread``).
- Other short rows share a warp. A thread holds up to 4 numbers: with 10 classes a warp has 8 rows, and threads access adjacent addresses.
- Longer rows take a warp each while 32 registers per thread hold the row. A warp needs no barrier.
- Then a row takes a block, in whose registers it stays. Where possible two blocks fit on a multiprocessor: one loads, the other reduces.
- From sm_90 on a row takes a cluster of up to 8 blocks: up to 131072 float32 classes in registers.
- A longer row is read again from the caches, chunk by chunk. A cluster reads it where the device has clusters, so that fewer rows are in
  flight and share the cache.
"""

from functools import lru_cache
from typing import NamedTuple

from nbloss.kernels.cuda.tuning import (
    BLOCK_MAX_THREADS,
    BLOCK_MIN_VECTORS_PER_THREAD,
    BLOCK_SIZES_THREADS,
    CLUSTER_SIZES_BLOCKS,
    HELD_VECTORS_PER_THREAD,
    HELD_VECTORS_STEP,
    ROW_GROUP_BLOCK_THREADS,
    ROW_GROUP_MAX_CLASSES,
    ROW_GROUP_NUMBERS_PER_THREAD,
    ROW_PER_THREAD_MAX_CLASSES,
    THREADS_WITH_128_REGISTERS,
    WARP_PER_ROW_MIN_ROWS_PER_MULTIPROCESSOR,
    WARP_THREADS,
)

NUMBERS_PER_VECTOR = {"float32": 4, "float64": 2, "uint16": 8, "int16": 8}  # numbers in 16 bytes, by stored type


class Plan(NamedTuple):
    """Which threads work on a row.

    ==========  ============================================================================================
    field       meaning
    ==========  ============================================================================================
    width       numbers that one access moves: a whole vector, or 1
    group       (lanes, threads, blocks) that share a row: lanes of a warp or 0, threads of a block, blocks of a cluster
    vectors     vectors of ``width`` numbers that a thread holds at a time
    resident    whether the group holds the whole row, so that memory is read once
    grid        blocks of the launch
    min_blocks  blocks that must fit on a multiprocessor: the compiler limits the registers of a thread accordingly
    ==========  ============================================================================================
    """

    width: int
    group: tuple[int, int, int]
    vectors: int
    resident: bool
    grid: int
    min_blocks: int = 1

    @property
    def threads(self):
        return self.group[1]

    @property
    def cluster(self):
        return self.group[2]


def _divided_up(a, b):
    return -(-a // b)


def _power_of_two(n):
    """The smallest power of two that is at least n."""
    return 1 << max(0, n - 1).bit_length()


def _rounded_vectors(vectors):
    """A kernel is compiled for each number of vectors: large ones are rounded up, so that there are few."""
    return vectors if vectors <= HELD_VECTORS_STEP else _divided_up(vectors, HELD_VECTORS_STEP) * HELD_VECTORS_STEP


@lru_cache(maxsize=4096)
def rows(stored, count, classes, aligned, capability, multiprocessors, heavy=False):
    """The plan for ``count`` rows of contiguous classes.

    ``aligned``: row r of every array has the same offset from a multiple of 16 bytes, for every r. ``heavy``: the kernel needs registers
    for more than the row.
    """
    heavy |= capability < (8, 0)  # there a maximum that keeps nan takes several instructions and registers
    plan = _rows(stored, count, classes, aligned, capability >= (9, 0), multiprocessors, heavy)
    threads_per_multiprocessor = THREADS_WITH_128_REGISTERS if heavy or plan.group[0] else BLOCK_MAX_THREADS
    return plan._replace(min_blocks=max(1, threads_per_multiprocessor // plan.threads))


def width_of_row_per_thread(stored, classes, adjacent, aligned):
    """0 unless a thread works on each row; then how many numbers one access moves: a whole vector, or 1.

    ``adjacent``: no array has a gap between its rows. ``aligned``: the address of every array is a multiple of 16 bytes.
    """
    if classes > ROW_PER_THREAD_MAX_CLASSES or not adjacent:
        return 0
    return NUMBERS_PER_VECTOR[stored] if aligned else 1


def _rows(stored, count, classes, aligned, clusters, multiprocessors, heavy):
    row_threads = ROW_GROUP_BLOCK_THREADS
    if classes <= ROW_GROUP_MAX_CLASSES:
        lanes = min(WARP_THREADS, _power_of_two(_divided_up(classes, ROW_GROUP_NUMBERS_PER_THREAD)))
        vectors = max(1, _divided_up(classes, lanes))
        return Plan(1, (lanes, row_threads, 1), vectors, True, _divided_up(count, row_threads // lanes))
    width = NUMBERS_PER_VECTOR[stored] if aligned else 1
    numbers_per_32_registers = HELD_VECTORS_PER_THREAD * min(NUMBERS_PER_VECTOR[stored], 4)
    held = (HELD_VECTORS_PER_THREAD if width > 1 else numbers_per_32_registers) // (1 + heavy)
    if classes <= WARP_THREADS * held * width and count >= WARP_PER_ROW_MIN_ROWS_PER_MULTIPROCESSOR * multiprocessors:
        vectors = _rounded_vectors(_divided_up(classes, WARP_THREADS * width))
        return Plan(width, (WARP_THREADS, row_threads, 1), vectors, True, _divided_up(count, row_threads // WARP_THREADS))
    largest = BLOCK_SIZES_THREADS[-1] if heavy else BLOCK_MAX_THREADS
    for threads, blocks, vectors in _block_sizes(held, clusters, largest):
        if classes <= threads * blocks * vectors * width:
            needed = _rounded_vectors(_divided_up(classes, threads * blocks * width))
            return Plan(width, (0, threads, blocks), needed, True, count * blocks)
    threads, blocks = (BLOCK_SIZES_THREADS[-1], CLUSTER_SIZES_BLOCKS[-1]) if clusters else (largest, 1)
    return Plan(width, (0, threads, blocks), held // 2, False, count * blocks)


def _block_sizes(held, clusters, largest):
    """Block sizes to try in order, smallest first: (threads, blocks of a cluster, most vectors per thread)."""
    *_, pair = BLOCK_SIZES_THREADS
    yield from ((threads, 1, max(held // 2, BLOCK_MIN_VECTORS_PER_THREAD)) for threads in BLOCK_SIZES_THREADS)
    yield pair, 1, held
    if clusters:
        yield from ((pair, blocks, held) for blocks in CLUSTER_SIZES_BLOCKS)
    yield largest, CLUSTER_SIZES_BLOCKS[-1] if clusters else 1, held
