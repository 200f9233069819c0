"""Bare pointers.

Memory is reached through bare pointers (``pointer``): no reference counts, no alignment assumptions. Their element type says how
a number is stored, and a ``load`` widens it: float32, float64, and the two types of ``halves``. Pointers to class numbers (``Integers``)
carry the size of a number, which is known when a kernel runs: one kernel serves every integer type.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import NativeValue, intrinsic, models, register_model, unbox

from nbloss.kernels.cpu.halves import BFLOAT, COMPUTE, HALF, decode, encode
from nbloss.kernels.cpu.parts import PART
from nbloss.kernels.cpu.simd import LANES, Vec, call_llvm, joined, spread_lanes, widen

_IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), HALF: ir.IntType(16), BFLOAT: ir.IntType(16)}
_NAMES = {types.float32: "f32", types.float64: "f64", HALF: "i16", BFLOAT: "i16"}
_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Integers(types.Array):
    """A contiguous array of integers of any size. Kernels take a sign mask with it: NumPy's unsigned types are seen as signed ones."""

    def __init__(self):
        super().__init__(types.int8, 1, "C", readonly=True, name="integers")


class _IntegerPointer(types.Type):
    """An address, and how many bytes lie between neighbours."""


register_model(Integers)(models.ArrayModel)
integers, _integer_pointer = Integers(), _IntegerPointer("integer_pointer")
_WIDTHS = 1, 2, 4, 8  # bytes


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


def stored(dtype):
    """How a number lies in memory."""
    return _IR[dtype]


def _vec(dtype):
    """The vector that numbers stored as ``dtype`` are computed in."""
    return Vec(COMPUTE[dtype], LANES[COMPUTE[dtype]])


@intrinsic
def splat(typingctx, pointer, value):
    """``value`` in every lane of the vector that ``pointer`` loads."""
    vec = _vec(pointer.dtype)

    def codegen(context, builder, sig, args):
        return widen(context, builder, args[1], value, vec)

    return vec(pointer, value), codegen


@intrinsic
def lanes(typingctx, pointer):
    """How many numbers one ``load`` brings; a constant to the compiler."""
    count = LANES[COMPUTE[pointer.dtype]]
    return types.intp(pointer), lambda context, builder, sig, args: _I64(count)


@intrinsic
def computed(typingctx, pointer, number):
    """A number in the type that the pointer's numbers are computed in."""
    result = COMPUTE[pointer.dtype]
    return result(pointer, number), lambda context, builder, sig, args: context.cast(builder, args[1], number, result)


