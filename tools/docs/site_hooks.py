"""Hooks of MkDocs: links that leave docs/ lead to the repository, or to the site's page of the file; links to the site stay in it."""

import re
from pathlib import Path, PurePosixPath
from posixpath import normpath

from mkdocs.structure.files import File

ROOT = Path(__file__).parents[2]
REPOSITORY = "https://github.com/nbloss/nbloss/blob/main"
INCLUDED = {"CHANGELOG.md": "changes.md", "CONTRIBUTING.md": "contributing.md", "SECURITY.md": "security.md", "README.md": "index.md"}
LINK = re.compile(r"(\]\()([^)\s:]+?)(#[^)\s]*)?(\))")


def on_files(files, config):
    """Add the pages that lie in the root of the repository."""
    for name, page in INCLUDED.items():
        if page != "index.md":
            files.append(File.generated(config, page, content=(ROOT / name).read_text(encoding="utf-8")))
    return files


def on_page_markdown(markdown, page, config, files):
    """Rewrite the relative links that leave docs/."""
    in_root = page.file.src_uri in INCLUDED.values() and page.file.src_uri != "index.md"
    folder = PurePosixPath("." if in_root else "docs") / ("" if in_root else PurePosixPath(page.file.src_uri).parent)

    def rewritten(match):
        start, link, anchor, end = match.groups()
        if link.startswith(("#", "/")):
            return match[0]
        target = normpath(str(folder / link))
        here = PurePosixPath(page.file.src_uri).parent
        if target in INCLUDED:
            return f"{start}{_relative(INCLUDED[target], here)}{anchor or ''}{end}"
        if target.startswith("docs/") and Path(target).suffix not in (".py", ".json") and (ROOT / target).is_file():
            return f"{start}{_relative(target[len('docs/') :], here)}{anchor or ''}{end}"
        if (ROOT / target).exists():
            return f"{start}{REPOSITORY}/{target}{anchor or ''}{end}"
        return match[0]

    return LINK.sub(rewritten, markdown)


def on_page_content(html, page, config, files):
    """Make the addresses of the site relative, as a copy of it elsewhere needs them. MkDocs would look for such pages in docs/."""
    return html.replace(f'href="{config.site_url}', 'href="' + "../" * page.url.count("/"))


def _relative(page, folder):
    return "/".join([".."] * len(folder.parts) + [page]) if folder.parts else page
