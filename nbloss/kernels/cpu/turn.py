"""Floor 1: a square of numbers transposed in registers, on its way from rows in memory to a tile, or back.

Rows shorter than a vector overlap: a whole vector read or written at a row's start reaches into the rows after it. Reading that is
harmless, and so is writing, if the rows are written in order; only the last rows, whose vectors would leave the square, need masks
(which are slow on some processors). ``whole_rows`` counts the others.

Rows of 2, 3 or 4 numbers that follow each other fill as many whole vectors, which are dealt to the classes directly.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.halves import COMPUTE
from nbloss.kernels.cpu.memory import load_at, smaller, store_at
from nbloss.kernels.cpu.simd import LANES, Vec
from nbloss.kernels.cpu.vecmath import STRICT

_I32, _I64 = ir.IntType(32), ir.IntType(64)


def _transposed(builder, rows):
    """The columns of a square of vectors: log2(lanes) rounds, each swapping blocks of half the size of the one before."""
    count = len(rows)
    half = count // 2
    while half:
        low = [lane if not lane & half else count + (lane ^ half) for lane in range(count)]
        high = [lane | half if not lane & half else count + lane for lane in range(count)]
        turned = list(rows)
        for i in range(count):
            if not i & half:
                a, b = rows[i], rows[i | half]
                turned[i], turned[i | half] = (
                    builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_I32, count), order)) for order in (low, high)
                )
        rows, half = turned, half // 2
    return rows


@njit(**STRICT)
def whole_rows(rows, apart, count, step):
    """How many of ``rows`` rows of ``count`` numbers have a whole vector before the last one's end."""
    if apart <= 0:
        return 0
    room = (rows - 1) * apart + count - step
    return smaller(rows, room // apart + 1) if room >= 0 else 0


@intrinsic
def turn_in(typingctx, source, apart, rows, whole, count, tile):
    """Fill ``tile`` with the columns of ``rows`` rows of ``count`` numbers; lanes beyond the last row repeat it."""
    vec = Vec(COMPUTE[source.dtype], LANES[COMPUTE[source.dtype]])

    def codegen(context, builder, sig, args):
        base, apart, rows, whole, count, tile = args
        last = builder.sub(rows, _I64(1))
        vectors = []
        for row in range(vec.lanes):
            at = _I64(row)
            at = builder.select(builder.icmp_signed("<", at, last), at, last)
            place = builder.gep(base, [builder.mul(at, apart)])
            slot = cgutils.alloca_once(builder, context.get_value_type(vec))
            with builder.if_else(builder.icmp_signed("<", at, whole)) as (straight, masked):
                with straight:
                    builder.store(load_at(builder, place, source.dtype), slot)
                with masked:
                    builder.store(load_at(builder, place, source.dtype, count), slot)
            vectors.append(builder.load(slot))
        for c, vector in enumerate(_transposed(builder, vectors)):
            store_at(builder, vector, builder.gep(tile, [_I64(c * vec.lanes)]), vec.elem)
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, types.intp, types.intp, tile), codegen


@intrinsic
def turn_out(typingctx, tile, target, apart, rows, whole, count):
    """Write the columns of ``tile`` to ``rows`` rows of ``count`` numbers."""
    dtype = target.dtype
    vec = Vec(COMPUTE[dtype], LANES[COMPUTE[dtype]])

    def codegen(context, builder, sig, args):
        tile, base, apart, rows, whole, count = args
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * vec.lanes)]), vec.elem) for c in range(vec.lanes)]
        for row, vector in enumerate(_transposed(builder, vectors)):
            place = builder.gep(base, [builder.mul(_I64(row), apart)])
            with builder.if_else(builder.icmp_signed("<", _I64(row), whole)) as (straight, masked):
                with straight:
                    store_at(builder, vector, place, dtype)
                with masked, builder.if_then(builder.icmp_signed("<", _I64(row), rows)):
                    store_at(builder, vector, place, dtype, count)
        return context.get_dummy_value()

    return types.void(tile, target, types.intp, types.intp, types.intp, types.intp), codegen


def _chosen(builder, vectors, wanted):
    """A vector whose lanes are ``wanted``: pairs of (which vector, which of its lanes)."""
    count, result = len(wanted), vectors[0]
    for k, vector in enumerate(vectors[1:], 1):
        order = [count + lane if which == k else (lane if k == 1 and which == 0 else i) for i, (which, lane) in enumerate(wanted)]
        result = builder.shuffle_vector(result, vector, ir.Constant(ir.VectorType(_I32, count), order))
    return result


@intrinsic(prefer_literal=True)
def deal_in(typingctx, source, n, tile):
    """Fill ``tile`` with n classes of as many rows as it has lanes, which follow each other at ``source``; n is a constant."""
    lanes, classes, dtype = LANES[COMPUTE[source.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        base, _, tile = args
        vectors = [load_at(builder, builder.gep(base, [_I64(k * lanes)]), source.dtype) for k in range(classes)]
        for c in range(classes):
            wanted = [divmod(row * classes + c, lanes) for row in range(lanes)]
            store_at(builder, _chosen(builder, vectors, wanted), builder.gep(tile, [_I64(c * lanes)]), dtype)
        return context.get_dummy_value()

    return types.void(source, n, tile), codegen


@intrinsic(prefer_literal=True)
def deal_out(typingctx, tile, target, n):
    """The inverse of ``deal_in``."""
    lanes, classes, dtype = LANES[COMPUTE[target.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        tile, base, _ = args
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * lanes)]), dtype) for c in range(classes)]
        for k in range(classes):
            wanted = [divmod(k * lanes + i, classes)[::-1] for i in range(lanes)]
            store_at(builder, _chosen(builder, vectors, wanted), builder.gep(base, [_I64(k * lanes)]), target.dtype)
        return context.get_dummy_value()

    return types.void(tile, target, n), codegen
