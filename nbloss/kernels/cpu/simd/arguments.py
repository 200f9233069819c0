"""The array arguments of kernels: how a kernel reads NumPy arrays when it is called."""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, models, register_model, unbox

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


class IntegerPointer(types.Type):
    """An address and the item size in bytes."""


register_model(Borrowed)(models.ArrayModel)

register_model(Integers)(models.ArrayModel)

integers, integer_pointer = Integers(), IntegerPointer("integer_pointer")


@register_model(IntegerPointer)
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
