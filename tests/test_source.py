"""How the sources are written: files short enough to be read at once, and one home for each number that trades speed."""

import ast
import re
from collections import defaultdict
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "nbloss"
MOST_LINES = 320
LONGER = {  # file -> why it may be longer
    "kernels/cpu/simd/vec.py": "a list of primitives",
    "kernels/cuda/prims/hardware.py": "a list of primitives",
}


def code_lines(text):
    """Lines of a source without those of its docstrings."""
    documented = 0
    for node in ast.walk(ast.parse(text)):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node, clean=False) is not None
        ):
            documented += node.body[0].end_lineno - node.body[0].lineno + 1
    return len(text.splitlines()) - documented


def sources(folder=PACKAGE):
    return {path.relative_to(PACKAGE).as_posix(): path.read_text(encoding="utf-8") for path in sorted(folder.rglob("*.py"))}


def test_no_file_has_too_many_lines():
    longer = {name: lines for name, text in sources().items() if (lines := code_lines(text)) > MOST_LINES}
    assert {name: lines for name, lines in longer.items() if name not in LONGER} == {}


def test_files_that_may_be_longer_are_there():
    """A file that is moved or split is taken off the list."""
    assert set(LONGER) <= set(sources())


def test_docstrings_are_no_code():
    assert code_lines('"""One.\n\nTwo.\n"""\n\ndef f():\n    "Three."\n    return """four"""\n') == 3


# ---- constants -----------------------------------------------------------------------------------------------------------


def constants(text):
    """Upper-case names that a module sets to numbers at its top: a number, a tuple of them, or arithmetic on numbers and such names."""
    found = []
    for node in ast.parse(text).body:
        targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) and node.value else []
        if not targets or not numeric(node.value):
            continue
        for target in targets:
            names = target.elts if isinstance(target, ast.Tuple) else [target]
            found += [name.id for name in names if isinstance(name, ast.Name) and name.id.isupper() and len(name.id) > 1]
    return found


def numeric(node):
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int | float) and not isinstance(node.value, bool)
    if isinstance(node, ast.Name):
        return node.id.isupper()
    if isinstance(node, ast.Tuple):
        return bool(node.elts) and all(map(numeric, node.elts))
    if isinstance(node, ast.UnaryOp):
        return numeric(node.operand)
    return isinstance(node, ast.BinOp) and numeric(node.left) and numeric(node.right)


def defined_twice(modules):
    """Constant -> the modules that define it, of those that several do."""
    homes = defaultdict(list)
    for name, text in modules.items():
        for constant in constants(text):
            homes[constant].append(name)
    return {constant: names for constant, names in homes.items() if len(names) > 1}


@pytest.mark.parametrize("half", ["cpu", "cuda"])
def test_no_number_has_two_homes(half):
    """What is measured again is changed in one place: in the tuning module, where a number trades speed."""
    assert defined_twice(sources(PACKAGE / "kernels" / half)) == {}


def test_a_number_with_two_homes_is_found():
    one = "from x import ROWS\nROWS_MAX = 2**10\nWAYS, LINE = 12, 64\nNAME = 'a'\ndef f():\n    LINE = 3\n"
    assert defined_twice({"one": one, "two": "LINE: int = 4 * WAYS\n", "three": "ROWS_MAX = 1 << 3\nNAME = 'b'\nROWS = []\n"}) == {
        "LINE": ["one", "two"],
        "ROWS_MAX": ["one", "three"],
    }


def test_the_links_of_all_pages_lead_to_files():
    pages = [*PACKAGE.parent.glob("*.md"), *(PACKAGE.parent / "docs").rglob("*.md")]
    found = ((page, link) for page in pages for link in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")))
    links = [(page, link) for page, link in found if ":" not in link]
    assert len(links) > 100
    assert [(page.name, link) for page, link in links if not (page.parent / link).exists()] == []
