"""Step 1: what is installed, what the driver says, whether cubins came along, and the first call."""

import shutil
import subprocess
import sys
import time
from importlib import metadata

from . import records

PACKAGES = (
    "nbloss", "numpy", "numba", "numba-cuda", "llvmlite", "cuda-core", "cuda-bindings", "nvidia-nvjitlink", "nvidia-nvvm", "ml-dtypes",
    "torch", "triton", "cupy-cuda13x", "jax", "pytest", "pytest-xdist",
)  # fmt: skip
SMI = "name,driver_version,memory.total,memory.used,clocks.max.sm,clocks.max.memory,power.limit"


def version(package):
    """The version of a package, or None."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def packages():
    records.write("packages", records.MEASURED, python=sys.version.split()[0], **{name: version(name) for name in PACKAGES})


def driver():
    """What nvidia-smi says about the GPUs."""
    if not shutil.which("nvidia-smi"):
        records.write("nvidia-smi", records.SKIPPED, reason="nvidia-smi is not installed")
        return
    asked = subprocess.run(["nvidia-smi", f"--query-gpu={SMI}", "--format=csv,noheader"], capture_output=True, text=True, timeout=8)
    status = records.FAILED if asked.returncode else records.MEASURED
    records.write("nvidia-smi", status, fields=SMI, lines=(asked.stdout or asked.stderr).splitlines())


def cubins():
    """The number of cubins in the cache folder. Without them, and without the compiler, no kernel can run."""
    from nbloss.kernels import disk

    found = [path for path in disk.kept() if path.suffix == disk.GPU]
    trusted = [path for path in found if disk.trusted(disk.cache_dir(), path)]
    compiler = version("nvidia-nvvm")
    status = records.MEASURED if trusted or compiler else records.FAILED
    note = f"{len(found)} found, {len(trusted)} trusted, compiler {compiler or 'not installed'}"
    records.write("cubins", status, note=note, bytes=sum(p.stat().st_size for p in trusted))
    return set(found)


def device():
    """The device as cuda-core sees it. Raises where there is none."""
    from nbloss.backends import select
    from nbloss.kernels.cuda.runtime import devices

    select.checked_device("cuda")
    records.write("device", records.MEASURED, note=devices.describe(0))


def first_call(before):
    """One call, as a user's first: how long it takes, and whether it compiled a kernel."""
    import numpy as np

    import nbloss
    import nbloss.functional as F
    from nbloss.kernels import disk

    start = time.perf_counter()
    x = nbloss.to_device(np.zeros((64, 1000), np.float32), "cuda")
    logp = nbloss.to_host(F.log_softmax(x, 1))
    seconds = time.perf_counter() - start
    compiled = len([path for path in disk.kept() if path.suffix == disk.GPU and path not in before])
    records.compared("first call", bool(np.allclose(logp, -np.log(1000.0))), note=f"{seconds:.2f} s, {compiled} kernels compiled")


def main():
    packages()
    driver()
    before = cubins()
    device()
    first_call(before)


if __name__ == "__main__":
    main()
