"""Device memory that other libraries want to have, too."""

import gc
import subprocess
import sys

import numpy as np
import pytest

import nbloss
import nbloss.functional as F

pytestmark = pytest.mark.gpu

THRESHOLD = """
import numpy as np
import nbloss
import nbloss.functional as F
from cuda.bindings import driver

driver.cuInit(0)
context = driver.cuDevicePrimaryCtxRetain(0)[1]
driver.cuCtxSetCurrent(context)

def threshold():
    pool = driver.cuDeviceGetDefaultMemPool(0)[1]
    return int(driver.cuMemPoolGetAttribute(pool, driver.CUmemPool_attribute.CU_MEMPOOL_ATTR_RELEASE_THRESHOLD)[1])

before = threshold()
x = nbloss.to_device(np.zeros((64, 1000), np.float32), "cuda")
nbloss.to_host(F.log_softmax(x, 1))
after = threshold()
assert after == before, (before, after)
"""


def test_the_default_pool_keeps_its_release_threshold(gpu):
    """It belongs to the device, and with it to every library of the process."""
    done = subprocess.run([sys.executable, "-c", THRESHOLD], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_memory_of_results_that_are_gone_is_free_for_others(gpu):
    from cuda.bindings import driver

    small = nbloss.to_device(np.zeros((64, 1000), np.float32), gpu)
    nbloss.to_host(F.log_softmax(small, 1))
    before = driver.cuMemGetInfo()[1]
    host = np.zeros((2**18, 512), np.float32)  # 512 MiB
    large = nbloss.to_device(host, gpu)
    assert before - driver.cuMemGetInfo()[1] >= host.nbytes // 2
    del large
    gc.collect()
    nbloss.to_host(F.log_softmax(small, 1))  # waits, and so lets the pool return what it holds
    assert before - driver.cuMemGetInfo()[1] < host.nbytes // 4
