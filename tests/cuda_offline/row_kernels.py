"""The kernels of contiguous rows as `rows.launches` launches them, and what their machine code says about their speed.

``tools/gpu_kernels`` prints the table that this module measures, and ``test_budgets`` checks it.
"""

from importlib.metadata import version
from typing import NamedTuple

import cubins

from nbloss.kernels.cuda.rows import row_per_thread
from nbloss.kernels.cuda.rows.cross_entropy import cross_entropy_rows
from nbloss.kernels.cuda.rows.cross_entropy_stats import cross_entropy_stats_rows
from nbloss.kernels.cuda.rows.log_softmax import log_softmax_backward_rows, log_softmax_rows
from nbloss.kernels.cuda.rows.soft_targets import soft_target_rows
from nbloss.kernels.cuda.rows.softmax import softmax_backward_rows
from nbloss.kernels.cuda.runtime import build, plan
from nbloss.kernels.cuda.tuning import BLOCK_THREADS

INT = "int64"

# factory and its last constants: probabilities, or gradient, (soft,) optioned, summed
LOG_SOFTMAX, SOFTMAX = (log_softmax_rows, (False,)), (log_softmax_rows, (True,))
BACKWARD, SOFTMAX_BACKWARD = (log_softmax_backward_rows, ()), (softmax_backward_rows, ())
LOSS, GRADIENT = (cross_entropy_rows, (False, None, False)), (cross_entropy_rows, (True, None, False))
OPTIONED, SUMMED = (cross_entropy_rows, (True, "lse_square_scale", False)), (cross_entropy_rows, (True, None, True))
FOCAL = cross_entropy_rows, (True, "gamma", False)
STATS, UNTARGETED_STATS = (cross_entropy_stats_rows, (True,)), (cross_entropy_stats_rows, (False,))
SOFT, SMOOTH = (soft_target_rows, (True, True, None, False)), (soft_target_rows, (True, False, None, False))
SOFT_OPTIONED = soft_target_rows, (True, True, "lse_square_scale", False)
SMOOTH_OPTIONED = soft_target_rows, (True, False, "lse_square_scale", False)


def is_summed(kernel, constants):
    """Whether the kernel also adds its losses, in float64."""
    return kernel in (cross_entropy_rows, soft_target_rows) and constants[-1]


def signature(kernel, constants, stored):
    """The types of the arguments, as `rows.launches` passes them."""
    real = "float64" if stored == "float64" else "float32"
    x, r = f"*{stored}", f"*{real}"
    results = real, r, INT, r, x, "*int64" if is_summed(kernel, constants) else r, INT, INT, r
    if kernel is soft_target_rows:
        y = r if constants[1] else x
        return (x, y, r, real, real, "*int64", INT, r, r, *results, *[INT] * 5)
    return {
        log_softmax_rows: (x, x, *[INT] * 4),
        log_softmax_backward_rows: (x, x, x, *[INT] * 5),
        softmax_backward_rows: (x, x, x, *[INT] * 5),
        cross_entropy_rows: (x, "*int64", INT, r, *results, *[INT] * 4),
        cross_entropy_stats_rows: (x, "*int64", INT, r, r, r, "*int64", "*uint8" if constants == (True,) else "*int64", r, *[INT] * 4),
    }[kernel]


def planned(kernel, stored, classes, capability):
    """The plan for many rows, as `rows.launches` asks for it: the kernels of soft targets and of statistics are heavy."""
    return plan.rows(stored, 10**5, classes, True, capability, 132, kernel in (soft_target_rows, cross_entropy_stats_rows))


def compiled(kernel, constants, stored, p, capability):
    made = stored, p.width, p.group, p.vectors, p.resident, capability >= (8, 0), *constants
    return cubins.read(build.cubin(kernel, made, signature(kernel, constants, stored), capability, p.threads, p.min_blocks))


ROW_PER_THREAD = {log_softmax_rows: row_per_thread.log_softmax, cross_entropy_rows: row_per_thread.cross_entropy}


def compiled_row_per_thread(kernel, constants, stored, classes, capability, aligned=True):
    """The kernel in which a thread works on each row, in place of one of a thread group. It takes no classes, stride and offset."""
    width = plan.width_of_row_per_thread(stored, classes, True, aligned)
    made = stored, classes, width, capability >= (8, 0), *constants
    arguments = signature(kernel, constants, stored)[:-3]
    return cubins.read(build.cubin(ROW_PER_THREAD[kernel], made, arguments, capability, BLOCK_THREADS))


