"""The steps of tools/gpu_check, in the order of what they are worth: the first four minutes give correctness, bandwidth and memcheck."""

import os
import sys
from dataclasses import replace

from .runner import Command, Step

# What the smoke step has names for; the programs import nbloss, and the list of steps is shown without it.
FAMILIES = (
    "log_softmax", "log_softmax_backward", "softmax", "softmax_backward", "cross_entropy", "value_and_grad", "int32_targets",
    "label_smoothing", "weights", "probabilities", "nll_loss", "nll_loss_backward",
)  # fmt: skip
TESTS = "tests/cuda_gpu"
HARDWARE = tuple(f"{TESTS}/test_{name}.py" for name in ("streams", "exports", "graphs", "pool"))
JAX = f"{TESTS}/test_jax.py"  # in a process of its own: JAX and torch each take what memory they find
LARGEST = f"{TESTS}/test_accuracy.py::test_more_elements_than_32_bits_can_count"

# A dry run compiles every kernel that it launches, two seconds each: all steps take the same shape, so that they share kernels.
DRY_SHAPE, DRY_DTYPE, DRY_OPERATION = "64x1000", "float32", "cross_entropy_value_and_grad"
DRY_SECONDS, WHOLE_SECONDS = 90.0, 3600.0
DRY_TESTS, DRY_HARDWARE = "test_log_softmax and 64x1000 and float32", "threshold or float32 or plain"
NO_NEW_KERNELS = ("compilers", "racecheck", "synccheck")  # processes that launch no kernel that the others do not

CPUS = min(8, os.cpu_count() or 1)  # processes at once, where no time is measured


def _program(name, *words, label=None):
    return Command(label or name, (sys.executable, "-m", f"gpu_steps.{name}", *words))


def _compiling(step):
    """A step with time to compile, and without processes that would compile the same kernels at the same time."""
    commands = [command for command in step.commands if command.name not in NO_NEW_KERNELS]
    return replace(step, commands=commands, seconds=WHOLE_SECONDS, together=CPUS)


def steps(dry=False, whole=False):
    """All steps. ``dry``: a small part of each, with time to compile. With ``whole`` all cases of those that launch kernels."""
    if dry and whole:
        return [found for step in steps() if (found := _compiling(step)).commands]
    problem = ("--shape", DRY_SHAPE, "--dtype", DRY_DTYPE) if dry else ()
    race = (*problem, "--op", DRY_OPERATION) if dry else ()
    profiled = (f"{DRY_OPERATION}:{DRY_SHAPE}:{DRY_DTYPE}",) if dry else ()
    chosen, hardware = (("-k", DRY_TESTS), ("-k", DRY_HARDWARE)) if dry else (("-n", str(CPUS)), ())
    others = (TESTS, *(f"--ignore={path}" for path in (*HARDWARE, JAX)), f"--deselect={LARGEST}")
    families = [_program("smoke", family, *problem, label=family) for family in FAMILIES]
    memcheck, racecheck, synccheck = (
        _program("sanitizer", tool, *problem, label=tool) for tool in ("memcheck", "racecheck", "synccheck")
    )  # fmt: skip
    of_torch, of_jax = _program("suite", *HARDWARE, *hardware), _program("suite", JAX, *hardware, label="jax")
    largest = [] if dry else [_program("suite", LARGEST, label="more-than-32-bits")]
    everything = [
        Step("versions", "versions, driver, cubins, the first call", 20, [_program("versions")]),
        Step("smoke", "every family of kernels, a process each", 30, families, together=4),
        Step("bandwidth", "copy and read, then nbloss and torch", 60, [_program("bandwidth", *race)]),
        Step("counters", "Nsight Compute on three calls", 35, [_program("counters", *profiled)]),
        Step("sanitizer", "memcheck and racecheck of small shapes", 60, [memcheck, racecheck], together=2),
        Step("hardware", "tests of what only hardware shows", 45, [of_torch, of_jax]),
        Step("tests", "the other tests on a GPU", 90, [_program("suite", *chosen, *others)]),
        Step("compilers", "torch.compile and Triton, the largest shape first", 140, [_program("compilers", *race)]),
        Step("large", "synccheck, and more than 2^31 elements", 40, [synccheck, *largest], together=2),
    ]
    return [replace(step, seconds=DRY_SECONDS) for step in everything] if dry else everything
