"""docs/interop/: the code of each page runs from top to bottom, and each page begins with a block that one can copy."""

import os
import subprocess
import sys
from pathlib import Path

import pages
import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "docs" / "interop").glob("*.md"))
LIBRARIES = {
    "boosting": ["xgboost", "lightgbm", "sklearn"],
    "mpi": ["mpi4py"],
    "scipy": ["scipy", "sklearn"],
}  # of the others: one, of the page's name
MODULES = ["torch", "jax", "autograd", "boosting", "dask", "mpi"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_code_of_a_page_runs(page, tmp_path):
    for library in LIBRARIES.get(page.stem, [page.stem]):
        pytest.importorskip(library)
    pages.run(page, tmp_path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_begins_with_ten_lines_to_copy(page):
    kind, line, first = pages.blocks(page.read_text(encoding="utf-8"))[0]
    assert kind == "python"
    assert line <= 8
    assert 4 <= len([text for text in first.splitlines() if text.strip()]) <= 14


def test_every_module_has_a_page():
    assert {page.stem for page in PAGES} >= set(MODULES)


@pytest.mark.parametrize("module", MODULES)
def test_a_missing_library_is_an_import_error_that_names_the_extra(module):
    missing = LIBRARIES.get(module, [module])
    code = f"""
import sys
for name in {missing}:
    sys.modules[name] = None  # makes `import name` raise ImportError
import nbloss
try:
    import nbloss.interop.{module} as m
    for factory in [f for f in dir(m) if f.endswith("_objective")]:
        getattr(m, factory)()
except ImportError as error:
    assert 'pip install "nbloss[{module}]"' in str(error), error
else:
    raise AssertionError("no ImportError")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


IMPORTS_NONE = """
import sys
import nbloss, nbloss.interop, nbloss.functional, nbloss.modules
nbloss.functional.cross_entropy([[0.0, 1.0]], [0])
found = {"torch", "jax", "autograd", "xgboost", "lightgbm", "sklearn", "dask", "mpi4py"} & set(sys.modules)
assert not found, found
"""


def test_nbloss_imports_none_of_these_libraries():
    done = subprocess.run([sys.executable, "-c", IMPORTS_NONE], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 0, done.stderr


def test_the_check_of_imports_finds_an_import():
    pytest.importorskip("autograd")
    done = subprocess.run([sys.executable, "-c", f"import autograd{IMPORTS_NONE}"], capture_output=True, text=True, env=os.environ.copy())
    assert done.returncode == 1 and "{'autograd'}" in done.stderr
