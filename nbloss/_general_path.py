"""The general path: calls of every kind and on every device, with all checks and errors. `nbloss._fast_path` takes the common ones before.

On arrays of a GPU it records what a call does, and the same call again only repeats it (`nbloss.backends.gpu_calls`).
"""

import sys

import numpy as np
from numpy.lib.array_utils import normalize_axis_index

from nbloss._arguments import array_beside_input, array_like, float_array, float_dtype, real_array
from nbloss._fast_path import NO_GRADIENT
from nbloss._hessian import Hessian
from nbloss._options import checked_dim, checked_divisor, checked_row_options
from nbloss._problem import NO_TARGET, Distillation, Problem, as_stored, delivered, output_array
from nbloss.backends.select import select

_NUMBERS = (float, int, np.float32, np.float64)


def _recorded(options, number, *arrays):
    """The `Call` of arguments of which the first array is on a GPU; None for all others, and before the first call on a GPU.

    ``number`` is an upstream gradient, if it is a number.
    """
    gpu_calls = sys.modules.get("nbloss.backends.gpu_calls")
    if gpu_calls is None or type(arrays[0]) is np.ndarray:
        return None
    return gpu_calls.look_up(options, number, arrays)


def loss(
    operation, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device,
    smoothing=0.0, row_options=(), g=NO_GRADIENT, out=None, with_loss=True,
):  # fmt: skip
    """``(loss, gradient)`` of "cross_entropy", "focal" or "nll", as `_fast_path.loss`. It raises the errors of bad arguments."""
    upstream = None if g is NO_GRADIENT else g
    number = type(g) in _NUMBERS
    call, over, row_options = None, checked_divisor(divisor, reduction), checked_row_options(operation, row_options)
    if type(ignore_index) is int and type(smoothing) is float:
        options = operation, ignore_index, reduction, over is None, empty, device, smoothing, row_options, g is NO_GRADIENT, with_loss
        arrays = input, target, weight, sample_weight, None if number else upstream, out
        call = _recorded(options, float(g) if number else None, *arrays)
        done = call and call.replay(over)
        if done:
            return done
    with select(device, input, target, weight, sample_weight, upstream, out, call=call) as backend:
        problem = Problem(
            backend, input, target, weight, ignore_index, reduction, sample_weight, over, empty, smoothing, row_options
        )  # fmt: skip
        if operation == "focal":
            problem.refuse_probabilities()
        result = gradient = value = None
        if g is not NO_GRADIENT:
            result, gradient = problem.gradient(out, g)
            problem.upstream_number = float(g) if number else None
        problem.wants_sum = with_loss and problem.sums
        problem.check_targets()
        if operation == "nll":
            losses = problem.nll() if gradient is None else problem.nll_backward(g, gradient)
        else:
            losses = problem.cross_entropy(upstream, gradient, with_loss)
        if with_loss:
            value = problem.reduced(losses)
        done = value, None if result is None else backend.deliver(result)
        if call is not None:
            call.keep(done)
        return done


def second_order(
    v, input, target, weight, ignore_index, reduction, sample_weight, divisor, empty, device, smoothing, row_options, g, out
):  # fmt: skip
    """The Hessian of a cross entropy times v; without v (None), the Hessian's diagonal."""
    number = type(g) in _NUMBERS
    call, over, row_options = None, checked_divisor(divisor, reduction), checked_row_options("cross_entropy", row_options)
    if type(ignore_index) is int and type(smoothing) is float:
        options = "second_order", ignore_index, reduction, over is None, empty, device, smoothing, row_options
        arrays = input, v, target, weight, sample_weight, None if number else g, out
        call = _recorded(options, float(g) if number else None, *arrays)
        done = call and call.replay(over)
        if done:
            return done[0]
    with select(device, input, v, target, weight, sample_weight, g, out, call=call) as backend:
        problem = Hessian(
            backend, input, target, weight, ignore_index, reduction, sample_weight, over, empty, smoothing, row_options
        )  # fmt: skip
        v_array = None if v is None else array_beside_input(backend, "v", v, problem.input.shape)
        result, written = problem.gradient(out, g, [] if v is None else [("v", v_array)])
        problem.upstream_number = float(g) if number else None
        problem.check_targets()
        problem.second_derivative(v_array, g, written)
        done = (backend.deliver(result),)
        if call is not None:
            call.keep(done)
        return done[0]


