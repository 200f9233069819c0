"""Numba's CUDA simulator with warps, clusters and a strict scheduler.

`install` replaces the launches of numba-cuda's own simulator, whose threads are operating-system threads without warps. Here a CUDA thread
is a greenlet that runs until it has to wait for others. A `Fault` reports what the hardware leaves undefined, with the line of the kernel:
a divergent barrier, a shuffle with a lane that does not take part, a race on shared memory, an index outside an array. Shared and local
memory start as nan or garbage, and a seed determines the order of the threads.
"""

import contextvars
import random
import sys
from collections import defaultdict
from contextlib import contextmanager
from math import prod
from typing import NamedTuple

import numpy as np
from greenlet import getcurrent, greenlet
from numba import cuda as numba_cuda
from numba.cuda.simulator import kernel as numba_kernel

WARP = 32
_order = random.Random(0)
_launch = None  # the running launch
_not_kernels = (__file__, "prims/simulator.py", "simulated.py", numba_kernel.__file__)  # files that hold no lines of kernels


class Fault(RuntimeError):
    """A kernel did something that the hardware leaves undefined."""


def seed(number):
    """Seed the order of threads from here on."""
    _order.seed(number)


class Dim3(NamedTuple):
    x: int
    y: int
    z: int


class Wait(NamedTuple):
    """What a thread waits for: which threads (``scope``), in which call."""

    scope: str
    call: str
    mask: int
    path: tuple  # the lines of the call stack: the same line reached in two ways is two calls

    def __str__(self):
        outside = [where for where in self.path if not where[0].endswith(_not_kernels)]
        file, line = (outside or self.path)[0]
        return f"{self.call} at {file.rsplit('/', 1)[-1]}:{line}"


class Block:
    """The threads of one block, and their shared memory."""

    def __init__(self, launch, index, rank):
        self.launch, self.index, self.rank = launch, index, rank
        self.shared = {}
        self.cluster = ()
        size = launch.block
        points = [Dim3(x, y, z) for z in range(size.z) for y in range(size.y) for x in range(size.x)]
        self.threads = [Thread(self, point, number) for number, point in enumerate(points)]


class Thread(greenlet):
    def __init__(self, block, index, number):
        super().__init__(lambda: block.launch.function(*block.launch.arguments))
        self.block, self.index, self.number = block, index, number
        self.warp, self.lane = divmod(number, WARP)
        self.wait = self.value = self.answer = None
        self.epochs = {"warp": 0, "block": 0, "cluster": 0, "arrived": 0}  # completed waits by scope; a barrier of a cluster has two halves
        self.published = []  # the arrivals that publish, counted from 1
        self.gr_context = contextvars.copy_context()  # it holds NumPy's error state, for example

    def arrive(self, publishes):
        """The first half of the barrier of a cluster. Threads that have passed the second half see all that was done before it.

        A relaxed arrival does not publish: the others need not see what this thread did before it.
        """
        self.epochs["arrived"] += 1
        if publishes:
            self.published.append(self.epochs["arrived"])
        if self.epochs["arrived"] > self.epochs["cluster"] + 1:
            raise Fault(f"{Wait('cluster', 'cluster_arrive', 0, _path())}: a second arrival without a wait")

    def wait_for_others(self, scope, call, value=None, mask=0):
        """Wait for the others. Returns the values that they passed, by lane (warp) or by thread number (block)."""
        if scope == "warp" and not mask >> self.lane & 1:
            raise Fault(f"{Wait(scope, call, mask, _path())}: lane {self.lane} is not in its own mask {mask:#x}")
        if scope == "cluster" and self.epochs["arrived"] == self.epochs["cluster"]:
            raise Fault(f"{Wait(scope, call, mask, _path())}: a wait without an arrival")
        self.wait, self.value = Wait(scope, call, mask, _path()), value
        self.block.launch.scheduler.switch()
        return self.answer


def _path():
    """The lines of the call stack, innermost first, up to the launch."""
    frame, path = sys._getframe(2), []
    while frame is not None:
        path.append((frame.f_code.co_filename, frame.f_lineno))
        frame = frame.f_back
    return tuple(path)


# ------------------------------ the scheduler ------------------------------


