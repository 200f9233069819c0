"""tools/docs/site_hooks.py: links of the site's pages, without MkDocs."""

import re
import runpy
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

ROOT = Path(__file__).parents[2]
SITE = re.search(r"^site_url: (\S+)$", (ROOT / "mkdocs.yml").read_text(encoding="utf-8"), re.MULTILINE)[1]


@pytest.fixture
def hooks(monkeypatch):
    for name in ("mkdocs", "mkdocs.structure", "mkdocs.structure.files"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    sys.modules["mkdocs.structure.files"].File = None
    return runpy.run_path(str(ROOT / "tools" / "docs" / "site_hooks.py"))


@pytest.mark.parametrize(("url", "up"), [("", ""), ("history/", "../"), ("guides/numpy/", "../../")])
def test_an_address_of_the_site_becomes_relative(hooks, url, up):
    def shown(html):
        return hooks["on_page_content"](html, SimpleNamespace(url=url), SimpleNamespace(site_url=SITE), None)

    assert shown(f'<a href="{SITE}history/commits/index.html#a">') == f'<a href="{up}history/commits/index.html#a">'
    for other in ('<a href="https://github.com/nbloss/nbloss">', '<a href="../performance/">', f"<p>{SITE}</p>"):
        assert shown(other) == other


def test_the_pages_of_asv_are_built_where_the_site_links_to_them():
    links = re.findall(rf"\({re.escape(SITE)}([^)\s]*)index\.html", (ROOT / "docs" / "history.md").read_text(encoding="utf-8"))
    assert links
    built = re.findall(r"tools/history pages site/(\S+)", (ROOT / "Makefile").read_text(encoding="utf-8"))
    assert {link.rstrip("/") for link in links} == set(built)
