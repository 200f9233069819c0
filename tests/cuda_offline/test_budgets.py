"""What the machine code of the main kernels may take on sm_90 and sm_100, and that docs/gpu.md says what it takes."""

from pathlib import Path

import pytest
import row_kernels

PAGE = Path(__file__).parents[2] / "docs" / "gpu.md"

# operation, stored type: most instructions per element
PER_ELEMENT = {
    ("loss", "float32"): 24,
    ("loss", "int16"): 11.5,
    ("loss and gradient", "float32"): 30,
    ("loss and gradient", "int16"): 20,
}


@pytest.mark.parametrize("capability", row_kernels.CAPABILITIES, ids=str)
@pytest.mark.parametrize("classes", [32768, 131072])
@pytest.mark.parametrize("case", PER_ELEMENT, ids=" ".join)
def test_long_rows(case, classes, capability):
    m = row_kernels.measured(*case, classes, capability)
    assert m.registers <= 64 and m.threads == 1024 and m.in_flight >= 96, m
    assert m.per_element <= PER_ELEMENT[case], m


# operation: most instructions per element, all of a thread counted
SHORT_ROWS = {"loss": 31, "loss and gradient": 45, "log_softmax": 36}


@pytest.mark.parametrize("capability", row_kernels.CAPABILITIES, ids=str)
@pytest.mark.parametrize("stored", ["float32", "int16"])
@pytest.mark.parametrize("operation", SHORT_ROWS)
def test_short_rows(operation, stored, capability):
    m = row_kernels.measured(operation, stored, 10, capability)
    assert m.numbers == 10 and m.per_element + m.once / m.numbers <= SHORT_ROWS[operation], m
    assert m.share >= 0.5, m


@pytest.mark.parametrize("case", [("loss", "int16", 32768), ("loss and gradient", "float32", 131072), ("loss", "float32", 10)], ids=str)
def test_the_page_says_what_the_compiler_makes(case):
    page = PAGE.read_text()
    if row_kernels.made_with() not in page:
        pytest.skip("the compiler is not the one that docs/gpu.md was made with")
    assert row_kernels.table_row(*case, (9, 0)) in page, "run tools/gpu_kernels --write"


def test_a_row_of_a_cluster_takes_two_memory_fences():
    kernel, constants = row_kernels.GRADIENT
    p = row_kernels.planned(kernel, "int16", 131072, (9, 0))
    assert p.cluster > 1
    assert row_kernels.compiled(kernel, constants, "int16", p, (9, 0)).count("MEMBAR") == 2
