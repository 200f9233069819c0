"""The layers of nbloss.bench: a module imports only from its own layer and from lower ones, and never in a circle."""

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import nbloss.bench

PACKAGE = "nbloss.bench"
FOLDER = Path(nbloss.bench.__file__).parent
LAYERS = ["problem", "session", "races", "peers", "measure", "report", "gpu", "cli"]
FILES = {
    ".".join(path.relative_to(FOLDER).with_suffix("").parts).removesuffix("__init__").rstrip("."): path for path in FOLDER.rglob("*.py")
}


def layer(module):
    """The position of a module of the package; the package itself is above all layers."""
    return LAYERS.index(module.partition(".")[0]) if module else len(LAYERS)


def imports(module, source):
    """The modules of the package that a module imports, also inside functions. Names start after the package."""
    at = [PACKAGE, *module.split(".")] if module else [PACKAGE]
    folder = at if FILES[module].name == "__init__.py" else at[:-1]
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join([*folder[: len(folder) + 1 - node.level], *filter(None, [node.module])]) if node.level else node.module
            # `from package import name` imports the module `name` if there is one, and else only the package
            members = [f"{base}.{alias.name}".removeprefix(f"{PACKAGE}.") for alias in node.names]
            found = [f"{PACKAGE}.{name}" if name in FILES else base for name in members]
        else:
            continue
        for name in found:
            if name == PACKAGE or name.startswith(f"{PACKAGE}."):
                yield name.removeprefix(PACKAGE).lstrip(".")


@pytest.mark.parametrize("module", FILES)
def test_imports_go_to_the_same_layer_or_down(module):
    for target in imports(module, FILES[module].read_text()):
        assert target in FILES and layer(target) <= layer(module), f"{module} imports {target}"


def test_no_imports_are_circular():
    found = {module: {t for t in imports(module, path.read_text()) if t != module} for module, path in FILES.items()}
    assert list(TopologicalSorter(found).static_order())


def test_every_module_has_a_layer_that_the_package_describes_in_this_order():
    assert {name.partition(".")[0] for name in FILES if name} == set(LAYERS)
    places = [nbloss.bench.__doc__.index(f"\n    {name} ") for name in LAYERS]
    assert places == sorted(places)


def test_the_rules_above_can_fail():
    assert list(imports("races", "def f():\n    from .report import report")) == ["report.report"]
    assert list(imports("peers.torch", "from ..cli import main\nfrom .. import gpu\nimport nbloss.bench.cli")) == ["cli", "gpu", "cli"]
    assert list(imports("races", "import numpy\nfrom nbloss import functional")) == []


def test_no_file_is_longer_than_320_lines():
    assert {name: lines for name, path in FILES.items() if (lines := len(path.read_text().splitlines())) > 320} == {}
