"""The ``cuda`` module and the memory that a simulated kernel uses. Every access to shared memory is checked for races."""

import math
import sys

import numpy as np
from numba.cuda import types
from numba.cuda.np import numpy_support
from simulator import WARP, Dim3, Fault, current

ALL_LANES = 0xFFFFFFFF


class Pointer(np.ndarray):
    """An array argument of a kernel, or local memory. An index outside it is a Fault, and so is a negative index."""

    def _checked(self, index):
        if isinstance(index, (int, np.integer)) and not 0 <= index < self.size:
            raise Fault(f"index {index} outside an array of {self.size} numbers")
        return index

    def __getitem__(self, index):
        return super().__getitem__(self._checked(index))

    def __setitem__(self, index, value):
        super().__setitem__(self._checked(index), value)


class Shared(Pointer):
    """Shared memory. If one thread writes a number, a barrier must come before another thread accesses it."""

    written = read = None

    def with_race_checks(self):
        self.written = {}  # index -> the thread that wrote it last, and when
        self.read = {}  # index -> the threads that have read it since, and when
        return self

    def __getitem__(self, index):
        if self.written is not None:
            self._note(index, writes=False)
        return super().__getitem__(index)

    def __setitem__(self, index, value):
        if self.written is not None:
            self._note(index, writes=True)
        super().__setitem__(index, value)

    def _note(self, index, writes):
        thread = current()
        indices = range(*index.indices(self.size)) if isinstance(index, slice) else [int(index)]
        now = thread, dict(thread.epochs)
        for i in indices:
            before = [self.written[i]] if i in self.written else []
            if writes:
                before += self.read.pop(i, {}).values()
            for other in before:
                if not _ordered(other, now):
                    word = "writes to" if writes else "reads"
                    raise Fault(
                        f"race: thread {thread.number} {word} shared[{i}], which thread {other[0].number} used; "
                        f"no barrier lies between the accesses ({_line()})"
                    )
            if writes:
                self.written[i] = now
            else:
                self.read.setdefault(i, {})[thread] = now


def _ordered(before, now):
    """Whether a barrier separates two accesses."""
    (a, then), (b, present) = before, now
    if a is b or any(then["arrived"] < arrival <= present["cluster"] for arrival in a.published):
        return True
    same_block = a.block is b.block
    return same_block and (then["block"] < present["block"] or (a.warp == b.warp and then["warp"] < present["warp"]))


def _line():
    frame = sys._getframe(1)
    while frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{frame.f_code.co_filename.rsplit('/', 1)[-1]}:{frame.f_lineno}"


def _fresh(shape, dtype, kind):
    """Uninitialized memory: nan for floats, and a large number for integers."""
    dtype = numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else np.dtype(dtype)
    array = np.empty(shape, dtype)
    array.view(np.uint8)[...] = 0xFF if dtype.kind == "f" else 0x6B
    return array.view(kind)


class _SharedMemory:
    def array(self, shape, dtype, alignment=None):
        """One array per line of the kernel, as the compiler has it. Shape 0 means the dynamic memory of the launch."""
        block = current().block
        if shape == 0:
            if 0 not in block.shared:
                block.shared[0] = np.full(block.launch.dynamic, 0xFF, np.uint8)  # nan as any float
            key = np.dtype(numpy_support.as_dtype(dtype) if isinstance(dtype, types.Type) else dtype)
            if key not in block.shared:
                block.shared[key] = block.shared[0].view(key).view(Shared).with_race_checks()
            return block.shared[key]
        key = _line()
        if key not in block.shared:
            block.shared[key] = _fresh(shape, dtype, Shared).with_race_checks()
        return block.shared[key]


class _LocalMemory:
    def array(self, shape, dtype, alignment=None):
        return _fresh(shape, dtype, Pointer)


class _Atomic:
    """Read-modify-write. It is atomic here, because threads switch only where they wait."""

    def _swap(self, array, index, new):
        plain = array.view(np.ndarray)
        old = plain[array._checked(index)]
        plain[index] = new(old)
        return old

    def add(self, array, index, value):
        return self._swap(array, index, lambda old: old + value)

    def max(self, array, index, value):
        return self._swap(array, index, lambda old: max(old, value))

    def min(self, array, index, value):
        return self._swap(array, index, lambda old: min(old, value))

    def exch(self, array, index, value):
        return self._swap(array, index, lambda old: value)

    def cas(self, array, index, old, value):
        return self._swap(array, index, lambda found: value if found == old else found)


