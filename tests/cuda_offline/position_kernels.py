"""The kernels of classes on another axis as `channels_first.launches` launches them, and what their machine code says about their speed."""

import cubins
import row_kernels

from nbloss.kernels.cuda.channels_first import positions
from nbloss.kernels.cuda.channels_first import registers as in_registers
from nbloss.kernels.cuda.runtime import build, memory
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, THREADS_WITH_128_REGISTERS

INT = "int64"


def signature(make, stored, summed=False):
    """The types of the arguments, as `channels_first.launches` passes them."""
    real = "float64" if stored == "float64" else "float32"
    x, r = f"*{stored}", f"*{real}"
    results = real, r, INT, r, x, "*int64" if summed else r, INT, INT, r
    ends = (INT, INT) if make.__module__ == in_registers.__name__ else (INT, INT, INT)
    return {
        "log_softmax": (x, x),
        "log_softmax_backward": (x, x, x),
        "softmax_backward": (x, x, x),
        "cross_entropy": (x, "*int64", INT, r, *results),
        "cross_entropy_stats": (x, "*int64", INT, r, r, r, "*int64", "*uint8", r),
        "soft_targets": (x, r, r, real, real, "*int64", INT, r, r, *results),
    }[make.__name__] + ends


def kind(stored):
    return "half" if stored in ("int16", "uint16") else stored


SEVERAL_POSITIONS = in_registers.cross_entropy, in_registers.log_softmax  # kernels whose threads may take several


def compiled(make, stored, capability, *constants, classes=None, width=1):
    known = () if classes is None else (classes,)
    several = (width,) if make in SEVERAL_POSITIONS else ()
    made = *known, kind(stored), capability >= (8, 0), *several, *constants
    min_blocks = THREADS_WITH_128_REGISTERS // BLOCK_THREADS if width > 1 else 1
    types = signature(make, stored, len(constants) > 2 and constants[-1])
    return cubins.read(build.cubin(make, made, types, capability, BLOCK_THREADS, min_blocks))


# The constants of kernels are probabilities, or gradient, (soft,) optioned, summed.
LOSS, GRADIENT, SUMMED = (False, None, False), (True, None, False), (True, None, True)
OPTIONED, FOCAL = (True, "lse_square_scale", False), (True, "gamma", False)
SMOOTH, SOFT = (True, False, None, False), (True, True, None, False)
STATS = (True,)  # with targets
SMOOTH_OPTIONED, SOFT_OPTIONED = (True, False, "lse_square_scale", False), (True, True, "lse_square_scale", False)

# ------------------------------ the table of docs/gpu.md ------------------------------

TABLE = [("loss and gradient", stored, 21) for stored in ("float32", "int16")]  # operation, stored type, classes
NOTE = " on axis 1"  # of the lines of the table
OPERATIONS = {"loss and gradient": (in_registers.cross_entropy, GRADIENT)}


def chosen_width(stored, classes):
    """How many positions a thread takes where arrays are aligned, and there are many positions."""
    return positions.per_thread(classes, 64, [memory.at(256, (1, classes, 64), None, stored, 0, None)])


def measured(operation, stored, classes, capability):
    """See `row_kernels.Measured`. Per element: the difference between two kernels whose threads hold one class more or less."""
    (make, constants), taken = OPERATIONS[operation], chosen_width(stored, classes)
    code, smaller = (compiled(make, stored, capability, *constants, classes=c, width=taken) for c in (classes, classes - 1))
    per_element = (code.longest_path - smaller.longest_path) / taken
    return row_kernels.estimated(code, BLOCK_THREADS, classes * taken, per_element, 4 if stored == "float32" else 2, operation)


def table_row(operation, stored, classes, capability):
    """One line of the table."""
    return row_kernels.table_row(operation, stored, classes, capability, measured, NOTE)
