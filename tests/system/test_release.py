"""tools/release: what it reads and refuses, and that the files with facts of pyproject.toml agree with it. CI runs the tool itself."""

import hashlib
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader

import pytest
from work import ROOT

import nbloss

CHANGELOG = """# Changes

## 1.10.0 (unreleased)

Later.

## 1.1.0 (2026-01-02)

- One.

### Part

- Two.

## 1.0.1

Bare.

## 1.0.0 (2025-01-02)

"""


@pytest.fixture(scope="module")
def release():
    written, sys.dont_write_bytecode = sys.dont_write_bytecode, True  # no bytecode beside the tool
    try:
        loader = SourceFileLoader("release", str(ROOT / "tools" / "release"))
        module = module_from_spec(spec_from_loader("release", loader))
        loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = written
    return module


def git(root, *arguments):
    identity = ("-c", "user.name=Someone", "-c", "user.email=someone@example.org")
    done = subprocess.run(["git", *identity, "-C", str(root), *arguments], check=True, capture_output=True, text=True)
    return done.stdout.strip()


@pytest.fixture
def repository(tmp_path):
    """A clean repository of version 1.1.0."""
    if not shutil.which("git"):
        pytest.skip("needs git")
    (tmp_path / "nbloss").mkdir()
    (tmp_path / "nbloss" / "__init__.py").write_text('"""A package."""\n\n__version__ = "1.1.0"\n')
    (tmp_path / "CHANGELOG.md").write_text(CHANGELOG)
    (tmp_path / "CITATION.cff").write_text("cff-version: 1.2.0\nversion: 1.1.0\n")
    (tmp_path / ".gitignore").write_text("dist/\n")
    git(tmp_path, "init", "-q")
    commit(tmp_path)
    return tmp_path


def commit(root):
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "A commit")


def set_version(root, version):
    (root / "nbloss" / "__init__.py").write_text(f'__version__ = "{version}"\n')
    (root / "CITATION.cff").write_text(f"version: {version}\n")
    commit(root)


# ---- facts that two files have -------------------------------------------------------------------------------------------


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def test_the_version_has_one_home(release):
    assert release.version_of(ROOT) == nbloss.__version__
    assert "version" in project()["dynamic"]
    assert "version" not in project()


def test_the_citation_has_the_version(release):
    assert release.cited_version(ROOT) == nbloss.__version__


def test_the_changelog_has_the_version(release):
    _, notes = release.changes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), nbloss.__version__)
    assert f"## {nbloss.__version__} " not in notes


def run_requirements(recipe):
    section = re.search(r"^  run:\n((?:    - .*\n)+)", recipe, re.M)[1]
    return sorted(line.removeprefix("    - ").replace(" ", "") for line in section.splitlines())


def test_the_recipe_needs_what_the_project_needs():
    recipe = (ROOT / "packaging" / "conda-forge" / "recipe.yaml").read_text(encoding="utf-8")
    lowest = re.fullmatch(r">=(\d+\.\d+)", project()["requires-python"])[1]
    assert re.search(r'^  python_min: "(.*)"$', recipe, re.M)[1] == lowest
    # conda's packages have no markers: it has tbb for all systems
    needed = [line.partition(";")[0].replace(" ", "") for line in project()["dependencies"]]
    assert run_requirements(recipe) == sorted([*needed, "python>=${{python_min}}"])
    host = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["build-system"]["requires"]
    assert all(f"    - {re.sub('(?=[<>=])', ' ', line, count=1)}\n" in recipe for line in host)
    assert f'summary: "{project()["description"]}"' in recipe


# ---- the version and the changelog ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("lines", ["", '__version__ = "1.0"', '__version__ = "1.0.0"\n__version__ = "1.0.1"', '__version__ = "1.0.0.dev1"'])
def test_a_version_that_is_none_is_refused(release, tmp_path, lines):
    (tmp_path / "nbloss").mkdir()
    (tmp_path / "nbloss" / "__init__.py").write_text(lines + "\n")
    with pytest.raises(release.Refusal, match="__version__"):
        release.version_of(tmp_path)


def test_sections_of_the_changelog(release):
    assert release.changes(CHANGELOG, "1.10.0") == ("unreleased", "Later.\n")
    assert release.changes(CHANGELOG, "1.1.0") == ("2026-01-02", "- One.\n\n### Part\n\n- Two.\n")
    assert release.changes(CHANGELOG, "1.0.1") == ("", "Bare.\n")


