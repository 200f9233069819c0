"""Pointers to array elements: offsets, strides, alignment, prefetches and atomic addition.

Kernels access memory through raw pointers, not through arrays: nothing counts references or wraps indices around, and no alignment is
assumed. Offsets and strides are in elements. The element type of a pointer is the storage type of the numbers (``load_store``). A pointer
to class numbers (``Integers``) carries the item size, which is known only when the kernel runs: one kernel serves every integer type.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.compile.optional import none_of_none
from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.arguments import IntegerPointer, Integers, integer_pointer
from nbloss.kernels.cpu.simd.half import COMPUTE
from nbloss.kernels.cpu.simd.vec import LANES, call_llvm

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic
def min_int(typingctx, a, b):
    """The smaller of two integers."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def max_int(typingctx, a, b):
    """The larger of two integers."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.icmp_signed(">", *args), *args)

    return types.intp(types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def stride(typingctx, array, axis):
    """The stride of an axis, in elements. The item size is a compile-time constant here, so the kernel does not divide."""
    size = array.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        strides = context.make_array(array)(context, builder, args[0]).strides
        return builder.sdiv(builder.extract_value(strides, axis.literal_value), _I64(size))

    return types.intp(array, axis), codegen


def element_address(builder, pointer, offset):
    """The LLVM pointer to element ``offset`` of a pointer, or of an integer pointer."""
    if isinstance(pointer.type, ir.PointerType):
        return builder.gep(pointer, [offset])
    data, itemsize = (builder.extract_value(pointer, k) for k in (0, 1))
    return builder.gep(data, [builder.mul(offset, itemsize)])


def _offset_integers(builder, pointer, offset):
    return builder.insert_value(pointer, element_address(builder, pointer, offset), 0)


@intrinsic
def pointer(typingctx, array, offset):
    """A pointer to the element of an array that is ``offset`` elements after the first one."""

    def codegen(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return element_address(builder, data, args[1])

    def of_integers(context, builder, sig, args):
        source = context.make_array(array)(context, builder, args[0])
        fat = cgutils.create_struct_proxy(integer_pointer)(context, builder)
        fat.data, fat.itemsize = source.data, source.itemsize
        return _offset_integers(builder, fat._getvalue(), args[1])

    if isinstance(array, Integers):
        return integer_pointer(array, types.intp), of_integers
    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def offset(typingctx, base, offset):
    """A pointer plus ``offset`` elements."""
    emit = _offset_integers if isinstance(base, IntegerPointer) else element_address
    return base(base, types.intp), lambda context, builder, sig, args: emit(builder, *args)


@intrinsic
def address(typingctx, base):
    """A pointer as an integer."""

    def codegen(context, builder, sig, args):
        data = builder.extract_value(args[0], 0) if isinstance(base, IntegerPointer) else args[0]
        return builder.ptrtoint(data, _I64)

    return types.intp(base), codegen


@njit(**INLINE)
def position_pointer(array, p):
    """A pointer to class 0 of position p of an (outer, C, inner) array."""
    inner = array.shape[2]
    if inner == 1:
        return pointer(array, p * stride(array, 0))
    return pointer(array, p // inner * stride(array, 0) + p % inner * stride(array, 2))


@none_of_none
def start_if_given(array):
    """A pointer to the first element of an array; None for None."""
    return pointer(array, 0)


@njit(**INLINE)
def run_of_positions(array, p, stop):
    """The positions from p on, before ``stop``, that have one stride: ``(pointer to class 0 of p, stride, count)``."""
    inner, outer_stride, inner_stride = array.shape[2], stride(array, 0), stride(array, 2)
    if inner == 1:
        return pointer(array, p * outer_stride), outer_stride, stop - p
    if outer_stride == inner * inner_stride:
        return pointer(array, p * inner_stride), inner_stride, stop - p
    o, i = p // inner, p % inner
    return pointer(array, o * outer_stride + i * inner_stride), inner_stride, min_int(stop - p, inner - i)


@njit(**INLINE)
def chunk_from_lines(lo, hi, before, positions):
    """The chunk [lo, hi) of so many positions, moved so that it begins and ends where a cache line does: ``before`` positions later.

    The first chunk begins at 0 and the last one ends at the end, so that every position is in one chunk.
    """
    return min_int(lo + before, positions) if lo > 0 else lo, min_int(hi + before, positions)


@njit(**INLINE)
def row_step(array):
    """The distance in elements from a position to the next one: what prefetches assume."""
    return stride(array, 0) if array.shape[2] == 1 else stride(array, 2)


@intrinsic
def elements_to_aligned(typingctx, base):
    """How many elements precede the next address that is aligned to the size of a vector: fewer than a vector has lanes.

    A load or store of a vector at an aligned address does not straddle two cache lines.
    """
    size = base.dtype.bitwidth // 8
    vector_bytes = size * LANES[COMPUTE[base.dtype]]

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], _I64)
        return builder.sdiv(builder.and_(builder.neg(address), _I64(vector_bytes - 1)), _I64(size))

    return types.intp(base), codegen


@intrinsic
def zero_fill(typingctx, base, count):
    """Store ``count`` zeros."""
    size = base.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        cgutils.memset(builder, args[0], builder.mul(args[1], _I64(size)), 0)
        return context.get_dummy_value()

    return types.void(base, types.intp), codegen


def _prefetch(write):
    """A function that prefetches the cache line of element ``offset`` into all cache levels, for reading (0) or writing (1)."""

    @intrinsic
    def prefetch(typingctx, base, offset):
        def codegen(context, builder, sig, args):
            line = builder.bitcast(element_address(builder, *args), ir.IntType(8).as_pointer())
            call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [line, _I32(write), _I32(3), _I32(1)])
            return context.get_dummy_value()

        return types.void(base, types.intp), codegen

    return prefetch


prefetch_read = _prefetch(0)

prefetch_write = _prefetch(1)


@intrinsic
def fetch_add(typingctx, base, amount):
    """Atomically add to the int64 at a pointer; returns its old value."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(base, types.int64), codegen
