"""The general path: calls of every kind and on every device, with all checks and errors. `nbloss._fast_path` takes the common ones before.

On arrays of a GPU it records what a call does, and the same call again only repeats it (`nbloss.backends.gpu_calls`).
"""

import sys

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbloss._arguments import array_beside_input, array_like, float_array, float_dtype, real_array
from nbloss._distillation import Distillation
from nbloss._fast_path import NO_GRADIENT
from nbloss._hessian import Hessian
from nbloss._linear import LinearProblem, checked_wrt
from nbloss._options import checked_dim, checked_divisor, checked_row_options
from nbloss._problem import NO_TARGET, Problem, as_stored, delivered, output_array
from nbloss.backends.cpu import CPU
from nbloss.backends.select import DeviceUnavailableError, select

_NUMBERS = (float, int, np.float32, np.float64)


def _computed(options, arrays, device, compute, g=None, over=None):
    """The tuple that ``compute(backend)`` returns. On arrays of a GPU, a call like an earlier one repeats its steps instead.

    ``options`` is all that a call depends on besides the ``arrays`` (None: not given), an upstream gradient g and a divisor ``over``; None
    where an option is of an unusual type, so that it should be no key. Only calls whose first array is on a GPU are recorded.
    """
    gpu_calls, call, number = sys.modules.get("nbloss.backends.gpu_calls"), None, type(g) in _NUMBERS
    given = arrays if g is None or number else (*arrays, g)
    if gpu_calls is not None and options is not None and type(arrays[0]) is not np.ndarray:
        call = gpu_calls.look_up(options, float(g) if number else None, given)
        done = call and call.replay(over)
        if done:
            return done
    with select(device, *given, call=call) as backend:
        done = compute(backend)
        if call is not None:
            call.keep(done)
        return done


def _gradient(problem, g, out, may_be=()):
    """The array of the gradient for the caller, and for the kernels; None twice with NO_GRADIENT."""
    if g is NO_GRADIENT:
        return None, None
    problem.upstream_number = float(g) if type(g) in _NUMBERS else None
    return problem.gradient(out, g, may_be)


def loss(
    operation, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
    smoothing=0.0, row_options=(), g=NO_GRADIENT, out=None, with_loss=True,
):  # fmt: skip
    """``(loss, gradient)`` of "cross_entropy", "focal" or "nll", as `_fast_path.loss`. It raises the errors of bad arguments."""
    upstream = None if g is NO_GRADIENT else g
    over, row_options = checked_divisor(divisor, reduction), checked_row_options(operation, row_options)
    options = operation, ignore_index, reduction, over is None, empty, device, smoothing, row_options, g is NO_GRADIENT, with_loss
    usual = type(ignore_index) is int and type(smoothing) is float

    def compute(backend):
        problem = Problem(
            backend, input, target, weight, ignore_index, reduction, sample_weight, over, empty, smoothing, row_options
        )  # fmt: skip
        if operation == "focal":
            problem.refuse_probabilities()
        result, gradient = _gradient(problem, g, out)
        problem.wants_sum = with_loss and problem.sums
        problem.check_targets()
        if operation == "nll":
            losses = problem.nll() if gradient is None else problem.nll_backward(g, gradient)
        else:
            losses = problem.cross_entropy(upstream, gradient, with_loss)
        return problem.reduced(losses) if with_loss else None, None if result is None else backend.deliver(result)

    return _computed(options if usual else None, (input, target, weight, sample_weight, out), device, compute, upstream, over)


def second_order(
    v, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device, smoothing, row_options, g, out
):  # fmt: skip
    """The Hessian of a cross entropy times v; without v (None), the Hessian's diagonal."""
    over, row_options = checked_divisor(divisor, reduction), checked_row_options("cross_entropy", row_options)
    options = "second_order", ignore_index, reduction, over is None, empty, device, smoothing, row_options
    usual = type(ignore_index) is int and type(smoothing) is float

    def compute(backend):
        problem = Hessian(
            backend, input, target, weight, ignore_index, reduction, sample_weight, over, empty, smoothing, row_options
        )  # fmt: skip
        v_array = None if v is None else array_beside_input(backend, "v", v, problem.input.shape)
        result, written = _gradient(problem, g, out, [] if v is None else [("v", v_array)])
        problem.check_targets()
        problem.second_derivative(v_array, g, written)
        return (backend.deliver(result),)

    return _computed(options if usual else None, (input, v, target, weight, sample_weight, out), device, compute, g, over)[0]


