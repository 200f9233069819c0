"""A SIMD vector as a Numba type, and its operations.

Numba from PyPI has neither a vector exp nor a maximum that vectorises. Whether LLVM vectorises a loop depends on flags, on the width of
the registers and on the machine. The hot loops therefore use an explicit vector type: a ``Vec`` has 16 float32 or 8 float64 lanes on
every machine, and LLVM splits it where registers are narrower. The source, not the processor, fixes the order of every sum. AVX2,
AVX-512 and NEON give the same bits, as long as the processor has a fused multiply-add.

A vector of four times as many lanes (names that end in ``_x4``) is four independent chains of instructions, which a processor overlaps.
"""

import operator

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic, models, register_model

LANES = {types.float32: 16, types.float64: 8}

_IR = {
    types.float32: ir.FloatType(),
    types.float64: ir.DoubleType(),
    types.int32: ir.IntType(32),
    types.int64: ir.IntType(64),
    types.boolean: ir.IntType(1),
}

_SUFFIXES = {types.float32: "f32", types.float64: "f64"}

_I32, _I64 = ir.IntType(32), ir.IntType(64)


class Vec(types.Type):
    """A vector of ``lanes`` elements."""

    def __init__(self, elem, lanes):
        self.elem, self.lanes = elem, lanes
        super().__init__(name=f"vec({elem} x {lanes})")


def _ir_type(vec):
    return ir.VectorType(_IR[vec.elem], vec.lanes)


@register_model(Vec)
class _VecModel(models.PrimitiveModel):
    def __init__(self, dmm, fe_type):
        super().__init__(dmm, fe_type, _ir_type(fe_type))


def _constant(lanes, values):
    return ir.Constant(ir.VectorType(_I32, lanes), values)


def broadcast_lanes(builder, value, lanes):
    """A vector with a scalar in every lane."""
    vector = ir.VectorType(value.type, lanes)
    first = builder.insert_element(ir.Constant(vector, ir.Undefined), value, _I32(0))
    return builder.shuffle_vector(first, ir.Constant(vector, ir.Undefined), _constant(lanes, [0] * lanes))


def shuffle_lanes(builder, a, b, order):
    """LLVM's shufflevector: lane i of the result is lane ``order[i]`` of ``a`` followed by ``b``."""
    return builder.shuffle_vector(a, b, _constant(len(order), order))


def as_vector(context, builder, value, from_type, vec):
    """Broadcast a scalar operand to ``vec``, the type of the other operand, so that kernels can write constants as Python numbers."""
    if isinstance(from_type, Vec):
        return value
    return broadcast_lanes(builder, context.cast(builder, value, from_type, vec.elem), vec.lanes)


def call_llvm(builder, name, result, args):
    """Call an LLVM intrinsic, or a C function, by its name."""
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, [a.type for a in args]), name)
    return builder.call(function, args)


def _operator(op, emit):
    """Define ``vec op vec``, ``vec op scalar`` and ``scalar op vec``, lane by lane."""

    @infer_global(op)
    class _Template(AbstractTemplate):
        def generic(self, args, kws):
            vecs = [a for a in args if isinstance(a, Vec)]
            others = [a for a in args if not isinstance(a, Vec)]
            if len(args) == 2 and vecs and all(v == vecs[0] for v in vecs) and all(isinstance(o, types.Number) for o in others):
                return signature(vecs[0], *args)

    def lower(context, builder, sig, args):
        a, b = (as_vector(context, builder, v, t, sig.return_type) for v, t in zip(args, sig.args, strict=True))
        return emit(builder, sig.return_type, a, b)

    for pair in ((Vec, Vec), (Vec, types.Number), (types.Number, Vec)):
        lower_builtin(op, *pair)(lower)


_operator(operator.add, lambda b, t, x, y: b.fadd(x, y) if isinstance(t.elem, types.Float) else b.add(x, y))

_operator(operator.sub, lambda b, t, x, y: b.fsub(x, y) if isinstance(t.elem, types.Float) else b.sub(x, y))

_operator(operator.mul, lambda b, t, x, y: b.fmul(x, y))

_operator(operator.truediv, lambda b, t, x, y: b.fdiv(x, y))


@infer_global(operator.neg)
class _Negation(AbstractTemplate):
    def generic(self, args, kws):
        if len(args) == 1 and isinstance(args[0], Vec):
            return signature(args[0], *args)


@lower_builtin(operator.neg, Vec)
def _negate(context, builder, sig, args):
    return builder.fneg(args[0])


def _first_vec(*args):
    return next(a for a in args if isinstance(a, Vec))


