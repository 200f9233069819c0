"""The pages of docs/: their blocks of Python run from top to bottom, and their examples print what they say."""

import doctest
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
NOT_HERE = {"recipes.md", "gpu.md"}  # tests/system/test_recipes.py; needs a GPU. docs/interop/: tests/interop/test_pages.py
LIBRARY = re.compile(r"^\s*(?:>>> |\.\.\. )?(?:import|from) ([a-z_]\w*)", re.MULTILINE)
# In a process of its own: what a page imports (PyTorch, JAX) and sets stays there.
RUNNER = """
import doctest, json, sys
page, blocks = json.load(sys.stdin)
names = {"__name__": "__main__"}
for kind, line, text in blocks:
    if kind == "python":
        exec(compile("\\n" * line + text, page, "exec"), names)
        continue
    test = doctest.DocTestParser().get_doctest(text, names, page, page, line)
    if doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, clear_globs=False).failed:
        sys.exit(1)
    names = test.globs  # get_doctest copies them
"""


def blocks(text):
    """The kind, the line and the text of each block that runs. A block may stand in a tab or a note, further to the right."""
    found = re.finditer(r"^( *)```(python|pycon)\n(.*?)^\1```$", text, re.MULTILINE | re.DOTALL)
    return [(b[2], text.count("\n", 0, b.start()) + 1, re.sub(f"^{b[1]}", "", b[3], flags=re.MULTILINE)) for b in found]


def pages_with_blocks():
    pages = (
        page for page in sorted(DOCS.rglob("*.md")) if page.relative_to(DOCS).as_posix() not in NOT_HERE and page.parent.name != "interop"
    )
    return [page for page in pages if blocks(page.read_text(encoding="utf-8"))]


@pytest.mark.parametrize("page", pages_with_blocks(), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_the_blocks_of_a_page_run(page, tmp_path):
    found = blocks(page.read_text(encoding="utf-8"))
    for name in sorted({name for _, _, text in found for name in LIBRARY.findall(text)} - set(sys.stdlib_module_names) - {"nbloss"}):
        pytest.importorskip(name)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(
        [sys.executable, "-c", RUNNER],
        input=json.dumps([str(page), found]),
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_wrong_example_is_found():
    kind, line, text = blocks("Text.\n\n    ```pycon\n    >>> 1 + 1\n    3\n    ```\n")[0]
    test = doctest.DocTestParser().get_doctest(text, {}, "page", "page", line)
    assert (kind, doctest.DocTestRunner(verbose=False).run(test, out=lambda _: None).failed) == ("pycon", 1)
