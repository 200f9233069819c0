"""softmax and its gradient, channels first: at most LANES_MAX_CLASSES classes, contiguous positions in input and output.

The arithmetic is that of ``row_per_lane``, to the last bit; memory is accessed as in ``log_softmax``.
"""

from nbloss.kernels.cpu.channels_first.log_softmax import normalized_channels, prefetch_output, read, write
from nbloss.kernels.cpu.row_per_lane.blocks import block_end, classes_to_prefetch, positions_to_line
from nbloss.kernels.cpu.row_per_lane.reduce import two_numbers
from nbloss.kernels.cpu.simd.load_store import lanes, load, load_x4, splat, store
from nbloss.kernels.cpu.simd.nontemporal import channels_bypass_caches
from nbloss.kernels.cpu.simd.pointers import elements_to_aligned, min_int, offset, pointer, position_pointer, prefetch_read, stride
from nbloss.kernels.cpu.simd.vec import fma, promote
from nbloss.kernels.cpu.simd.workspace import carve, free
from nbloss.kernels.cpu.tuning import LANES_MAX_CLASSES, PIPELINE_TILES


def softmax(x, out, lo, hi):
    """out = exp(x - m) / s."""
    normalized_channels(x, out, True, lo, hi)


def softmax_backward(g, y, out, lo, hi):
    """out = y (g - sum of g y). A block of both is loaded, a vector of positions at a time is summed, and the block is written."""
    n = min_int(y.shape[1], LANES_MAX_CLASSES)
    inner, class_stride, upstream_stride, out_stride = y.shape[2], stride(y, 1), stride(g, 1), stride(out, 1)
    base = pointer(y, 0)
    width = lanes(base)
    part = PIPELINE_TILES * width
    full = 2 * part
    block, upstream, highs, lows = carve(base, (n * full, n * full, full, full))
    like = splat(base, 0.0)
    before, large_output, ahead = positions_to_line(base, out), channels_bypass_caches(out, base), classes_to_prefetch(y, n)
    p = lo
    while p < hi:
        stop = block_end(inner, p, hi, full, before)
        count, above, row, result = stop - p, position_pointer(g, p), position_pointer(y, p), position_pointer(out, p)
        later = min_int(stop, hi - 1)
        later_above, later_row = position_pointer(g, later), position_pointer(y, later)
        for c in range(n):
            for k in range(0, count, part):
                out_line = offset(result, c * out_stride + k)
                prefetch_output(out_line, large_output and elements_to_aligned(out_line) == 0)
                store(block, c * full + k, read(offset(row, c * class_stride + k), count - k))
                store(upstream, c * full + k, read(offset(above, c * upstream_stride + k), count - k))
        for k in range(0, count, width):
            total = promote(like)
            for c in range(n):
                total = fma(promote(load(upstream, c * full + k)), promote(load(block, c * full + k)), total)
            high, low = two_numbers(total, like)
            store(highs, k, high)
            store(lows, k, low)
        for c in range(n):
            for k in range(0, count, part):
                if c < ahead:
                    for j in range(0, part, width):
                        prefetch_read(later_row, c * class_stride + k + j)
                        prefetch_read(later_above, c * upstream_stride + k + j)
                d = load_x4(block, c * full + k) * ((load_x4(upstream, c * full + k) - load_x4(highs, k)) - load_x4(lows, k))
                write(offset(result, c * out_stride + k), count - k, large_output, d)
        p = stop
    free(block)
