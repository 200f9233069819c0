"""Output that no cache will hold goes past them all.

No line is then read only to be overwritten, and none drives out what is read next. Where the output fits a cache, that would cost 1.3x.
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
    """A number of ``tuning.MACHINE``, as it is on the machine that the code runs on."""
    place = list(MACHINE).index(name.literal_value)

    def codegen(context, builder, sig, args):
        known, kind = builder.module.globals, ir.ArrayType(_I64, len(MACHINE))
        numbers = known[MACHINE_SYMBOL] if MACHINE_SYMBOL in known else cgutils.add_global_variable(builder.module, kind, MACHINE_SYMBOL)
        number = builder.load(builder.gep(numbers, [_I32(0), _I32(place)], inbounds=True))
        number.set_metadata("invariant.load", builder.module.add_metadata([]))
        return number

    return types.intp(name), codegen


@njit(**INLINE)
def _exceeds(out, most, source):
    """Whether ``out`` is larger, and not written in place: ``source`` has just been read."""
    return out.size * out.itemsize > most and address(source) != address(pointer(out, 0))


@njit(**INLINE)
def rows_bypass_caches(out, n, source):
    """Whether rows of n numbers go past the caches."""
    if n * out.itemsize > LONG_ROW_BYTES:
        return _exceeds(out, machine_tuning("nontemporal_long_rows"), source)
    return (
        n >= NONTEMPORAL_MIN_CLASSES
        and out.itemsize >= NONTEMPORAL_MIN_ITEMSIZE
        and _exceeds(out, machine_tuning("nontemporal_rows"), source)
    )


@njit(**INLINE)
def channels_bypass_caches(out, source):
    """Whether pixels go past the caches."""
    return out.itemsize >= NONTEMPORAL_MIN_ITEMSIZE and _exceeds(out, machine_tuning("nontemporal_channels"), source)