@intrinsic
def smaller(typingctx, a, b):
    """The smaller of two integers."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.icmp_signed("<", *args), *args)

    return types.intp(types.intp, types.intp), codegen


@intrinsic
def larger(typingctx, a, b):
    """The larger of two integers."""

    def codegen(context, builder, sig, args):
        return builder.select(builder.icmp_signed(">", *args), *args)

    return types.intp(types.intp, types.intp), codegen


@intrinsic(prefer_literal=True)
def apart(typingctx, array, axis):
    """How many numbers lie between neighbours along an axis. The size of a number is a constant here: no division at run time."""
    size = array.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        strides = context.make_array(array)(context, builder, args[0]).strides
        return builder.sdiv(builder.extract_value(strides, axis.literal_value), _I64(size))

    return types.intp(array, axis), codegen


def _address(builder, pointer, offset):
    if isinstance(pointer.type, ir.PointerType):
        return builder.gep(pointer, [offset])
    place, width = (builder.extract_value(pointer, k) for k in (0, 1))
    return builder.gep(place, [builder.mul(offset, width)])


def _moved_integers(builder, pointer, offset):
    return builder.insert_value(pointer, _address(builder, pointer, offset), 0)


@intrinsic
def pointer(typingctx, array, offset):
    """The address of element ``offset`` (counted in elements from the first) of an array."""

    def codegen(context, builder, sig, args):
        data = context.make_array(array)(context, builder, args[0]).data
        return _address(builder, data, args[1])

    def of_integers(context, builder, sig, args):
        given = context.make_array(array)(context, builder, args[0])
        bare = cgutils.create_struct_proxy(_integer_pointer)(context, builder)
        bare.place, bare.width = given.data, given.itemsize
        return _moved_integers(builder, bare._getvalue(), args[1])

    if isinstance(array, Integers):
        return _integer_pointer(array, types.intp), of_integers
    return types.CPointer(array.dtype)(array, types.intp), codegen


@intrinsic
def moved(typingctx, base, offset):
    """A pointer ``offset`` elements further on."""
    emit = _moved_integers if isinstance(base, _IntegerPointer) else _address
    return base(base, types.intp), lambda context, builder, sig, args: emit(builder, *args)


@intrinsic
def get(typingctx, base, offset):
    """One number, widened."""

    def codegen(context, builder, sig, args):
        return decode(builder, builder.load(_address(builder, *args), align=1), base.dtype)

    return COMPUTE[base.dtype](base, types.intp), codegen


@intrinsic
def put(typingctx, base, offset, value):
    """Store one number, rounded to the pointer's type."""
    compute = COMPUTE[base.dtype]

    def codegen(context, builder, sig, args):
        number = context.cast(builder, args[2], value, compute)
        builder.store(encode(builder, number, base.dtype), _address(builder, args[0], args[1]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


def _raw(dtype):
    return ir.VectorType(_IR[dtype], LANES[COMPUTE[dtype]])


def _first(builder, count, lanes_):
    """The mask of the first ``count`` lanes, compared in 32 bits: half the registers of 64."""
    index = ir.Constant(ir.VectorType(_I32, lanes_), list(range(lanes_)))
    most = builder.select(builder.icmp_signed("<", count, _I64(lanes_)), count, _I64(lanes_))
    return builder.icmp_signed("<", index, spread_lanes(builder, builder.trunc(most, _I32), lanes_))


def load_at(builder, place, dtype, count=None, filler=None):
    """A vector, widened; of its first ``count`` numbers if one is given, the other lanes not touched in memory."""
    raw, lanes_ = _raw(dtype), LANES[COMPUTE[dtype]]
    place = builder.bitcast(place, raw.as_pointer())
    if count is None:
        return decode(builder, builder.load(place, align=1), dtype, lanes_)
    mask = _first(builder, count, lanes_)
    name = f"llvm.masked.load.v{lanes_}{_NAMES[dtype]}.p0"
    read = decode(builder, call_llvm(builder, name, raw, [place, _I32(1), mask, ir.Constant(raw, None)]), dtype, lanes_)
    return read if filler is None else builder.select(mask, read, filler)


def store_at(builder, value, place, dtype, count=None):
    """The inverse of ``load_at``, rounding."""
    lanes_ = value.type.count
    value = encode(builder, value, dtype, lanes_)
    place = builder.bitcast(place, value.type.as_pointer())
    if count is None:
        builder.store(value, place, align=1)
    else:
        name = f"llvm.masked.store.v{lanes_}{_NAMES[dtype]}.p0"
        call_llvm(builder, name, ir.VoidType(), [value, place, _I32(1), _first(builder, count, lanes_)])


@intrinsic
def load(typingctx, base, offset):
    """As many consecutive numbers as there are lanes, widened."""
    return _vec(base.dtype)(base, types.intp), lambda context, builder, sig, args: load_at(builder, _address(builder, *args), base.dtype)


@intrinsic
def load_four(typingctx, base, offset):
    r"""Four ``load``\ s as one vector: what is computed with it are four chains of instructions side by side."""
    vec = _vec(base.dtype)

    def codegen(context, builder, sig, args):
        places = [builder.add(args[1], _I64(k * vec.lanes)) for k in range(4)]
        return joined(builder, [load_at(builder, _address(builder, args[0], place), base.dtype) for place in places])

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp), codegen


@intrinsic
def store(typingctx, base, offset, value):
    """Store all lanes, rounded to the pointer's type."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[2], _address(builder, args[0], args[1]), base.dtype)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def load_first(typingctx, base, offset, count, fill):
    """``load`` of ``count`` numbers (more than there are lanes: all); the other lanes hold ``fill`` and are not touched in memory."""
    vec = _vec(base.dtype)

    def codegen(context, builder, sig, args):
        filler = widen(context, builder, args[3], fill, vec)
        return load_at(builder, _address(builder, args[0], args[1]), base.dtype, args[2], filler)

    return vec(base, types.intp, types.intp, fill), codegen


@intrinsic
def load_first_four(typingctx, base, offset, count, fill):
    """``load_four`` of ``count`` numbers, as ``load_first``."""
    vec = _vec(base.dtype)

    def codegen(context, builder, sig, args):
        filler = widen(context, builder, args[3], fill, vec)
        pieces = []
        for k in range(4):
            before = _I64(k * vec.lanes)
            place = _address(builder, args[0], builder.add(args[1], before))
            pieces.append(load_at(builder, place, base.dtype, builder.sub(args[2], before), filler))
        return joined(builder, pieces)

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp, types.intp, fill), codegen


@intrinsic
def store_first(typingctx, base, offset, count, value):
    """Store the first ``count`` lanes."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[3], _address(builder, args[0], args[1]), base.dtype, args[2])
        return context.get_dummy_value()

    return types.void(base, types.intp, types.intp, value), codegen


@intrinsic
def load_doubles(typingctx, base, offset, like):
    """As many float64 numbers as ``like`` has lanes."""
    vec = Vec(types.float64, like.lanes)

    def codegen(context, builder, sig, args):
        place = builder.bitcast(_address(builder, args[0], args[1]), ir.VectorType(ir.DoubleType(), like.lanes).as_pointer())
        return builder.load(place, align=1)

    return vec(base, types.intp, like), codegen


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
        masked = builder.and_(given, spread_lanes(builder, builder.trunc(args[1], _I32), like.lanes))
        return builder.sitofp(masked, ir.VectorType(_IR[like.elem], like.lanes))

    return like(_integer_pointer, types.int64, like), codegen


@intrinsic(prefer_literal=True)
def all_below(typingctx, base, count, bound):
    """Whether so many integers of 64 bits (a constant, whole eights) are all in [0, bound)."""

    def codegen(context, builder, sig, args):
        most = None
        for k in range(0, count.literal_value, 8):
            place = builder.bitcast(_address(builder, args[0], _I64(k)), ir.VectorType(_I64, 8).as_pointer())
            given = builder.load(place, align=1)
            most = given if most is None else builder.select(builder.icmp_unsigned(">", given, most), given, most)
        outside = builder.icmp_unsigned(">=", most, spread_lanes(builder, args[2], 8))
        return builder.icmp_unsigned("==", builder.bitcast(outside, ir.IntType(8)), ir.IntType(8)(0))

    return types.boolean(types.CPointer(types.int64), count, types.int64), codegen


@intrinsic
def _in_64_bits(typingctx, base, mask, count, buffer):
    def codegen(context, builder, sig, args):
        given, mask, count, buffer = args
        place, width = (builder.extract_value(given, k) for k in (0, 1))

        def widen_all(bytes_):
            if bytes_ == 8:
                return builder.bitcast(place, _I64.as_pointer())
            with cgutils.for_range(builder, count) as loop:
                number = _loaded_integers(builder, _address(builder, place, builder.mul(loop.index, _I64(bytes_))), bytes_, None)
                builder.store(builder.and_(_sized(builder, number, _I64), mask), _address(builder, buffer, loop.index))
            return buffer

        return _by_width(builder, width, _I64.as_pointer(), widen_all)

    return types.CPointer(types.int64)(_integer_pointer, types.int64, types.intp, buffer), codegen


@njit(error_model="numpy", fastmath=False, **PART)  # called, not inlined: its loops are longer than those that use what it gives
def in_64_bits(base, mask, count, buffer):
    """A pointer to so many integers, & mask, in 64 bits: they themselves where they are so wide (``mask`` is -1), else a buffer with them.

    So loops over targets look at their width once, not at every target: that took 1.1 to 1.3 times as long.
    """
    return _in_64_bits(base, mask, count, buffer)


@intrinsic
def get_integer(typingctx, base, offset):
    """One integer, in 64 bits."""

    def codegen(context, builder, sig, args):
        place, width = _address(builder, *args), builder.extract_value(args[0], 1)
        return _by_width(builder, width, _I64, lambda n: _sized(builder, _loaded_integers(builder, place, n, None), _I64))

    return types.int64(_integer_pointer, types.intp), codegen


@intrinsic
def to_aligned(typingctx, base):
    """How many numbers lie before the next address that a whole vector fits into one cache line at; fewer than there are lanes."""
    size = base.dtype.bitwidth // 8
    whole = size * LANES[COMPUTE[base.dtype]]

    def codegen(context, builder, sig, args):
        address = builder.ptrtoint(args[0], _I64)
        return builder.sdiv(builder.and_(builder.neg(address), _I64(whole - 1)), _I64(size))

    return types.intp(base), codegen


@intrinsic
def clear(typingctx, base, count):
    """Store so many zeros."""
    size = base.dtype.bitwidth // 8

    def codegen(context, builder, sig, args):
        cgutils.memset(builder, args[0], builder.mul(args[1], _I64(size)), 0)
        return context.get_dummy_value()

    return types.void(base, types.intp), codegen


@intrinsic
def address(typingctx, base):
    """Where a pointer points, as a number."""

    def codegen(context, builder, sig, args):
        place = builder.extract_value(args[0], 0) if isinstance(base, _IntegerPointer) else args[0]
        return builder.ptrtoint(place, _I64)

    return types.intp(base), codegen


@intrinsic
def stream(typingctx, base, offset, value):
    """``store`` past the caches, at a multiple of the vector's size: for output that is too long to be found there again."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        raw = encode(builder, args[2], dtype, value.lanes)
        place = builder.bitcast(_address(builder, args[0], args[1]), raw.type.as_pointer())
        instruction = builder.store(raw, place, align=_vec(dtype).lanes * dtype.bitwidth // 8)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def gather(typingctx, base, offsets, shift):
    """``base[offsets[lane] + shift]`` for every lane; ``offsets`` points to int64."""
    dtype = base.dtype
    vec = _vec(dtype)

    def codegen(context, builder, sig, args):
        start = _address(builder, args[0], args[2])
        raw = ir.Constant(_raw(dtype), ir.Undefined)
        for lane in range(vec.lanes):
            place = builder.load(_address(builder, args[1], _I64(lane)))
            raw = builder.insert_element(raw, builder.load(_address(builder, start, place), align=1), _I32(lane))
        return decode(builder, raw, dtype, vec.lanes)

    return vec(base, offsets, types.intp), codegen


@intrinsic
def scatter(typingctx, base, offsets, shift, value):
    """``base[offsets[lane] + shift] = value[lane]``, the last lane first: of lanes with one offset the first one's number stays."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        start = _address(builder, args[0], args[2])
        raw = encode(builder, args[3], dtype, value.lanes)
        for lane in reversed(range(value.lanes)):
            place = builder.load(_address(builder, args[1], _I64(lane)))
            builder.store(builder.extract_element(raw, _I32(lane)), _address(builder, start, place), align=1)
        return context.get_dummy_value()

    return types.void(base, offsets, types.intp, value), codegen


def _prefetch(write):
    @intrinsic
    def fetch(typingctx, base, offset):
        def codegen(context, builder, sig, args):
            place = builder.bitcast(_address(builder, *args), ir.IntType(8).as_pointer())
            call_llvm(builder, "llvm.prefetch.p0", ir.VoidType(), [place, _I32(write), _I32(3), _I32(1)])
            return context.get_dummy_value()

        return types.void(base, types.intp), codegen

    return fetch


prefetch_read = _prefetch(0)
prefetch_write = _prefetch(1)


@intrinsic
def fetch_add(typingctx, base, amount):
    """Take a ticket: add to the number at a pointer for all threads at once, return what was there."""

    def codegen(context, builder, sig, args):
        return builder.atomic_rmw("add", args[0], args[1], "seq_cst")

    return types.int64(base, types.int64), codegen
