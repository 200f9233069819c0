"""Pointers to array elements: offsets, strides, alignment, prefetches and atomic addition.

Kernels access memory through raw pointers, not through arrays: nothing counts references or wraps indices around, and no alignment is
assumed. Offsets and strides are in elements. The element type of a pointer is the storage type of the numbers (``load_store``). A pointer
to class numbers (``Integers``) carries the item size, which is known only when the kernel runs: one kernel serves every integer type.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, overload, register_model, unbox

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.half import COMPUTE
from nbloss.kernels.cpu.simd.vec import LANES, call_llvm

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Borrowed(types.Array):
    """An array that the caller of a kernel keeps alive: the kernel counts no references.

    Numba's own conversion of an array argument allocates an object that counts references. That took a third of a small call. One of
    three axes may be given with two: (N, C) becomes (N, C, 1).
    """

    def __init__(self, dtype, ndim, layout, readonly=False):
        super().__init__(dtype, ndim, layout, readonly=readonly, name=f"borrowed({dtype}, {ndim}, {layout}, {readonly})")


class Integers(types.Array):
    """A contiguous array of integers of any item size.

    Unsigned integers are read as signed ones. Kernels therefore also take a bit mask, which undoes the sign extension.
    """

    def __init__(self):
        super().__init__(types.int8, 1, "C", readonly=True, name="integers")


class _IntegerPointer(types.Type):
    """An address and the item size in bytes."""


register_model(Borrowed)(models.ArrayModel)

register_model(Integers)(models.ArrayModel)

integers, integer_pointer = Integers(), _IntegerPointer("integer_pointer")


@register_model(_IntegerPointer)
class _IntegerPointerModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("data", types.CPointer(types.int8)), ("itemsize", types.intp)])


def _array_fields(builder, obj):
    """``(data, number of axes, shape, strides)`` of a NumPy array: the first fields of PyArrayObject, which NumPy's ABI fixes."""
    base = builder.bitcast(obj, ir.IntType(8).as_pointer())

    def field(position, kind):
        start = _I64(object.__basicsize__ + 8 * position)
        return builder.load(builder.bitcast(builder.gep(base, [start]), kind.as_pointer()))

    numbers = _I64.as_pointer()
    return field(0, ir.IntType(8).as_pointer()), field(1, _I32), field(2, numbers), field(3, numbers)


def _array_struct(c, typ, data, shape, strides, itemsize):
    array = c.context.make_array(typ)(c.context, c.builder)
    pointer = c.builder.bitcast(data, c.context.get_data_type(typ.dtype).as_pointer())
    c.context.populate_array(array, data=pointer, shape=shape, strides=strides, itemsize=itemsize, meminfo=None)
    return array._getvalue()


@unbox(Borrowed)
def _unbox_borrowed(typ, obj, c):
    """Read the address, shape and strides; the callers in this package pass arrays of the right type."""
    data, axes, shape, strides = _array_fields(c.builder, obj)
    itemsize = _I64(typ.dtype.bitwidth // 8)
    sizes, steps = [], []
    for axis in range(typ.ndim):
        for numbers, otherwise, into in ((shape, _I64(1), sizes), (strides, itemsize, steps)):
            given = c.builder.icmp_signed("<", _I32(axis), axes)
            index = c.builder.select(given, _I64(axis), _I64(0))
            into.append(c.builder.select(given, c.builder.load(c.builder.gep(numbers, [index])), otherwise))
    return NativeValue(_array_struct(c, typ, data, sizes, steps, itemsize))


@unbox(Integers)
def _unbox_integers(typ, obj, c):
    """As ``Borrowed``, of any item size: the stride of an array with one axis. Numba reads the item size of other arrays."""
    builder = c.builder
    data, axes, shape, strides = _array_fields(builder, obj)
    result = cgutils.alloca_once(builder, c.context.get_value_type(typ))
    failed = cgutils.alloca_once_value(builder, cgutils.false_bit)
    several = builder.icmp_signed(">", builder.load(shape), _I64(1))
    with builder.if_else(builder.and_(builder.icmp_signed("==", axes, _I32(1)), several)) as (usual, other):
        with usual:
            step = builder.load(strides)
            builder.store(_array_struct(c, typ, data, [builder.load(shape)], [step], step), result)
        with other:
            address = builder.bitcast(result, c.pyapi.voidptr)
            error = builder.icmp_signed("!=", c.pyapi.nrt_adapt_ndarray_from_python(obj, address), _I32(0))
            builder.store(error, failed)
            with builder.if_then(error, likely=False):
                c.pyapi.err_set_string("PyExc_TypeError", "class numbers must be a NumPy array")
    return NativeValue(builder.load(result), is_error=builder.load(failed))


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
    emit = _offset_integers if isinstance(base, _IntegerPointer) else element_address
    return base(base, types.intp), lambda context, builder, sig, args: emit(builder, *args)


@intrinsic
def address(typingctx, base):
    """A pointer as an integer."""

    def codegen(context, builder, sig, args):
        data = builder.extract_value(args[0], 0) if isinstance(base, _IntegerPointer) else args[0]
        return builder.ptrtoint(data, _I64)

    return types.intp(base), codegen


@njit(**INLINE)
def position_pointer(array, p):
    """A pointer to class 0 of position p of an (outer, C, inner) array."""
    inner = array.shape[2]
    if inner == 1:
        return pointer(array, p * stride(array, 0))
    return pointer(array, p // inner * stride(array, 0) + p % inner * stride(array, 2))


def start_if_given(array):
    """A pointer to the first element of an array; None for None."""


@overload(start_if_given, jit_options=INLINE)
def _typed_start_if_given(array):
    if isinstance(array, types.NoneType):
        return lambda array: None
    return lambda array: pointer(array, 0)


def position_if_given(array, p):
    """``position_pointer``; None for None."""


@overload(position_if_given, jit_options=INLINE)
def _typed_position_if_given(array, p):
    if isinstance(array, types.NoneType):
        return lambda array, p: None
    return lambda array, p: position_pointer(array, p)


@njit(**INLINE)
def row_step(array):
    """The distance in elements from a position to the next one: what prefetches assume."""
    return stride(array, 0) if array.shape[2] == 1 else stride(array, 2)


@njit(**INLINE)
def extent(array):
    """The first and the last address that belong to an array of one or three axes: whole bytes of its elements."""
    first = last = address(pointer(array, 0))
    for step, size in _steps(array):
        if step < 0:
            first += (size - 1) * step
        else:
            last += (size - 1) * step
    return first, last + array.itemsize - 1


def _steps(array):
    """``(stride in bytes, length)`` of each axis."""


@overload(_steps, jit_options=INLINE)
def _typed_steps(array):
    if isinstance(array, Integers):
        return lambda array: ((array.itemsize, array.size),)
    if array.ndim == 1:
        return lambda array: ((array.strides[0], array.shape[0]),)
    return lambda array: tuple_of_steps(array)


@njit(**INLINE)
def tuple_of_steps(array):
    return (array.strides[0], array.shape[0]), (array.strides[1], array.shape[1]), (array.strides[2], array.shape[2])


@njit(**INLINE)
def same_strides(a, b):
    """Whether two arrays of the same shape have the same strides, where an axis has more than one element."""
    same = True
    for k in range(3):
        same &= a.strides[k] == b.strides[k] or a.shape[k] <= 1
    return same


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
