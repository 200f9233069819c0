"""``threadpoolctl.threadpool_limits`` limits nbloss, whichever of the two is imported first; nbloss alone imports neither it nor Numba."""

import importlib.util
import subprocess
import sys

import pytest
from work import run_script

import nbloss
from nbloss import _thread_count

pytest.importorskip("threadpoolctl", reason="threadpoolctl comes with scikit-learn")

ORDERS = {
    "nbloss first": "import nbloss\nimport threadpoolctl",
    "threadpoolctl first": "import threadpoolctl\nimport nbloss",
    "after a limit": "import numpy, threadpoolctl\nthreadpoolctl.threadpool_limits(2).unregister()\nimport nbloss",
    "from": "import nbloss.functional\nfrom threadpoolctl import threadpool_limits\nimport threadpoolctl",
    "after a search": "import importlib.util, nbloss\nimportlib.util.find_spec('threadpoolctl')\nimport threadpoolctl",
}


@pytest.mark.parametrize("order", ORDERS)
def test_a_limit_holds_inside_it_and_ends_with_it(order, tmp_path):
    code = (
        ORDERS[order]
        + """
import sys
import numpy
count = nbloss.get_num_threads
with threadpoolctl.threadpool_limits(2):
    two = count()
    with threadpoolctl.threadpool_limits(limits=1, user_api="nbloss"):
        one = count()
    again = count()
with threadpoolctl.threadpool_limits(limits=1, user_api="blas"):
    blas = count()
with threadpoolctl.threadpool_limits(100):
    more = count()
(found,) = [lib for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "nbloss"]
print(two, one, again, blas, more, count(), found["num_threads"], found["version"] == nbloss.__version__)
print(any(type(finder).__module__.startswith("nbloss") for finder in sys.meta_path))
"""
    )
    assert run_script(tmp_path, code, NBLOSS_NUM_THREADS="5") == ["2", "1", "2", "5", "5", "5", "5", "True", "False"]


def test_a_limit_that_is_set_before_the_first_call_holds_for_the_call(tmp_path):
    code = """
import numpy as np
import nbloss.functional as F
from threadpoolctl import threadpool_limits
with threadpool_limits(1):
    F.log_softmax(np.zeros((1000, 1000), np.float32))
from nbloss.kernels.cpu.compile import threads
print(threads.layer())
F.log_softmax(np.zeros((1000, 1000), np.float32))
print(threads.layer() is None)
"""
    assert run_script(tmp_path, code, NUMBA_NUM_THREADS="2") == ["None", "False"]


def test_a_limit_is_of_one_thread_and_does_not_import_numba(tmp_path):
    code = """
import sys, threading
import numpy
import nbloss
from nbloss import _thread_count
from threadpoolctl import threadpool_limits
with threadpool_limits(1):
    found = []
    thread = threading.Thread(target=lambda: found.append(_thread_count.limited()))
    thread.start()
    thread.join()
    found.append(_thread_count.limited())
print(found, "numba" in sys.modules)
"""
    assert run_script(tmp_path, code, NUMBA_NUM_THREADS="3") == ["[3,", "1]", "False"]


def test_a_limit_ends_where_the_number_has_changed_meanwhile(monkeypatch):
    """The end of a limit sets the number that held before it. That is no limit, whatever it is later."""
    monkeypatch.setattr(_thread_count, "_chosen", None)  # what an earlier test of this process may have set
    monkeypatch.setenv("NBLOSS_NUM_THREADS", "4")
    _thread_count.set_limit(2)
    assert nbloss.get_num_threads() == 2
    _thread_count.set_limit(4)
    monkeypatch.setenv("NBLOSS_NUM_THREADS", "8")
    assert nbloss.get_num_threads() == 8


def test_importing_nbloss_does_not_import_threadpoolctl():
    code = "import sys, nbloss.functional; sys.exit('threadpoolctl' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


def test_a_module_of_that_name_keeps_its_loader(tmp_path):
    code = """
import nbloss, inspect, threadpoolctl
print(type(threadpoolctl.__spec__.loader).__name__, len(inspect.getsource(threadpoolctl.threadpool_limits)) > 100)
"""
    loader = type(importlib.util.find_spec("threadpoolctl").loader).__name__
    assert run_script(tmp_path, code) == [loader, "True"]


def test_versions_without_register_are_left_alone(tmp_path):
    (tmp_path / "threadpoolctl.py").write_text("class LibController: pass")
    assert run_script(tmp_path, "import nbloss, threadpoolctl; print(threadpoolctl.__file__)")[0].startswith(str(tmp_path))


def test_without_threadpoolctl_its_import_fails_as_ever(tmp_path):
    code = """
import sys
import nbloss
sys.path = []
sys.path_importer_cache.clear()
try:
    import threadpoolctl
except ModuleNotFoundError as error:
    print(error.name)
"""
    assert run_script(tmp_path, code) == ["threadpoolctl"]
