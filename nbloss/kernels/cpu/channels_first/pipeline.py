"""What comes from memory and goes there while exponentials are computed.

Pixels are worked on in slabs of four tiles: four lines of every class. While one slab's exponentials are computed, the next one comes in
and the gradient of the one before goes out, a class at a time, between four exponentials and the next four: memory and arithmetic then
take their time together. Runs of four lines, as classes a power of two apart share their places in every cache and their banks in memory.
"""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_n, store, store_n, store_nontemporal
from nbloss.kernels.cpu.simd.pointers import offset, prefetch_read
from nbloss.kernels.cpu.simd.vec import equal, select
from nbloss.kernels.cpu.tuning import PIPELINE_PREFETCH_CLASSES, PIPELINE_TILES


@njit(**INLINE)
def load_class(n, c, inward):
    """Bring class c of a slab of ``count`` pixels, whose first one's class 0 is at ``line``; ask for a later one."""
    line, class_stride, count, block = inward
    width = lanes(block)
    here = offset(line, c * class_stride)
    for k in range(PIPELINE_TILES):
        if (k + 1) * width <= count:
            store(block, (k * n + c) * width, load(here, k * width))
        elif k * width < count:
            store(block, (k * n + c) * width, load_n(here, k * width, count - k * width, 0.0))
    later = (
        offset(line, (c + PIPELINE_PREFETCH_CLASSES) * class_stride)
        if c + PIPELINE_PREFETCH_CLASSES < n
        else offset(line, (c + PIPELINE_PREFETCH_CLASSES - n) * class_stride + PIPELINE_TILES * width)
    )
    for k in range(PIPELINE_TILES):
        prefetch_read(later, k * width)


@njit(**INLINE)
def store_class(n, c, outward):
    """Write class c of a slab's gradient, of exponentials and ``terms`` (factor, y's gradient and y of each tile); ``past`` the caches."""
    line, class_stride, count, block, terms, past = outward
    width = lanes(block)
    here = offset(line, c * class_stride)
    for k in range(PIPELINE_TILES):
        at = offset(terms, 3 * k * width)
        d = select(equal(load(at, 2 * width), c), load(at, width), load(block, (k * n + c) * width) * load(at, 0))
        if (k + 1) * width > count:
            store_n(here, k * width, count - k * width, d)
        elif past:
            store_nontemporal(here, k * width, d)
        else:
            store(here, k * width, d)


@njit(**INLINE)
def transfer_class(transfers, c):
    """Move class c, if there is one, of the slabs that are to come in and go out."""
    n, inward, outward = transfers
    if c < n:
        load_class(n, c, inward)
        store_class(n, c, outward)