def stats(input, target, ignore_index, device):
    """``(lse, log_prob, argmax, correct, entropy)`` of each row; without a target, log_prob and correct are None."""
    call = _recorded(("cross_entropy_stats", ignore_index, device), None, input, target) if type(ignore_index) is int else None
    done = call and call.replay()
    if done:
        return done
    with select(device, input, target, call=call) as backend:
        problem = Problem(backend, input, NO_TARGET if target is None else target, None, ignore_index, "none")
        problem.refuse_probabilities()
        if target is not None:
            problem.check_targets()
        done = tuple([None if output is None else delivered(backend, output) for output in problem.stats()])
        if call is not None:
            call.keep(done)
        return done


def distillation(input, teacher, temperature, sample_weight, divisor, reduction, device, g=NO_GRADIENT, out=None, with_loss=True):
    """``(loss, gradient)`` of the distillation loss, as `loss`."""
    upstream = None if g is NO_GRADIENT else g
    number = type(g) in _NUMBERS
    call, over = None, checked_divisor(divisor, reduction)
    if type(temperature) is float:
        options = "distillation", temperature, reduction, over is None, device, g is NO_GRADIENT, with_loss
        arrays = input, teacher, sample_weight, None if number else upstream, out
        call = _recorded(options, float(g) if number else None, *arrays)
        done = call and call.replay(over)
        if done:
            return done
    with select(device, input, teacher, sample_weight, upstream, out, call=call) as backend:
        problem = Distillation(backend, input, teacher, temperature, reduction, sample_weight, over)
        result = gradient = None
        if g is not NO_GRADIENT:
            result, gradient = problem.gradient(out, g)
        problem.check_targets()
        losses = problem.distillation(upstream, gradient, with_loss)
        done = problem.reduced(losses) if with_loss else None, None if result is None else backend.deliver(result)
        if call is not None:
            call.keep(done)
        return done


def forward(operation, input, dim, dtype, out, device):
    """The result of "log_softmax" or "softmax"."""
    call = _recorded((operation, dim, device), None, input, out) if dtype is None and type(dim) is int else None
    done = call and call.replay()
    if done:
        return done[0]
    with select(device, input, out, call=call) as backend:
        if dtype is None:
            x = float_array(backend, "input", input, ", or dtype=np.float32")
        else:
            x = real_array(backend, "input", input, float_dtype(dtype))
        return _along_axis(operation, backend, dim, [x], [("input", x)], out, call)


def backward(operation, grad_output, output, dim, out, device):
    """The gradient of "log_softmax_backward" or "softmax_backward"."""
    number = type(grad_output) in _NUMBERS
    options = operation, dim, device
    given = output, None if number else grad_output, out
    call = _recorded(options, float(grad_output) if number else None, *given) if type(dim) is int else None
    done = call and call.replay()
    if done:
        return done[0]
    with select(device, output, grad_output, out, call=call) as backend:
        y = float_array(backend, "output", output)
        g = array_like(backend, "grad_output", grad_output, y)
        return _along_axis(operation, backend, dim, [g, y], [("output", y), ("grad_output", g)], out, call)


def _along_axis(operation, backend, dim, inputs, may_be, out, call):
    """The result of an operation, which has the shape and dtype of its last input. ``may_be``: the arrays that ``out`` may be."""
    like = inputs[-1]
    axis = normalize_axis_index(checked_dim(dim), max(like.ndim, 1))
    result = output_array(backend, out, like, may_be)
    run = getattr(backend.kernels, operation)
    for piece in backend.pieces(axis, list(map(as_stored, inputs)), as_stored(backend.kernel_view(result)), any_order=True):
        run(*piece.inputs, piece.out)
    done = delivered(backend, result, out)
    if call is not None:
        call.keep((done,))
    return done
