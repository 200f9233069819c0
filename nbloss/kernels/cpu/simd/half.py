"""Numbers stored in 16 bits, as uint16 (IEEE half) and int16 (bfloat16; a convention of this package, as Numba has no 16-bit
floats on the CPU), to and from float32.

A processor with F16C converts halves itself. Elsewhere, and for bfloat16, the conversion is done with integers, to the same numbers:
LLVM's own half instructions crash on machines without F16C.
"""

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

HALF = types.uint16

BFLOAT = types.int16

COMPUTE = {types.float32: types.float32, types.float64: types.float64, HALF: types.float32, BFLOAT: types.float32, types.int64: types.int64}

F16C = "+f16c" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")

_I32 = ir.IntType(32)


def _same(shape, n):
    """The integer ``n``, in every lane if ``shape`` is a vector."""
    return ir.Constant(shape, [n] * shape.count) if isinstance(shape, ir.VectorType) else shape(n)


def _half_to_float(b, bits, shape):
    """IEEE half (integers of 32 bits in ``shape``) to float32, exactly: rebias by a multiplication, which also normalises subnormals."""

    def c(n):
        return _same(shape, n)

    floats = ir.VectorType(ir.FloatType(), shape.count) if isinstance(shape, ir.VectorType) else ir.FloatType()
    sign = b.shl(b.and_(bits, c(0x8000)), c(16))
    body = b.shl(b.and_(bits, c(0x7FFF)), c(13))
    scaled = b.fmul(b.bitcast(body, floats), b.bitcast(c(0x77800000), floats))  # 2**112
    special = b.icmp_unsigned(">=", body, c(0x0F800000))  # inf and nan keep the largest exponent
    plain = b.bitcast(scaled, shape)
    return b.bitcast(b.or_(sign, b.select(special, b.or_(body, c(0x7F800000)), plain)), floats)


def _float_to_half(b, value, shape):
    """float32 to IEEE half, to nearest even. Subnormal halves are rounded by adding 0.5, whose last place is the half's last place."""

    def c(n):
        return _same(shape, n)

    floats = value.type
    bits = b.bitcast(value, shape)
    sign = b.lshr(b.and_(bits, c(0x80000000)), c(16))
    size = b.and_(bits, c(0x7FFFFFFF))
    odd = b.and_(b.lshr(size, c(13)), c(1))
    normal = b.lshr(b.add(b.add(size, c(0xC8000FFF)), odd), c(13))  # exponent - 112, round to nearest even
    tiny = b.sub(b.bitcast(b.fadd(b.bitcast(size, floats), b.bitcast(c(0x3F000000), floats)), shape), c(0x3F000000))
    finite = b.select(b.icmp_unsigned("<", size, c(0x38800000)), tiny, normal)
    over = b.select(b.icmp_unsigned(">", size, c(0x7F800000)), c(0x7E00), c(0x7C00))
    return b.or_(sign, b.select(b.icmp_unsigned(">=", size, c(0x477FF000)), over, finite))


def _float_to_bfloat(b, value, shape):
    """float32 to bfloat16, to nearest even; nan stays nan."""

    def c(n):
        return _same(shape, n)

    bits = b.bitcast(value, shape)
    odd = b.and_(b.lshr(bits, c(16)), c(1))
    demote = b.lshr(b.add(bits, b.add(odd, c(0x7FFF))), c(16))
    quiet = b.or_(b.lshr(bits, c(16)), c(0x40))
    return b.select(b.icmp_unsigned(">", b.and_(bits, c(0x7FFFFFFF)), c(0x7F800000)), quiet, demote)


def _shaped(elem, count):
    """A type, or a vector of so many."""
    return elem if count is None else ir.VectorType(elem, count)


def decode(builder, raw, dtype, count=None):
    """Stored numbers to the numbers that are computed with."""
    if dtype not in (HALF, BFLOAT):
        return raw
    shape, floats = _shaped(_I32, count), _shaped(ir.FloatType(), count)
    if dtype == HALF and F16C:
        return builder.fpext(builder.bitcast(raw, _shaped(ir.HalfType(), count)), floats)
    wide = builder.zext(raw, shape)
    if dtype == HALF:
        return _half_to_float(builder, wide, shape)
    return builder.bitcast(builder.shl(wide, _same(shape, 16)), floats)


def encode(builder, value, dtype, count=None):
    """The inverse of ``decode``, rounding to nearest even."""
    if dtype not in (HALF, BFLOAT):
        return value
    shape, narrow = _shaped(_I32, count), _shaped(ir.IntType(16), count)
    if dtype == HALF and F16C:
        return builder.bitcast(builder.fptrunc(value, _shaped(ir.HalfType(), count)), narrow)
    convert = _float_to_half if dtype == HALF else _float_to_bfloat
    return builder.trunc(convert(builder, value, shape), narrow)