class Device:
    """``cuda`` inside a kernel."""

    warpsize = WARP
    shared, local, atomic = _SharedMemory(), _LocalMemory(), _Atomic()

    threadIdx = property(lambda self: current().index)
    blockIdx = property(lambda self: current().block.index)
    blockDim = property(lambda self: current().block.launch.block)
    gridDim = property(lambda self: current().block.launch.grid)
    laneid = property(lambda self: current().lane)

    def grid(self, dimensions):
        block, index, size = self.blockIdx, self.threadIdx, self.blockDim
        point = Dim3(*(b * s + i for b, s, i in zip(block, size, index, strict=True)))
        return point.x if dimensions == 1 else point[:dimensions]

    def gridsize(self, dimensions):
        sizes = [g * b for g, b in zip(self.gridDim, self.blockDim, strict=True)]
        return sizes[0] if dimensions == 1 else tuple(sizes[:dimensions])

    # -------------------- blocks --------------------

    def syncthreads(self):
        current().wait_for_others("block", "syncthreads")

    def syncthreads_count(self, value):
        return sum(map(bool, current().wait_for_others("block", "syncthreads_count", bool(value)).values()))

    def syncthreads_and(self, value):
        return int(all(current().wait_for_others("block", "syncthreads_and", bool(value)).values()))

    def syncthreads_or(self, value):
        return int(any(current().wait_for_others("block", "syncthreads_or", bool(value)).values()))

    def threadfence(self):
        """Nothing to do: the simulator does not reorder writes."""

    threadfence_block = threadfence_system = threadfence

    # -------------------- warps --------------------

    def syncwarp(self, mask=ALL_LANES):
        current().wait_for_others("warp", "syncwarp", mask=mask)

    def _from(self, call, mask, value, lane):
        values = current().wait_for_others("warp", call, value, mask)
        if lane not in values:
            raise Fault(f"{current().wait}: lane {current().lane} asks for the value of lane {lane}, which has none to give")
        return values[lane]

    def shfl_sync(self, mask, value, lane):
        return self._from("shfl_sync", mask, value, lane % WARP)

    def shfl_xor_sync(self, mask, value, lanes):
        return self._from("shfl_xor_sync", mask, value, current().lane ^ lanes)

    def shfl_up_sync(self, mask, value, delta):
        lane = current().lane
        return self._from("shfl_up_sync", mask, value, lane - delta if lane >= delta else lane)

    def shfl_down_sync(self, mask, value, delta):
        lane = current().lane
        return self._from("shfl_down_sync", mask, value, lane + delta if lane + delta < WARP else lane)

    def ballot_sync(self, mask, predicate):
        return sum(1 << lane for lane, set_ in current().wait_for_others("warp", "ballot_sync", bool(predicate), mask).items() if set_)

    def any_sync(self, mask, predicate):
        return any(current().wait_for_others("warp", "any_sync", bool(predicate), mask).values())

    def all_sync(self, mask, predicate):
        return all(current().wait_for_others("warp", "all_sync", bool(predicate), mask).values())

    # -------------------- clusters --------------------

    def cluster_rank(self):
        return current().block.rank

    def cluster_size(self):
        return current().block.launch.cluster

    def cluster_arrive(self, publishes=True):
        current().arrive(publishes)

    def cluster_wait(self):
        current().wait_for_others("cluster", "cluster_wait")

    def cluster_sync(self):
        self.cluster_arrive()
        self.cluster_wait()

    def peer(self, array, rank):
        """The shared array of another block of the cluster that corresponds to ``array`` in this block."""
        block = current().block
        key = next(key for key, own in block.shared.items() if own is array)
        if key not in block.cluster[rank].shared:
            raise Fault(f"block {rank} of the cluster has not created its shared array yet: a cluster barrier is missing ({_line()})")
        return block.cluster[rank].shared[key]

    # -------------------- arithmetic --------------------

    def popc(self, x):
        return int(x & ALL_LANES).bit_count()

    def ffs(self, x):
        return (x & -x).bit_length()

    def fma(self, a, b, c):
        if isinstance(a, np.float32):  # the product of two float32 is exact in float64
            return np.float32(np.float64(a) * np.float64(b) + np.float64(c))
        return type(a)(math.fma(a, b, c)) if hasattr(math, "fma") else type(a)(np.longdouble(a) * np.longdouble(b) + np.longdouble(c))