# ------------------------------ the table of docs/gpu.md ------------------------------

LANES_PER_CLOCK = 128  # of a multiprocessor: 4 instructions of 32 threads
BYTES_PER_CLOCK = 16.5  # of a multiprocessor: 4.3 TB/s over 132 multiprocessors at 1.98 GHz
ISSUE = 0.75  # of the instructions that a multiprocessor could issue
REGISTERS, THREADS, BLOCKS = 65536, 2048, 32  # of a multiprocessor

CAPABILITIES = [(9, 0), (10, 0)]
# operation, stored type, classes
TABLE = [
    *[(name, stored, classes) for name in ("loss", "loss and gradient") for stored in ("float32", "int16") for classes in (32768, 131072)],
    *[("log_softmax", stored, 32768) for stored in ("float32", "int16")],
    *[("loss and gradient", stored, 1024) for stored in ("float32", "int16")],
    *[(name, stored, 10) for name in ("loss", "loss and gradient") for stored in ("float32", "int16")],
]
OPERATIONS = {"loss": LOSS, "loss and gradient": GRADIENT, "log_softmax": LOG_SOFTMAX}


class Measured(NamedTuple):
    """
    ===============  ====================================================================================================
    field            meaning
    ===============  ====================================================================================================
    threads          threads of a multiprocessor, as far as registers and blocks allow
    in_flight        KB of the logits that these threads load at once
    per_element      instructions for each number that a thread holds: of two kernels that differ only in how many numbers
                     a thread holds, the difference of the longest paths, divided by the difference of the numbers
    once             the other instructions of the longest path, per thread
    share            estimated speed as a share of that of a copy of the bytes that the kernel reads and writes
    ===============  ====================================================================================================
    """

    registers: int
    threads: int
    in_flight: float
    per_element: float
    once: float
    numbers: int
    share: float


def measured(operation, stored, classes, capability):
    kernel, constants = OPERATIONS[operation]
    size = 4 if stored == "float32" else 2
    if plan.width_of_row_per_thread(stored, classes, True, True):
        threads, numbers, half = BLOCK_THREADS, classes, classes // 2
        code, smaller = (compiled_row_per_thread(kernel, constants, stored, c, capability) for c in (classes, half))
        per_element = (code.longest_path - smaller.longest_path) / (classes - half)
    else:
        p = planned(kernel, stored, classes, capability)
        code = compiled(kernel, constants, stored, p, capability)
        fewer = p._replace(vectors=p.vectors // 2)
        difference = code.longest_path - compiled(kernel, constants, stored, fewer, capability).longest_path
        per_element = difference / ((p.vectors - fewer.vectors) * p.width)
        threads, numbers = p.threads, p.vectors * p.width
    return estimated(code, threads, numbers, per_element, size, operation)


def estimated(code, threads, numbers, per_element, size, operation):
    """What the machine code of a kernel says, whose blocks have ``threads`` threads; ``size`` is the bytes of a number."""
    blocks = min(REGISTERS // (-(-code.registers // 8) * 8 * threads), THREADS // threads, BLOCKS)
    moved = size * (1 if operation == "loss" else 2)
    budget = moved / BYTES_PER_CLOCK * LANES_PER_CLOCK * ISSUE
    return Measured(
        code.registers,
        blocks * threads,
        blocks * threads * numbers * size / 1024,
        per_element,
        code.longest_path - per_element * numbers,
        numbers,
        min(1.0, budget / (code.longest_path / numbers)),
    )


def made_with():
    """The line of the page that names the compiler."""
    names = "numba-cuda", "nvidia-nvvm", "nvidia-nvjitlink"
    return f"Compiled with {', '.join(f'{name} {version(name)}' for name in names)}."


def table_row(operation, stored, classes, capability, measured=measured, note=""):
    """One line of the table; ``note`` follows the number of classes."""
    m = measured(operation, stored, classes, capability)
    dtype = "bfloat16" if stored == "int16" else stored
    return (
        f"| {operation}, {dtype}, {classes}{note} | sm_{capability[0]}{capability[1]} | {m.registers} | {m.threads} | {m.in_flight:.0f} "
        f"| {m.per_element:.1f} | {m.once:.0f} / {m.numbers} | {100 * m.share:.0f} % |"
    )
