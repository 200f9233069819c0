"""Kernels on disk: whatever happens to the folder, results are right, no old code runs, and the user sees no error."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from work import ROOT, run_script

from nbloss.__main__ import main
from nbloss.kernels import disk

# Three kernels that compile fast: the fast path takes no subclasses.
CALLS = """
import numpy as np
import nbloss.functional as F
class Subclass(np.ndarray):
    pass
x = np.log(np.float32([[1, 2], [3, 1]])).view(Subclass)
loss = F.nll_loss(x, np.array([0, 1]), reduction="sum")
assert np.isclose(loss, -x[0, 0] - x[1, 1]), loss
"""


def call(tmp_path, cache, code=CALLS, **environment):
    """One process that calls them."""
    return run_script(tmp_path, code, NBLOSS_CACHE_DIR=str(cache), **environment)


def files(cache):
    """Every file of a cache, with what tells a rewritten one from an old one."""
    return {p.relative_to(cache): (p.stat().st_ino, p.stat().st_mtime_ns) for p in cache.rglob("*") if p.is_file()}


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A cache as a first process leaves it."""
    folder = tmp_path_factory.mktemp("filled")
    call(folder, folder / "cache")
    return folder / "cache"


@pytest.fixture
def cache(filled, tmp_path):
    """A copy of it that a test may spoil."""
    return shutil.copytree(filled, tmp_path / "cache")


def test_a_second_process_compiles_nothing(cache, tmp_path):
    before = files(cache)
    assert len(before) >= 3 and {p.suffix for p in before} == {".kernel"}
    call(tmp_path, cache)
    assert files(cache) == before


ROWS_AND_CHANNELS = """
import sys
import numpy as np
import nbloss.functional as F
for name in "{}".split():
    if name == "rows":
        loss = F.cross_entropy(np.tile(np.float32([0, 1, 2, 3]), (3, 1)), np.array([0, 1, 2]))
    else:
        loss = F.cross_entropy(np.tile(np.float32([3, 0, 1]).reshape(1, 3, 1, 1), (2, 1, 9, 9)), np.ones((2, 9, 9), int))
    print(f"{{loss:.5f}}")
"""


def test_kernels_of_different_processes_do_not_run_each_other_s_functions(tmp_path):
    """Numba numbers functions in each process: two kernels compiled apart had functions of one name, and one ran the other's."""
    rows, channels = "2.44019", "3.16985"
    for names, expected in (
        ("rows", [rows]),
        ("channels", [channels]),
        ("rows channels", [rows, channels]),
        ("channels rows", [channels, rows]),
    ):
        assert call(tmp_path, tmp_path / "cache", ROWS_AND_CHANNELS.format(names)) == expected


def rewrite(change):
    def spoil(cache, spare):
        for path in list(files(cache)):
            content = (cache / path).read_bytes()
            (cache / path).unlink()
            (cache / path).write_bytes(change(content))

    return spoil


def swap(cache, spare):
    """Every file under its neighbour's name."""
    paths = [cache / p for p in sorted(files(cache))]
    contents = [p.read_bytes() for p in paths]
    for path, content in zip(paths, contents[1:] + contents[:1], strict=True):
        path.write_bytes(content)


def other_processor(cache, spare):
    """Files of another processor under our names."""
    call(spare, spare / "cache", NUMBA_CPU_NAME="nocona", NUMBA_CPU_FEATURES="+sse3")
    swap_in(cache, spare / "cache")


def other_sources(cache, spare):
    """Files that another version of the package made, which would give other numbers, under our names."""
    package = changed_package(
        spare,
        "cpu/per_target/nll.py",
        "put(into, k, -(row_weight * get(first",
        "put(into, k, -(2 * row_weight * get(first",
    )
    code = CALLS.partition("assert")[0]
    call(spare, spare / "cache", code, PYTHONPATH=str(package))
    swap_in(cache, spare / "cache")


