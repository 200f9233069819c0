"""Calls on GPU arrays that were made before: the same call again launches the same kernels.

The general path checks arguments, chooses kernels and asks for scratch memory in Python: up to 200 us per call, more than many kernels run.
While a call takes that path, a `Call` records its steps. A later call whose arrays and options are alike (`look_up` says in what) repeats
the steps with other addresses: it allocates its results and one block of scratch memory, and launches.

Calls that copy from or to the host, or whose arrays belong to several streams, are not recorded.
"""

import sys
from operator import itemgetter

import numpy as np

from nbloss.backends import array_interop
from nbloss.kernels.cuda.runtime import launch, memory
from nbloss.kernels.cuda.runtime.memory import DeviceArray

MOST_PLANS = 1024  # kept at a time; programs with more kinds of calls record some of them again
ALIGNMENT = 256  # bytes: the driver's, so a kernel that was chosen for an array of its own fits a part of a block, too

_plans: dict = {}


# ------------------------------ arrays ------------------------------


def _own(array):
    facts = array.shape, array._strides, array.dtype, array.device, array.writeable, array.address & 15
    return facts, array.address, array.stream


def _torch(tensor):
    if not tensor.is_cuda or tensor.requires_grad or tensor.layout is not sys.modules["torch"].strided:
        return None
    if tensor.is_nested or tensor.is_neg():  # the general path refuses these, and those above
        return None
    address = tensor.data_ptr()
    return (tensor.shape, tensor.stride(), tensor.dtype, tensor.device.index, address & 15), address, None


def _cupy(array):
    address = array.data.ptr
    return (array.shape, array.strides, array.dtype, array.device.id, address & 15), address, None


_DESCRIBE = {array_interop.Own: _own, array_interop.Torch: _torch, array_interop.CuPy: _cupy}

_of_type: dict = {}  # type of an argument -> (family, the function that describes it), or None


def _describe(kind, value):
    known = _of_type.get(kind, False)
    if known is False:
        family = array_interop.family(value)
        describe = _DESCRIBE.get(family)
        known = _of_type[kind] = describe and (family, describe)
    return known


# ------------------------------ one call ------------------------------


def look_up(options, numbers, arrays):
    """The `Call` of these options, numbers (as they are, or None) and arrays of one GPU (or None); None if it is not to be recorded.

    Two calls are alike if they have the same options, numbers and stream, and if their arrays have the same types, shapes, strides, dtypes,
    devices, and offsets from a multiple of 16 bytes, and if the same arguments begin at the same address.
    """
    if memory.SIMULATED:
        return None
    family, stream, facts, addresses = None, None, [], []
    for value in arrays:
        if value is None:
            facts.append(None)
            addresses.append(0)
            continue
        kind = type(value)
        known = _describe(kind, value)
        described = known and known[1](value)
        if not described:
            return None
        fact, address, own_stream = described
        if family is None:
            family, stream = known[0], known[0].stream(value) or memory.LEGACY_STREAM
        if own_stream is not None and own_stream != stream:
            return None
        facts.append((kind, fact))
        addresses.append(address)
    key = options, numbers, tuple(facts), tuple(map(addresses.index, addresses)), stream
    try:
        plan = _plans.get(key)
    except TypeError:  # an option that is no string or number
        return None
    return Call(key, family, arrays, addresses, plan)


class Call:
    """One call: its key, and either the plan of an earlier one or what is recorded for later ones."""

    def __init__(self, key, family, arrays, addresses, plan):
        self.key, self.family, self.arrays, self.addresses, self.plan = key, family, arrays, addresses, plan
        self.steps: list = []  # (function, arguments), DeviceArrays among them
        self.ranges: list = []  # (first byte, byte past the last, ("input" | "output" | "scratch", number), address of the first element)
        self.outputs: list = []  # (what the caller gets, shape, dtype)
        self.alive: list = []  # arrays whose addresses no other array may get while the call is recorded
        self.late_error = None
        self.failed = False

    def replay(self, divisor=None):
        """The results of the call; None if there is no plan, or if ``out`` overlaps other arrays, which the general path must check.

        ``divisor`` is that of the mean, if the call gives one. Steps of a training divide by another number each time.
        """
        return None if self.plan is None else self.plan.run(self.arrays, self.addresses, divisor)

    # -------------------- recording --------------------

    def fail(self):
        """This call cannot be repeated by its steps alone."""
        self.failed = True

    def input(self, array, value):
        """An array of the caller, and the argument that it is."""
        number = next((n for n, given in enumerate(self.arrays) if given is value), None)
        if number is None:
            self.fail()
        else:
            self._add(array, ("input", number))

    def output(self, array, result):
        """A new result: the array that the kernels write, and what the caller gets."""
        self._add(array, ("output", len(self.outputs)))
        self.outputs.append((result, array.shape, array.dtype))

    def scratch(self, array):
        """Scratch memory."""
        self._add(array, ("scratch", 0))

    def _add(self, array, role):
        low, high = np.lib.array_utils.byte_bounds(array.geometry) if array.size else (array.address, array.address)
        self.alive.append(array)
        self.ranges.append((low, max(high, low + 1), role, array.address))

    def step(self, function, *arguments):
        """A function of the driver or of cuda-core that was called, its DeviceArrays not yet replaced by addresses."""
        self.steps.append((function, arguments))

    def keep(self, results):
        """Keep the plan of this call for later ones. ``results`` is what the caller gets, some of it None."""
        if self.failed or not self.steps:
            return
        plan = Plan.of(self, results)
        if plan is not None:
            if len(_plans) >= MOST_PLANS:
                _plans.clear()
            _plans[self.key] = plan


