"""Floor 1: numbers stored in 16 bits, as uint16 (IEEE half) and int16 (bfloat16; a convention of this package, as Numba has no 16-bit
floats on the CPU), to and from float32.

The conversion is done with integers: it is exact, needs no F16C, and LLVM's own half instructions crash on machines without it.
"""

from llvmlite import ir
from numba import types

HALF = types.uint16
BFLOAT = types.int16
COMPUTE = {types.float32: types.float32, types.float64: types.float64, HALF: types.float32, BFLOAT: types.float32, types.int64: types.int64}

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
    rounded = b.lshr(b.add(bits, b.add(odd, c(0x7FFF))), c(16))
    quiet = b.or_(b.lshr(bits, c(16)), c(0x40))
    return b.select(b.icmp_unsigned(">", b.and_(bits, c(0x7FFFFFFF)), c(0x7F800000)), quiet, rounded)


def decode(builder, raw, dtype, count=None):
    """Stored numbers to the numbers that are computed with."""
    if dtype not in (HALF, BFLOAT):
        return raw
    shape = _I32 if count is None else ir.VectorType(_I32, count)
    wide = builder.zext(raw, shape)
    if dtype == HALF:
        return _half_to_float(builder, wide, shape)
    floats = ir.FloatType() if count is None else ir.VectorType(ir.FloatType(), count)
    return builder.bitcast(builder.shl(wide, _same(shape, 16)), floats)


def encode(builder, value, dtype, count=None):
    """The inverse of ``decode``, rounding to nearest even."""
    if dtype not in (HALF, BFLOAT):
        return value
    shape = _I32 if count is None else ir.VectorType(_I32, count)
    narrow = ir.IntType(16) if count is None else ir.VectorType(ir.IntType(16), count)
    convert = _float_to_half if dtype == HALF else _float_to_bfloat
    return builder.trunc(convert(builder, value, shape), narrow)
