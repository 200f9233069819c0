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


@intrinsic
def alloc(typingctx, base, n):
    """Memory for n numbers in the type that the pointer's numbers are computed in, from the start of a cache line; ``release`` it."""
    dtype = COMPUTE[base.dtype]

    def codegen(context, builder, sig, args):
        size = builder.mul(args[1], _I64(dtype.bitwidth // 8))
        given = context.nrt.allocate(builder, builder.add(size, _I64(LINE)))
        with cgutils.if_unlikely(builder, cgutils.is_null(builder, given)):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel's buffers",))
        start = builder.ptrtoint(given, _I64)
        aligned = builder.and_(builder.add(start, _I64(LINE)), _I64(-LINE))
        # malloc's addresses are multiples of 16: there is always a gap, whose last 8 bytes keep what is to be released
        builder.store(start, builder.inttoptr(builder.sub(aligned, _I64(8)), _I64.as_pointer()))
        return builder.inttoptr(aligned, _NUMBER[dtype].as_pointer())

    return types.CPointer(dtype)(base, types.intp), codegen


@intrinsic
def free(typingctx, base):
    """Give ``room`` back."""

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
