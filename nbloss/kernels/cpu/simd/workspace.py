"""The workspace of a kernel: temporary memory on the heap and on the stack.

The functions return pointers, not arrays. ``numpy.empty`` takes a second to compile, and Numba frees an array after its last use, even if a
pointer to its data is still in use.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.arguments import Borrowed
from nbloss.kernels.cpu.simd.half import COMPUTE

_I64 = ir.IntType(64)

_IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), types.int64: _I64}

LINE = 64  # bytes of a cache line


def _allocate(context, builder, count, dtype):
    """Allocate ``count`` numbers, aligned to a cache line."""
    size = builder.mul(count, _I64(dtype.bitwidth // 8))
    allocated = context.nrt.allocate(builder, builder.add(size, _I64(LINE)))
    with cgutils.if_unlikely(builder, cgutils.is_null(builder, allocated)):
        context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel's buffers",))
    start = builder.ptrtoint(allocated, _I64)
    aligned = builder.and_(builder.add(start, _I64(LINE)), _I64(-LINE))
    # malloc's addresses are multiples of 16, so the gap has at least 16 bytes; its last 8 bytes hold the address that ``free`` needs
    builder.store(start, builder.inttoptr(builder.sub(aligned, _I64(8)), _I64.as_pointer()))
    return builder.inttoptr(aligned, _IR[dtype].as_pointer())


@intrinsic
def alloc(typingctx, base, n):
    """Allocate n numbers of the compute type of ``base``, aligned to a cache line. The caller frees them (``free``)."""
    dtype = COMPUTE[base.dtype]
    return types.CPointer(dtype)(base, types.intp), lambda context, builder, sig, args: _allocate(context, builder, args[1], dtype)


@intrinsic
def alloc_like(typingctx, base, n):
    """Allocate n numbers of the storage type of ``base``, aligned to a cache line. The caller frees them (``free``)."""

    def codegen(context, builder, sig, args):
        size = base.dtype.bitwidth // 8
        words = builder.udiv(builder.add(builder.mul(args[1], _I64(size)), _I64(7)), _I64(8))
        return builder.bitcast(_allocate(context, builder, words, types.int64), args[0].type)

    return base(base, types.intp), codegen


@intrinsic
def carve(typingctx, base, sizes):
    """Allocate several buffers at once: a tuple of pointers to buffers of ``sizes`` numbers each. The caller frees the first pointer.

    The tuple declares all buffers of a kernel in one place. No offset has to agree with a size elsewhere.
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
    """Free the memory of ``alloc``, ``alloc_like`` or ``carve``; None has no memory."""
    if isinstance(base, types.NoneType):
        return types.void(base), lambda context, builder, sig, args: context.get_dummy_value()

    def codegen(context, builder, sig, args):
        start = builder.ptrtoint(args[0], _I64)
        allocated = builder.load(builder.inttoptr(builder.sub(start, _I64(8)), _I64.as_pointer()))
        context.nrt.free(builder, builder.inttoptr(allocated, ir.IntType(8).as_pointer()))
        return context.get_dummy_value()

    return types.void(base), codegen


@intrinsic(prefer_literal=True)
def stack_alloc(typingctx, dtype, count):
    """Allocate ``count`` numbers (a constant) in the stack frame of the calling function."""

    def codegen(context, builder, sig, args):
        return cgutils.alloca_once(builder, _IR[dtype.dtype], size=_I64(count.literal_value))

    return types.CPointer(dtype.dtype)(dtype, count), codegen


@intrinsic
def as_array(typingctx, base, n):
    """An array of n numbers at a pointer; the array does not own its memory."""
    result = Borrowed(base.dtype, 1, "C")

    def codegen(context, builder, sig, args):
        array = context.make_array(result)(context, builder)
        size = _I64(base.dtype.bitwidth // 8)
        context.populate_array(array, data=args[0], shape=[args[1]], strides=[size], itemsize=size, meminfo=None)
        return array._getvalue()

    return result(base, types.intp), codegen


def _positions(array_type):
    """The (count, classes, 1) array of this type, in generated code, from a pointer and numbers."""
    size = _I64(array_type.dtype.bitwidth // 8)

    def codegen(context, builder, sig, args):
        base, count, classes, pitch = args[-4:]
        array = context.make_array(array_type)(context, builder)
        shape, strides = [count, classes, _I64(1)], [builder.mul(pitch, size), size, size]
        context.populate_array(array, data=base, shape=shape, strides=strides, itemsize=size, meminfo=None)
        return array._getvalue()

    return codegen


@intrinsic
def as_positions(typingctx, like, base, count, classes, pitch):
    """A (count, classes, 1) array of the type of ``like`` at a pointer, ``pitch`` elements from row to row; it does not own its memory."""
    return like(like, base, types.intp, types.intp, types.intp), _positions(like)


@intrinsic
def as_rows(typingctx, base, count, classes, pitch):
    """The same of a type of its own, that of the pointer."""
    result = Borrowed(base.dtype, 3, "A")
    return result(base, types.intp, types.intp, types.intp), _positions(result)
