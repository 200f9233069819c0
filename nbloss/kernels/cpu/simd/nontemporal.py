"""When kernels write their output with nontemporal stores, which bypass the caches: for output that is too large for the last cache.

An ordinary store that misses the caches first reads the line, only to overwrite it, and the line evicts others. For output that fits a
cache, nontemporal stores took 1.3 times as long.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.compile.pipeline import INLINE
from nbloss.kernels.cpu.simd.pointers import address, pointer
from nbloss.kernels.cpu.tuning import LONG_ROW_BYTES, MACHINE, MACHINE_SYMBOL, NONTEMPORAL_MIN_CLASSES, NONTEMPORAL_MIN_ITEMSIZE

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic(prefer_literal=True)
def machine_tuning(typingctx, name):
    """The value of ``tuning.MACHINE[name]`` on the machine that runs the kernel, through a symbol that the linker resolves."""
    entry = list(MACHINE).index(name.literal_value)

    def codegen(context, builder, sig, args):
        known, kind = builder.module.globals, ir.ArrayType(_I64, len(MACHINE))
        numbers = known[MACHINE_SYMBOL] if MACHINE_SYMBOL in known else cgutils.add_global_variable(builder.module, kind, MACHINE_SYMBOL)
        number = builder.load(builder.gep(numbers, [_I32(0), _I32(entry)], inbounds=True))
        number.set_metadata("invariant.load", builder.module.add_metadata([]))
        return number

    return types.intp(name), codegen


@njit(**INLINE)
def _exceeds(out, most, source):
    """Whether ``out`` has more than ``most`` bytes and is not ``source``: memory that was just read is in a cache."""
    return out.size * out.itemsize > most and address(source) != address(pointer(out, 0))


@njit(**INLINE)
def rows_bypass_caches(out, n, source):
    """Whether nontemporal stores write rows of n numbers."""
    if n * out.itemsize > LONG_ROW_BYTES:
        return _exceeds(out, machine_tuning("nontemporal_long_rows"), source)
    return (
        n >= NONTEMPORAL_MIN_CLASSES
        and out.itemsize >= NONTEMPORAL_MIN_ITEMSIZE
        and _exceeds(out, machine_tuning("nontemporal_rows"), source)
    )


@njit(**INLINE)
def channels_bypass_caches(out, source):
    """Whether nontemporal stores write channels-first output."""
    return out.itemsize >= NONTEMPORAL_MIN_ITEMSIZE and _exceeds(out, machine_tuning("nontemporal_channels"), source)