@pytest.mark.parametrize("version", ["1.1", "1.1.1", "1x1.0", "1.0.0", "0.1.0"])
def test_a_section_that_is_missing_or_empty_is_refused(release, version):
    with pytest.raises(release.Refusal, match=f'no section "## {re.escape(version)}", or an empty one'):
        release.changes(CHANGELOG, version)


# ---- refusals ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dry_run", [False, True])
def test_a_clean_repository_passes(release, repository, dry_run):
    assert release.check(repository, dry_run) == (git(repository, "rev-parse", "HEAD"), "1.1.0", "- One.\n\n### Part\n\n- Two.\n")


@pytest.mark.parametrize("dry_run", [False, True])
@pytest.mark.parametrize("file", ["CHANGELOG.md", "new.txt"])
def test_a_dirty_tree_is_refused(release, repository, dry_run, file):
    with open(repository / file, "a") as opened:
        opened.write("More.\n")
    with pytest.raises(release.Refusal, match=f"not committed: .*{re.escape(file)}$"):
        release.check(repository, dry_run)


def test_a_tag_that_exists_is_refused(release, repository):
    git(repository, "tag", "-a", "v1.1.0", "-m", "nbloss 1.1.0")
    with pytest.raises(release.Refusal, match=r"the tag v1\.1\.0 exists"):
        release.check(repository, dry_run=False)
    assert release.check(repository, dry_run=True)[1] == "1.1.0"  # the release itself, built again
    commit(repository)
    with pytest.raises(release.Refusal, match=r"the tag v1\.1\.0 exists"):
        release.check(repository, dry_run=True)


@pytest.mark.parametrize(
    "remark", ["", " (unreleased)", " (soon)", " (2026-1-2)", " (20260102)", " (2026-02-30)", " (2026-01-02, withdrawn)"]
)
def test_a_section_without_a_date_passes_in_a_dry_run_only(release, repository, remark):
    changelog = repository / "CHANGELOG.md"
    changelog.write_text(CHANGELOG.replace("1.1.0 (2026-01-02)", f"1.1.0{remark}"))
    commit(repository)
    assert release.check(repository, dry_run=True)[1] == "1.1.0"
    with pytest.raises(release.Refusal, match=r'no date for 1\.1\.0: write "## 1\.1\.0 \(YYYY-MM-DD\)"'):
        release.check(repository, dry_run=False)


def test_a_citation_of_another_version_is_refused(release, repository):
    (repository / "CITATION.cff").write_text("version: 1.0.1\n")
    commit(repository)
    with pytest.raises(release.Refusal, match=r"CITATION\.cff says version 1\.0\.1, nbloss/__init__\.py 1\.1\.0"):
        release.check(repository, dry_run=True)


def whole_tool(root):
    """What the tool says in a folder, which holds a copy of it."""
    (root / "tools").mkdir()
    shutil.copy(ROOT / "tools" / "release", root / "tools" / "release")
    variables = os.environ | {"GIT_CEILING_DIRECTORIES": str(root.parent)}  # no repository around the folder
    return subprocess.run([sys.executable, "tools/release", "--dry-run"], cwd=root, env=variables, capture_output=True, text=True)


def test_a_refusal_is_one_line(repository):
    """One line, exit status 1, nothing written."""
    done = whole_tool(repository)
    assert done.returncode == 1
    assert done.stderr == "tools/release: the working tree has changes that are not committed: ?? tools/\n"
    assert done.stdout == ""
    assert not (repository / "dist").exists()


def test_a_failed_call_of_git_is_one_line(repository):
    shutil.rmtree(repository / ".git")
    done = whole_tool(repository)
    assert done.returncode == 1
    assert done.stderr.startswith("tools/release: git status --porcelain: fatal: not a git repository")
    assert done.stderr.count("\n") == 1


def test_a_missing_file_is_one_line(repository):
    (repository / "CITATION.cff").unlink()
    (repository / ".gitignore").write_text("tools/\n")
    commit(repository)
    done = whole_tool(repository)
    assert done.returncode == 1
    assert re.fullmatch(r"tools/release: .*CITATION\.cff.*\n", done.stderr)


def test_a_failed_command_is_its_output_and_one_line(release, capsys):
    with pytest.raises(release.Refusal, match=r"^exit status 3: \S+ -c ") as refusal:
        release.run(sys.executable, "-c", "print('why'); raise SystemExit(3)")
    assert "\n" not in str(refusal.value)
    assert capsys.readouterr().out == "why\n"


