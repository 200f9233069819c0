"""Forks, worker processes, joblib and PyTorch's data loaders: a child computes its parent's bits, and neither hangs nor dies."""

import os

import pytest
from work import LAYERS, run_script, skip_without

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")

FORKED = """
import os, signal, sys, threading, time, warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks beside threads: that is what is tested
from work import JOBS, digest, judge

def everything():
    return " ".join(digest(name) for name in JOBS)

def child_says(function, seconds=600):
    "What a forked child returns; an empty string if it dies, also of the alarm."
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            os.write(write, function().encode())
        finally:
            os._exit(0)
    os.close(write)
    answer = b"".join(iter(lambda: os.read(read, 65536), b"")).decode()
    os.close(read)
    assert os.waitpid(child, 0)[1] == 0, "the child died"
    return answer
"""


@pytest.fixture(params=LAYERS)
def layer(request, tmp_path):
    skip_without(request.param, tmp_path)
    return request.param


NUMBA_SAYS = "Unable to join threads to shut down before fork(). This can break multithreading in child processes."  # on stdout


def run_forked(tmp_path, code, layer, **environment):
    environment |= {"NUMBA_THREADING_LAYER": layer, "NUMBA_NUM_THREADS": "3"}
    words = run_script(tmp_path, FORKED + f"LAYER = {layer!r}\n" + code, **environment)
    return " ".join(words).replace(NUMBA_SAYS, "").split()


def test_a_child_and_a_grandchild_compute_the_bits_of_their_parent(layer, tmp_path):
    code = """
for name in JOBS:
    judge(name)
here = everything()
child = child_says(lambda: everything() + "|" + child_says(everything))
print(child == here + "|" + here, everything() == here)
"""
    assert run_forked(tmp_path, code, layer) == ["True", "True"]


def test_a_child_of_a_process_whose_own_parallel_loop_came_first(layer, tmp_path):
    """Another library's kernel started the threading layer: OpenMP kills such a child as well."""
    code = """
import nbloss
if LAYER == "tbb":
    from nbloss.kernels.cpu.compile.threads import load_tbb
    load_tbb()  # where pip puts it, Numba does not find it
from numba import njit, prange
import numpy as np
@njit(parallel=True)
def own(a):
    for i in prange(a.size):
        a[i] = i
own(np.zeros(1000))
print(child_says(everything) == everything())
"""
    assert run_forked(tmp_path, code, layer) == ["True"]


def test_a_fork_while_another_thread_is_in_a_kernel(layer, tmp_path):
    code = """
here = everything()
running, wrong = True, []
def work():
    while running:
        if everything() != here:
            wrong.append(1)
threads = [threading.Thread(target=work) for _ in range(2)]  # one of them is nearly always inside
[t.start() for t in threads]
children = [child_says(everything) == here for _ in range(5)]
running = False
[t.join() for t in threads]
print(all(children), len(wrong))
"""
    assert run_forked(tmp_path, code, layer) == ["True", "0"]


def test_a_fork_between_entering_a_kernel_and_compiling_it(tmp_path):
    """A thread that forks must not hold the compiler lock while it waits for a thread that still has to compile."""
    code = """
from nbloss.kernels.cpu.compile import jit
digest("log_softmax")
entered, obtain = threading.Event(), jit.obtain
def slowly(*arguments):
    entered.set()
    time.sleep(0.5)
    return obtain(*arguments)
jit.obtain = slowly
thread = threading.Thread(target=digest, args=("columns",))
thread.start()
entered.wait()
answer = child_says(lambda: digest("log_softmax"))
thread.join()
print(answer == digest("log_softmax"))
"""
    assert run_forked(tmp_path, code, "default", NBLOSS_CACHE_DIR=str(tmp_path / "cache")) == ["True"]


def test_a_fork_while_another_thread_compiles(tmp_path):
    """The compiler locks, Numba's and our own, must not stay locked in the child."""
    code = """
thread = threading.Thread(target=digest, args=("value_and_grad",))
thread.start()
from nbloss._fork_safety import compiling
while compiling.acquire(blocking=False):
    compiling.release()
    time.sleep(0.001)
answer = child_says(lambda: digest("log_softmax"))
thread.join()
judge("value_and_grad")
judge("log_softmax")
print(answer == digest("log_softmax"))
"""
    assert run_forked(tmp_path, code, "default", NBLOSS_CACHE_DIR=str(tmp_path / "cache")) == ["True"]


def test_a_compilation_that_a_fork_waits_for_may_ask_for_a_logger(tmp_path):
    """logging takes its own lock at a fork. Taken before ours, it made both threads wait for ever. Here it is imported after nbloss."""
    code = """
import os, signal, sys, threading
import nbloss
from nbloss._fork_safety import compiling
assert "logging" not in sys.modules
import logging
signal.alarm(60)
begun = threading.Event()
def compile():
    with compiling:
        begun.set()
        threading.Event().wait(0.5)
        logging.getLogger("numba.of.its.own")
thread = threading.Thread(target=compile)
thread.start()
begun.wait()
child = os.fork()
if child == 0:
    with compiling:
        logging.getLogger("numba.of.its.own")
    os._exit(0)
thread.join()
print(os.waitpid(child, 0)[1])
"""
    assert run_script(tmp_path, code) == ["0"]


