"""The pages of docs/: their blocks of Python run from top to bottom, and their examples print what they say."""

import re
import sys

import pages
import pytest
from work import ROOT

DOCS = ROOT / "docs"
NOT_HERE = {"recipes.md", "gpu.md"}  # tests/system/test_recipes.py; needs a GPU. docs/interop/: tests/interop/test_pages.py
LIBRARY = re.compile(r"^\s*(?:>>> |\.\.\. )?(?:import|from) ([a-z_]\w*)", re.MULTILINE)


def pages_with_blocks():
    here = (page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).as_posix() not in NOT_HERE)
    return [page for page in here if page.parent.name != "interop" and pages.blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", pages_with_blocks(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_blocks_of_a_page_run(page, tmp_path):
    imported = {name for _, _, text in pages.blocks(page.read_text(encoding="utf-8")) for name in LIBRARY.findall(text)}
    for name in sorted(imported - set(sys.stdlib_module_names) - {"nbloss"}):
        pytest.importorskip(name)
    pages.run(page, tmp_path)


@pytest.mark.parametrize("block", ["```pycon\n>>> 1 + 1\n3\n```\n", "```python\nassert 1 + 1 == 3\n```\n"])
def test_a_wrong_block_is_found(block, tmp_path):
    page = tmp_path / "page.md"
    page.write_text(f"Text.\n\n{block}")
    with pytest.raises(AssertionError, match=r"page\.md"):
        pages.run(page, tmp_path)


def test_examples_are_counted(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nx = 1\n```\n\n```pycon\n>>> x + 1\n2\n>>> x\n1\n```\n")
    assert pages.run(page, tmp_path) == 2
