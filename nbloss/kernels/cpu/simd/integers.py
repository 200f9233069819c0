"""TODO"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.compile.pipeline import NO_INLINE
from nbloss.kernels.cpu.simd.load_store import storage_type
from nbloss.kernels.cpu.simd.pointers import _integer_pointer, element_address
from nbloss.kernels.cpu.simd.vec import broadcast_lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_WIDTHS = 1, 2, 4, 8  # bytes


def _by_width(builder, width, result, emit):
    """``emit(bytes)`` for the width that a pointer has when the kernel runs."""
    done, cases = builder.append_basic_block("widened"), []
    blocks = [builder.append_basic_block(f"width{n}") for n in _WIDTHS]
    switch = builder.switch(width, blocks[-1])
    for n, block in zip(_WIDTHS, blocks, strict=True):
        if n < 8:
            switch.add_case(_I64(n), block)
        builder.position_at_end(block)
        cases.append((emit(n), builder.block))
        builder.branch(done)
    builder.position_at_end(done)
    phi = builder.phi(result)
    for value, block in cases:
        phi.add_incoming(value, block)
    return phi


def _loaded_integers(builder, place, bytes_, count):
    """So many integers of so many bytes; one is no vector."""
    kind = ir.IntType(8 * bytes_) if count is None else ir.VectorType(ir.IntType(8 * bytes_), count)
    return builder.load(builder.bitcast(place, kind.as_pointer()), align=1)


def _sized(builder, value, kind):
    """Signed integers in more bits or fewer."""
    given, wanted = (getattr(t, "element", t).width for t in (value.type, kind))
    return value if given == wanted else (builder.sext if given < wanted else builder.trunc)(value, kind)


@intrinsic
def load_integers(typingctx, base, mask, like):
    """As many integers as ``like`` has lanes, & mask, in 32 bits, as numbers of its kind."""

    def codegen(context, builder, sig, args):
        narrow = ir.VectorType(_I32, like.lanes)
        place, width = (builder.extract_value(args[0], k) for k in (0, 1))
        given = _by_width(builder, width, narrow, lambda n: _sized(builder, _loaded_integers(builder, place, n, like.lanes), narrow))
        masked = builder.and_(given, broadcast_lanes(builder, builder.trunc(args[1], _I32), like.lanes))
        return builder.sitofp(masked, ir.VectorType(storage_type(like.elem), like.lanes))

    return like(_integer_pointer, types.int64, like), codegen


@intrinsic(prefer_literal=True)
def all_below(typingctx, base, count, bound):
    """Whether so many integers of 64 bits (a constant, whole eights) are all in [0, bound)."""

    def codegen(context, builder, sig, args):
        most = None
        for k in range(0, count.literal_value, 8):
            place = builder.bitcast(element_address(builder, args[0], _I64(k)), ir.VectorType(_I64, 8).as_pointer())
            given = builder.load(place, align=1)
            most = given if most is None else builder.select(builder.icmp_unsigned(">", given, most), given, most)
        outside = builder.icmp_unsigned(">=", most, broadcast_lanes(builder, args[2], 8))
        return builder.icmp_unsigned("==", builder.bitcast(outside, ir.IntType(8)), ir.IntType(8)(0))

    return types.boolean(types.CPointer(types.int64), count, types.int64), codegen


@intrinsic
def _widen_to_int64(typingctx, base, mask, count, buffer):
    def codegen(context, builder, sig, args):
        given, mask, count, buffer = args
        place, width = (builder.extract_value(given, k) for k in (0, 1))

        def widen_all(bytes_):
            if bytes_ == 8:
                return builder.bitcast(place, _I64.as_pointer())
            with cgutils.for_range(builder, count) as loop:
                number = _loaded_integers(builder, element_address(builder, place, builder.mul(loop.index, _I64(bytes_))), bytes_, None)
                builder.store(builder.and_(_sized(builder, number, _I64), mask), element_address(builder, buffer, loop.index))
            return buffer

        return _by_width(builder, width, _I64.as_pointer(), widen_all)

    return types.CPointer(types.int64)(_integer_pointer, types.int64, types.intp, buffer), codegen


@njit(**NO_INLINE)  # called, not inlined: its loops are longer than those that use what it gives
def widen_to_int64(base, mask, count, buffer):
    """A pointer to so many integers, & mask, in 64 bits: they themselves where they are so wide (``mask`` is -1), else a buffer with them.

    So loops over targets look at their width once, not at every target: that took 1.1 to 1.3 times as long.
    """
    return _widen_to_int64(base, mask, count, buffer)


@intrinsic
def get_integer(typingctx, base, offset):
    """One integer, in 64 bits."""

    def codegen(context, builder, sig, args):
        place, width = element_address(builder, *args), builder.extract_value(args[0], 1)
        return _by_width(builder, width, _I64, lambda n: _sized(builder, _loaded_integers(builder, place, n, None), _I64))

    return types.int64(_integer_pointer, types.intp), codegen
