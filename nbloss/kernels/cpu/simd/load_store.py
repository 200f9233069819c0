"""Loads and stores of scalars and vectors through pointers (``pointers``), without alignment requirements.

The element type of a pointer is the storage type: float32, float64, or one of the 16-bit formats of ``half``. A load converts to the
compute type, which is float32 for the 16-bit formats, and a store rounds to the storage type. Offsets and counts are in elements. A
function whose name ends in ``_n`` accesses the first ``count`` lanes only, with a mask: ``count`` may be negative (no lane) or larger than
the number of lanes (all of them). ``load_as`` and ``load_n_as`` read an array of another storage type than that of the vectors beside it.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.half import BFLOAT, COMPUTE, HALF, decode, encode
from nbloss.kernels.cpu.simd.pointers import element_address
from nbloss.kernels.cpu.simd.vec import LANES, Vec, as_vector, broadcast_lanes, call_llvm, concatenate

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_IR = {types.float32: ir.FloatType(), types.float64: ir.DoubleType(), HALF: ir.IntType(16), BFLOAT: ir.IntType(16)}

_SUFFIXES = {types.float32: "f32", types.float64: "f64", HALF: "i16", BFLOAT: "i16"}


def storage_type(dtype):
    """The LLVM type of a number in memory."""
    return _IR[dtype]


def vector_type(dtype):
    """The ``Vec`` of the compute type of the storage type ``dtype``."""
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
    """How many lanes the vector has that ``pointer`` loads; a compile-time constant."""
    count = LANES[COMPUTE[pointer.dtype]]
    return types.intp(pointer), lambda context, builder, sig, args: _I64(count)


@intrinsic
def cast(typingctx, pointer, number):
    """Convert a number to the compute type of a pointer."""
    result = COMPUTE[pointer.dtype]
    return result(pointer, number), lambda context, builder, sig, args: context.cast(builder, args[1], number, result)


@intrinsic
def get(typingctx, base, offset):
    """Load one number, in the compute type."""

    def codegen(context, builder, sig, args):
        return decode(builder, builder.load(element_address(builder, *args), align=1), base.dtype)

    return COMPUTE[base.dtype](base, types.intp), codegen


@intrinsic
def put(typingctx, base, offset, value):
    """Store one number, rounded to the storage type."""
    compute = COMPUTE[base.dtype]

    def codegen(context, builder, sig, args):
        number = context.cast(builder, args[2], value, compute)
        builder.store(encode(builder, number, base.dtype), element_address(builder, args[0], args[1]), align=1)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


def _storage_vector(dtype, lanes_=None):
    """The LLVM vector type of the storage type ``dtype``, of as many lanes as its ``Vec`` has, or of ``lanes_``."""
    return ir.VectorType(_IR[dtype], lanes_ or LANES[COMPUTE[dtype]])


def _first_lanes(builder, count, lanes_):
    """The mask of the first ``count`` lanes. A comparison of 32-bit integers takes half as many registers as one of 64-bit integers."""
    index = ir.Constant(ir.VectorType(_I32, lanes_), list(range(lanes_)))
    clamped = builder.select(builder.icmp_signed("<", count, _I64(lanes_)), count, _I64(lanes_))
    return builder.icmp_signed("<", index, broadcast_lanes(builder, builder.trunc(clamped, _I32), lanes_))


def load_at(builder, address, dtype, count=None, filler=None, lanes_=None):
    """Load a vector; with a ``count``, only its first lanes: a masked load, which gives ``filler`` (None: 0) in the other lanes."""
    raw = _storage_vector(dtype, lanes_)
    lanes_ = raw.count
    address = builder.bitcast(address, raw.as_pointer())
    if count is None:
        return decode(builder, builder.load(address, align=1), dtype, lanes_)
    mask = _first_lanes(builder, count, lanes_)
    name = f"llvm.masked.load.v{lanes_}{_SUFFIXES[dtype]}.p0"
    loaded = decode(builder, call_llvm(builder, name, raw, [address, _I32(1), mask, ir.Constant(raw, None)]), dtype, lanes_)
    return loaded if filler is None else builder.select(mask, loaded, filler)


def store_at(builder, value, address, dtype, count=None):
    """Store a vector; with a ``count``, only its first lanes."""
    lanes_ = value.type.count
    value = encode(builder, value, dtype, lanes_)
    address = builder.bitcast(address, value.type.as_pointer())
    if count is None:
        builder.store(value, address, align=1)
    else:
        name = f"llvm.masked.store.v{lanes_}{_SUFFIXES[dtype]}.p0"
        call_llvm(builder, name, ir.VoidType(), [value, address, _I32(1), _first_lanes(builder, count, lanes_)])


@intrinsic
def load(typingctx, base, offset):
    """Load a vector."""
    return vector_type(base.dtype)(base, types.intp), lambda context, builder, sig, args: load_at(
        builder, element_address(builder, *args), base.dtype
    )


@intrinsic
def load_x4(typingctx, base, offset):
    """Load four consecutive vectors as one wide vector."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        addresses = [builder.add(args[1], _I64(k * vec.lanes)) for k in range(4)]
        return concatenate(builder, [load_at(builder, element_address(builder, args[0], address), base.dtype) for address in addresses])

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp), codegen


@intrinsic
def store(typingctx, base, offset, value):
    """Store a vector, of any number of lanes."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[2], element_address(builder, args[0], args[1]), base.dtype)
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def load_n(typingctx, base, offset, count, fill):
    """Load the first ``count`` lanes of a vector; the other lanes are ``fill``, and their memory is not accessed."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        filler = as_vector(context, builder, args[3], fill, vec)
        return load_at(builder, element_address(builder, args[0], args[1]), base.dtype, args[2], filler)

    return vec(base, types.intp, types.intp, fill), codegen