def test_a_fork_while_somebody_else_s_kernel_is_compiled(tmp_path):
    code = """
from numba import njit
from numba.core.compiler_lock import global_compiler_lock
import nbloss
entered, leave = threading.Event(), threading.Event()
def hold():
    with global_compiler_lock:
        entered.set()
        leave.wait(2)
thread = threading.Thread(target=hold)
thread.start()
entered.wait()
print(child_says(everything) == everything())
"""
    assert run_forked(tmp_path, code, "default") == ["True"]


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])
def test_worker_processes_of_every_start_method(method, layer, tmp_path):
    if method != "fork" and layer == "workqueue":
        pytest.skip("a fresh interpreter, as with the other layers")
    code = f"""
import multiprocessing
def main():
    for name in JOBS:
        judge(name)
    context = multiprocessing.get_context({method!r})
    with context.Pool(2) as pool:
        answers = pool.map_async(digest, JOBS * 2).get(timeout=600)
    print(answers == [digest(name) for name in JOBS * 2])
if __name__ == "__main__":
    main()
"""
    assert run_forked(tmp_path, code, layer) == ["True"]


@pytest.mark.parametrize("backend", ["loky", "threading", "multiprocessing"])
def test_inside_joblib(backend, tmp_path):
    pytest.importorskip("joblib", reason="joblib comes with scikit-learn")
    code = f"""
import joblib
if __name__ == "__main__":
    here = [digest(name) for name in JOBS]
    answers = joblib.Parallel(n_jobs=2, backend={backend!r}, timeout=600)(joblib.delayed(digest)(name) for name in JOBS)
    print(answers == here)
"""
    assert run_forked(tmp_path, code, "default") == ["True"]


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_inside_a_data_loader_s_workers(method, tmp_path):
    pytest.importorskip("torch", reason="the data loader is PyTorch's")
    code = f"""
import torch
class Losses(torch.utils.data.Dataset):
    def __len__(self):
        return len(JOBS)
    def __getitem__(self, k):
        return digest(JOBS[k])
if __name__ == "__main__":
    here = [digest(name) for name in JOBS]
    torch.ones(500, 500) @ torch.ones(500, 500)
    loader = torch.utils.data.DataLoader(Losses(), batch_size=1, num_workers=2, multiprocessing_context={method!r}, timeout=600)
    print([batch[0] for batch in loader] == here)
"""
    assert run_forked(tmp_path, code, "default") == ["True"]


def test_a_child_works_alone_where_the_parent_s_threads_cannot_end_at_the_fork(tmp_path):
    """Another living thread that has used TBB's workers keeps them from ending: one may hold a lock of theirs while the process forks."""
    skip_without("tbb", tmp_path)
    code = """
from nbloss import _fork_safety
def alone():
    digest("value_and_grad")
    return str(_fork_safety.alone)
before = child_says(alone)  # of a parent that has not called anything
for name in JOBS:
    judge(name)
print(before, child_says(alone))
stay = threading.Event()
thread = threading.Thread(target=lambda: (everything(), stay.wait()))
thread.start()
while thread.ident not in _fork_safety._used:
    time.sleep(0.01)
print(child_says(alone), child_says(everything) == everything())
stay.set()
thread.join()
print(child_says(alone))
"""
    assert run_forked(tmp_path, code, "tbb") == ["False", "False", "True", "True", "False"]


NUMBA_WARNS = "Numba: Attempted to fork from a non-main thread, the TBB library may be in an invalid state in the child process.\n"


def test_a_fork_from_another_thread_gives_a_right_child_and_at_most_numba_s_line(layer, tmp_path):
    """Numba warns of its own parallel loops, which may hang in such a child. nbloss runs on one thread there (docs/reliability.md)."""
    code = """
import subprocess, sys
def fork():
    answers.append(child_says(everything))
answers, here = [], everything()
sys.stderr.flush()
thread = threading.Thread(target=fork)
thread.start()
thread.join()
print(answers == [here])
"""
    (tmp_path / "inner.py").write_text(FORKED + code)
    outer = """
import subprocess, sys
done = subprocess.run([sys.executable, "inner.py"], capture_output=True, text=True)
print(done.stdout, repr(done.stderr))
"""
    words = " ".join(run_script(tmp_path, outer, NUMBA_THREADING_LAYER=layer, NUMBA_NUM_THREADS="3", NBLOSS_QUIET="1"))
    assert words == f"True {NUMBA_WARNS!r}" if layer == "tbb" else words == "True ''"
