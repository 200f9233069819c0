"""The scripts of docs/figures draw the pictures that the pages show."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
FIGURES = DOCS / "figures"
SCRIPTS = sorted(path for path in FIGURES.glob("*.py") if "__main__" in path.read_text())  # the others are helpers
VERSION = re.compile("Matplotlib v[0-9.]+")


def _computes_nothing(script):
    """Whether the drawing depends on nothing but matplotlib: numbers of other libraries may differ between machines."""
    imported = re.findall(r"^(?:import|from) ([\w.]+)", script.read_text(), re.M)
    drawing = {"canvas", "nbloss.bench.report.picture"}  # the last: colours
    return set(imported) <= {"json", "sys", "datetime", "pathlib", "math"} | drawing


def _drawn_by(script, folder):
    """The SVG files that a script writes, in a copy of the folder without any. A missing library is a skip."""
    (folder / "docs" / "figures").mkdir(parents=True)
    for path in (*DOCS.glob("*.json"), *FIGURES.glob("*.py"), *FIGURES.glob("*.json")):
        shutil.copy(path, folder / path.relative_to(DOCS.parent))
    shutil.copytree(DOCS.parent / "benchmarks" / "results", folder / "benchmarks" / "results")
    copy = folder / "docs" / "figures" / script.name
    paths = [str(DOCS.parent), str(copy.parent)]
    code = f"import runpy, sys; sys.path[:0] = {paths!r}; runpy.run_path({str(copy)!r}, run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    missing = re.search(r"ModuleNotFoundError: No module named '(.*)'", done.stderr)
    if missing and not missing[1].startswith("nbloss"):
        pytest.skip(f"needs {missing[1]}")
    assert done.returncode == 0, done.stderr
    return sorted(copy.parent.glob("*.svg"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_a_script_draws_figures_that_are_there(script, tmp_path):
    pytest.importorskip("matplotlib")
    drawn = _drawn_by(script, tmp_path)
    assert drawn
    for path in drawn:
        now, kept = path.read_text(), (FIGURES / path.name).read_text()
        assert "<dc:date>" not in now or "1970" in now, "a date makes every drawing another file"
        if _computes_nothing(script) and VERSION.findall(now) == VERSION.findall(kept):
            assert now == kept, f"{path.name} is not what {script.name} draws"


def test_every_figure_is_on_a_page_and_every_picture_of_a_page_exists():
    shown = set()
    for page in DOCS.rglob("*.md"):
        for link in re.findall(r"!\[[^\]]*\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
            if not link.startswith("http"):
                assert (page.parent / link).is_file(), f"{page.name}: {link}"
                shown.add((page.parent / link).resolve())
    unused = {path.name for path in FIGURES.glob("*.svg") if path.resolve() not in shown}
    assert not unused
