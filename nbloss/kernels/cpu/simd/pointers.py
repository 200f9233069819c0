"""TODO"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from nbloss.kernels.cpu.simd.half import COMPUTE
from nbloss.kernels.cpu.simd.vec import LANES, call_llvm

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Integers(types.Array):
    """A contiguous array of integers of any size. Kernels take a sign mask with it: NumPy's unsigned types are seen as signed ones."""

    def __init__(self):
        super().__init__(types.int8, 1, "C", readonly=True, name="integers")


class _IntegerPointer(types.Type):
    """An address, and how many bytes lie between neighbours."""


register_model(Integers)(models.ArrayModel)

integers, _integer_pointer = Integers(), _IntegerPointer("integer_pointer")


@register_model(_IntegerPointer)
class _IntegerPointerModel(models.StructModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, [("place", types.CPointer(types.int8)), ("width", types.intp)])


@unbox(Integers)
def _unbox_integers(typ, obj, c):
    """As Numba unboxes an array, but with whatever size its numbers have."""
    array = c.context.make_array(typ)(c.context, c.builder)
    place = array._getpointer()
    failed = c.builder.icmp_signed("!=", c.pyapi.nrt_adapt_ndarray_from_python(obj, c.builder.bitcast(place, c.pyapi.voidptr)), _I32(0))
    with c.builder.if_then(failed, likely=False):
        c.pyapi.err_set_string("PyExc_TypeError", "a kernel takes class numbers as a NumPy array")
    return NativeValue(c.builder.load(place), is_error=failed)


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
    """How many numbers lie between neighbours along an axis. The size of a number is a constant here: no division at run time."""
    size = array.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        strides = context.make_array(array)(context, builder, args[0]).strides
        return builder.sdiv(builder.extract_value(strides, axis.literal_value), _I64(size))

    return types.intp(array, axis), codegen


def element_address(builder, pointer, offset):
    if isinstance(pointer.type, ir.PointerType):
        return builder.gep(pointer, [offset])
    place, width = (builder.extract_value(pointer, k) for k in (0, 1))
    return builder.gep(place, [builder.mul(offset, width)])


def _moved_integers(builder, pointer, offset):
    return builder.insert_value(pointer, element_address(builder, pointer, offset), 0)


@intrinsic
def pointer(typingctx, array, offset):
    """The address of element ``offset`` (counted in elements from the first) of an array."""

    def codegen(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return element_address(builder, data, args[1])

    def of_integers(context, builder, sig, args):
        given = context.make_array(array)(context, builder, args[0])
        bare = cgutils.create_struct_proxy(_integer_pointer)(context, builder)
        bare.place, bare.width = given.data, given.itemsize
        return _moved_integers(builder, bare._getvalue(), args[1])

    if isinstance(array, Integers):
        return _integer_pointer(array, types.intp), of_integers
    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def offset(typingctx, base, offset):
    """A pointer ``offset`` elements further on."""
    emit = _moved_integers if isinstance(base, _IntegerPointer) else element_address
    return base(base, types.intp), lambda context, builder, sig, args: emit(builder, *args)


@intrinsic
def address(typingctx, base):
    """Where a pointer points, as a number."""

    def codegen(context, builder, sig, args):
        place = builder.extract_value(args[0], 0) if isinstance(base, _IntegerPointer) else args[0]
        return builder.ptrtoint(place, _I64)

    return types.intp(base), codegen


@intrinsic
def elements_to_aligned(typingctx, base):
    """How many numbers lie before the next address that a whole vector fits into one cache line at; fewer than there are lanes."""
    size = base.dtype.bitwidth // 8
    vector_bytes = size * LANES[COMPUTE[base.dtype]]

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], _I64)
        return builder.sdiv(builder.and_(builder.neg(address), _I64(vector_bytes - 1)), _I64(size))

    return types.intp(base), codegen


@intrinsic
def zero_fill(typingctx, base, count):
    """Store so many zeros."""
    size = base.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        cgutils.memset(builder, args[0], builder.mul(args[1], _I64(size)), 0)
        return context.get_dummy_value()

    return types.void(base, types.intp), codegen


def _prefetch(write):
    @intrinsic
    def prefetch(typingctx, base, offset):
        def codegen(context, builder, sig, args):
            place = builder.bitcast(element_address(builder, *args), ir.IntType(8).as_pointer())
            call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [place, _I32(write), _I32(3), _I32(1)])
            return context.get_dummy_value()

        return types.void(base, types.intp), codegen

    return prefetch


prefetch_read = _prefetch(0)

prefetch_write = _prefetch(1)


@intrinsic
def fetch_add(typingctx, base, amount):
    """Take a ticket: add to the number at a pointer for all threads at once, return what was there."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(base, types.int64), codegen
