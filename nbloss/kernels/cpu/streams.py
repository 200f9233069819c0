"""Output that no cache will hold goes past them all.

No line is then read only to be overwritten, and none drives out what is read next. Where the output fits a cache, that would cost 1.3x.
"""

from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic

from nbloss.kernels.cpu.memory import address, pointer
from nbloss.kernels.cpu.tuning import FOR_CACHES, SYMBOL, WIDE
from nbloss.kernels.cpu.vecmath import STRICT

LONG = 400_000  # bytes: two longer rows, and the exponentials of one, are more than a second cache holds
WORTH = 2048  # numbers: a shorter row is not worth the alignment

_I32, _I64 = ir.IntType(32), ir.IntType(64)


@intrinsic(prefer_literal=True)
def tuned(typingctx, name):
    """A number of ``tuning.FOR_CACHES``, as it is on the machine that the code runs on."""
    place = list(FOR_CACHES).index(name.literal_value)

    def codegen(context, builder, sig, args):
        known, kind = builder.module.globals, ir.ArrayType(_I64, len(FOR_CACHES))
        numbers = known[SYMBOL] if SYMBOL in known else cgutils.add_global_variable(builder.module, kind, SYMBOL)
        number = builder.load(builder.gep(numbers, [_I32(0), _I32(place)], inbounds=True))
        number.set_metadata("invariant.load", builder.module.add_metadata([]))
        return number

    return types.intp(name), codegen


@njit(**STRICT)
def _beyond(out, most, source):
    """Whether ``out`` is larger, and not written in place: ``source`` has just been read."""
    return out.size * out.itemsize > most and address(source) != address(pointer(out, 0))


@njit(**STRICT)
def rows_pass(out, n, source):
    """Whether rows of n numbers go past the caches."""
    if n * out.itemsize > LONG:
        return _beyond(out, tuned("long_rows_past"), source)
    return n >= WORTH and out.itemsize >= WIDE and _beyond(out, tuned("rows_past"), source)


@njit(**STRICT)
def pixels_pass(out, source):
    """Whether pixels go past the caches."""
    return out.itemsize >= WIDE and _beyond(out, tuned("pixels_past"), source)
