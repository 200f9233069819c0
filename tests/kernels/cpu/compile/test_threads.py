"""Several Python threads, every threading layer, thread counts, Ctrl-C: right results, and no process that dies or hangs."""

import os
import signal

import pytest
from work import LAYERS, run_script, skip_without

import nbloss
from nbloss import _thread_count


@pytest.fixture(params=LAYERS)
def layer(request, tmp_path):
    skip_without(request.param, tmp_path)
    return request.param


def test_eight_threads_call_different_kernels_at_once(layer, tmp_path):
    code = """
import threading
from work import JOBS, digest, judge
import nbloss
from nbloss.kernels.cpu.compile.threads import layer
for name in JOBS:
    judge(name)
nbloss.set_num_threads(1)
alone = {name: digest(name) for name in JOBS}
nbloss.set_num_threads(None)
start, wrong = threading.Barrier(8), []
def work(k):
    start.wait()
    for i in range(12):
        name = JOBS[(k + i) % len(JOBS)]
        if digest(name) != alone[name]:
            wrong.append(name)
threads = [threading.Thread(target=work, args=(k,)) for k in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
print(layer(), len(wrong))
"""
    assert run_script(tmp_path, code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="4") == [layer, "0"]


def test_one_to_eight_threads_give_the_same_bits_twice(layer, tmp_path):
    code = """
from work import JOBS, digest
import nbloss
found = set()
for count in range(1, 9):
    nbloss.set_num_threads(count)
    found |= {tuple(digest(name) for name in JOBS) for _ in range(2)}
print(nbloss.get_num_threads(), len(found))
"""
    assert run_script(tmp_path, code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="8") == ["8", "1"]


def test_the_first_call_is_made_by_eight_threads_at_once(layer, tmp_path):
    """Nothing is imported, compiled or started before; an empty cache for one layer, whatever the cache holds for the others."""
    code = """
import threading
start, found = threading.Barrier(8), []
def work():
    start.wait()
    from work import digest
    found.append(digest("log_softmax"))
threads = [threading.Thread(target=work) for _ in range(8)]
[t.start() for t in threads]
[t.join() for t in threads]
from work import judge
judge("log_softmax")
print(len(found), len(set(found)))
"""
    cache = {"NBLOSS_CACHE_DIR": str(tmp_path / "cache")} if layer == "workqueue" else {}
    assert run_script(tmp_path, code, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="4", **cache) == ["8", "1"]


def test_a_matmul_between_two_calls_and_beside_them_disturbs_nothing(layer, tmp_path):
    code = """
import threading
import numpy as np
from work import digest
a = np.random.default_rng(0).normal(size=(300, 300))
product, alone = a @ a, digest("value_and_grad")
wrong = []
def work():
    for _ in range(20):
        if digest("value_and_grad") != alone or not np.allclose(a @ a, product):
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(3)]
[t.start() for t in threads]
work()
[t.join() for t in threads]
print(len(wrong))
"""
    assert run_script(tmp_path, code, NUMBA_THREADING_LAYER=layer) == ["0"]


def test_without_any_threading_layer_there_is_a_warning_and_one_thread(tmp_path):
    code = """
import warnings
from work import JOBS, judge
with warnings.catch_warnings(record=True) as seen:
    warnings.simplefilter("always")
    for name in JOBS:
        judge(name)
print([w.category.__name__ for w in seen if "nbloss uses one thread" in str(w.message)])
"""
    assert run_script(tmp_path, code, NUMBA_THREADING_LAYER="nonsense", NBLOSS_NUM_THREADS="2") == ["['RuntimeWarning']"]


# ---- how many threads ------------------------------------------------------------------------------------------------

COUNT = "import nbloss; print(nbloss.get_num_threads())"
PROCESSORS = str(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())


@pytest.fixture
def undisturbed(monkeypatch):
    """The environment without the variables that set a number."""
    for name in _thread_count.VARIABLES:
        monkeypatch.delenv(name, raising=False)


