"""Vectors of powers of two: the part of exp that depends on the instruction set.

float32 looks up 2**(i / 8) in a table. AVX-512 has an instruction that scales by powers of two. On other processors, the code adds to the
exponent bits of the table's entries. Both give the same bits. In both cases the last step is a floating-point operation, so that nan
propagates: an integer addition to the bits of a nan can give a number.
"""

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.vec import call_llvm, concatenate, per_register

SCALE32, SCALE64 = 33, 64

MAGIC32 = 1.5 * 2.0**20 + SCALE32  # the low bits of n + MAGIC32 are 8 (n + SCALE32), where n is a multiple of 1/8

MAGIC64 = 1.5 * 2.0**52 + 1023 + SCALE64  # the low bits of n + MAGIC64 are the biased exponent of 2**(n + SCALE64)

LEAST32 = -158.0  # the results of smaller n may be subnormal

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

_ROOTS = 2.0 ** (np.arange(16) % 8 / 8)

# The roots times this number have a rounding error in float32 of 1/20 of the usual one. Found by search.
ROOTS_FACTOR = 1.0877149085762599

_LANES = 16


def _constant(element, values):
    return ir.Constant(ir.VectorType(element, len(values)), [v.item() for v in values])


def _scale_by_instruction(builder, w, z, n, roots):
    """(1 + w) 2**(n + SCALE32) with the permutation and scaling instructions of AVX-512."""
    bits = builder.bitcast(z, ir.VectorType(_I32, _LANES))
    root = call_llvm(builder, "llvm.x86.avx512.permvar.sf.512", w.type, [_constant(_F32, roots * np.float32(2.0**SCALE32)), bits])
    p = call_llvm(builder, f"llvm.fma.v{_LANES}f32", w.type, [root, w, root])
    return call_llvm(builder, "llvm.x86.avx512.mask.scalef.ps.512", w.type, [p, n, p, _I16(-1), _I32(4)])


def _table_lookup(builder, table, indices, has_permutation):
    """The table's entry for each lane's index, of which only the low three bits count."""
    if has_permutation:
        return call_llvm(builder, "llvm.x86.avx2.permd", table.type, [table, indices])
    low_bits = builder.and_(indices, ir.Constant(indices.type, [7] * 8))
    entries = ir.Constant(table.type, ir.Undefined)
    for lane in range(8):
        entries = builder.insert_element(entries, builder.extract_element(table, builder.extract_element(low_bits, _I32(lane))), _I32(lane))
    return entries


def _scale_by_exponent_bits(builder, w, z, n, roots, has_permutation):
    """(1 + w) 2**(n + SCALE32) with integer arithmetic; ``permutes``: the processor has AVX2's permutation of eight numbers."""
    table = _constant(_I32, roots[:8].view(np.int32) - (np.arange(8, dtype=np.int32) << 20))
    bits = builder.bitcast(z, ir.VectorType(_I32, _LANES))
    halves = [builder.shuffle_vector(bits, bits, _constant(_I32, start + np.arange(8))) for start in (0, 8)]
    roots = concatenate(builder, [_table_lookup(builder, table, half, has_permutation) for half in halves])
    power = builder.bitcast(builder.add(roots, builder.shl(bits, ir.Constant(bits.type, [20] * _LANES))), w.type)
    return call_llvm(builder, f"llvm.fma.v{_LANES}f32", w.type, [power, w, power])


@intrinsic(prefer_literal=True)
def multiply_exp2(typingctx, w, z, n, scaled, bounded):
    """(1 + w) 2**(n + SCALE32) for float32 multiples n of 1/8, where z = n + MAGIC32; 0 for n < LEAST32; nan propagates.

    With ``scaled`` (a constant), the result is multiplied by a constant that makes the powers more accurate. With ``bounded`` (a constant),
    no n is less than LEAST32.
    """
    roots = (_ROOTS * (ROOTS_FACTOR if scaled.literal_value else 1.0)).astype(np.float32)

    def codegen(context, builder, sig, args):
        features = context.codegen().magic_tuple()[2].split(",")  # of the processor that Numba compiles for

        def emit(w, z, n):
            if "+avx512f" in features:
                result = _scale_by_instruction(builder, w, z, n, roots)
            else:
                result = _scale_by_exponent_bits(builder, w, z, n, roots, has_permutation="+avx2" in features)
            if bounded.literal_value:
                return result
            underflow = builder.fcmp_ordered("<", n, ir.Constant(n.type, [LEAST32] * _LANES))
            return builder.select(underflow, ir.Constant(n.type, None), result)

        return per_register(builder, w, emit, args[:3])

    return w(w, z, n, scaled, bounded), codegen


@intrinsic
def exp2_float64(typingctx, z):
    """2**(n + SCALE64) for float64 z = n + MAGIC64."""

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(_I64, z.lanes)
        bits = builder.shl(builder.bitcast(args[0], integers), ir.Constant(integers, [52] * z.lanes))
        return builder.bitcast(bits, args[0].type)

    return z(z), codegen


# The low bits of n + WHOLE are the biased exponent of 2**n, for integers n.
WHOLE32, WHOLE64 = 1.5 * 2.0**23 + 127, 1.5 * 2.0**52 + 1023


@intrinsic
def power_of_two(typingctx, z):
    """2**n for z = n + WHOLE32 or n + WHOLE64, where it is a normal number."""
    element, digits = (_I32, 23) if z.elem == types.float32 else (_I64, 52)

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(element, z.lanes)
        bits = builder.shl(builder.bitcast(args[0], integers), ir.Constant(integers, [digits] * z.lanes))
        return builder.bitcast(bits, args[0].type)

    return z(z), codegen
