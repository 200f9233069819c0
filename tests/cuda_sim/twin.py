"""The CUDA twin on NumPy arrays: in the simulator the device's memory is the host's."""

import numpy as np

from nbloss.kernels.cuda import memory

CAPABILITIES = [(7, 5), (9, 0)]  # without and with the instructions of sm_80, and with clusters


def on_device(value):
    return memory.DeviceArray(value, value.ctypes.data, 0, value) if isinstance(value, np.ndarray) else value


class OnHost:
    """A Twin whose methods take NumPy arrays, and write into them."""

    def __init__(self, twin):
        self.twin = twin

    def __getattr__(self, name):
        method = getattr(self.twin, name)
        return lambda *arguments: method(*map(on_device, arguments))
