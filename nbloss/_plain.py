"""Floor 3: the short way for a small mean cross entropy without options.

It takes only what needs no judging; whatever is unusual (and every error) goes the long way, through ``_problem``. On 32 x 10 logits the
long way's checks would cost several times the arithmetic.
"""

import numpy as np

from nbloss import _device
from nbloss._host import HOST
from nbloss._problem import destination, kind, signed

SMALL = 8192  # numbers, so never more rows than the kernel's one group (targets.GROUP); beyond, the checks are a small part of the call

_known: dict = {}


def _describe(logits, target):
    """What a pair of dtypes means to the kernel: view of the logits, type of the loss, view, mask and width of the targets; or None."""
    known, seen = None, kind(logits)
    if seen and logits.isnative and target.kind in "iub" and target.isnative:
        known = seen[0], seen[1].type, *signed(target)
    _known[logits, target] = known
    return known


def cross_entropy(input, target, ignore_index, out, gradient):
    """The mean loss, or (loss, gradient) if one is wanted; None where the long way has to look."""
    if type(input) is not np.ndarray or type(target) is not np.ndarray or type(ignore_index) is not int or not _device.plain():
        return None
    if input.ndim != 2 or target.shape != input.shape[:1] or not 0 < input.size <= SMALL or not -(2**63) <= ignore_index < 2**63:
        return None
    flags = target.flags
    if not (input.flags.c_contiguous and flags.c_contiguous and flags.aligned):
        return None
    pair = input.dtype, target.dtype
    known = _known[pair] if pair in _known else _describe(*pair)
    if known is None:
        return None
    as_stored, number, as_signed, mask, wide = known
    result = destination(HOST, out, input.shape, pair[0], [("input", input)], [("target", target)]) if gradient else None
    x, y, into = input[:, :, None], target, None if result is None else result[:, :, None]
    if as_stored is not None:
        x, into = x.view(as_stored), None if into is None else into.view(as_stored)
    if as_signed is not None:
        y = y.view(as_signed)
    total, divisor = HOST.kernels.mean(x, y, mask, wide, ignore_index, into)
    if divisor <= 0.0:
        return None
    value = number(total / divisor)
    return (value, result) if gradient else value