def per_register(builder, vec, emit, args):
    """Apply ``emit`` to parts of as many lanes as a ``Vec`` has: LLVM assembles a wider mask bit by bit."""
    count = LANES[vec.elem]
    pieces = []
    for start in range(0, vec.lanes, count):
        order = _constant(count, list(range(start, start + count)))
        pieces.append(emit(*(builder.shuffle_vector(a, a, order) for a in args)))
    return concatenate(builder, pieces)


def concatenate(builder, pieces):
    """Concatenate vectors; their number is a power of two."""
    while len(pieces) > 1:
        order = _constant(2 * pieces[0].type.count, list(range(2 * pieces[0].type.count)))
        pieces = [builder.shuffle_vector(a, b, order) for a, b in zip(pieces[::2], pieces[1::2], strict=True)]
    return pieces[0]


@intrinsic
def repeat_x4(typingctx, a):
    """Concatenate a vector with itself, four times in all."""
    return Vec(a.elem, 4 * a.lanes)(a), lambda context, builder, sig, args: concatenate(builder, [args[0]] * 4)


@intrinsic
def concat_x4(typingctx, a, b, c, d):
    """Concatenate four vectors."""
    return Vec(a.elem, 4 * a.lanes)(a, b, c, d), lambda context, builder, sig, args: concatenate(builder, args)


@intrinsic(prefer_literal=True)
def extract_x4(typingctx, a, which):
    """Vector number ``which`` (a constant) of the four that a wide vector consists of."""
    count = a.lanes // 4
    order = list(range(which.literal_value * count, (which.literal_value + 1) * count))

    def codegen(context, builder, sig, args):
        return builder.shuffle_vector(args[0], args[0], _constant(count, order))

    return Vec(a.elem, count)(a, which), codegen


@intrinsic
def fma(typingctx, a, b, c):
    """a * b + c, rounded once."""
    vec = _first_vec(a, b, c)

    def codegen(context, builder, sig, args):
        args = [as_vector(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True)]
        return call_llvm(builder, f"llvm.fma.v{vec.lanes}{_SUFFIXES[vec.elem]}", _ir_type(vec), args)

    return vec(a, b, c), codegen


@intrinsic
def maximum(typingctx, a, b):
    """The larger of each pair, and ``b`` where ``a`` is nan: one instruction. The sum of exponentials propagates the nan."""

    def codegen(context, builder, sig, args):
        other = as_vector(context, builder, args[1], b, a)
        return builder.select(builder.fcmp_ordered(">", args[0], other), args[0], other)

    return a(a, b), codegen