def swap_in(cache, theirs):
    theirs = {p.name: theirs / p for p in files(theirs)}
    for path in files(cache):
        shutil.copy(theirs[path.name], cache / path)


def folders(cache, spare):
    """Folders where the files should be: nothing can be written there either."""
    for path in list(files(cache)):
        (cache / path).unlink()
        (cache / path).mkdir()


DAMAGES = {
    "truncated": rewrite(lambda content: content[: len(content) // 2]),
    "empty": rewrite(lambda content: b""),
    "one bit": rewrite(lambda content: content[:-1] + bytes([content[-1] ^ 1])),
    "no digest": rewrite(lambda content: content[:20]),
    "rubbish": rewrite(lambda content: b"rubbish" * 1000),
    "swapped": swap,
    "another processor's": other_processor,
    "another version's": other_sources,
    "folders": folders,
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_compiled_again_in_silence_and_mended(damage, cache, tmp_path):
    spare = tmp_path / "spare"
    spare.mkdir()
    DAMAGES[damage](cache, spare)
    damaged = files(cache)
    call(tmp_path, cache)
    mended = files(cache)
    if damage == "folders":
        return
    assert all(mended[p] != damaged[p] for p in damaged), "a damaged file was taken for a kernel"
    call(tmp_path, cache)
    assert files(cache) == mended


@pytest.mark.parametrize("folder", ["/proc/nothing/here", os.devnull], ids=["unwritable", "a file"])
def test_where_nothing_can_be_written_every_process_compiles_and_says_so_once(folder, tmp_path):
    """Nothing is ever written beside the sources, so this covers a read-only installation too."""
    package = shutil.copytree(ROOT / "nbloss", tmp_path / "install" / "nbloss", ignore=shutil.ignore_patterns("__pycache__"))
    before = files(package)
    place = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    code = WARNINGS + CALLS + f"import nbloss; assert nbloss.__file__.startswith({str(package)!r})\nprint(len(told), told[0])"
    said = " ".join(run_script(tmp_path, code, NBLOSS_CACHE_DIR=folder, **place))
    assert said.startswith("1 nbloss cannot keep compiled kernels in " + folder), said
    assert files(package) == before


# ---- a user without a home ---------------------------------------------------------------------------------------------

HOMELESS = {"the root of all folders": "/", "the root, longer": "/.//", "not there": "/nonexistent/home", "a file": os.devnull}


@pytest.mark.skipif(os.name == "nt", reason="where Windows keeps such files does not depend on a home")
@pytest.mark.parametrize("home", HOMELESS.values(), ids=HOMELESS)
def test_a_user_without_a_home_has_a_folder_among_the_temporary_files(home, tmp_path):
    environment = {"NBLOSS_CACHE_DIR": "", "HOME": home, "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    folder = tmp_path / f"nbloss-{os.getuid()}"
    assert run_script(tmp_path, WARNINGS + CALLS + "print(len(told))", **environment) == ["0"]
    before = files(folder)
    assert len(before) >= 3 and folder.stat().st_mode & 0o777 == 0o700
    run_script(tmp_path, WARNINGS + CALLS + "assert not told", **environment)
    assert files(folder) == before


# Imports everything first: the other user may not be able to read the standard library, as where Python lies in /root.
PLACE = """
import os, tempfile
from nbloss.kernels import disk
if {user}:
    os.setgid({user})
    os.setuid({user})
print(disk.cache_dir(), len(disk.folders()), disk.note(disk.cache_dir()))
"""


def place(tmp_path, user=0, **environment):
    """The cache folder of a process of this user, how many folders it searches, and the remark of ``info`` on the folder."""
    environment = {"NBLOSS_CACHE_DIR": "", "XDG_CACHE_HOME": "", "NBLOSS_PRECOMPILED": "0"} | environment
    folder, count, *note = run_script(tmp_path, PLACE.format(user=user), **environment)
    return Path(folder), int(count), " ".join(note)


@pytest.mark.skipif(os.name == "nt", reason="where Windows keeps such files does not depend on a home")
def test_info_says_which_folder_is_in_use_and_why(tmp_path):
    temporary = tmp_path / f"nbloss-{os.getuid()}"
    temporary.mkdir(mode=0o700)
    user = {"TMPDIR": str(tmp_path)}
    home = "(for temporary files, as there is no home: HOME is {!r})"
    assert place(tmp_path, HOME="/", **user) == (temporary, 1, home.format("/"))
    assert place(tmp_path, HOME="/nonexistent", **user) == (temporary, 1, home.format("/nonexistent"))
    assert place(tmp_path, HOME=str(tmp_path), **user) == (tmp_path / ".cache" / "nbloss", 1, "(the user's cache folder)")
    assert place(tmp_path, NBLOSS_CACHE_DIR=str(tmp_path), **user) == (tmp_path, 1, "(set by NBLOSS_CACHE_DIR)")
    unwritable = "(set by NBLOSS_CACHE_DIR; cannot be written: every process compiles what it needs)"
    assert place(tmp_path, NBLOSS_CACHE_DIR=os.devnull) == (Path(os.devnull), 1, unwritable)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only an administrator can be somebody else")
@pytest.mark.parametrize("mode", [0o755, 0o700, 0o000], ids=["read", "closed", "closed to all"])
def test_a_home_that_cannot_be_written_is_no_home(mode, tmp_path):
    """Also the home of somebody else that this user may not look into, as a container's user 1000 whose HOME is /root."""
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folders are this user's alone
        os.chmod(open_to_all, 0o777)
        home = Path(open_to_all) / "home"
        (home / ".cache" / "nbloss").mkdir(parents=True)
        home.chmod(mode)
        found = place(tmp_path, user=65534, HOME=str(home), TMPDIR=open_to_all)
        cache = home / ".cache" / "nbloss"
        temporary = Path(open_to_all) / "nbloss-65534"
        assert found == (temporary, 1 + (mode == 0o755), f"(for temporary files, as {cache} cannot be written)")
        assert temporary.stat().st_mode & 0o777 == 0o700


def test_without_any_folder_for_temporary_files_there_is_a_remark_and_no_error(monkeypatch):
    def nowhere():
        raise FileNotFoundError("No usable temporary directory found")

    monkeypatch.delenv("NBLOSS_CACHE_DIR", raising=False)
    monkeypatch.setattr(disk, "_default_cache_dir", lambda: None)
    monkeypatch.setattr(tempfile, "gettempdir", nowhere)
    assert disk.cache_dir() == Path(os.devnull)
    assert "no home" in disk.note(disk.cache_dir()) and "cannot be written" in disk.note(disk.cache_dir())


def others_python():
    """A Python of this version that any user can run, and the variables with which it finds our packages; skips where there is none."""
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    path = os.pathsep.join(p for p in sys.path if "site-packages" in p)
    for candidate in (sys.executable, f"/usr/bin/{version}", f"/usr/local/bin/{version}"):
        if not os.path.exists(candidate):
            continue
        try:
            command = [candidate, "-c", "import numba"]
            if not subprocess.run(command, env={"PYTHONPATH": path}, user=65534, group=65534, cwd="/", capture_output=True).returncode:
                return candidate, path
        except PermissionError:
            continue
    pytest.skip("there is no Python that any user can run, with packages that any user can read")


@pytest.mark.skipif(os.name == "nt" or os.geteuid() != 0, reason="only an administrator can be somebody else")
def test_the_user_nobody_has_such_a_folder_too(tmp_path):
    """The user of many services: no home, no rights. The Python may be of another patch version: both find the other's kernels."""
    python, path = others_python()
    script = "import numba\n" + WARNINGS + RECORDED.format(CALLS) + "print(len(told), bool(compiled.buffer), *told)"
    with tempfile.TemporaryDirectory() as open_to_all:  # pytest's own folders are this user's alone
        open_to_all = Path(open_to_all)
        open_to_all.chmod(0o777)
        package = shutil.copytree(ROOT / "nbloss", open_to_all / "install" / "nbloss", ignore=shutil.ignore_patterns("__pycache__"))
        environment = {"HOME": "/nonexistent", "TMPDIR": str(open_to_all), "PYTHONDONTWRITEBYTECODE": "1", "NBLOSS_PRECOMPILED": "0"}
        environment["PYTHONPATH"] = os.pathsep.join([str(package.parent), path])

        def as_nobody():
            done = subprocess.run([python, "-c", script], env=environment, capture_output=True, text=True, user=65534, group=65534, cwd="/")
            assert done.returncode == 0, done.stderr
            return done.stdout.split()

        assert as_nobody() == ["0", "True"]
        before = files(open_to_all / "nbloss-65534")
        assert len(before) >= 3
        assert as_nobody() == ["0", "False"]
        assert files(open_to_all / "nbloss-65534") == before
        ours = call(tmp_path, open_to_all / "nbloss-65534", script, PYTHONPATH=str(package.parent), PYTHONDONTWRITEBYTECODE="1")
        assert ours[:2] == ["1", "True"], "what nobody has written is not run by others"


# ---- files of other users ----------------------------------------------------------------------------------------------

WARNINGS = """
import warnings
told = []
warnings.showwarning = lambda text, *more: told.append(text)
warnings.simplefilter("always")
"""
SPOILED = {
    "a file that others can write": lambda cache: next(cache.rglob("*.kernel")).chmod(0o666),
    "a file of somebody else": lambda cache: os.chown(next(cache.rglob("*.kernel")), 65534, 65534),
    "a folder that others can write": lambda cache: next(cache.rglob("*.kernel")).parent.chmod(0o777),
    "a folder of somebody else": lambda cache: os.chown(next(cache.rglob("*.kernel")).parent, 65534, 65534),
    "a cache folder that others can write": lambda cache: cache.chmod(0o777),
    "a cache folder that the group can write": lambda cache: cache.chmod(0o775),
    "a cache folder of somebody else": lambda cache: os.chown(cache, 65534, 65534),
}


@pytest.mark.skipif(os.name == "nt", reason="POSIX's owners and modes")
@pytest.mark.parametrize("spoiled", SPOILED)
def test_what_another_user_may_have_written_is_not_loaded_and_said_once(spoiled, cache, tmp_path):
    if "somebody else" in spoiled and os.geteuid() != 0:
        pytest.skip("only an administrator can give files away")
    SPOILED[spoiled](cache)
    before = files(cache)
    code = WARNINGS + RECORDED.format(CALLS) + "print(len(told), len(compiled.buffer), told[0])"
    count, compiled, *text = call(tmp_path, cache, code)
    assert (int(count), " ".join(text[:5])) == (1, "nbloss neither loads nor keeps")
    assert int(compiled) >= 1
    if "cache folder" in spoiled:
        assert int(compiled) >= 3 and files(cache) == before, "something was written where others may change it"
    elif "a file" in spoiled:  # written anew, and ours again
        call(tmp_path, cache, WARNINGS + RECORDED.format(CALLS) + "assert not told and not compiled.buffer")


RECORDED = """
from numba.core import event
with event.install_recorder("numba:compile") as compiled:
    exec({0!r})
"""


def test_a_read_only_install_and_an_unwritable_home(tmp_path):
    """Permissions bind only ordinary users: root may write everywhere."""
    if os.name == "nt" or os.geteuid() == 0:
        pytest.skip("permissions bind no administrator")
    package = shutil.copytree(ROOT / "nbloss", tmp_path / "install" / "nbloss", ignore=shutil.ignore_patterns("__pycache__"))
    home = tmp_path / "home"
    home.mkdir()
    for folder in [package.parent, *(p for p in package.rglob("*") if p.is_dir()), home]:
        folder.chmod(0o555)
    try:
        run_script(tmp_path, CALLS, PYTHONPATH=str(package.parent), HOME=str(home), XDG_CACHE_HOME="", NBLOSS_CACHE_DIR="")
    finally:
        for folder in [package.parent, *(p for p in package.rglob("*") if p.is_dir()), home]:
            folder.chmod(0o755)


@pytest.mark.skipif(os.name == "nt", reason="POSIX limits")
@pytest.mark.parametrize("limit_bytes", [0, 1000])  # fewer than the smallest kernel has
def test_a_full_disk_is_no_error_and_leaves_nothing_behind(limit_bytes, tmp_path):
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit_bytes}, {limit_bytes}))\n"
    call(tmp_path, tmp_path / "cache", limit + CALLS, PYTHONDONTWRITEBYTECODE="1")
    assert files(tmp_path / "cache") == {}
    call(tmp_path, tmp_path / "cache")
    assert len(files(tmp_path / "cache")) >= 3


def test_two_processes_that_compile_at_once(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(CALLS)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "NBLOSS_CACHE_DIR": str(tmp_path / "cache")}
    both = [subprocess.Popen([sys.executable, script], env=environment) for _ in range(2)]
    assert [process.wait(900) for process in both] == [0, 0]
    left = files(tmp_path / "cache")
    assert {p.suffix for p in left} == {".kernel"}
    call(tmp_path, tmp_path / "cache")
    assert files(tmp_path / "cache") == left


@pytest.mark.parametrize("processor", ["haswell", "x86-64"])
def test_processors_that_share_a_folder_have_files_of_their_own(processor, cache, tmp_path):
    llvmlite = pytest.importorskip("llvmlite.binding")
    if not llvmlite.get_process_triple().startswith("x86_64") or not llvmlite.get_host_cpu_features().get("avx2"):
        pytest.skip("for a machine that can run the code of that processor")
    before = files(cache)
    call(tmp_path, cache, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="")
    after = files(cache)
    assert len(after) == 2 * len(before) and after.items() >= before.items()
    call(tmp_path, cache, NUMBA_CPU_NAME=processor, NUMBA_CPU_FEATURES="")
    call(tmp_path, cache)
    assert files(cache) == after


# ---- kernels that came with the package ----------------------------------------------------------------------------


@pytest.fixture
def installed(filled, tmp_path):
    """A copy of the package as an installation leaves it, with its kernels compiled."""
    package = shutil.copytree(ROOT / "nbloss", tmp_path / "install" / "nbloss", ignore=shutil.ignore_patterns("__pycache__", "_compiled"))
    shutil.copytree(filled, package / "_compiled")
    return package


def call_installed(tmp_path, package, **environment):
    """The files that a call leaves in the cache folder: those that did not come with the package."""
    call(tmp_path, tmp_path / "cache", **{"PYTHONPATH": str(package.parent), "NBLOSS_PRECOMPILED": "1"} | environment)
    return files(tmp_path / "cache")


def test_kernels_of_the_package_are_not_compiled_again(installed, tmp_path):
    before = files(installed / "_compiled")
    assert call_installed(tmp_path, installed) == {}
    assert files(installed / "_compiled") == before
    assert call_installed(tmp_path, installed, NBLOSS_PRECOMPILED="0").keys() == before.keys()


def test_a_damaged_or_foreign_kernel_of_the_package_is_compiled_into_the_cache(installed, tmp_path):
    (damaged, *_) = sorted(files(installed / "_compiled"))
    path = installed / "_compiled" / damaged
    path.write_bytes(path.read_bytes()[:-1])
    assert call_installed(tmp_path, installed).keys() == {damaged}
    sources = installed / "kernels" / "math" / "rowmath.py"
    sources.write_text(sources.read_text() + "\n")  # no longer what was compiled
    assert len(call_installed(tmp_path, installed)) == 1 + len(files(installed / "_compiled"))


@pytest.mark.skipif(os.name == "nt", reason="POSIX's owners and modes")
def test_kernels_of_the_package_are_trusted_as_its_sources_are(installed, tmp_path):
    kernel = next((installed / "_compiled").rglob("*.kernel"))
    kernel.chmod(0o666)
    assert len(call_installed(tmp_path, installed)) == 1
    (installed / "kernels" / "disk.py").chmod(0o666)
    shutil.rmtree(tmp_path / "cache")
    assert call_installed(tmp_path, installed) == {}


# ---- changed sources -------------------------------------------------------------------------------------------------


def changed_package(folder, name, old, new):
    """A copy of the package with one line of its kernels changed; returns where to import it from."""
    package = shutil.copytree(ROOT / "nbloss", folder / "changed" / "nbloss", ignore=shutil.ignore_patterns("__pycache__"))
    source = next(path for path in package.rglob(name) if path.read_text().count(old) == 1)
    text = source.read_text()
    assert text.count(old) == 1
    source.write_text(text.replace(old, new))
    return package.parent


LOSS = "import numpy as np, nbloss.functional as F; print(F.cross_entropy(np.zeros((1, 2), np.float32), np.array([0])))"


def test_a_changed_formula_in_another_file_changes_the_numbers(tmp_path):
    """The kernel is in one file, its formula in another: Numba's own cache would serve the old one."""
    assert call(tmp_path, tmp_path / "cache", LOSS) == ["0.6931472"]
    package = changed_package(tmp_path, "epilogue.py", "return scale * (log_s + gap)", "return 2 * scale * (log_s + gap)")
    assert call(tmp_path, tmp_path / "cache", LOSS, PYTHONPATH=str(package), PYTHONDONTWRITEBYTECODE="1") == ["1.3862944"]
    assert call(tmp_path, tmp_path / "cache", LOSS) == ["0.6931472"]


def test_sources_that_change_under_a_running_process_do_not_file_old_code_under_the_new_ones(tmp_path):
    package = changed_package(tmp_path, "epilogue.py", "return scale * (log_s + gap)", "return 3 * scale * (log_s + gap)")
    source = next(p for p in package.rglob("epilogue.py") if p.parent.name == "math")
    upgrade = f"""
import nbloss.functional
from pathlib import Path
source = Path({str(source)!r})
source.write_text(source.read_text().replace("return 3 *", "return 5 *"))
"""
    environment = {"PYTHONPATH": str(package), "PYTHONDONTWRITEBYTECODE": "1"}
    assert call(tmp_path, tmp_path / "cache", upgrade + LOSS, **environment) == ["2.0794415"]
    assert call(tmp_path, tmp_path / "cache", LOSS, **environment) == ["3.465736"]


def test_a_changed_moved_or_swapped_source_is_a_new_stamp(tmp_path):
    kernels = shutil.copytree(ROOT / "nbloss" / "kernels", tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    seen = {disk.digest_of_sources(kernels)}
    sources = sorted(kernels.rglob("*.py"))
    for source in sources:
        source.write_text(source.read_text() + "# changed\n")
        seen.add(disk.digest_of_sources(kernels))
    assert len(sources) > 10 and len(seen) == len(sources) + 1
    (kernels / "cpu" / "fused.py").rename(kernels / "fused.py")
    seen.add(disk.digest_of_sources(kernels))
    assert len(seen) == len(sources) + 2
    one, other, spare = (kernels / "cpu" / folder / "cross_entropy.py" for folder in ("vector_per_row", "row_per_lane", "simd"))
    one.rename(spare)
    other.rename(one)
    spare.rename(other)
    assert disk.digest_of_sources(kernels) not in seen


def test_a_moved_file_and_an_equal_name_in_another_folder_are_kernels_of_their_own(tmp_path):
    """Two modules of one name, each with a function of the same name and arguments, give their own numbers; and so they do when swapped."""
    package = shutil.copytree(ROOT / "nbloss", tmp_path / "two" / "nbloss", ignore=shutil.ignore_patterns("__pycache__"))
    kernels = package / "kernels" / "cpu"
    for folder, factor in (("one", 1), ("other", 2)):
        (kernels / folder).mkdir()
        (kernels / folder / "__init__.py").touch()
        (kernels / folder / "tests.py").write_text(f"def fill(out, lo, hi):\n    for p in range(lo, hi):\n        out[p] = {factor}\n")
    code = """
import numpy as np
from nbloss.kernels.cpu.choose import Choice, Grain
from nbloss.kernels.cpu.compile.jit import run
for folder in ("one", "other"):
    out = np.zeros(2)
    choice = Choice(f"nbloss.kernels.cpu.{folder}.tests.fill", Grain(1, 1, 65536), "a test")
    run(choice, (out.dtype,), (out,), {"out"}, 2)
    print(out[1])
"""
    environment = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
    for _ in range(2):
        assert call(tmp_path, tmp_path / "cache", code, **environment) == ["1.0", "2.0"]
    assert len(files(tmp_path / "cache")) == 2
    (kernels / "one" / "tests.py").rename(kernels / "spare.py")
    (kernels / "other" / "tests.py").rename(kernels / "one" / "tests.py")
    (kernels / "spare.py").rename(kernels / "other" / "tests.py")
    assert call(tmp_path, tmp_path / "cache", code, **environment) == ["2.0", "1.0"]


def test_without_sources_nothing_is_kept(tmp_path, monkeypatch):
    """A stamp of no sources would be the same for every version."""
    monkeypatch.setenv("NBLOSS_CACHE_DIR", str(tmp_path))
    assert disk.digest_of_sources(tmp_path) is None
    monkeypatch.setattr(disk, "SOURCES", None)
    assert disk.stamp() == disk.UNKNOWN
    assert "sources" in disk.write(f"{disk.stamp()}/name.kernel", b"code")
    assert not list(tmp_path.iterdir())


# ---- the command -----------------------------------------------------------------------------------------------------


def test_the_command_shows_and_clears_what_is_ours_alone(cache, monkeypatch, capsys):
    monkeypatch.setenv("NBLOSS_CACHE_DIR", str(cache))
    mine = cache / "thesis.txt"
    mine.write_text("not a kernel")
    (next(cache.glob("*/*/*.kernel")).parent / "left-over.part").write_bytes(b"of a process that was killed")
    count = len(list(cache.rglob("*.kernel")))
    assert main(["cache", "info"]) == 0
    shown = capsys.readouterr().out
    assert str(cache) in shown and f"{count} for the CPU, {count} of them" in shown and "MB" in shown
    assert main(["cache", "clear"]) == 0
    assert f"removed {count + 1} files" in capsys.readouterr().out
    assert [p for p in cache.rglob("*") if p != mine] == []
    assert main(["cache", "clear"]) == 0
    assert "removed 0 files" in capsys.readouterr().out
    assert mine.read_text() == "not a kernel"


@pytest.mark.parametrize("folder", ["/proc/nothing/here", os.devnull])
def test_the_command_speaks_of_a_folder_that_cannot_be(folder, monkeypatch, capsys):
    monkeypatch.setenv("NBLOSS_CACHE_DIR", folder)
    assert main(["cache", "info"]) == 0
    assert "cannot be written" in capsys.readouterr().out
    assert main(["cache", "clear"]) == 0


def test_the_command_wants_a_known_action(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["cache", "burn"])
    assert stop.value.code == 2 and "burn" in capsys.readouterr().err