def converted(builder, value, dtype, elem):
    """Convert a vector from the compute type of ``dtype`` to ``elem``, rounding to nearest even."""
    have, wanted = COMPUTE[dtype].bitwidth, elem.bitwidth
    if have == wanted:
        return value
    return (builder.fpext if have < wanted else builder.fptrunc)(value, ir.VectorType(_IR[elem], value.type.count))


@intrinsic
def load_as(typingctx, base, offset, like):
    """Load as many numbers as ``like`` has lanes, of any storage type, and convert them to the type of ``like``."""

    def codegen(context, builder, sig, args):
        loaded = load_at(builder, element_address(builder, args[0], args[1]), base.dtype, lanes_=like.lanes)
        return converted(builder, loaded, base.dtype, like.elem)

    return like(base, types.intp, like), codegen


@intrinsic
def load_n_as(typingctx, base, offset, count, fill, like):
    """``load_as`` of the first ``count`` lanes; the other lanes are ``fill``, and their memory is not accessed."""

    def codegen(context, builder, sig, args):
        plain = Vec(COMPUTE[base.dtype], like.lanes)
        filler = as_vector(context, builder, args[3], fill, plain)
        loaded = load_at(builder, element_address(builder, args[0], args[1]), base.dtype, args[2], filler, like.lanes)
        return converted(builder, loaded, base.dtype, like.elem)

    return like(base, types.intp, types.intp, fill, like), codegen


@intrinsic
def load_n_x4(typingctx, base, offset, count, fill):
    """Load the first ``count`` lanes of four consecutive vectors; the other lanes are ``fill``, and their memory is not accessed."""
    vec = vector_type(base.dtype)

    def codegen(context, builder, sig, args):
        filler = as_vector(context, builder, args[3], fill, vec)
        vectors = []
        for k in range(4):
            skipped = _I64(k * vec.lanes)
            address = element_address(builder, args[0], builder.add(args[1], skipped))
            vectors.append(load_at(builder, address, base.dtype, builder.sub(args[2], skipped), filler))
        return concatenate(builder, vectors)

    return Vec(vec.elem, 4 * vec.lanes)(base, types.intp, types.intp, fill), codegen


@intrinsic
def store_n(typingctx, base, offset, count, value):
    """Store the first ``count`` lanes of a vector."""

    def codegen(context, builder, sig, args):
        store_at(builder, args[3], element_address(builder, args[0], args[1]), base.dtype, args[2])
        return context.get_dummy_value()

    return types.void(base, types.intp, types.intp, value), codegen


@intrinsic
def load_float64(typingctx, base, offset, like):
    """Load a float64 vector with as many lanes as ``like``."""
    vec = Vec(types.float64, like.lanes)

    def codegen(context, builder, sig, args):
        address = builder.bitcast(element_address(builder, args[0], args[1]), ir.VectorType(ir.DoubleType(), like.lanes).as_pointer())
        return builder.load(address, align=1)

    return vec(base, types.intp, like), codegen


@intrinsic
def store_nontemporal(typingctx, base, offset, value):
    """Store a vector with a nontemporal store, which bypasses the caches. The address must be aligned to the vector's size."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        raw = encode(builder, args[2], dtype, value.lanes)
        address = builder.bitcast(element_address(builder, args[0], args[1]), raw.type.as_pointer())
        instruction = builder.store(raw, address, align=vector_type(dtype).lanes * dtype.bitwidth // 8)
        instruction.set_metadata("nontemporal", builder.module.add_metadata([_I32(1)]))
        return context.get_dummy_value()

    return types.void(base, types.intp, value), codegen


@intrinsic
def gather(typingctx, base, offsets, shift):
    """Load ``base[offsets[lane] + shift]`` into each lane; ``offsets`` points to int64 numbers."""
    dtype = base.dtype
    vec = vector_type(dtype)

    def codegen(context, builder, sig, args):
        start = element_address(builder, args[0], args[2])
        raw = ir.Constant(_storage_vector(dtype), ir.Undefined)
        for lane in range(vec.lanes):
            address = builder.load(element_address(builder, args[1], _I64(lane)))
            raw = builder.insert_element(raw, builder.load(element_address(builder, start, address), align=1), _I32(lane))
        return decode(builder, raw, dtype, vec.lanes)

    return vec(base, offsets, types.intp), codegen


@intrinsic
def gather_as(typingctx, base, offsets, shift, like):
    """``gather`` of as many numbers as ``like`` has lanes, of any storage type, converted to the type of ``like``."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        start = element_address(builder, args[0], args[2])
        raw = ir.Constant(_storage_vector(dtype, like.lanes), ir.Undefined)
        for lane in range(like.lanes):
            address = builder.load(element_address(builder, args[1], _I64(lane)))
            raw = builder.insert_element(raw, builder.load(element_address(builder, start, address), align=1), _I32(lane))
        return converted(builder, decode(builder, raw, dtype, like.lanes), dtype, like.elem)

    return like(base, offsets, types.intp, like), codegen


@intrinsic
def scatter(typingctx, base, offsets, shift, value):
    """Store ``base[offsets[lane] + shift] = value[lane]``, last lane first: of lanes with equal offsets, the lowest one prevails."""
    dtype = base.dtype

    def codegen(context, builder, sig, args):
        start = element_address(builder, args[0], args[2])
        raw = encode(builder, args[3], dtype, value.lanes)
        for lane in reversed(range(value.lanes)):
            address = builder.load(element_address(builder, args[1], _I64(lane)))
            builder.store(builder.extract_element(raw, _I32(lane)), element_address(builder, start, address), align=1)
        return context.get_dummy_value()

    return types.void(base, offsets, types.intp, value), codegen