@intrinsic
def absolute(typingctx, a):
    """The size of each number, without its sign."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, f"llvm.fabs.v{a.lanes}{_SUFFIXES[a.elem]}", _ir_type(a), args)

    return a(a), codegen


@intrinsic
def copysign(typingctx, a, sign):
    """The size of each number of ``a``, with the sign of the other one."""

    def codegen(context, builder, sig, args):
        return call_llvm(builder, f"llvm.copysign.v{a.lanes}{_SUFFIXES[a.elem]}", _ir_type(a), args)

    return a(a, a), codegen


def _bounded(op):
    """An intrinsic that replaces elements of ``a`` by a number where the number is ``op`` them; nan propagates."""

    @intrinsic
    def bounded(typingctx, a, bound):
        def codegen(context, builder, sig, args):
            limit = as_vector(context, builder, args[1], bound, a)
            return builder.select(builder.fcmp_ordered(op, limit, args[0]), limit, args[0])

        return a(a, bound), codegen

    return bounded


minimum, at_least = _bounded("<"), _bounded(">")  # the smaller or the larger of ``a`` and a number


def _comparison(op):
    @intrinsic
    def compare(typingctx, a, b):
        vec = _first_vec(a, b)

        def codegen(context, builder, sig, args):
            left, right = (as_vector(context, builder, v, t, vec) for v, t in zip(args, sig.args, strict=True))
            return builder.fcmp_ordered(op, left, right)

        return Vec(types.boolean, vec.lanes)(a, b), codegen

    return compare


less = _comparison("<")

equal = _comparison("==")

not_equal = _comparison("!=")


@intrinsic
def next_below(typingctx, number):
    """The next smaller number of the same type."""

    def codegen(context, builder, sig, args):
        kind = {types.float32: _I32, types.float64: _I64}[number]
        bits, one = builder.bitcast(args[0], kind), kind(1)
        moved = builder.select(builder.icmp_signed("<", bits, kind(0)), builder.add(bits, one), builder.sub(bits, one))
        least = kind((1 << kind.width - 1) + 1)  # of both zeros
        is_zero = builder.fcmp_ordered("==", args[0], ir.Constant(args[0].type, 0.0))
        return builder.bitcast(builder.select(is_zero, least, moved), args[0].type)

    return number(number), codegen


@intrinsic
def select(typingctx, mask, a, b):
    """``a`` where the mask is true, ``b`` elsewhere; for vectors, and for scalars of one type."""
    if mask == types.boolean:
        return a(mask, a, a), lambda context, builder, sig, args: builder.select(*args)
    vec = _first_vec(a, b)

    def codegen(context, builder, sig, args):
        a, b = (as_vector(context, builder, v, t, vec) for v, t in zip(args[1:], sig.args[1:], strict=True))
        return builder.select(args[0], a, b)

    return vec(mask, a, b), codegen


@intrinsic
def masked_add(typingctx, mask, a, b):
    """a + b where the mask is true, ``a`` elsewhere; b may be a number.

    With the flag ``nsz`` (no signed zeros), LLVM uses one masked addition of AVX-512.
    """

    def codegen(context, builder, sig, args):
        added = as_vector(context, builder, args[2], b, a)
        return builder.fadd(args[1], builder.select(args[0], added, ir.Constant(_ir_type(a), None)), flags=["nsz"])

    return a(mask, a, b), codegen


def _integers(vec):
    """The type of a vector of integers of the same size."""
    return Vec({types.float32: types.int32, types.float64: types.int64}[vec.elem], vec.lanes)


@intrinsic
def no_counts(typingctx, like):
    """A vector of integers, as many and as large as the numbers of ``like``; all of them 0."""
    result = _integers(like)
    return result(like), lambda context, builder, sig, args: ir.Constant(_ir_type(result), None)


@intrinsic
def count_true(typingctx, mask, counts):
    """``counts``, a vector of integers, plus 1 in each lane where the mask is true: one instruction less than adding numbers."""

    def codegen(context, builder, sig, args):
        return builder.sub(args[1], builder.sext(args[0], _ir_type(counts)))  # a true lane has all bits set, which is -1

    return counts(mask, counts), codegen


@intrinsic
def select_less(typingctx, a, b, x, y):
    """``x`` where a < b, ``y`` elsewhere; b and x may be scalars. Like ``select`` of ``less``, but compares by ``per_register``."""

    def codegen(context, builder, sig, args):
        wide = [as_vector(context, builder, v, t, a) for v, t in zip(args, sig.args, strict=True)]
        return per_register(builder, a, lambda a, b, x, y: builder.select(builder.fcmp_ordered("<", a, b), x, y), wide)

    return a(a, b, x, y), codegen


@intrinsic
def zero_below(typingctx, bound, t, a):
    """0 where t < bound, ``a`` elsewhere."""

    def codegen(context, builder, sig, args):
        bottom = as_vector(context, builder, args[0], bound, t)
        zero = ir.Constant(ir.VectorType(_IR[a.elem], LANES[a.elem]), None)
        return per_register(builder, a, lambda x, y, z: builder.select(builder.fcmp_ordered("<", y, x), zero, z), [bottom, *args[1:]])

    return a(bound, t, a), codegen


@intrinsic
def where_nonzero(typingctx, a, b):
    """``b`` where ``a`` is not 0 (nan is not), 0 elsewhere."""

    def codegen(context, builder, sig, args):
        zero = ir.Constant(ir.VectorType(_IR[a.elem], LANES[a.elem]), None)
        return per_register(builder, a, lambda x, y: builder.select(builder.fcmp_ordered("==", x, zero), zero, y), args)

    return b(a, b), codegen


@intrinsic
def last_lanes(typingctx, a, count):
    """The last ``count`` lanes of a vector, 0 in the others."""

    def codegen(context, builder, sig, args):
        first = broadcast_lanes(builder, builder.sub(_I32(a.lanes), builder.trunc(args[1], _I32)), a.lanes)
        mask = builder.icmp_signed(">=", _constant(a.lanes, list(range(a.lanes))), first)
        return builder.select(mask, args[0], ir.Constant(_ir_type(a), None))

    return a(a, types.intp), codegen


@intrinsic
def insert_lane(typingctx, a, lane, number):
    """Replace the number in one lane, by a comparison of lane indices.

    The alternative is a store of the number and a load of the vector. Store forwarding does not serve such a load: it waits until all
    earlier stores have drained.
    """

    def codegen(context, builder, sig, args):
        wanted_lane = broadcast_lanes(builder, builder.trunc(args[1], _I32), a.lanes)
        mask = builder.icmp_signed("==", wanted_lane, _constant(a.lanes, list(range(a.lanes))))
        return builder.select(mask, as_vector(context, builder, args[2], number, a), args[0])

    return a(a, types.intp, number), codegen


@intrinsic
def mask_or(typingctx, mask, other):
    """Logical or of two masks."""
    return mask(mask, other), lambda context, builder, sig, args: builder.or_(*args)


@intrinsic
def mask_and(typingctx, mask, other):
    """Logical and of two masks."""
    return mask(mask, other), lambda context, builder, sig, args: builder.and_(*args)


@intrinsic
def mask_not(typingctx, mask):
    """The opposite of a mask."""
    return mask(mask), lambda context, builder, sig, args: builder.not_(args[0])


@intrinsic
def all_true(typingctx, mask):
    """Whether the mask is true in every lane."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.lanes))
        return builder.icmp_unsigned("==", bits, ir.Constant(bits.type, -1))

    return types.boolean(mask), codegen


