"""The modules of the CUDA backend import only from their own layer and from the layers below it."""

import ast
from pathlib import Path

import pytest

import nbloss

FOLDER = Path(nbloss.__file__).parent / "kernels" / "cuda"
PACKAGE = "nbloss.kernels.cuda."
LAYERS = [["tuning"], ["prims"], ["runtime"], ["epilogue", "exp", "indexing"], ["rows", "channels_first", "per_target"], ["kernel_set"]]
LEVELS = {name: level for level, names in enumerate(LAYERS) for name in names}
FILES = sorted(path.relative_to(FOLDER).as_posix() for path in FOLDER.rglob("*.py") if path.parent != FOLDER or path.name != "__init__.py")


def imported(file):
    """The names below nbloss.kernels.cuda that a file imports from."""
    for node in ast.walk(ast.parse((FOLDER / file).read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and (node.module + ".").startswith(PACKAGE):
            below = (node.module + ".")[len(PACKAGE) :]
            yield from [below.split(".")[0]] if below else [alias.name for alias in node.names]


@pytest.mark.parametrize("file", FILES)
def test_imports_go_down(file):
    own = file.removesuffix(".py").split("/")[0]
    for name in imported(file):
        assert LEVELS[name] < LEVELS[own] or name == own, name


def test_tuning_imports_nothing():
    tree = ast.parse((FOLDER / "tuning.py").read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Import, ast.ImportFrom))]
