"""The GPUs of this machine: how many there are, and what they are."""

from functools import cache

from nbloss.kernels.cuda.runtime import memory

OLDEST_DRIVER = 13000  # numba-cuda[cu13]


def count():
    """``(number of GPUs, what was found)``; the text explains a number of 0."""
    try:
        code, *_ = memory.driver().cuInit(0)
    except RuntimeError:  # cuda.pathfinder's DynamicLibNotFoundError
        return 0, 'looked for NVIDIA\'s driver (libcuda), which is not installed: install it; `pip install "nbloss[cuda]"` is done'
    if int(code):
        return 0, f"NVIDIA's driver finds no usable GPU (cuInit answered {code.name})"
    version = memory.driver().cuDriverGetVersion()[1]
    if version < OLDEST_DRIVER:
        return 0, f"NVIDIA's driver supports CUDA {version // 1000}.{version % 1000 // 10}; nbloss needs 13.0 or newer: update the driver"
    found = int(memory.driver().cuDeviceGetCount()[1])
    return found, f"NVIDIA's driver finds {found} GPU{'s' * (found != 1)} (see nvidia-smi and CUDA_VISIBLE_DEVICES)"


def describe(device):
    """Name, compute capability and size of a GPU, as text."""
    if memory.SIMULATED:
        return "Numba's simulator"
    from cuda.core import Device

    unit = Device(device)
    major, minor = unit.compute_capability
    return f"{unit.name}, compute capability {major}.{minor}, {unit.properties.multiprocessor_count} multiprocessors"


SIMULATED_FACTS = (9, 0), 2


@cache
def _facts(device):
    from cuda.core import Device

    unit = Device(device)
    return (unit.compute_capability.major, unit.compute_capability.minor), unit.properties.multiprocessor_count


def device_facts(device):
    """``(compute capability, multiprocessors)``. The simulator acts as a device of the newest kind."""
    return memory.pretended or (SIMULATED_FACTS if memory.SIMULATED else _facts(device))


def capability(device):
    """The compute capability of a device, such as (9, 0)."""
    return device_facts(device)[0]
