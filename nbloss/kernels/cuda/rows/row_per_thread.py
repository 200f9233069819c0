"""Short contiguous rows: a thread works on each row, with the arithmetic of ``row_in_registers``.

The rows of a block are one range of memory. The block moves it through shared memory, so that neighbouring threads access neighbouring
addresses: with ``width`` > 1 in vectors of 16 bytes. A thread then reads its row from there, and writes its results in the same place.
What is done once per row is done by one thread, not by every lane of a group.
"""

import numpy as np
from numba import cuda
from numba.cuda import types

from nbloss.kernels.cuda.epilogue import options_reader
from nbloss.kernels.cuda.exp import EXP_OF_ROW
from nbloss.kernels.cuda.indexing import thread_position
from nbloss.kernels.cuda.prims.api import (
    barrier,
    device,
    get,
    get_in_block,
    integer,
    move,
    pointer,
    put_in_block,
    put_in_block_old,
    put_vector,
    put_vector_in_block,
    vector,
    vector_in_block,
)
from nbloss.kernels.cuda.row_in_registers import LOW_BITS, make_cross_entropy, make_log_softmax
from nbloss.kernels.cuda.sums import sum_by_last_block
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

ALIGNMENT = 16  # bytes of a vector

HALVES = "uint16", "int16"


@device
def _two_words(held, k):
    return held[k], held[k + 1]


@device
def _four_words(held, k):
    return held[k], held[k + 1], held[k + 2], held[k + 3]


@device
def _row_in_block():
    return np.int64(cuda.threadIdx.x)


class BlockOfRows:
    """How a block moves its rows between memory and ``numbers`` numbers of shared memory, which are of the stored ``type``.

    ``load(x, cells, count)`` and ``store(out, cells, count)``: the arrays have ``count`` rows. Only the last block may have fewer rows than
    threads. There each thread moves its own row, so that the other blocks compare nothing with the end of the array.
    """

    def __init__(self, stored, classes, width):
        self.type, self.numbers, self.kind = getattr(types, stored), BLOCK_THREADS * classes, "half" if stored in HALVES else stored
        load_all, store_all = self._numbers(classes) if width == 1 else self._vectors(stored, classes, width)

        @device
        def load(x, cells, count):
            row = np.int64(cuda.blockIdx.x) * BLOCK_THREADS
            if row + BLOCK_THREADS <= count:
                load_all(x, row * classes, cells)
            elif thread_position() < count:
                for c in range(classes):
                    move(x, thread_position() * classes + c, cells, _row_in_block() * classes + c)

        @device
        def store(out, cells, count):
            row = np.int64(cuda.blockIdx.x) * BLOCK_THREADS
            if row + BLOCK_THREADS <= count:
                store_all(out, row * classes, cells)
            elif thread_position() < count:
                for c in range(classes):
                    move(cells, _row_in_block() * classes + c, out, thread_position() * classes + c)

        self.load, self.store = load, store

    def _numbers(self, classes):
        @device
        def load_all(x, first, cells):
            for k in range(classes):
                i = k * BLOCK_THREADS + np.int64(cuda.threadIdx.x)
                move(x, first + i, cells, i)

        @device
        def store_all(out, first, cells):
            for k in range(classes):
                i = k * BLOCK_THREADS + np.int64(cuda.threadIdx.x)
                move(cells, i, out, first + i)

        return load_all, store_all

    def _vectors(self, stored, classes, width):
        numbers, vectors = self.numbers, -(-classes // width)  # vectors of a thread
        words, as_vector = (2, _two_words) if stored == "float64" else (4, _four_words)
        held_words, word_type = vectors * words, types.uint32 if stored in HALVES else self.type

        @device
        def load_all(x, first, cells):
            held = cuda.local.array(held_words, word_type)
            for v in range(vectors):  # all loads are in flight before the first vector is stored
                i = (v * BLOCK_THREADS + np.int64(cuda.threadIdx.x)) * width
                if (v + 1) * BLOCK_THREADS * width <= numbers or i < numbers:
                    read = vector(x, first + i)
                    for k in range(words):
                        held[v * words + k] = read[k]
            for v in range(vectors):
                i = (v * BLOCK_THREADS + np.int64(cuda.threadIdx.x)) * width
                if (v + 1) * BLOCK_THREADS * width <= numbers or i < numbers:
                    put_vector_in_block(cells, i, as_vector(held, v * words))

        @device
        def store_all(out, first, cells):
            for v in range(vectors):
                i = (v * BLOCK_THREADS + np.int64(cuda.threadIdx.x)) * width
                if (v + 1) * BLOCK_THREADS * width <= numbers or i < numbers:
                    put_vector(out, first + i, vector_in_block(cells, i))

        return load_all, store_all


def log_softmax(stored, classes, width, sm80, probabilities):
    """(x - m) - log s; with ``probabilities`` exp(x - m) / s."""
    block = BlockOfRows(stored, classes, width)
    write = put_in_block if sm80 else put_in_block_old
    position = make_log_softmax(classes, block.kind, sm80, probabilities, EXP_OF_ROW, get_in_block, write)
    stored_type, numbers, load, store = block.type, block.numbers, block.load, block.store

    def kernel(x, out, count):
        cells = pointer(cuda.shared.array(numbers, stored_type, ALIGNMENT))
        load(x, cells, count)
        barrier()
        if thread_position() < count:
            position(cells, cells, _row_in_block() * classes, 1)
        barrier()
        store(out, cells, count)

    return kernel


def cross_entropy(stored, classes, width, sm80, gradient, optioned, summed):
    """Losses of class numbers, and with ``gradient`` their gradient."""
    block = BlockOfRows(stored, classes, width)
    write = put_in_block if sm80 else put_in_block_old
    position = make_cross_entropy(classes, block.kind, sm80, gradient, EXP_OF_ROW, get_in_block, write, get, indexed=True)
    read_options = options_reader(optioned)
    stored_type, numbers, load, store = block.type, block.numbers, block.load, block.store

    def kernel(
        x, target, mask, scale, option, upstream, upstream_stride, loss, out, report, divides, blocks, total_loss, count,
    ):  # fmt: skip
        cells = pointer(cuda.shared.array(numbers, stored_type, ALIGNMENT))
        load(x, cells, count)
        barrier()
        p = thread_position()
        if p < count:
            y = np.int32(integer(target, p) & mask & LOW_BITS)  # any number where the row is ignored
            options = read_options(option)
            position(cells, _row_in_block() * classes, 1, y, get(scale, p), upstream, p * upstream_stride, options, loss, p, cells)
        if gradient:
            barrier()
            store(out, cells, count)
        if summed:
            sum_by_last_block(loss, count, report, divides, blocks, total_loss)

    return kernel