def stats(input, target, ignore_index, device):
    """``(lse, log_prob, argmax, correct, entropy)`` of each row; without a target, log_prob and correct are None."""
    options = "cross_entropy_stats", ignore_index, device

    def compute(backend):
        problem = Problem(backend, input, NO_TARGET if target is None else target, None, ignore_index, "none")
        problem.refuse_probabilities()
        if target is not None:
            problem.check_targets()
        return tuple([None if output is None else delivered(backend, output) for output in problem.stats()])

    return _computed(options if type(ignore_index) is int else None, (input, target), device, compute)


def distillation(input, teacher, temperature, sample_weight, divisor, reduction, device, g=NO_GRADIENT, out=None, with_loss=True):
    """``(loss, gradient)`` of the distillation loss, as `loss`."""
    upstream, over = None if g is NO_GRADIENT else g, checked_divisor(divisor, reduction)
    options = "distillation", temperature, reduction, over is None, device, g is NO_GRADIENT, with_loss

    def compute(backend):
        problem = Distillation(backend, input, teacher, temperature, reduction, sample_weight, over)
        result, gradient = _gradient(problem, g, out)
        problem.check_targets()
        losses = problem.distillation(upstream, gradient, with_loss)
        return problem.reduced(losses) if with_loss else None, None if result is None else backend.deliver(result)

    arrays = input, teacher, sample_weight, out
    return _computed(options if type(temperature) is float else None, arrays, device, compute, upstream, over)


def linear(
    input, linear_weight, target, linear_bias, weight, ignore_index, max_memory, device, options, row_options,
    stats=None, g=NO_GRADIENT, wrt=(), out=None, accumulate=False,
):  # fmt: skip
    """``(loss, (gradient of input, of the weight, of the bias))`` of `linear_cross_entropy`; None for those that are not in ``wrt``."""
    reduction, sample_weight, divisor, empty, smoothing = options
    over = checked_divisor(divisor, reduction)
    with select(device, input, linear_weight, target, linear_bias, weight, sample_weight) as backend:
        if backend is not CPU:
            raise DeviceUnavailableError("linear_cross_entropy computes on the CPU alone: on a GPU, pass the logits to cross_entropy")
        problem = LinearProblem(
            backend, input, linear_weight, linear_bias, target, weight, ignore_index, max_memory,
            reduction, sample_weight, over, empty, smoothing, checked_row_options("cross_entropy", row_options),
        )  # fmt: skip
        if g is not NO_GRADIENT:
            problem.upstream_number = float(g) if type(g) in _NUMBERS else None
        outs = problem.outs(() if g is NO_GRADIENT else checked_wrt(wrt), out, accumulate, g)
        problem.check_stats(stats or {}, outs, g)
        problem.wants_sum = problem.sums
        problem.check_targets()
        losses = problem.run(g, outs, accumulate, stats or {})
        return problem.reduced(losses), tuple(outs)


def forward(operation, input, dim, dtype, out, device):
    """The result of "log_softmax" or "softmax"."""

    def compute(backend):
        if dtype is None:
            x = float_array(backend, "input", input, ", or dtype=np.float32")
        else:
            x = real_array(backend, "input", input, float_dtype(dtype))
        return (_along_axis(operation, backend, dim, [x], [("input", x)], out),)

    usual = dtype is None and type(dim) is int
    return _computed((operation, dim, device) if usual else None, (input, out), device, compute)[0]


def backward(operation, grad_output, output, dim, out, device):
    """The gradient of "log_softmax_backward" or "softmax_backward"."""

    def compute(backend):
        y = float_array(backend, "output", output)
        g = array_like(backend, "grad_output", grad_output, y)
        return (_along_axis(operation, backend, dim, [g, y], [("output", y), ("grad_output", g)], out),)

    return _computed((operation, dim, device) if type(dim) is int else None, (output, out), device, compute, grad_output)[0]


def _along_axis(operation, backend, dim, inputs, may_be, out):
    """The result of an operation, which has the shape and dtype of its last input. ``may_be``: the arrays that ``out`` may be."""
    like = inputs[-1]
    axis = normalize_axis_index(checked_dim(dim), max(like.ndim, 1))
    result = output_array(backend, out, like, may_be)
    run = getattr(backend.kernels, operation)
    for piece in backend.pieces(axis, list(map(as_stored, inputs)), as_stored(backend.kernel_view(result)), any_order=True):
        run(*piece.inputs, piece.out)
    return delivered(backend, result, out)
