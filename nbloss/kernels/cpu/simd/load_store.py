"""Bare pointers.

Memory is reached through bare pointers (``pointer``): no reference counts, no alignment assumptions. Their element type says how
a number is stored, and a ``load`` widens it: float32, float64, and the two types of ``halves``. Pointers to class numbers (``Integers``)
carry the size of a number, which is known when a kernel runs: one kernel serves every integer type.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.half import BFLOAT, COMPUTE, HALF, decode, encode
from nbloss.kernels.cpu.simd.pointers import element_address
from nbloss.kernels.cpu.simd.vec import LANES, Vec, as_vector, broadcast_lanes, call_llvm, concatenate

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), HALF: ir.IntType(16), BFLOAT: ir.IntType(16)}

_NAMES = {types.float32: "f32", types.float64: "f64", HALF: "i16", BFLOAT: "i16"}


def storage_type(dtype):
    """How a number lies in memory."""
    return _IR[dtype]


def vector_type(dtype):
    """The vector that numbers stored as ``dtype`` are computed in."""
    return Vec(COMPUTE[dtype], LANES[COMPUTE[dtype]])


@intrinsic
def splat(typingctx, pointer, value):
    """``value`` in every lane of the vector that ``pointer`` loads."""
    vec = vector_type(pointer.dtype)

    def codegen(context, builder, sig, args):
        return as_vector(context, builder, args[1], value, vec)

    return vec(pointer, value), codegen


@intrinsic
def lanes(typingctx, pointer):
    """How many numbers one ``load`` brings; a constant to the compiler."""
    count = LANES[COMPUTE[pointer.dtype]]
    return types.intp(pointer), lambda context, builder, sig, args: _I64(count)


@intrinsic
def cast(typingctx, pointer, number):
    """A number in the type that the pointer's numbers are computed in."""
    result = COMPUTE[pointer.dtype]
    return result(pointer, number), lambda context, builder, sig, args: context.cast(builder, args[1], number, result)


@intrinsic
def get(typingctx, base, offset):
    """One number, widened."""

    def codegen(context, builder, sig, args):
        return decode(builder, builder.load(element_address(builder, *args), align=1), base.dtype)

    return COMPUTE[base.dtype](base, types.intp), codegen


@intrinsic
def put(typingctx, base, offset, value):
    """Store one number, rounded to the pointer's type."""
    compute = COMPUTE[base.dtype]

    def codegen(context, builder, sig, args):
        number = context.cast(builder, args[2], value, compute)
        builder.store(encode(builder, number, base.dtype), element_address(builder, args[0], args[1]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


def _raw(dtype):
    return ir.VectorType(_IR[dtype], LANES[COMPUTE[dtype]])


def _first(builder, count, lanes_):
    """The mask of the first ``count`` lanes, compared in 32 bits: half the registers of 64."""
    index = ir.Constant(ir.VectorType(_I32, lanes_), list(range(lanes_)))
    most = builder.select(builder.icmp_signed("<", count, _I64(lanes_)), count, _I64(lanes_))
    return builder.icmp_signed("<", index, broadcast_lanes(builder, builder.trunc(most, _I32), lanes_))


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
    return vector_type(base.dtype)(base, types.intp), lambda context, builder, sig, args: load_at(
        builder, element_address(builder, *args), base.dtype
    )


@intrinsic
def load_x4(typingctx, base, offset):
    r"""Four ``load``\ s as one vector: what is computed with it are four chains of instructions side by side."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        places = [builder.add(args[1], _I64(k * vec.lanes)) for k in range(4)]
        return concatenate(builder, [load_at(builder, element_address(builder, args[0], place), base.dtype) for place in places])

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp), codegen


@intrinsic
def store(typingctx, base, offset, value):
    """Store all lanes, rounded to the pointer's type."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[2], element_address(builder, args[0], args[1]), base.dtype)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def load_n(typingctx, base, offset, count, fill):
    """``load`` of ``count`` numbers (more than there are lanes: all); the other lanes hold ``fill`` and are not touched in memory."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        filler = as_vector(context, builder, args[3], fill, vec)
        return load_at(builder, element_address(builder, args[0], args[1]), base.dtype, args[2], filler)

    return vec(base, types.intp, types.intp, fill), codegen


@intrinsic
def load_n_x4(typingctx, base, offset, count, fill):
    """``load_four`` of ``count`` numbers, as ``load_first``."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        filler = as_vector(context, builder, args[3], fill, vec)
        pieces = []
        for k in range(4):
            before = _I64(k * vec.lanes)
            place = element_address(builder, args[0], builder.add(args[1], before))
            pieces.append(load_at(builder, place, base.dtype, builder.sub(args[2], before), filler))
        return concatenate(builder, pieces)

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp, types.intp, fill), codegen


@intrinsic
def store_n(typingctx, base, offset, count, value):
    """Store the first ``count`` lanes."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[3], element_address(builder, args[0], args[1]), base.dtype, args[2])
        return context.get_dummy_value()

    return types.void(base, types.intp, types.intp, value), codegen


@intrinsic
def load_float64(typingctx, base, offset, like):
    """As many float64 numbers as ``like`` has lanes."""
    vec = Vec(types.float64, like.lanes)

    def codegen(context, builder, sig, args):
        place = builder.bitcast(element_address(builder, args[0], args[1]), ir.VectorType(ir.DoubleType(), like.lanes).as_pointer())
        return builder.load(place, align=1)

    return vec(base, types.intp, like), codegen


@intrinsic
def store_nontemporal(typingctx, base, offset, value):
    """``store`` past the caches, at a multiple of the vector's size: for output that is too long to be found there again."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        raw = encode(builder, args[2], dtype, value.lanes)
        place = builder.bitcast(element_address(builder, args[0], args[1]), raw.type.as_pointer())
        instruction = builder.store(raw, place, align=vector_type(dtype).lanes * dtype.bitwidth // 8)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def gather(typingctx, base, offsets, shift):
    """``base[offsets[lane] + shift]`` for every lane; ``offsets`` points to int64."""
    dtype = base.dtype
    vec = vector_type(dtype)

    def codegen(context, builder, sig, args):
        start = element_address(builder, args[0], args[2])
        raw = ir.Constant(_raw(dtype), ir.Undefined)
        for lane in range(vec.lanes):
            place = builder.load(element_address(builder, args[1], _I64(lane)))
            raw = builder.insert_element(raw, builder.load(element_address(builder, start, place), align=1), _I32(lane))
        return decode(builder, raw, dtype, vec.lanes)

    return vec(base, offsets, types.intp), codegen


@intrinsic
def scatter(typingctx, base, offsets, shift, value):
    """``base[offsets[lane] + shift] = value[lane]``, the last lane first: of lanes with one offset the first one's number stays."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        start = element_address(builder, args[0], args[2])
        raw = encode(builder, args[3], dtype, value.lanes)
        for lane in reversed(range(value.lanes)):
            place = builder.load(element_address(builder, args[1], _I64(lane)))
            builder.store(builder.extract_element(raw, _I32(lane)), element_address(builder, start, place), align=1)
        return context.get_dummy_value()

    return types.void(base, offsets, types.intp, value), codegen
