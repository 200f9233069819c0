"""The backend for calls on an NVIDIA GPU. ``nbloss.backends.cpu`` has the same methods with the same parameters, and describes them.

NumPy arrays are copied to the GPU and results are copied back; a bad target raises in the call. With arrays on the GPU, nothing is copied
and the call does not wait: `nbloss.check_device_errors` raises for a bad target later.
"""

import math
from collections import OrderedDict
from functools import cached_property, partial
from itertools import count

import numpy as np

from nbloss.backends import array_interop
from nbloss.backends.cpu import CPU
from nbloss.kernels import layouts
from nbloss.kernels.cuda.runtime import memory, streams
from nbloss.kernels.cuda.runtime.launch import Divisor, Serial
from nbloss.kernels.cuda.runtime.memory import DeviceArray

# Words of row_scale's report: the bits of the divisor, the number of bad targets, position and value of the first one, a counter, and the
# bits of what a mean over a divisor of 0 is.
REPORT = 6
# Words of a device's error record: the call's serial number, the number of bad targets, position, value, classes, and 1 if all are written.
ERRORS = 6
REMEMBERED = 1024  # calls whose shapes are kept for the messages of late errors

_serials = count(1)
_calls: OrderedDict = OrderedDict()  # serial number of a call -> the function that makes its error
_records: dict = {}  # device -> its error record, a HostArray


def remembered(error):
    """The serial number of a new call, under which the function that makes its error is kept."""
    serial = Serial(next(_serials))
    _calls[serial] = error
    while len(_calls) > REMEMBERED:
        _calls.popitem(last=False)
    return serial


class Output:
    """A result: the array that kernels write, and a function that returns what the caller gets."""

    def __init__(self, array, give):
        self.array, self.give = array, give


