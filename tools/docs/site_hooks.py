"""Hooks of MkDocs: links that leave docs/ lead to the repository, or to the site's page of the file; wide drawings scroll."""

import re
from pathlib import Path
from posixpath import dirname, join, normpath, relpath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/nbloss/nbloss/blob/main"
ADDED = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md"}
PAGES = ADDED | {"README.md": "index.md"}  # the site has a home page of its own in the README's place
LINK = re.compile(r"(\]\()([^)\s:]+?)(#[^)\s]*)?(\))")
DRAWING = re.compile(r'<img (?=[^>]*src="[^"]*figures/([^"/]+\.svg)")')
WIDE_POINTS = 500  # the charts have 403 points, and type that a telephone can show; the drawings have 544 and more


def on_files(files, config):
    """Add the pages that lie in the root of the repository."""
    for name, page in ADDED.items():
        files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_nav(nav, config, files):
    """Let the pages of single decisions, which are not in the navigation, show that of the page that lists them."""
    section = files.get_file_from_path("decisions/README.md").page.parent
    for file in files.documentation_pages():
        if file.src_uri.startswith("decisions/0"):
            file.page.parent = section
    return nav


def on_page_markdown(markdown, page, config, files):
    """Rewrite the relative links that leave docs/."""
    uri = page.file.src_uri
    source = next((name for name, added in ADDED.items() if added == uri), f"docs/{uri}")

    def rewritten(match):
        start, link, anchor, end = match.groups()
        if link.startswith(("#", "/")):
            return match[0]
        target = normpath(join(dirname(source), link))
        if target in PAGES:
            link = relpath(PAGES[target], dirname(uri) or ".")
        elif target.startswith("docs/") and Path(target).suffix not in (".py", ".json") and (ROOT / target).is_file():
            link = relpath(target.removeprefix("docs/"), dirname(uri) or ".")
        elif (ROOT / target).exists():
            link = f"{REPOSITORY}/{target}"
        return f"{start}{link}{anchor or ''}{end}"

    return LINK.sub(rewritten, markdown)


def on_page_content(html, page, config, files):
    """Mark the wide drawings, which site.css lets scroll on a telephone. Make the addresses of the site relative, as a copy of it elsewhere
    needs them; MkDocs would look for such pages in docs/."""

    def marked(match):
        head = (ROOT / "docs" / "figures" / match[1]).read_text(encoding="utf-8")[:2000]
        return '<img class="wide" ' if float(re.search(r'width="([0-9.]+)pt"', head)[1]) > WIDE_POINTS else match[0]

    return DRAWING.sub(marked, html).replace(f'href="{config.site_url}', 'href="' + "../" * page.url.count("/"))
