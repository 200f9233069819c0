"""Transposes between rows in memory and tiles, which have one row per lane, in registers.

A row is accessed in pieces of a quarter of a vector: four float32 or 16-bit numbers, or two float64. One piece of each row, as many rows as
there are lanes, fills as many vectors as a piece has numbers, and shuffles within the quarters of these vectors transpose them. That takes
a third of the shuffles of a full square transpose (a processor does one shuffle per cycle, but two loads), and no access reaches beyond
the end of a row. Where the number of classes is no multiple of a piece, the last piece of a row overlaps the one before it.

Packed rows of 2 or 3 classes fill 2 or 3 whole vectors, whose lanes are permuted directly (``load_interleaved``).
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.half import COMPUTE, decode, encode
from nbloss.kernels.cpu.simd.load_store import converted, load_at, storage_type, store_at
from nbloss.kernels.cpu.simd.vec import LANES, call_llvm, concatenate, shuffle_lanes

_I32, _I64 = ir.IntType(32), ir.IntType(64)

PIECES = 4  # pieces per vector, each of another row


def _transpose_quarters(builder, vectors):
    """Transpose each quarter of the vectors, as many vectors as a quarter has lanes, by log2 of that number of perfect shuffles."""
    width, lanes = len(vectors), vectors[0].type.count
    rounds = width.bit_length() - 1
    for _ in range(rounds):
        shuffled = []
        for a, b in zip(vectors[: width // 2], vectors[width // 2 :], strict=True):
            for start in (0, width // 2):
                order = [quarter + start + i // 2 + (lanes if i % 2 else 0) for quarter in range(0, lanes, width) for i in range(width)]
                shuffled.append(shuffle_lanes(builder, a, b, order))
        vectors = shuffled
    return vectors


def _fence(builder, vector):
    """Hide how a vector was computed from LLVM, which otherwise shuffles each piece separately instead of whole vectors."""
    suffix = f"v{vector.type.count}f{64 if vector.type.element == ir.DoubleType() else 32}"
    return call_llvm(builder, f"llvm.arithmetic.fence.{suffix}", vector.type, [vector])


def widened(builder, vector):
    """16-bit numbers as the bits of floats, for shuffles; others as they are."""
    if not isinstance(vector.type.element, ir.IntType):
        return vector
    lanes = vector.type.count
    return builder.bitcast(builder.zext(vector, ir.VectorType(_I32, lanes)), ir.VectorType(ir.FloatType(), lanes))


def narrowed(builder, vector, element):
    """The inverse of ``widened``."""
    if not isinstance(element, ir.IntType):
        return vector
    lanes = vector.type.count
    return builder.trunc(builder.bitcast(vector, ir.VectorType(_I32, lanes)), ir.VectorType(element, lanes))


def _row_addresses(builder, base, row_stride, count):
    """The addresses of ``count`` rows, each relative to the last row whose number is a multiple of 4: no long chain of additions."""
    for row in range(count):
        if row % 4 == 0:
            start = builder.gep(base, [builder.mul(row_stride, _I64(row))])
        yield builder.gep(start, [builder.mul(row_stride, _I64(row % 4))])


@intrinsic
def transpose_width(typingctx, base):
    """How many numbers a piece has: the least length of a row."""
    count = LANES[COMPUTE[base.dtype]] // PIECES
    return types.intp(base), lambda context, builder, sig, args: _I64(count)


@intrinsic
def transpose_in(typingctx, source, row_stride, tile, vector_stride):
    """Load one piece of each row, as many rows as lanes, and store its numbers as vectors, ``vector_stride`` elements apart.

    The vectors are those of ``tile``. The numbers of ``source`` may have any storage type: they are converted, or their bits are copied
    where ``tile`` has the same one.
    """
    compute = COMPUTE[tile.dtype]
    lanes = LANES[compute]
    width = lanes // PIECES
    tile_dtype, raw_copy = tile.dtype, source.dtype == tile.dtype

    def codegen(context, builder, sig, args):
        base, row_stride, tile, vector_stride = args
        raw = ir.VectorType(storage_type(source.dtype), width)
        pieces = []
        for address in _row_addresses(builder, base, row_stride, lanes):
            pieces.append(builder.load(builder.bitcast(address, raw.as_pointer()), align=1))
        vectors = [concatenate(builder, pieces[j::width]) for j in range(width)]
        if raw_copy:
            vectors = [widened(builder, v) for v in vectors]
        else:
            vectors = [converted(builder, decode(builder, v, source.dtype, lanes), source.dtype, compute) for v in vectors]
        for c, vector in enumerate(_transpose_quarters(builder, vectors)):
            address = builder.gep(tile, [builder.mul(vector_stride, _I64(c))])
            if raw_copy:
                vector = narrowed(builder, vector, raw.element)
                builder.store(vector, builder.bitcast(address, vector.type.as_pointer()), align=1)
            else:
                store_at(builder, vector, address, tile_dtype)
        return context.get_dummy_value()

    return types.void(source, types.intp, tile, types.intp), codegen


@intrinsic
def transpose_out(typingctx, tile, target, row_stride):
    """The inverse of ``transpose_in``, for consecutive vectors."""
    lanes = LANES[COMPUTE[target.dtype]]
    width = lanes // PIECES

    def codegen(context, builder, sig, args):
        tile, base, row_stride = args
        raw = ir.VectorType(storage_type(target.dtype), width)
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * lanes)]), tile_dtype) for c in range(width)]
        vectors = [encode(builder, _fence(builder, v), target.dtype, lanes) for v in _transpose_quarters(builder, vectors)]
        for row, address in enumerate(_row_addresses(builder, base, row_stride, lanes)):
            vector, start = vectors[row % width], row // width * width
            part = shuffle_lanes(builder, vector, vector, list(range(start, start + width)))
            builder.store(part, builder.bitcast(address, raw.as_pointer()), align=1)
        return context.get_dummy_value()

    tile_dtype = tile.dtype
    return types.void(tile, target, types.intp), codegen


def _select_lanes(builder, vectors, sources):
    """A vector whose lanes are given by ``sources``: pairs (index of a vector, index of a lane)."""
    count, result = len(sources), vectors[0]
    for k, vector in enumerate(vectors[1:], 1):
        order = [count + lane if index == k else (lane if k == 1 and index == 0 else i) for i, (index, lane) in enumerate(sources)]
        result = shuffle_lanes(builder, result, vector, order)
    return result


@intrinsic(prefer_literal=True)
def load_interleaved(typingctx, source, n, tile):
    """Load packed rows of n classes, as many rows as lanes, and store them as a tile, converted to its type; n is a constant."""
    lanes, classes, dtype = LANES[COMPUTE[tile.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        base, _, tile = args
        vectors = [load_at(builder, builder.gep(base, [_I64(k * lanes)]), source.dtype, lanes_=lanes) for k in range(classes)]
        vectors = [converted(builder, v, source.dtype, COMPUTE[dtype]) for v in vectors]
        for c in range(classes):
            sources = [divmod(row * classes + c, lanes) for row in range(lanes)]
            store_at(builder, _select_lanes(builder, vectors, sources), builder.gep(tile, [_I64(c * lanes)]), dtype)
        return context.get_dummy_value()

    return types.void(source, n, tile), codegen


@intrinsic(prefer_literal=True)
def store_interleaved(typingctx, tile, target, n):
    """The inverse of ``load_interleaved``."""
    lanes, classes, dtype = LANES[COMPUTE[target.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        tile, base, _ = args
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * lanes)]), dtype) for c in range(classes)]
        for k in range(classes):
            sources = [divmod(k * lanes + i, classes)[::-1] for i in range(lanes)]
            store_at(builder, _select_lanes(builder, vectors, sources), builder.gep(base, [_I64(k * lanes)]), target.dtype)
        return context.get_dummy_value()

    return types.void(tile, target, n), codegen


@intrinsic
def copy_vector(typingctx, source, target):
    """Copy as many numbers as a vector has lanes, without a conversion."""
    raw = ir.VectorType(storage_type(source.dtype), LANES[COMPUTE[source.dtype]])

    def codegen(context, builder, sig, args):
        a, b = (builder.bitcast(v, raw.as_pointer()) for v in args)
        builder.store(builder.load(a, align=1), b, align=1)
        return context.get_dummy_value()

    return types.void(source, target), codegen


@intrinsic
def copy_reversed(typingctx, source, target):
    """Copy the vector that ends at ``source`` to the vector that begins at ``target``, in reverse order."""
    lanes, element = LANES[COMPUTE[source.dtype]], storage_type(source.dtype)
    raw = ir.VectorType(element, lanes)

    def codegen(context, builder, sig, args):
        start = builder.gep(args[0], [_I64(1 - lanes)])
        vector = widened(builder, builder.load(builder.bitcast(start, raw.as_pointer()), align=1))
        vector = narrowed(builder, shuffle_lanes(builder, vector, vector, list(reversed(range(lanes)))), element)
        builder.store(vector, builder.bitcast(args[1], raw.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(source, target), codegen


@intrinsic
def copy_every_second(typingctx, source, target):
    """Copy every second number from ``source`` on, as many as a vector has lanes, to ``target``; the last one read is the last copied."""
    lanes, element = LANES[COMPUTE[source.dtype]], storage_type(source.dtype)
    raw = ir.VectorType(element, lanes)

    def codegen(context, builder, sig, args):
        starts = [args[0], builder.gep(args[0], [_I64(lanes - 1)])]  # the second vector ends at the last number
        a, b = (widened(builder, builder.load(builder.bitcast(start, raw.as_pointer()), align=1)) for start in starts)
        order = [*range(0, lanes, 2), *range(lanes + 1, 2 * lanes, 2)]
        vector = narrowed(builder, shuffle_lanes(builder, a, b, order), element)
        builder.store(vector, builder.bitcast(args[1], raw.as_pointer()), align=1)
        return context.get_dummy_value()

    return types.void(source, target), codegen


@intrinsic
def copy_one(typingctx, source, i, target, j):
    """target[j] = source[i], without a conversion."""

    def codegen(context, builder, sig, args):
        source, i, target, j = args
        builder.store(builder.load(builder.gep(source, [i]), align=1), builder.gep(target, [j]), align=1)
        return context.get_dummy_value()

    return types.void(source, types.intp, target, types.intp), codegen
