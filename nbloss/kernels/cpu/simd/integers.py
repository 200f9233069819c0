"""Loads of class numbers through integer pointers, whose item size is known only when the kernel runs (``arguments.Integers``).

All functions apply the bit mask that undoes the sign extension of unsigned integers, or leave it to the caller (``get_integer``).
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.compile.pipeline import NO_INLINE
from nbloss.kernels.cpu.simd.arguments import integer_pointer
from nbloss.kernels.cpu.simd.load_store import storage_type
from nbloss.kernels.cpu.simd.pointers import element_address
from nbloss.kernels.cpu.simd.vec import broadcast_lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_ITEM_SIZES = 1, 2, 4, 8


def _switch_on_itemsize(builder, itemsize, result, emit):
    """Branch on the item size at run time; ``emit(size)`` generates the code of each size."""
    done, cases = builder.append_basic_block("loaded"), []
    blocks = [builder.append_basic_block(f"itemsize{n}") for n in _ITEM_SIZES]
    switch = builder.switch(itemsize, blocks[-1])
    for n, block in zip(_ITEM_SIZES, blocks, strict=True):
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


def _load_integers(builder, address, bytes_, count):
    """Load a vector of ``count`` integers of ``bytes_`` bytes; a scalar if ``count`` is None."""
    kind = ir.IntType(8 * bytes_) if count is None else ir.VectorType(ir.IntType(8 * bytes_), count)
    return builder.load(builder.bitcast(address, kind.as_pointer()), align=1)


def _resize(builder, value, kind):
    """Sign-extend or truncate integers to ``kind``, a scalar or vector type."""
    from_bits, to_bits = (getattr(t, "element", t).width for t in (value.type, kind))
    return value if from_bits == to_bits else (builder.sext if from_bits < to_bits else builder.trunc)(value, kind)


@intrinsic
def load_integers(typingctx, base, mask, like):
    """Load as many integers as ``like`` has lanes and convert ``integer & mask`` (in 32 bits) to the type of ``like``."""

    def codegen(context, builder, sig, args):
        narrow = ir.VectorType(_I32, like.lanes)
        address, itemsize = (builder.extract_value(args[0], k) for k in (0, 1))
        integers = _switch_on_itemsize(
            builder, itemsize, narrow, lambda n: _resize(builder, _load_integers(builder, address, n, like.lanes), narrow)
        )
        masked = builder.and_(integers, broadcast_lanes(builder, builder.trunc(args[1], _I32), like.lanes))
        return builder.sitofp(masked, ir.VectorType(storage_type(like.elem), like.lanes))

    return like(integer_pointer, types.int64, like), codegen


@intrinsic
def zero_unless(typingctx, flag, number):
    """An int64 or float64 number where ``flag`` is true, else 0: by its bits, as LLVM makes a branch of a choice between a load and 0."""

    def codegen(context, builder, sig, args):
        mask, kind = builder.sext(args[0], _I64), args[1].type
        return builder.bitcast(builder.and_(builder.bitcast(args[1], _I64), mask), kind)

    return number(types.boolean, number), codegen


@intrinsic(prefer_literal=True)
def all_below(typingctx, base, count, bound):
    """Whether ``count`` int64 numbers are all in [0, bound); ``count`` is a constant and a multiple of 8."""

    def codegen(context, builder, sig, args):
        largest = None
        for k in range(0, count.literal_value, 8):
            address = builder.bitcast(element_address(builder, args[0], _I64(k)), ir.VectorType(_I64, 8).as_pointer())
            integers = builder.load(address, align=1)
            largest = integers if largest is None else builder.select(builder.icmp_unsigned(">", integers, largest), integers, largest)
        outside = builder.icmp_unsigned(">=", largest, broadcast_lanes(builder, args[2], 8))
        return builder.icmp_unsigned("==", builder.bitcast(outside, ir.IntType(8)), ir.IntType(8)(0))

    return types.boolean(types.CPointer(types.int64), count, types.int64), codegen


@intrinsic
def judge_eight(typingctx, targets, classes, ignore_index, wide, judged, counts):
    """``(how many of eight int64 targets count, how many of those are out of range)``; stores as ``per_target.targets.judge``.

    A target counts if it is not ``ignore_index``, or with ``wide`` if it is negative.
    """

    def codegen(context, builder, sig, args):
        targets, classes, ignore_index, wide, judged, counts = args
        eight = ir.VectorType(_I64, 8)
        y = builder.load(builder.bitcast(targets, eight.as_pointer()), align=1)
        negative = builder.icmp_signed("<", y, ir.Constant(eight, [0] * 8))
        counted = builder.or_(
            builder.icmp_signed("!=", y, broadcast_lanes(builder, ignore_index, 8)),
            builder.and_(negative, broadcast_lanes(builder, wide, 8)),
        )
        inside = builder.icmp_unsigned("<", y, broadcast_lanes(builder, classes, 8))
        builder.store(builder.and_(y, builder.sext(inside, eight)), builder.bitcast(judged, eight.as_pointer()), align=1)
        ones = ir.Constant(eight, [0x3FF0000000000000] * 8)  # the bits of 1.0
        builder.store(builder.and_(ones, builder.sext(counted, eight)), builder.bitcast(counts, eight.as_pointer()), align=1)
        outside = builder.and_(counted, builder.not_(inside))
        numbers = [builder.zext(builder.ctpop(builder.bitcast(mask, ir.IntType(8))), _I64) for mask in (counted, outside)]
        return cgutils.pack_array(builder, numbers)

    pair, integers_, floats = types.UniTuple(types.int64, 2), types.CPointer(types.int64), types.CPointer(types.float64)
    return pair(integers_, types.int64, types.int64, types.boolean, integers_, floats), codegen


@intrinsic
def _widen_to_int64(typingctx, base, mask, count, buffer):
    def codegen(context, builder, sig, args):
        integers, mask, count, buffer = args
        address, itemsize = (builder.extract_value(integers, k) for k in (0, 1))

        def widen_all(bytes_):
            if bytes_ == 8:
                return builder.bitcast(address, _I64.as_pointer())
            with cgutils.for_range(builder, count) as loop:
                number = _load_integers(builder, element_address(builder, address, builder.mul(loop.index, _I64(bytes_))), bytes_, None)
                builder.store(builder.and_(_resize(builder, number, _I64), mask), element_address(builder, buffer, loop.index))
            return buffer

        return _switch_on_itemsize(builder, itemsize, _I64.as_pointer(), widen_all)

    return types.CPointer(types.int64)(integer_pointer, types.int64, types.intp, buffer), codegen


@njit(**NO_INLINE)  # its loops are larger than the loops of its callers
def widen_to_int64(base, mask, count, buffer):
    """A pointer to ``count`` int64 numbers ``integer & mask``: to ``buffer``, or to the integers themselves if they are int64.

    ``mask`` is -1 for int64. A loop over targets then branches on their item size once. A branch per target took 1.1 to 1.3 times as long.
    """
    return _widen_to_int64(base, mask, count, buffer)


def _stored_lanes(convert, integer):
    """An intrinsic that stores the first ``count`` lanes of a float vector as integers of the type ``integer``."""

    @intrinsic
    def store_lanes(typingctx, base, offset, count, value):
        def codegen(context, builder, sig, args):
            base, offset, count, floats = args
            vector = convert(builder, floats, value.lanes)
            address = builder.bitcast(element_address(builder, base, offset), vector.type.as_pointer())
            with builder.if_else(builder.icmp_signed(">=", count, _I64(value.lanes))) as (whole, part):
                with whole:
                    builder.store(vector, address, align=1)
                with part, cgutils.for_range(builder, count) as loop:  # lane by lane: AVX2 has no masked store of bytes
                    number = builder.extract_element(vector, builder.trunc(loop.index, _I32))
                    builder.store(number, element_address(builder, base, builder.add(offset, loop.index)), align=1)
            return context.get_dummy_value()

        return types.void(types.CPointer(integer), types.intp, types.intp, value), codegen

    return store_lanes


def _as_int64(builder, floats, lanes):
    """Through int32, for which every processor has instructions."""
    return builder.sext(builder.fptosi(floats, ir.VectorType(_I32, lanes)), ir.VectorType(_I64, lanes))


def _as_flags(builder, floats, lanes):
    return builder.zext(builder.fcmp_ordered("!=", floats, ir.Constant(floats.type, None)), ir.VectorType(ir.IntType(8), lanes))


# ``store(base, offset, count, value)``: whole numbers below 2**31 as int64; 1 where the number is not 0 as uint8.
store_int64 = _stored_lanes(_as_int64, types.int64)
store_flags = _stored_lanes(_as_flags, types.uint8)


@intrinsic
def get_integer(typingctx, base, offset):
    """Load one integer, as int64; the caller applies the mask."""

    def codegen(context, builder, sig, args):
        address, itemsize = element_address(builder, *args), builder.extract_value(args[0], 1)
        return _switch_on_itemsize(builder, itemsize, _I64, lambda n: _resize(builder, _load_integers(builder, address, n, None), _I64))

    return types.int64(integer_pointer, types.intp), codegen
