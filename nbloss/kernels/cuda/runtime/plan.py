"""Shape, type and device -> which kernel walks the rows, and with how many threads. Pure Python: no CUDA is needed to ask.

- Short rows share a warp: up to 4 numbers a thread, so that (65536, 10) has 8 rows per warp and neighbours in memory are neighbours in it.
- A warp per row while 32 registers a thread hold it; it needs no barrier.
- A block per row, the row in its registers: two blocks on a multiprocessor where they fit, so that one loads while the other reduces.
- From sm_90 on a cluster of up to 8 blocks: 128k float32 classes in registers.
- Whatever is longer is read again from the caches, chunk by chunk; by a cluster where there are any, so that fewer rows are under way.
"""

from functools import lru_cache
from typing import NamedTuple

WIDTH = {"float32": 4, "float64": 2, "uint16": 8, "int16": 8}  # numbers in 16 bytes, by stored type

WARP = 32

SHORT = 128  # classes: up to here single numbers, 4 to a thread

HELD = 8  # vectors a thread holds: 32 registers

MOST = 1024  # threads of a block

LONE = 512  # threads of a block of which two fit

SPARE = 512  # threads of a multiprocessor that have 128 registers each: for heavy kernels, and warps that need no others beside them


class Plan(NamedTuple):
    """How rows are walked: ``group`` is (lanes of a warp or 0, threads of a block, blocks of a cluster) that share a row.

    ``at_once`` blocks must find registers on a multiprocessor.
    """

    width: int
    group: tuple[int, int, int]
    vectors: int
    resident: bool
    grid: int
    at_once: int = 1

    @property
    def threads(self):
        return self.group[1]

    @property
    def cluster(self):
        return self.group[2]


def _up(a, b):
    return -(-a // b)


def _power(n):
    """The least power of two that is not below n."""
    return 1 << max(0, n - 1).bit_length()


def _few(vectors):
    """Not a kernel for every length: beyond 8 vectors multiples of 8."""
    return vectors if vectors <= 8 else _up(vectors, 8) * 8


@lru_cache(maxsize=4096)
def rows(stored, count, classes, aligned, capability, multiprocessors, heavy=False):
    """The plan for ``count`` rows of contiguous classes.

    ``aligned``: every array's rows begin alike behind a multiple of 16 bytes; ``heavy``: the kernel needs registers for more than the row.
    """
    heavy |= capability < (8, 0) or WIDTH[stored] == 8  # half numbers are unpacked; before sm_80 a maximum that keeps nan takes several
    plan = _rows(stored, count, classes, aligned, capability >= (9, 0), multiprocessors, heavy)
    return plan._replace(at_once=max(1, (SPARE if heavy or plan.group[0] else MOST) // plan.threads))


def _rows(stored, count, classes, aligned, clusters, multiprocessors, heavy):
    most = LONE if heavy else MOST
    if classes <= SHORT:
        lanes = min(WARP, _power(_up(classes, 4)))
        return Plan(1, (lanes, 128, 1), max(1, _up(classes, lanes)), True, _up(count, 128 // lanes))
    width = WIDTH[stored] if aligned else 1
    held = (HELD if width > 1 else HELD * min(WIDTH[stored], 4)) // (1 + heavy)
    if classes <= WARP * held * width and count >= 4 * multiprocessors:
        return Plan(width, (WARP, 128, 1), _few(_up(classes, WARP * width)), True, _up(count, 128 // WARP))
    for threads, blocks, vectors in _blocks(held, clusters, most):
        if classes <= threads * blocks * vectors * width:
            needed = _few(_up(classes, threads * blocks * width))
            return Plan(width, (0, threads, blocks), needed, True, count * blocks)
    blocks = 8 if clusters else 1
    return Plan(width, (0, LONE if clusters else most, blocks), held // 2, False, count * blocks)


def _blocks(held, clusters, most):
    """Sizes of blocks, smallest first: (threads, blocks, most vectors a thread)."""
    yield from ((threads, 1, max(held // 2, 4)) for threads in (128, 256, LONE))
    yield LONE, 1, held
    if clusters:
        yield from ((LONE, blocks, held) for blocks in (2, 4, 8))
    yield most, 8 if clusters else 1, held