class Launch:
    def __init__(self, function, grid, block, dynamic, cluster, arguments):
        from simulated import Pointer

        self.function, self.grid, self.block, self.dynamic, self.cluster = function, Dim3(*grid), Dim3(*block), dynamic, cluster
        plain = [getattr(a, "_ary", a) for a in arguments]  # simulated device arrays of numba-cuda wrap NumPy arrays
        self.arguments = [a.view(Pointer) if isinstance(a, np.ndarray) and a.ndim else a for a in plain]
        self.thread = self.scheduler = None
        if self.grid.x % cluster:
            raise Fault(f"a grid of {self.grid.x} blocks does not divide into clusters of {cluster}")
        if prod(self.block) > 1024 or cluster > 8:
            raise Fault(f"no device has blocks of {prod(self.block)} threads in clusters of {cluster}")

    def run(self):
        self.scheduler = getcurrent()
        starts = [(x, y, z) for x in range(0, self.grid.x, self.cluster) for y in range(self.grid.y) for z in range(self.grid.z)]
        _order.shuffle(starts)  # blocks may run in any order
        for x, y, z in starts:
            blocks = [Block(self, Dim3(x + rank, y, z), rank) for rank in range(self.cluster)]
            for block in blocks:
                block.cluster = blocks
            self._run_together([thread for block in blocks for thread in block.threads])

    def _run_together(self, threads):
        alive, ready = set(threads), threads
        while alive:
            warps = {(t.block.rank, t.warp) for t in ready}
            chosen = {warp for warp in sorted(warps) if _order.random() < 0.5} or warps  # the other warps fall behind
            going = [t for t in ready if (t.block.rank, t.warp) in chosen]
            ready = [t for t in ready if (t.block.rank, t.warp) not in chosen]
            _order.shuffle(going)
            for thread in going:
                self.thread, thread.wait = thread, None
                try:
                    thread.switch()
                except Exception as error:
                    error.add_note(f"in thread {tuple(thread.index)} of block {tuple(thread.block.index)}")
                    raise
                if thread.dead:
                    alive.discard(thread)
            ready += self._released(alive, set(ready))
            if alive and not ready:
                raise Fault("; ".join(sorted({f"{_count(alive, t.wait)} threads wait in {t.wait}" for t in alive})))

    def _released(self, alive, ready):
        """The threads that need not wait any longer, because all others have arrived."""
        groups = defaultdict(list)
        waiting = [t for t in alive if t not in ready]
        for t in waiting:
            passed = t.epochs["cluster"]  # a thread may arrive at the next barrier before another has left this one
            key = {"warp": (t.block.rank, t.warp, t.wait), "block": (t.block.rank,), "cluster": (passed,)}[t.wait.scope]
            groups[t.wait.scope, key].append(t)
        released = []
        for (scope, key), group in groups.items():
            if scope == "warp":
                complete = _all_lanes(group, key[2])
            elif scope == "cluster":
                complete = all(t.epochs["arrived"] > key[0] for t in alive)
            else:
                complete = len(group) == sum(t.block.rank == key[0] for t in alive) and _one_call(group)
            if complete:
                values = {t.lane if scope == "warp" else (t.block.rank, t.number): t.value for t in group}
                _advance(group, scope)
                for t in group:
                    t.answer = values
                released += group
        return sorted(released, key=lambda t: (t.block.rank, t.number))


def _count(alive, wait):
    return sum(t.wait == wait for t in alive)


def _all_lanes(group, wait):
    lanes = {t.lane for t in group}
    for lane in range(WARP):
        if wait.mask >> lane & 1 and lane not in lanes:
            first = group[0]
            mates = [t for t in first.block.threads if t.warp == first.warp and t.lane == lane]
            if not mates or mates[0].dead:
                raise Fault(f"{wait}: lane {lane}, named by mask {wait.mask:#x}, {'has left the kernel' if mates else 'does not exist'}")
            return False
    return True


def _one_call(group):
    """Whether all threads are in the same call; a Fault if not, because then the barrier is divergent."""
    if len({t.wait for t in group}) > 1:
        raise Fault("divergent barrier: " + ", ".join(sorted({f"{_count(group, t.wait)} threads in {t.wait}" for t in group})))
    return True


def _advance(group, scope):
    """After a barrier its threads see each other's writes from before it. A shuffle does not order memory."""
    if scope == "warp" and group[0].wait.call != "syncwarp":
        return
    epoch = max(t.epochs[scope] for t in group) + 1
    for t in group:  # in a cluster, the other threads continue when they reach the wait
        t.epochs[scope] = epoch


# ------------------------------ replacement of numba-cuda's launches ------------------------------


def current():
    """The running CUDA thread."""
    return _launch.thread


def _replace_cuda(names, replaced, device):
    """Bind names for ``cuda`` in the globals of a module to the simulated device."""
    for name, value in list(names.items()):
        if value is numba_cuda:
            names[name] = device
            replaced.append((names, name))


@contextmanager
def _simulated(function):
    from simulated import Device

    replaced, device = [], Device()
    try:
        _replace_cuda(function.__globals__, replaced, device)
        for name, module in list(sys.modules.items()):
            if name.startswith("nbloss.kernels.cuda"):
                _replace_cuda(vars(module), replaced, device)
        yield lambda other: _replace_cuda(other.__globals__, replaced, device)
    finally:
        for names, name in replaced:
            names[name] = numba_cuda


def _call(kernel, *arguments):
    """Replaces FakeCUDAKernel.__call__: a launch, or a call of a device function within a launch."""
    global _launch
    if _launch is not None:
        _launch.replace_in(kernel.fn)
        return kernel.fn(*arguments)
    if kernel.grid_dim is None:
        raise Fault(f"{kernel.fn.__name__} was launched without a grid")
    launch = Launch(kernel.fn, kernel.grid_dim, kernel.block_dim, kernel.dynshared_size, getattr(kernel, "cluster", 1), arguments)
    with _simulated(kernel.fn) as replace_in, np.errstate(all="ignore"):
        launch.replace_in = replace_in
        _launch = launch
        try:
            launch.run()
        finally:
            _launch = None


def install():
    numba_kernel.FakeCUDAKernel.__call__ = _call
