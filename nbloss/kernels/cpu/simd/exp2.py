"""Powers of two as vectors, the part of exp in which processors differ.

float32 takes 2**(i / 8) from a table. AVX-512 scales by powers of two with one instruction; elsewhere the table's exponents are added to.
Either way the result is the same to the last bit, and the last step is arithmetic: an exponent that is added to the bits of a nan makes a
number of it.
"""

import numpy as np
from llvmlite import ir
from numba.extending import intrinsic

from nbloss.kernels.cpu.simd.vec import call_llvm, concatenate, per_register

SCALE32, SCALE64 = 33, 64

MAGIC32 = 1.5 * 2.0**20 + SCALE32  # n + MAGIC32 carries 8 (n + SCALE32) in its low bits, n in eighths

MAGIC64 = 1.5 * 2.0**52 + 1023 + SCALE64  # n + MAGIC64 carries the exponent of 2**(n + SCALE64)

LEAST32 = -158.0  # below, results would not all be normal numbers

_I16, _I32, _I64, _F32 = ir.IntType(16), ir.IntType(32), ir.IntType(64), ir.FloatType()

_ROOTS = 2.0 ** (np.arange(16) % 8 / 8)

_EXACT = 1.0877149085762599  # times this the roots are float32 numbers to a twentieth of what rounding usually takes (found by search)

_LANES = 16  # of float32 numbers at a time


def _constant(kind, values):
    return ir.Constant(ir.VectorType(kind, len(values)), [v.item() for v in values])


def _by_instruction(builder, w, z, n, roots):
    bits = builder.bitcast(z, ir.VectorType(_I32, _LANES))
    root = call_llvm(builder, "llvm.x86.avx512.permvar.sf.512", w.type, [_constant(_F32, roots * np.float32(2.0**SCALE32)), bits])
    p = call_llvm(builder, f"llvm.fma.v{_LANES}f32", w.type, [root, w, root])
    return call_llvm(builder, "llvm.x86.avx512.mask.scalef.ps.512", w.type, [p, n, p, _I16(-1), _I32(4)])


def _looked_up(builder, table, places, permutes):
    """The table's number at each lane's place, of which the low three bits count."""
    if permutes:
        return call_llvm(builder, "llvm.x86.avx2.permd", table.type, [table, places])
    which = builder.and_(places, ir.Constant(places.type, [7] * 8))
    found = ir.Constant(table.type, ir.Undefined)
    for lane in range(8):
        found = builder.insert_element(found, builder.extract_element(table, builder.extract_element(which, _I32(lane))), _I32(lane))
    return found


def _by_exponent(builder, w, z, n, roots, permutes):
    table = _constant(_I32, roots[:8].view(np.int32) - (np.arange(8, dtype=np.int32) << 20))
    bits = builder.bitcast(z, ir.VectorType(_I32, _LANES))
    halves = [builder.shuffle_vector(bits, bits, _constant(_I32, start + np.arange(8))) for start in (0, 8)]
    roots = concatenate(builder, [_looked_up(builder, table, half, permutes) for half in halves])
    power = builder.bitcast(builder.add(roots, builder.shl(bits, ir.Constant(bits.type, [20] * _LANES))), w.type)
    return call_llvm(builder, f"llvm.fma.v{_LANES}f32", w.type, [power, w, power])


@intrinsic(prefer_literal=True)
def multiply_exp2(typingctx, w, z, n, scaled):
    """(1 + w) 2**(n + SCALE32) for float32 n in eighths, and z = n + MAGIC32; 0 below LEAST32. nan stays.

    ``scaled`` (a constant): times a number that is the same for all n and makes the powers more exact.
    """
    roots = (_ROOTS * (_EXACT if scaled.literal_value else 1.0)).astype(np.float32)

    def codegen(context, builder, sig, args):
        features = context.codegen().magic_tuple()[2].split(",")  # of the processor that is compiled for

        def emit(w, z, n):
            if "+avx512f" in features:
                result = _by_instruction(builder, w, z, n, roots)
            else:
                result = _by_exponent(builder, w, z, n, roots, permutes="+avx2" in features)
            small = builder.fcmp_ordered("<", n, ir.Constant(n.type, [LEAST32] * _LANES))
            return builder.select(small, ir.Constant(n.type, None), result)

        return per_register(builder, w, emit, args[:3])

    return w(w, z, n, scaled), codegen


@intrinsic
def exp2_float64(typingctx, z):
    """2**(n + SCALE64) for float64 z = n + MAGIC64."""

    def codegen(context, builder, sig, args):
        integers = ir.VectorType(_I64, z.lanes)
        bits = builder.shl(builder.bitcast(args[0], integers), ir.Constant(integers, [52] * z.lanes))
        return builder.bitcast(bits, args[0].type)

    return z(z), codegen
