"""The kernels of second derivatives on every architecture: nothing spills, and 512 threads fit on a multiprocessor."""

import cubins
import pytest

from nbloss.kernels.cuda.channels_first import second_order as positions
from nbloss.kernels.cuda.rows import second_order as rows
from nbloss.kernels.cuda.runtime import build
from nbloss.kernels.cuda.tuning import BLOCK_THREADS, THREADS_WITH_128_REGISTERS

REAL = {"float32": "float32", "float64": "float64", "uint16": "float32", "int16": "float32"}


def assert_fits(make, constants, signature, capability):
    code = cubins.read(build.cubin(make, constants, signature, capability, BLOCK_THREADS))
    note = f"sm_{capability[0]}{capability[1]} {code[:2]}"
    assert code.stack == code.spills == 0, note
    assert code.registers * THREADS_WITH_128_REGISTERS <= 65536, note


@pytest.mark.parametrize("optioned", [None, "lse_square_scale"])
@pytest.mark.parametrize("product", [True, False], ids=["product", "diagonal"])
@pytest.mark.parametrize("stored", REAL)
@pytest.mark.parametrize("module", [rows, positions], ids=["rows", "positions"])
def test_hessian(module, stored, product, optioned):
    real, numbers = REAL[stored], ["int64"] * (1 if module is rows else 3)
    x = f"*{stored}"
    signature = x, f"*{real}" if product else x, f"*{real}", "int64", real, x, *numbers
    for capability in cubins.architectures(f"{module.__name__} {stored} {product} {optioned}"):
        constants = "half" if stored in ("uint16", "int16") else stored, capability >= (8, 0), product, optioned
        assert_fits(module.hessian, constants, signature, capability)


@pytest.mark.parametrize("real", ["float32", "float64"])
@pytest.mark.parametrize("module", [rows, positions], ids=["rows", "positions"])
def test_row_mass(module, real):
    signature = f"*{real}", f"*{real}", real, real, f"*{real}", *["int64"] * (1 if module is rows else 3)
    for capability in cubins.architectures(f"mass {module.__name__} {real}"):
        assert_fits(module.row_mass, (), signature, capability)
