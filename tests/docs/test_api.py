"""docs/api/: every public name is on a page, and every name on a page is public."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = "\n".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs" / "api").glob("*.md")))
MODULES = [
    "nbloss",
    "nbloss.functional",
    "nbloss.modules",
    "nbloss.partial",
    *(f"nbloss.interop.{name}" for name in ("torch", "jax", "autograd", "boosting", "dask", "mpi")),
]
# Modules, the version, and the classes that nbloss has from nbloss.modules: on another page.
ELSEWHERE = {"functional", "interop", "modules", "partial", "__version__"}


def public(module):
    """`__all__`, without an import: a library may be missing."""
    path = ROOT / module.replace(".", "/")
    source = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", None) == "__all__":
            return set(ast.literal_eval(node.value))
    raise AssertionError(f"{module} has no __all__")


@pytest.mark.parametrize("module", MODULES)
def test_the_names_of_a_module_are_on_the_pages(module):
    names = re.findall(rf"^::: {re.escape(module)}\.(\w+)$", TEXT, re.MULTILINE)
    expected = public(module)
    if module == "nbloss":
        expected -= ELSEWHERE | public("nbloss.modules")
    assert len(names) == len(set(names))
    assert set(names) == expected