class Plan:
    """The steps of a call, for other arrays of the same kind.

    A step is a function and the places of its arguments in a list of values, which `run` makes: constants, the addresses of the caller's
    arrays, of the new results and of the scratch block, and addresses behind those.

    =============  ===============================================================================================
    attribute      meaning
    =============  ===============================================================================================
    steps          (function, what takes its arguments from the list), in order
    constants      the first values; ``serials`` are the places of those that are replaced by a new serial number, ``divisors`` of
                   those that are replaced by the divisor of the call
    derived        (place of an address, distance in bytes) of the last values
    new            (shape, dtype) of each new result
    results        where each result of the caller comes from; ``out`` is the place of one that the caller gave
    spans          bytes of each of the caller's arrays, from its first element
    alive          arrays of the package that steps use
    late_error     makes and remembers a serial number
    =============  ===============================================================================================
    """

    @classmethod
    def of(cls, call, results):
        """The plan of a recorded call; None if an address or a result is not one of those that the call knows."""
        plan = cls.__new__(cls)
        plan.family, plan.late_error = call.family, call.late_error
        plan.index, plan.stream = call.index, call.stream
        plan.new = [(shape, dtype) for _, shape, dtype in call.outputs]
        plan.results = [_source(result, call) for result in results]
        plan.out = next((n for n, kind in enumerate(plan.results) if kind and kind[0] == "input"), None)
        if False in plan.results:
            return None
        offsets, plan.scratch_bytes = [], 0
        for low, high, (kind, _), _ in call.ranges:
            offsets.append(plan.scratch_bytes)
            if kind == "scratch":
                plan.scratch_bytes += -(-(high - low) // ALIGNMENT) * ALIGNMENT
        plan.spans = [_span(array, call) for array in range(len(call.arrays))]
        # Places in the list of values: constants, inputs, outputs, the scratch block, then addresses with an offset from one of these.
        constants, derived, steps = [], {}, []

        def place_of(argument):
            if not isinstance(argument, DeviceArray):
                constants.append(argument)
                return "constant", len(constants) - 1
            for (low, high, role, first), offset in zip(call.ranges, offsets, strict=True):
                if low <= argument.address < high:
                    distance = argument.address - first + (offset if role[0] == "scratch" else 0)
                    return (role, distance) if distance else role
            plan.alive.append(argument)  # memory of the package, such as the record of errors
            constants.append(argument.address)
            return "constant", len(constants) - 1

        plan.alive = []
        for function, arguments in call.steps:
            steps.append((function, [place_of(argument) for argument in arguments]))
        start = {"constant": 0, "input": len(constants)}
        start["output"] = start["input"] + len(call.arrays)
        start["scratch"] = start["output"] + len(plan.new)
        plan.derived = []

        def number(place):
            if isinstance(place[0], str):
                return start[place[0]] + place[1]
            if place not in derived:
                derived[place] = start["scratch"] + 1 + len(plan.derived)
                plan.derived.append((start[place[0][0]] + place[0][1], place[1]))
            return derived[place]

        plan.steps = [(function, itemgetter(*map(number, places))) for function, places in steps]
        plan.constants = constants
        plan.serials = [n for n, constant in enumerate(constants) if type(constant) is launch.Serial]
        plan.divisors = [n for n, constant in enumerate(constants) if type(constant) is launch.Divisor]
        return plan

    def run(self, arrays, addresses, divisor):
        if self.out is not None and self._overlaps(addresses, self.results[self.out][1]):
            return None
        before = memory.enter(self.index)
        try:
            made = [self.family.empty(shape, dtype, self.index, self.stream) for shape, dtype in self.new]
            places = [a.address if type(a) is DeviceArray else self.family.seen(a, self.stream).address for a in made]
            block = memory.allocate(self.scratch_bytes, self.index, self.stream) if self.scratch_bytes else None
            values = [*self.constants, *addresses, *places, int(block.handle) if block else 0]
            for place, distance in self.derived:
                values.append(values[place] + distance)
            if self.serials:
                serial = self.late_error()
                for place in self.serials:
                    values[place] = serial
            for place in self.divisors:
                values[place] = divisor
            for function, chosen in self.steps:
                function(*chosen(values))
        finally:
            memory.leave(before)
        return tuple(None if kind is None else (arrays if kind[0] == "input" else made)[kind[1]] for kind in self.results)

    def _overlaps(self, addresses, out):
        """Whether ``out`` shares memory with another argument that does not begin where it does."""
        low, high = self.spans[out]
        first, last = addresses[out] + low, addresses[out] + high
        for n, span in enumerate(self.spans):
            if span and addresses[n] != addresses[out] and addresses[n] + span[0] < last and first < addresses[n] + span[1]:
                return True
        return False


def _source(result, call):
    """Where a result of the caller comes from: ("input", n), ("output", n), None for none, False if that is not known."""
    if result is None:
        return None
    for n, (given, *_) in enumerate(call.outputs):
        if given is result:
            return "output", n
    return next((("input", n) for n, value in enumerate(call.arrays) if value is result), False)


def _span(number, call):
    """The bytes of an argument, from its first element; None for an argument that is no array."""
    return next(((low - first, high - first) for low, high, role, first in call.ranges if role == ("input", number)), None)
