"""The clock, the memory and the copy bandwidth of the device."""

import platform
import time
from collections import deque
from importlib import metadata
from math import ceil

from nbloss.backends import select

TURN = 2e-3  # s; the least device time of one turn
MOST_CALLS = 50
PACKAGES = ("nbloss", "numba", "numba-cuda", "cuda-core", "nvidia-nvvm", "numpy", "torch", "triton")


def rotation(nbytes, cache):
    """How many buffers of so many bytes have three times the size of the cache."""
    return max(1, ceil(3 * cache / nbytes))


def doublings(times):
    """``(copies that are there, copies to add)``, step by step, until there are so many."""
    there = 1
    while there < times:
        added = min(there, times - there)
        yield there, added
        there += added


class Ring:
    """Keeps the latest results alive, so that the next ones use memory that is not in the cache."""

    def __init__(self, count):
        self.kept = deque(maxlen=count)

    def keep(self, result):
        self.kept.append(result)


class Clock:
    """Events on the legacy default stream, which nbloss, torch and Triton use by default."""

    def __init__(self, device):
        select.checked_device(device)
        from cuda.core import Device, EventOptions

        from nbloss.kernels.cuda.runtime import memory

        self.name = device
        self.unit = Device(int(device.partition(":")[2] or 0))
        self.unit.set_current()
        self.memory, self.stream = memory, memory.stream()
        self.timed = EventOptions(timing_enabled=True)
        self.cache = self.unit.properties.l2_cache_size
        self.count = 1
        size = 1 << 28
        self.copied = [memory.empty(size, "float32", self.unit.device_id, self.stream) for _ in range(2)]
        self.bandwidth = self._bandwidth()

    def arrays(self, problem):
        """The (logits, target) pairs on the device that the rotation needs."""
        self.count = rotation(problem.nbytes(), self.cache)
        pair = problem.part.logits, problem.part.target
        return [tuple(self.repeated(array, problem.times) for array in pair) for _ in range(self.count)]

    def repeated(self, part, times):
        """``part`` so many times along its first axis, in device memory. Only the part is uploaded: gigabytes would take seconds."""
        index = self.unit.device_id
        whole = self.memory.empty((times * part.shape[0], *part.shape[1:]), part.dtype, index, self.stream)
        self.memory.put(part, self.memory.at(whole.address, part.shape, None, part.dtype, index, whole), self.stream)
        for there, added in doublings(times):
            self._copy_bytes(whole.address, whole.address + there * part.nbytes, added * part.nbytes)
        return whole

    def _mark(self):
        return self.stream.record(options=self.timed)

    def _copy(self):
        source, target = self.copied
        self._copy_bytes(source.address, target.address, source.nbytes)

    def _copy_bytes(self, source, target, nbytes):
        self.memory.driver().cuMemcpyDtoDAsync(target, source, nbytes, int(self.stream.handle))

    def _between(self, work):
        """``(device seconds, host seconds)`` of work. A copy before it keeps the device busy, so that the host is ahead of it."""
        begin = self._mark()
        start = time.perf_counter()
        work()
        host = time.perf_counter() - start
        end = self._mark()
        end.sync()
        return (end - begin) / 1e3, host

    def _bandwidth(self):
        self._copy()
        seconds = sorted(self._between(self._copy)[0] for _ in range(15))[7]
        return 2 * self.copied[0].nbytes / seconds

    def plan(self, run):
        """``(calls, copies)``: the calls of a turn, and the copies that keep the device busy while the host queues the calls."""
        for _ in range(3):
            run()
        self.stream.sync()
        device, host = min(self._between(run) for _ in range(3))
        calls = min(MOST_CALLS, max(1, round(TURN / max(device, 1e-7))))
        copy = 2 * self.copied[0].nbytes / self.bandwidth
        return calls, 1 + ceil(1.5 * calls * host / copy)

    def turn(self, run, calls, copies):
        """``(device seconds, host seconds)`` per call."""
        for _ in range(copies):
            self._copy()
        device, host = self._between(lambda: [run() for _ in range(calls)] and None)
        return device / calls, host / calls

    def facts(self):
        """The facts that a reader needs to judge the results."""
        capability = self.unit.compute_capability
        return {
            "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            "device": self.unit.name,
            "capability": f"{capability.major}.{capability.minor}",
            "multiprocessors": self.unit.properties.multiprocessor_count,
            "l2_bytes": self.cache,
            "copy_bytes_per_second": self.bandwidth,
            "platform": platform.platform(),
            "python": platform.python_version(),
            "versions": {name: v for name in PACKAGES if (v := _version(name))},
        }


def _version(package):
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
