"""The page on the architecture has every module of the package's upper folders."""

import re
from pathlib import Path

import nbloss

PACKAGE = Path(nbloss.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "how-it-works" / "architecture.md"
LISTED = "", "backends", "kernels", "kernels/math", "kernels/cpu"  # of other folders the page says what they are for


def modules_of(folder):
    """The modules of a folder, and its packages with a slash behind the name."""
    paths = [path for path in (PACKAGE / folder).iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()]
    return {path.stem if path.suffix else f"{path.name}/" for path in paths} - {"__init__"}


def test_the_tables_of_the_folders_name_every_module():
    tables = PAGE.read_text(encoding="utf-8").partition("## The folders")[2].partition("\n## ")[0]
    named = set(re.findall(r"`(?:\w+/)*(\w+/?)`", tables))
    for folder in LISTED:
        assert modules_of(folder) <= named, folder
