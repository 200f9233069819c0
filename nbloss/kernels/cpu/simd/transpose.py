"""Rows into the lanes of a tile, and back.

Rows are taken in pieces of 16 bytes (four float32, or two float64). The pieces of as many rows as there are lanes fill vectors, which
are transposed within their blocks of 16 bytes: a third of the shuffles of a whole square, of which a processor does one per cycle while
it loads two pieces; and no piece reaches beyond its row. The last piece of a row overlaps the one before.

Rows of 2 or 3 numbers that follow each other fill as many whole vectors, which are dealt to the classes directly.
"""

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.half import COMPUTE, decode, encode
from nbloss.kernels.cpu.simd.load_store import load_at, storage_type, store_at
from nbloss.kernels.cpu.simd.vec import LANES, call_llvm, concatenate, shuffle_lanes

_I64 = ir.IntType(64)

BLOCKS = 4  # of a vector, each with a piece of another row


def _interleaved(builder, vectors):
    """The transpose of each block of the vectors, as many as a block has lanes: log2 of that rounds of perfect shuffles."""
    width, lanes = len(vectors), vectors[0].type.count
    rounds = width.bit_length() - 1
    for _ in range(rounds):
        shuffled = []
        for a, b in zip(vectors[: width // 2], vectors[width // 2 :], strict=True):
            for start in (0, width // 2):
                order = [block + start + i // 2 + (lanes if i % 2 else 0) for block in range(0, lanes, width) for i in range(width)]
                shuffled.append(shuffle_lanes(builder, a, b, order))
        vectors = shuffled
    return vectors


def _fenced(builder, vector):
    """The vector, of which LLVM knows nothing: it would rather shuffle each piece alone than whole vectors once."""
    kind = f"v{vector.type.count}f{64 if vector.type.element == ir.DoubleType() else 32}"
    return call_llvm(builder, f"llvm.arithmetic.fence.{kind}", vector.type, [vector])


def _places(builder, base, apart, count):
    """Where so many rows begin, counted from every fourth one: not a chain of additions as long as there are rows."""
    for row in range(count):
        if row % 4 == 0:
            start = builder.gep(base, [builder.mul(apart, _I64(row))])
        yield builder.gep(start, [builder.mul(apart, _I64(row % 4))])


@intrinsic
def transpose_width(typingctx, base):
    """How many numbers of a row go together: rows must be as long."""
    count = LANES[COMPUTE[base.dtype]] // BLOCKS
    return types.intp(base), lambda context, builder, sig, args: _I64(count)


@intrinsic
def transpose_in(typingctx, source, apart, tile, pitch):
    """Fill as many vectors, ``pitch`` numbers apart, as a piece has numbers with the pieces of as many rows as they have lanes."""
    lanes = LANES[COMPUTE[source.dtype]]
    width = lanes // BLOCKS

    def codegen(context, builder, sig, args):
        base, apart, tile, pitch = args
        raw = ir.VectorType(storage_type(source.dtype), width)
        pieces = []
        for place in _places(builder, base, apart, lanes):
            pieces.append(builder.load(builder.bitcast(place, raw.as_pointer()), align=1))
        vectors = [decode(builder, concatenate(builder, pieces[j::width]), source.dtype, lanes) for j in range(width)]
        for c, vector in enumerate(_interleaved(builder, vectors)):
            store_at(builder, vector, builder.gep(tile, [builder.mul(pitch, _I64(c))]), tile_dtype)
        return context.get_dummy_value()

    tile_dtype = tile.dtype
    return types.void(source, types.intp, tile, types.intp), codegen


@intrinsic
def transpose_out(typingctx, tile, target, apart):
    """The inverse of ``turn_in``."""
    lanes = LANES[COMPUTE[target.dtype]]
    width = lanes // BLOCKS

    def codegen(context, builder, sig, args):
        tile, base, apart = args
        raw = ir.VectorType(storage_type(target.dtype), width)
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * lanes)]), tile_dtype) for c in range(width)]
        vectors = [encode(builder, _fenced(builder, v), target.dtype, lanes) for v in _interleaved(builder, vectors)]
        for row, place in enumerate(_places(builder, base, apart, lanes)):
            vector, start = vectors[row % width], row // width * width
            part = shuffle_lanes(builder, vector, vector, list(range(start, start + width)))
            builder.store(part, builder.bitcast(place, raw.as_pointer()), align=1)
        return context.get_dummy_value()

    tile_dtype = tile.dtype
    return types.void(tile, target, types.intp), codegen


def _chosen(builder, vectors, wanted):
    """A vector whose lanes are ``wanted``: pairs of (which vector, which of its lanes)."""
    count, result = len(wanted), vectors[0]
    for k, vector in enumerate(vectors[1:], 1):
        order = [count + lane if which == k else (lane if k == 1 and which == 0 else i) for i, (which, lane) in enumerate(wanted)]
        result = shuffle_lanes(builder, result, vector, order)
    return result


@intrinsic(prefer_literal=True)
def load_interleaved(typingctx, source, n, tile):
    """Fill ``tile`` with n classes of as many rows as it has lanes, which follow each other at ``source``; n is a constant."""
    lanes, classes, dtype = LANES[COMPUTE[source.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        base, _, tile = args
        vectors = [load_at(builder, builder.gep(base, [_I64(k * lanes)]), source.dtype) for k in range(classes)]
        for c in range(classes):
            wanted = [divmod(row * classes + c, lanes) for row in range(lanes)]
            store_at(builder, _chosen(builder, vectors, wanted), builder.gep(tile, [_I64(c * lanes)]), dtype)
        return context.get_dummy_value()

    return types.void(source, n, tile), codegen


@intrinsic(prefer_literal=True)
def store_interleaved(typingctx, tile, target, n):
    """The inverse of ``deal_in``."""
    lanes, classes, dtype = LANES[COMPUTE[target.dtype]], n.literal_value, tile.dtype

    def codegen(context, builder, sig, args):
        tile, base, _ = args
        vectors = [load_at(builder, builder.gep(tile, [_I64(c * lanes)]), dtype) for c in range(classes)]
        for k in range(classes):
            wanted = [divmod(k * lanes + i, classes)[::-1] for i in range(lanes)]
            store_at(builder, _chosen(builder, vectors, wanted), builder.gep(base, [_I64(k * lanes)]), target.dtype)
        return context.get_dummy_value()

    return types.void(tile, target, n), codegen
