"""A double-buffered software pipeline: load the next block, compute this one, store the last one.

A block is PIPELINE_TILES tiles: four vectors of each class, or four cache lines in float32. The three buffers rotate. The stages are
interleaved, so that memory accesses and arithmetic overlap: before the exponentials of four vectors (four classes of a tile) are computed,
one class of the next block is loaded, and one class of the last block's gradient is computed and stored. Accesses go to four consecutive
lines of a class: classes whose stride is a power of two share cache sets and memory banks, so accesses to single lines are slow.

The stages take tuples:

=========  =============================================================================================================
source     (pointer to class 0 of the first position, stride of the classes, number of positions, block to fill)
output     (pointer to class 0 of the first position, stride of the classes, number of positions, block of exponentials,
           ``terms``, whether stores are nontemporal, ``spread``, class weights); ``terms`` has TERMS vectors for each tile:
           factor, gradient at the target, class number of the target, and with label smoothing (``spread``) the floor
transfers  (number of classes, source, output)
=========  =============================================================================================================
"""

from numba import njit

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import get, lanes, load, load_n, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.pointers import offset, prefetch_read
from nbloss.kernels.cpu.simd.vec import equal, fma, select
from nbloss.kernels.cpu.tuning import PIPELINE_PREFETCH_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def load_class(n, c, source):
    """Load class c of the next block, and prefetch the class that is loaded PIPELINE_PREFETCH_CLASSES later."""
    line, class_stride, count, block = source
    width = lanes(block)
    positions = offset(line, c * class_stride)
    for k in range(PIPELINE_TILES):
        if (k + 1) * width <= count:
            store(block, (k * n + c) * width, load(positions, k * width))
        elif k * width < count:
            store(block, (k * n + c) * width, load_n(positions, k * width, count - k * width, 0.0))
    ahead = (
        offset(line, (c + PIPELINE_PREFETCH_CLASSES) * class_stride)
        if c + PIPELINE_PREFETCH_CLASSES < n
        else offset(line, (c + PIPELINE_PREFETCH_CLASSES - n) * class_stride + PIPELINE_TILES * width)
    )
    for k in range(PIPELINE_TILES):
        prefetch_read(ahead, k * width)


TERMS = 4


@njit(**INLINE)
def less_floor(value, floor, w, c):
    """The gradient of a class, less what smoothing gives it: floor * w[c]. None: no smoothing; weights of 1."""
    if floor is None:
        return value
    if w is None:
        return value - floor
    return fma(floor, -get(w, c), value)


@none_of_none
def _floor_of(spread, term):
    return load(term, 3 * lanes(term))


@njit(**INLINE)
def _gradient(e, term, c, spread, w):
    width = lanes(term)
    d = less_floor(e * load(term, 0), _floor_of(spread, term), w, c)
    return select(equal(load(term, 2 * width), c), load(term, width), d)


@njit(**INLINE)
def store_class(n, c, output):
    """Store the gradient of class c of the last block."""
    line, class_stride, count, block, terms, nontemporal, spread, w = output
    width = lanes(block)
    positions = offset(line, c * class_stride)
    for k in range(PIPELINE_TILES):
        gradient = _gradient(load(block, (k * n + c) * width), offset(terms, TERMS * k * width), c, spread, w)
        if (k + 1) * width > count:
            store_n(positions, k * width, count - k * width, gradient)
        elif nontemporal:
            store_nontemporal(positions, k * width, gradient)
        else:
            store(positions, k * width, gradient)


@njit(**INLINE)
def transfer_class(transfers, c):
    """Load class c of the next block and store class c of the last one, if there is a class c."""
    n, source, output = transfers
    if c < n:
        load_class(n, c, source)
        store_class(n, c, output)
