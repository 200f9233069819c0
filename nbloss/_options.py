"""The options of a loss: what each may be, and the error for anything else.

Each function returns the checked value. A new option needs a check here, an entry in `CHECKS`, a line in the signatures that take it,
and an entry in ``nbloss._docstrings``.
"""

import math
import operator
from collections.abc import Callable
from contextlib import suppress
from functools import wraps
from typing import Any, TypeVar, cast

import numpy as np

from nbloss.kernels.math.epilogue import row_options

_Function = TypeVar("_Function", bound=Callable[..., Any])

# Each reduction: whether it sums the losses, and whether it divides the sum and the upstream gradient by the total weight.
REDUCTIONS = {
    "sum": (True, False),
    "mean": (True, True),
    "none": (False, False),
}

# What a mean is, and what its gradients are multiplied by, where there is nothing to divide by.
EMPTY = {"nan": math.nan, "zero": 0.0}


def checked_dim(dim):
    """An axis as an int. NumPy checks its range."""
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise TypeError(f"dim should be an integer; got {dim!r}")
    return dim.__index__()


def refused_axis(axis):
    """The TypeError for SciPy's and NumPy's name of ``dim``."""
    return TypeError(f"the axis of the classes is called dim, as in torch; got axis={axis!r}: use dim={axis!r}")


def refuses_axis(function: _Function) -> _Function:
    """A decorator that refuses ``axis``. It is for constructors: a call of the decorated function takes longer."""

    @wraps(function)
    def checked(*args, **options):
        if "axis" in options:
            raise refused_axis(options["axis"])
        return function(*args, **options)

    return cast("_Function", checked)


def checked_reduction(reduction):
    """The name of a reduction; None means "none"."""
    name = "none" if reduction is None else reduction
    if not isinstance(name, str) or name not in REDUCTIONS:
        raise ValueError(f"reduction should be one of 'none', 'mean', 'sum'; got {reduction!r}")
    return name


def checked_ignore_index(ignore_index):
    """An int that fits int64, which is what the kernels compare targets with."""
    try:
        index = operator.index(ignore_index)
    except TypeError:
        raise TypeError(f"ignore_index should be an integer; got {ignore_index!r}") from None
    if not -(2**63) <= index < 2**63:
        raise ValueError(f"ignore_index should fit int64; got {index}")
    return index


def _number(name, wanted, value):
    """A real number as a float. Strings are refused, although ``float`` reads them."""
    if type(value) is float:
        return value
    if not isinstance(value, (str, bytes)) and np.ndim(value) == 0 and not np.iscomplexobj(value):
        with suppress(TypeError, ValueError, OverflowError):
            return float(value)
    raise TypeError(f"{name} should be a number{wanted}; got {value!r}")


def checked_label_smoothing(label_smoothing):
    """A float in [0, 1]."""
    value = _number("label_smoothing", " in [0, 1]", label_smoothing)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"label_smoothing should be in [0, 1]; got {value}")
    return value


def checked_lse_square_scale(lse_square_scale):
    """A finite float, at least 0."""
    value = _number("lse_square_scale", ", at least 0", lse_square_scale)
    if not 0.0 <= value < math.inf:
        raise ValueError(f"lse_square_scale should be a finite number, at least 0; got {value}")
    return value


def checked_gamma(gamma):
    """A finite float, at least 0."""
    value = _number("gamma", ", at least 0", gamma)
    if not 0.0 <= value < math.inf:
        raise ValueError(f"gamma should be a finite number, at least 0; got {value}")
    return value


def checked_softcap(softcap):
    """A positive finite float, or None."""
    if softcap is None:
        return None
    value = _number("softcap", ", positive and finite, or None", softcap)
    if not 0.0 < value < math.inf:
        raise ValueError(f"softcap should be None or a positive finite number; got {value}")
    return value


def checked_logit_scale(logit_scale):
    """A positive finite float."""
    value = _number("logit_scale", ", positive and finite", logit_scale)
    if not 0.0 < value < math.inf:
        raise ValueError(f"logit_scale should be a positive finite number; got {value}")
    return value


def checked_divisor(divisor, reduction):
    """A positive finite float, or None."""
    if divisor is None:
        return None
    name = checked_reduction(reduction)
    if name != "mean":
        raise ValueError(f"divisor should be None unless reduction is 'mean'; got reduction={name!r}")
    value = _number("divisor", ", positive and finite", divisor)
    if not 0.0 < value < math.inf:
        raise ValueError(f"divisor should be a positive finite number; got {divisor}")
    return value


def checked_temperature(temperature):
    """A positive finite float."""
    value = _number("temperature", ", positive and finite", temperature)
    if not 0.0 < value < math.inf:
        raise ValueError(f"temperature should be a positive finite number; got {temperature}")
    return value


def checked_bytes(name, value):
    """A positive number of bytes as an int."""
    number = _number(name, " of bytes", value)
    if not number > 0:
        raise ValueError(f"{name} should be a positive number of bytes; got {value}")
    return int(min(number, 2.0**62))


def checked_empty(empty):
    """A key of `EMPTY`."""
    if not isinstance(empty, str) or empty not in EMPTY:
        raise ValueError(f"empty should be 'nan' or 'zero'; got {empty!r}")
    return empty


_ROW_OPTIONS = {  # loss -> its options that act on a whole row or on its logits, in the order in which its functions give their values
    "cross_entropy": {
        "lse_square_scale": checked_lse_square_scale,
        "softcap": checked_softcap,
        "logit_scale": checked_logit_scale,
    },
    "focal": {"gamma": checked_gamma},
    "nll": {},
}


def checked_row_options(operation, values):
    """The `RowOptions` of a loss's calls; None if all of the ``values`` are neutral, or there are none."""
    if not values:
        return None
    return row_options(**{name: check(value) for (name, check), value in zip(_ROW_OPTIONS[operation].items(), values, strict=True)})


CHECKS = {
    "ignore_index": checked_ignore_index,
    "reduction": checked_reduction,
    "label_smoothing": checked_label_smoothing,
    "lse_square_scale": checked_lse_square_scale,
    "softcap": checked_softcap,
    "logit_scale": checked_logit_scale,
    "gamma": checked_gamma,
    "empty": checked_empty,
    "temperature": checked_temperature,
}
