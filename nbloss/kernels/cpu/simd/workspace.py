"""Memory of a kernel's own.

No arrays: NumPy's `empty` costs a second to compile, and Numba would free what only a pointer mentions.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.half import COMPUTE

_I64 = ir.IntType(64)

_NUMBER = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int64: _I64}

LINE = 64  # bytes of a cache line


def _allocate(context, builder, count, dtype):
    """Memory for so many numbers, from the start of a cache line."""
    size = builder.mul(count, _I64(dtype.bitwidth // 8))
    given = context.nrt.allocate(builder, builder.add(size, _I64(LINE)))
    with cgutils.if_unlikely(builder, cgutils.is_null(builder, given)):
        context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel's buffers",))
    start = builder.ptrtoint(given, _I64)
    aligned = builder.and_(builder.add(start, _I64(LINE)), _I64(-LINE))
    # malloc's addresses are multiples of 16: there is always a gap, whose last 8 bytes keep the address that ``free`` needs
    builder.store(start, builder.inttoptr(builder.sub(aligned, _I64(8)), _I64.as_pointer()))
    return builder.inttoptr(aligned, _NUMBER[dtype].as_pointer())


@intrinsic
def alloc(typingctx, base, n):
    """Memory for n numbers of the type that ``base``'s numbers are computed in, from the start of a cache line; ``free`` it."""
    dtype = COMPUTE[base.dtype]
    return types.CPointer(dtype)(base, types.intp), lambda context, builder, sig, args: _allocate(context, builder, args[1], dtype)


@intrinsic
def carve(typingctx, base, sizes):
    """One allocation (``alloc``) in parts of so many numbers each: a tuple of pointers. ``free`` the first one.

    A kernel's buffers are stated once, as this tuple: no offset has to agree with a size somewhere else.
    """
    dtype = COMPUTE[base.dtype]
    result = types.UniTuple(types.CPointer(dtype), len(sizes))

    def codegen(context, builder, sig, args):
        counts = [context.cast(builder, v, t, types.intp) for v, t in zip(cgutils.unpack_tuple(builder, args[1]), sizes, strict=True)]
        starts = [_I64(0)]
        for count in counts:
            starts.append(builder.add(starts[-1], count))
        memory = _allocate(context, builder, starts.pop(), dtype)
        return context.make_tuple(builder, result, [builder.gep(memory, [start]) for start in starts])

    return result(base, sizes), codegen


@intrinsic
def free(typingctx, base):
    """Give the memory of ``alloc`` or ``carve`` back."""

    def codegen(context, builder, sig, args):
        start = builder.ptrtoint(args[0], _I64)
        given = builder.load(builder.inttoptr(builder.sub(start, _I64(8)), _I64.as_pointer()))
        context.nrt.free(builder, builder.inttoptr(given, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(base), codegen


@intrinsic(prefer_literal=True)
def stack_alloc(typingctx, dtype, count):
    """A pointer to so many numbers (a constant) that live as long as the calling function."""

    def codegen(context, builder, sig, args):
        return cgutils.alloca_once(builder, _NUMBER[dtype.dtype], size=_I64(count.literal_value))

    return types.CPointer(dtype.dtype)(dtype, count), codegen


@intrinsic
def as_array(typingctx, base, n):
    """An array of n numbers at a pointer; it owns nothing."""
    result = types.Array(base.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        array = context.make_array(result)(context, builder)
        size = _I64(base.dtype.bitwidth // 8)
        context.populate_array(array, data=args[0], shape=[args[1]], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return result(base, types.intp), codegen