class CudaBackend:
    """The backend of one call on one device."""

    def __init__(self, index, like=None, call=None):
        """Results are of the kind of ``like``, an array of the caller on the device. None: arguments and results are NumPy arrays.

        ``call`` records the steps of the call (`gpu_calls.Call`), or is None.
        """
        self.index, self.family = index, like if like is None else array_interop.family(like)
        self.stream = memory.stream(0 if like is None else self.family.stream(like))
        self.report = self.raising = self.prepared = self.result = None
        self.kept: list = []  # arrays of the caller that must outlive the work that is queued
        self.call = call
        if call is not None:
            call.index, call.stream = index, self.stream

    @cached_property
    def kernels(self):
        from nbloss.kernels.cuda.kernel_set import KernelSet

        return KernelSet(self.index, self.stream, self.call)

    def __enter__(self):
        self.before = memory.enter(self.index)
        return self

    def __exit__(self, *error):
        if self.kept and not memory.SIMULATED:
            streams.keep_until_done(self.kept, self.stream)
        memory.leave(self.before)

    # -------------------- arguments --------------------

    def device_array(self, value):
        if not array_interop.on_gpu(value):
            return None
        family = array_interop.family(value)
        array = family.seen(value, self.stream)
        if array.device != self.index:
            raise ValueError(f"all arrays of a call should be on one device, here cuda:{self.index}; got one on cuda:{array.device}")
        if array.stream != memory.handle(self.stream) or (family.may_be_reused_early and array is not value):
            self.kept.append(array)
            self._not_recorded()
        if self.call is not None:
            self.call.input(array, value)
        return array

    def _not_recorded(self):
        if self.call is not None:
            self.call.fail()

    def _on_device(self, array):
        return array if isinstance(array, DeviceArray) else self.upload(array)

    def upload(self, host):
        """Copy a NumPy array to a `DeviceArray`."""
        self._not_recorded()
        return memory.upload(host, self.index, self.stream)

    def download(self, value):
        """Copy an array on the device to a NumPy array."""
        array = self.device_array(value)
        host = np.empty(array.shape, array.dtype)
        if array.size:
            self._not_recorded()
            memory.download(array if array.contiguous else self._contiguous(array), host, self.stream)
        return host

    def _contiguous(self, array):
        return self.kernels.packed(array)

    def cast(self, array, dtype):
        if not isinstance(array, DeviceArray):
            return CPU.cast(array, dtype)
        if array.dtype == dtype:
            return array
        converted = self.kernels.scratch(array.shape, dtype)
        if array.size:
            self.kernels.copy(array, converted)
        return converted

    def _canonical(self, array, shape):
        array = self._on_device(array)
        try:
            return array.reshape(shape)
        except ValueError:
            return self._contiguous(array).reshape(shape)

    def pieces(self, axis, inputs, out, any_order=False):
        """One piece: arrays that two strides of positions do not describe are copied."""
        shape = next(a.shape for a in (*inputs, out) if a is not None) or (1,)
        view = math.prod(shape[:axis]), shape[axis], math.prod(shape[axis + 1 :])
        if 0 not in shape:
            views = [self._canonical(a, view) for a in inputs]
            yield layouts.Piece(0, view[0] * view[2], views, None if out is None else out.reshape(view))

    def flat(self, array):
        array = self._on_device(array)
        return (array if array.contiguous or not array.size else self._contiguous(array)).reshape(-1)

    def broadcast(self, number, shape):
        array = number
        if not isinstance(number, DeviceArray):  # written by a kernel: a copy from the host would wait
            dtype = number.dtype
            array = self.kernels.scratch(1, np.float64 if dtype == np.float64 else np.float32)
            self.kernels.ratio(float(number), None, 1.0, array)
            array = self.cast(array, dtype).reshape(())
        return array.seen(np.broadcast_to(array.geometry, shape))

    def class_weights(self, weight, classes, dtype):
        return self.kernels.ones(classes, dtype) if weight is None else weight

    # -------------------- results --------------------

    @property
    def output_kind(self):
        return "a NumPy array" if self.family is None else f"an array on cuda:{self.index}, as input is"

    reads_results = reads_any_float = False

    @property
    def writes_any_strides(self):
        return self.family is None  # results go to a NumPy array of any strides, after the call

    def as_output(self, out):
        return CPU.as_output(out) if self.family is None else self.device_array(out)

    def scratch(self, count, dtype):
        return self.kernels.scratch(count, dtype)

    def new_output(self, shape, dtype, out=None, like=None):
        if self.family is None:
            array = self.kernels.scratch(shape, dtype)
            return Output(array, lambda: self._to_host(array, np.empty(shape, dtype) if out is None else out))
        if out is not None:
            return Output(self.family.seen(out, self.stream), lambda: out)
        family = self.family  # a function that refers to ``self`` would keep the memory until Python looks for cycles
        made = family.empty(shape, dtype, self.index, self.stream)
        if isinstance(made, DeviceArray):
            output = Output(made, lambda: family.result(made))
        else:
            output = Output(family.seen(made, self.stream), lambda: made)
        if self.call is not None:
            self.call.output(output.array, made)
        return output

    def kernel_view(self, output):
        return output.array

    def store(self, array, out, dtype):
        if array.size:
            self.kernels.copy(array, out)

    def deliver(self, output):
        self._raise_errors()
        return output.give()

    def _to_host(self, array, host):
        if host.flags.carray:
            memory.download(array, host, self.stream)
        else:
            host[...] = self._to_host(array, np.empty(host.shape, host.dtype))
        return host

    # -------------------- steps of a loss --------------------

    def row_scale(self, problem, *arguments):
        *given, spread = arguments
        scale = self.scratch(problem.positions, problem.dtype)
        if problem.positions == 0:
            return scale, _over(problem)
        self.report = self.kernels.scratch(REPORT, np.int64)
        self.raising = problem.out_of_range
        if self.family is None:
            serial = Serial(0)
        else:
            serial = remembered(problem.out_of_range)
            if self.call is not None:
                self.call.late_error = partial(remembered, problem.out_of_range)
        more = ()
        if problem.upstream_number is not None:
            self.prepared = self.kernels.scratch(1, problem.dtype)
            more = problem.upstream_number, problem.divides, self.prepared
        mean = _over(problem), problem.empty
        self.kernels.row_scale(*given, scale, spread, *mean, self.report, self._record(), serial, *more)
        if problem.wants_sum:
            self.result = self.new_output((), problem.dtype)
            self.kernels.sum_into = self.report, problem.divides, self.result.array.reshape(-1)
        return scale, self.report

    def divisor_of_rows(self, problem):
        if problem.over or problem.sample_weight is None or problem.positions == 0:
            return _over(problem) or float(problem.positions)
        report = self.kernels.scratch(REPORT, np.int64)
        self.kernels.weight_sum(problem.sample_weight, problem.empty, report)
        return report

    def _record(self):
        """The error record of the device, which keeps late errors. A call on NumPy arrays raises its own, and uses a temporary record."""
        if self.family is None:
            record = self.kernels.scratch(ERRORS, np.int64)
            memory.clear(record, self.stream)
            return record
        if self.index not in _records:
            _records[self.index] = memory.HostArray(ERRORS, self.index)
        return _records[self.index].device

    def _raise_errors(self):
        """For calls on NumPy arrays: wait for the GPU, and raise for bad targets before any result is returned."""
        if self.family is None and self.raising is not None:
            words = self._to_host(self.report, np.empty(REPORT, np.int64))
            raising, self.raising = self.raising, None
            if words[1]:
                raise raising(*words[1:4].tolist())

    def upstream(self, g, problem):
        if self.prepared is not None:
            return self.prepared
        one = self.kernels.scratch(1, problem.dtype)
        report = problem.divisor if problem.divides and isinstance(problem.divisor, DeviceArray) else None
        divisor = problem.divisor if problem.divides and report is None else 1.0
        self.kernels.ratio(g if isinstance(g, DeviceArray) else float(g), report, divisor, one)
        return one

    def reduced(self, losses, problem):
        result, self.result = self.result or self.new_output((), problem.dtype), None  # see new_output: no cycle may keep it
        if not self.kernels.summed:
            reported = isinstance(problem.divisor, DeviceArray)
            report, divisor = (problem.divisor, 1.0) if reported else (None, problem.divisor if problem.divides else 1.0)
            self.kernels.reduced(losses, report, problem.divides, divisor, problem.empty, result.array.reshape(-1))
        value = self.deliver(result)
        return value[()] if self.family is None else value


def _over(problem):
    """The divisor that the call gives for its mean; 0.0: the sum of the weights."""
    return Divisor(problem.over) if problem.over else 0.0


def check(wait):
    """Raise the first error in the devices' records, and clear it."""
    for index, record in _records.items():
        if wait:
            before = memory.enter(index)
            try:
                memory.synchronize()
            finally:
                memory.leave(before)
        if record.host[-1]:
            words = record.host.tolist()
            record.host[1:] = 0
            record.host[0] = 0  # the last: while it is not 0, no kernel writes
            raise _late_error(*words[:-1])


def _late_error(serial, wrong, position, value, classes):
    if serial in _calls:
        return _calls[serial](wrong, position, value)
    return IndexError(f"target should be in [0, {classes}): got {value} at flat position {position}; {wrong} targets are out of range")
