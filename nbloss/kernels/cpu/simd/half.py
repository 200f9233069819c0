"""Conversion between float32 and the 16-bit formats float16 (IEEE half) and bfloat16.

Numba has no 16-bit floating-point types on the CPU. By a convention of this package, kernels get float16 as uint16 and bfloat16 as int16.

A processor with F16C converts float16 with instructions. All other conversions use integer arithmetic, with the same results: LLVM's
conversions of half crash on machines without F16C.
"""

from llvmlite import ir
from numba import types
from numba.core.registry import cpu_target

HALF = types.uint16

BFLOAT = types.int16

COMPUTE = {
    **{same: same for same in (types.float32, types.float64, types.int64, types.uint8)},
    HALF: types.float32,
    BFLOAT: types.float32,
}

F16C = "+f16c" in cpu_target.target_context.codegen().magic_tuple()[2].split(",")

_I32 = ir.IntType(32)


def _constant(shape, n):
    """The constant ``n`` of an integer type, or in every lane of a vector type."""
    return ir.Constant(shape, [n] * shape.count) if isinstance(shape, ir.VectorType) else shape(n)


def _half_to_float(b, bits, shape):
    """float16 (its bits as 32-bit integers of the type ``shape``) to float32, exactly.

    A multiplication by 2**112 corrects the exponent bias, which also normalises subnormal numbers.
    """

    def c(n):
        return _constant(shape, n)

    floats = ir.VectorType(ir.FloatType(), shape.count) if isinstance(shape, ir.VectorType) else ir.FloatType()
    sign = b.shl(b.and_(bits, c(0x8000)), c(16))
    magnitude = b.shl(b.and_(bits, c(0x7FFF)), c(13))
    scaled = b.fmul(b.bitcast(magnitude, floats), b.bitcast(c(0x77800000), floats))  # 2**112
    special = b.icmp_unsigned(">=", magnitude, c(0x0F800000))  # inf and nan keep the largest exponent
    finite_bits = b.bitcast(scaled, shape)
    return b.bitcast(b.or_(sign, b.select(special, b.or_(magnitude, c(0x7F800000)), finite_bits)), floats)


def _float_to_half(b, value, shape):
    """float32 to float16, round to nearest even.

    An addition of 0.5 rounds results that are subnormal: the last place of 0.5 is the last place of a subnormal float16.
    """

    def c(n):
        return _constant(shape, n)

    floats = value.type
    bits = b.bitcast(value, shape)
    sign = b.lshr(b.and_(bits, c(0x80000000)), c(16))
    magnitude_bits = b.and_(bits, c(0x7FFFFFFF))
    odd = b.and_(b.lshr(magnitude_bits, c(13)), c(1))
    normal = b.lshr(b.add(b.add(magnitude_bits, c(0xC8000FFF)), odd), c(13))  # exponent - 112, round to nearest even
    subnormal = b.sub(b.bitcast(b.fadd(b.bitcast(magnitude_bits, floats), b.bitcast(c(0x3F000000), floats)), shape), c(0x3F000000))
    finite = b.select(b.icmp_unsigned("<", magnitude_bits, c(0x38800000)), subnormal, normal)
    overflow = b.select(b.icmp_unsigned(">", magnitude_bits, c(0x7F800000)), c(0x7E00), c(0x7C00))
    return b.or_(sign, b.select(b.icmp_unsigned(">=", magnitude_bits, c(0x477FF000)), overflow, finite))


def _float_to_bfloat(b, value, shape):
    """float32 to bfloat16, round to nearest even; nan stays nan."""

    def c(n):
        return _constant(shape, n)

    bits = b.bitcast(value, shape)
    odd = b.and_(b.lshr(bits, c(16)), c(1))
    rounded = b.lshr(b.add(bits, b.add(odd, c(0x7FFF))), c(16))
    quiet = b.or_(b.lshr(bits, c(16)), c(0x40))
    return b.select(b.icmp_unsigned(">", b.and_(bits, c(0x7FFFFFFF)), c(0x7F800000)), quiet, rounded)


def _scalar_or_vector(elem, count):
    """A scalar type, or a vector type of ``count`` lanes."""
    return elem if count is None else ir.VectorType(elem, count)


def decode(builder, raw, dtype, count=None):
    """Convert from the storage type ``dtype`` to its compute type; ``count`` lanes, or a scalar if None."""
    if dtype not in (HALF, BFLOAT):
        return raw
    shape, floats = _scalar_or_vector(_I32, count), _scalar_or_vector(ir.FloatType(), count)
    if dtype == HALF and F16C:
        return builder.fpext(builder.bitcast(raw, _scalar_or_vector(ir.HalfType(), count)), floats)
    wide = builder.zext(raw, shape)
    if dtype == HALF:
        return _half_to_float(builder, wide, shape)
    return builder.bitcast(builder.shl(wide, _constant(shape, 16)), floats)


def encode(builder, value, dtype, count=None):
    """The inverse of ``decode``, rounding to nearest even."""
    if dtype not in (HALF, BFLOAT):
        return value
    shape, narrow = _scalar_or_vector(_I32, count), _scalar_or_vector(ir.IntType(16), count)
    if dtype == HALF and F16C:
        return builder.bitcast(builder.fptrunc(value, _scalar_or_vector(ir.HalfType(), count)), narrow)
    convert = _float_to_half if dtype == HALF else _float_to_bfloat
    return builder.trunc(convert(builder, value, shape), narrow)