# ---- the tag -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def main(release, repository, monkeypatch):
    """Run the tool in the repository. Instead of a build there is one file, and `meanwhile` happens."""

    def run(meanwhile, *arguments):
        def build(args, version, notes, work):
            (work / "files").mkdir()
            (work / "files" / "file").write_text(notes)
            meanwhile()
            return work / "files"

        monkeypatch.setattr(release, "build", build)
        monkeypatch.setattr(sys, "argv", ["tools/release", *arguments])
        release.main()

    monkeypatch.setattr(release, "ROOT", repository)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "0")  # main sets it: restored after the test
    monkeypatch.setenv("GIT_COMMITTER_NAME", "Someone")
    monkeypatch.setenv("GIT_COMMITTER_EMAIL", "someone@example.org")
    return run


def nothing():
    pass


def test_a_release_is_tagged(main, repository):
    main(nothing)
    assert git(repository, "cat-file", "-t", "v1.1.0") == "tag"
    assert git(repository, "rev-parse", "v1.1.0^{commit}") == git(repository, "rev-parse", "HEAD")
    assert os.environ["SOURCE_DATE_EPOCH"] == git(repository, "log", "-1", "--format=%ct")
    assert [path.name for path in (repository / "dist" / "1.1.0").iterdir()] == ["file"]


def test_a_dry_run_makes_no_tag(main, repository):
    main(nothing, "--dry-run")
    assert git(repository, "tag") == ""
    assert (repository / "dist" / "1.1.0" / "file").exists()


@pytest.mark.parametrize("dry_run", [[], ["--dry-run"]])
@pytest.mark.parametrize("change", ["commit", "file"])
def test_a_repository_that_changed_is_refused(release, main, repository, change, dry_run):
    meanwhile, reason = {
        "commit": (lambda: commit(repository), "HEAD was [0-9a-f]{40} and is [0-9a-f]{40}"),
        "file": ((repository / "new.txt").touch, r"not committed: \?\? new\.txt"),
    }[change]
    with pytest.raises(release.Refusal, match=reason):
        main(meanwhile, *dry_run)
    assert git(repository, "tag") == ""
    assert not (repository / "dist" / "1.1.0").exists()


def test_the_tag_is_that_of_the_checked_commit(release, main, repository):
    """Even if HEAD moves between the last check and the tag."""
    checked = git(repository, "rev-parse", "HEAD")
    commit(repository)
    release.make_tag(repository, "1.1.0", checked)
    assert git(repository, "rev-parse", "v1.1.0^{commit}") == checked != git(repository, "rev-parse", "HEAD")


# ---- files ---------------------------------------------------------------------------------------------------------------


def test_the_recipe_is_filled(release):
    template = (ROOT / release.RECIPE).read_text(encoding="utf-8")
    filled = release.filled_recipe(template, "1.2.3", "0123abcd" * 8)
    assert 'version: "1.2.3"' in filled
    assert f"sha256: {'0123abcd' * 8}\n" in filled
    assert "@" not in filled
    assert filled.count("${{") == template.count("${{") > 0
    with pytest.raises(release.Refusal, match="@VERSION@"):
        release.filled_recipe(filled, "1.2.3", "0123abcd" * 8)


def test_checksums_are_those_of_sha256sum(release, tmp_path):
    (tmp_path / "b").write_bytes(b"")
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "SHA256SUMS").write_text("of an earlier run")
    assert release.checksums(tmp_path) == f"{hashlib.sha256(b'abc').hexdigest()}  a\n{hashlib.sha256(b'').hexdigest()}  b\n"


def test_links_of_the_notes_lead_to_files_of_the_tag(release):
    notes = "A [page](docs/a.md#b), [another](https://example.org/x), code `f(x)`.\n"
    written = release.with_addresses(notes, "https://host/us", "v1.2.0")
    assert written == "A [page](https://host/us/blob/v1.2.0/docs/a.md#b), [another](https://example.org/x), code `f(x)`.\n"
    whole = release.changes((ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), nbloss.__version__)[1]
    linked = re.findall(r"\]\((?!\w+:)([^)#\s]+)", whole)
    assert linked and all((ROOT / name).is_file() for name in linked)
    assert not re.search(r"\]\((?!https:)", release.with_addresses(whole, "https://host/us", "v1"))