@pytest.mark.parametrize(
    ("environment", "count"),
    [
        ({"NBLOSS_NUM_THREADS": "3"}, "3"),
        ({"NUMBA_NUM_THREADS": "5"}, "5"),
        ({"NUMBA_NUM_THREADS": "1"}, "1"),
        ({"NBLOSS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "4"}, "1"),
        ({"OMP_NUM_THREADS": "7"}, "7"),
        ({"OMP_NUM_THREADS": "3,2"}, "3"),
        ({"OMP_NUM_THREADS": " +3 , 2 "}, "3"),
        ({"NBLOSS_NUM_THREADS": "5", "OMP_NUM_THREADS": "1"}, "5"),
        ({"NUMBA_NUM_THREADS": "4", "OMP_NUM_THREADS": "1"}, "4"),
        ({"NUMBA_NUM_THREADS": PROCESSORS, "OMP_NUM_THREADS": "1"}, PROCESSORS),
        ({"NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "4"}, "1"),
    ],
    ids=lambda value: " ".join(f"{k[:6]}={v.strip()}" for k, v in value.items()) if isinstance(value, dict) else "",
)
def test_the_environment_s_number_of_threads_is_honoured(environment, count, tmp_path, undisturbed):
    assert run_script(tmp_path, COUNT, **environment) == [count]


@pytest.mark.parametrize("text", ["", "0", "-1", "two", "1.5", "3,", ",3", "3,0", "3,x", "3,,2", "3 2", "0x3", "3_0", "9" * 20])
def test_what_openmp_ignores_in_its_variable_is_ignored(text):
    """libgomp says "Invalid value for environment variable OMP_NUM_THREADS" to each of them, and goes on without the variable."""
    assert _thread_count._first_number(text) is None


def test_a_variable_that_is_set_after_the_import_counts(tmp_path, undisturbed):
    """As in workers of loky and Dask, which set it in their own process."""
    code = """
import os
import nbloss
before = nbloss.get_num_threads()
os.environ["OMP_NUM_THREADS"] = "1"
one = nbloss.get_num_threads()
os.environ["OMP_NUM_THREADS"] = "nonsense"
print(one, nbloss.get_num_threads() == before)
"""
    assert run_script(tmp_path, code) == ["1", "True"]


def test_workers_of_joblib_use_the_threads_that_they_are_given(tmp_path, undisturbed):
    pytest.importorskip("joblib", reason="joblib comes with scikit-learn")
    code = """
import os
import joblib
import nbloss
def counts():
    found = [nbloss.get_num_threads()]
    del os.environ["NUMBA_NUM_THREADS"]  # joblib sets it, too; Dask does not
    return *found, nbloss.get_num_threads(), os.environ["OMP_NUM_THREADS"]
if __name__ == "__main__":
    with joblib.parallel_config(backend="loky", inner_max_num_threads=1):
        print(*joblib.Parallel(n_jobs=2)([joblib.delayed(counts)()])[0])
"""
    assert run_script(tmp_path, code) == ["1", "1", "1"]


def test_an_environment_that_is_a_plain_dictionary_is_read_too(monkeypatch):
    """Tests of other packages replace os.environ."""
    monkeypatch.setattr(_thread_count, "_chosen", None)  # what an earlier test of this process may have set
    monkeypatch.setattr(os, "environ", {"NBLOSS_NUM_THREADS": "6"})
    assert nbloss.get_num_threads() == 6


@pytest.mark.parametrize("bad", ["0", "-1", "two", "1.5"])
def test_a_number_of_threads_that_cannot_be_is_a_value_error(bad, tmp_path):
    code = f"""
import nbloss
try:
    nbloss.get_num_threads()
except ValueError as error:
    print("NBLOSS_NUM_THREADS" in str(error) and {bad!r} in str(error))
"""
    assert run_script(tmp_path, code, NBLOSS_NUM_THREADS=bad) == ["True"]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no CPU affinity")
@pytest.mark.parametrize("when", ["before", "after"])
def test_the_processors_that_a_process_may_use_are_honoured(when, tmp_path, undisturbed):
    """Also where a process is pinned after Numba has counted, as workers of a data loader are."""
    code = "import os\none = {min(os.sched_getaffinity(0))}\n"
    steps = ["os.sched_setaffinity(0, one)", "import nbloss, numba; nbloss.get_num_threads()"]
    code += "\n".join(steps if when == "before" else steps[::-1]) + "\n" + COUNT
    assert run_script(tmp_path, code) == ["1"]


GROUPS = {  # files below the root of the control groups -> what our own membership reads, the limit
    "version 2": ({"cpu.max": "max 100000", "a/cpu.max": "150000 100000", "a/b/cpu.max": "max 100000"}, "0::/a/b\n", 2),
    "version 2, ours": ({"cpu.max": "max 100000", "a/cpu.max": "300000 100000", "a/b/cpu.max": "50000 100000"}, "0::/a/b\n", 1),
    "version 2, a container": ({"cpu.max": "400000 100000"}, "0::/\n", 4),
    "version 2, the path is the host's": ({"cpu.max": "200000 100000"}, "0::/docker/0123\n", 2),
    "version 1": ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000", "cpu/a/cpu.cfs_quota_us": "250000",
                   "cpu/a/cpu.cfs_period_us": "100000"}, "3:memory:/x\n1:cpu:/a\n0::/\n", 3),
    "version 1, joined": ({"cpu,cpuacct/cpu.cfs_quota_us": "100000", "cpu,cpuacct/cpu.cfs_period_us": "100000"}, "4:cpu,cpuacct:/\n", 1),
    "no limit": ({"cpu.max": "max 100000"}, "0::/\n", None),
    "nothing there": ({}, None, None),
    "rubbish": ({"cpu.max": "a lot"}, "rubbish", None),
}  # fmt: skip


@pytest.mark.parametrize("case", GROUPS)
def test_the_container_s_limit_is_honoured(case, tmp_path):
    files, own, limit = GROUPS[case]
    for name, text in files.items():
        (tmp_path / "root" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "root" / name).write_text(text + "\n")
    if own is not None:
        (tmp_path / "own").write_text(own)
    found = _thread_count._cgroup_limit(tmp_path / "root", tmp_path / "own")
    assert found == limit if limit else found > 10**6


# ---- Ctrl-C ----------------------------------------------------------------------------------------------------------

INTERRUPTED = """
import os, signal, sys, threading, time
import numpy as np
import problems, reference
import nbloss.functional as F
from work import JOBS, judge
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()
"""


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
def test_ctrl_c_during_a_long_call_is_answered_when_the_call_ends(tmp_path):
    code = (
        INTERRUPTED
        + """
x = np.broadcast_to(np.float32([[1, 2, 3, 4, 5, 6, 7, 8]] * 64).reshape(1, -1), (200_000, 512))
y = np.zeros(len(x), np.uint8)
F.cross_entropy(x, y)
start = time.perf_counter()
F.cross_entropy(x, y)
took = time.perf_counter() - start
interrupt_after(took / 10)
end = time.monotonic() + 60
try:
    while time.monotonic() < end:
        F.cross_entropy(x, y)
    print("never answered")
except KeyboardInterrupt:
    print("answered")
for name in JOBS:
    judge(name)
"""
    )
    assert run_script(tmp_path, code) == ["answered"]


@pytest.mark.skipif(not hasattr(signal, "SIGINT") or os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
def test_ctrl_c_during_the_compilation_leaves_the_process_usable(share, tmp_path):
    code = (
        INTERRUPTED
        + f"""
interrupt_after(0.5 + 4 * {share})
try:
    judge("log_softmax")
    time.sleep(10)
except KeyboardInterrupt:
    print("answered")
judge("log_softmax")
judge("nll")
print("right")
"""
    )
    assert run_script(tmp_path, code, NBLOSS_CACHE_DIR=str(tmp_path / "cache"), NBLOSS_NUM_THREADS="1") == ["answered", "right"]
