"""The kernels of the distillation loss on every architecture: nothing spills, and 512 threads fit on a multiprocessor."""

import cubins
import pytest

from nbloss.kernels.cuda.channels_first import distillation as positions
from nbloss.kernels.cuda.rows import distillation as rows
from nbloss.kernels.cuda.runtime import build
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, THREADS_WITH_128_REGISTERS

REAL = {"float32": "float32", "float64": "float64", "uint16": "float32", "int16": "float32"}


@pytest.mark.parametrize("gradient", [False, True], ids=["loss", "gradient"])
@pytest.mark.parametrize("stored", REAL)
@pytest.mark.parametrize("module", [rows, positions], ids=["rows", "positions"])
def test_distillation(module, stored, gradient):
    real = REAL[stored]
    x, numbers, out = f"*{stored}", f"*{real}", f"*{stored if gradient else real}"
    signature = x, numbers, real, real, numbers, "int64", numbers, out, *["int64"] * (1 if module is rows else 3)
    for capability in cubins.architectures(f"{module.__name__} {stored} {gradient}"):
        constants = "half" if stored in ("uint16", "int16") else stored, capability >= (8, 0), gradient
        code = cubins.read(build.cubin(module.distillation, constants, signature, capability, BLOCK_THREADS))
        note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
        assert code.stack == code.spills == 0, note
        assert code.registers * THREADS_WITH_128_REGISTERS <= 65536, note