@intrinsic
def any_true(typingctx, mask):
    """Whether the mask is true in any lane."""

    def codegen(context, builder, sig, args):
        bits = builder.bitcast(args[0], ir.IntType(mask.lanes))
        return builder.icmp_unsigned("!=", bits, bits.type(0))

    return types.boolean(mask), codegen


def _reduce_halves(builder, value, lanes_, combine):
    """Combine the upper half of the lanes with the lower half until one lane is left: the tree of every horizontal reduction."""
    while lanes_ > 1:
        half = lanes_ // 2
        low = builder.shuffle_vector(value, value, _constant(half, list(range(half))))
        high = builder.shuffle_vector(value, value, _constant(half, list(range(half, lanes_))))
        value, lanes_ = combine(low, high), half
    return builder.extract_element(value, _I32(0))


@intrinsic
def reduce_max(typingctx, a):
    """The largest lane; no lane is nan."""

    def codegen(context, builder, sig, args):
        return _reduce_halves(builder, args[0], a.lanes, lambda x, y: builder.select(builder.fcmp_ordered(">", x, y), x, y))

    return a.elem(a), codegen


def _float64_vector(vec):
    return ir.VectorType(ir.DoubleType(), vec.lanes)


@intrinsic
def promote(typingctx, a):
    """Convert to float64."""

    def codegen(context, builder, sig, args):
        if isinstance(a.elem, types.Integer):
            return builder.sitofp(args[0], _float64_vector(a))
        return args[0] if a.elem == types.float64 else builder.fpext(args[0], _float64_vector(a))

    return Vec(types.float64, a.lanes)(a), codegen


@intrinsic
def demote(typingctx, a, like):
    """Round a float64 vector to the type of ``like``."""

    def codegen(context, builder, sig, args):
        return args[0] if like.elem == types.float64 else builder.fptrunc(args[0], _ir_type(like))

    return like(a, like), codegen


@intrinsic
def reduce_add(typingctx, a):
    """The sum of the lanes of a float64 vector."""

    def codegen(context, builder, sig, args):
        return _reduce_halves(builder, args[0], a.lanes, builder.fadd)

    return a.elem(a), codegen


@intrinsic
def first_lane(typingctx, a):
    """The number in lane 0."""
    return a.elem(a), lambda context, builder, sig, args: builder.extract_element(args[0], _I32(0))


@intrinsic
def split_exponent(typingctx, a, pivot):
    """``(k, f)`` with a = 2**k * f and f in [pivot, 2 * pivot), for a positive, normal ``a``; a float64 ``a`` is at least ``pivot``."""
    element, digits = (_I32, 23) if a.elem == types.float32 else (_I64, 52)

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(element, a.lanes)

        def const(n):
            return ir.Constant(integers, [n] * a.lanes)

        start = broadcast_lanes(builder, builder.bitcast(context.cast(builder, args[1], pivot, a.elem), element), a.lanes)
        bits = builder.sub(builder.bitcast(args[0], integers), start)
        f = builder.bitcast(builder.add(builder.and_(bits, const((1 << digits) - 1)), start), _ir_type(a))
        if digits == 23:
            k = builder.sitofp(builder.ashr(bits, const(digits)), _ir_type(a))
        else:  # few processors convert 64-bit integers: as the low bits of 2**52 + k
            magic = builder.or_(builder.lshr(bits, const(digits)), const(0x433 << digits))
            k = builder.fsub(builder.bitcast(magic, _ir_type(a)), ir.Constant(_ir_type(a), [2.0**52] * a.lanes))
        return context.make_tuple(builder, sig.return_type, [k, f])

    return types.UniTuple(a, 2)(a, pivot), codegen


@intrinsic
def approximate_reciprocal(typingctx, a):
    """1 / a with a relative error of at most 1/20, for a positive, normal float32 ``a``: negates the exponent in the bits."""

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(_I32, a.lanes)
        bits = builder.sub(ir.Constant(integers, [0x7EF311C7] * a.lanes), builder.bitcast(args[0], integers))
        return builder.bitcast(bits, _ir_type(a))

    return a(a), codegen
