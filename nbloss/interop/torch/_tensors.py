"""Tensors as the arrays that ``nbloss.functional`` takes, and its results as tensors. No memory is copied."""

from sys import getrefcount

import numpy as np
import torch
from ml_dtypes import bfloat16

_BFLOAT16 = np.dtype(bfloat16)


def array(value):
    """The memory of a tensor as a NumPy array.

    ``nbloss.functional`` takes tensors on a GPU as they are, and refuses what NumPy cannot read, such as sparse tensors.
    """
    if value.is_cuda:
        return value.detach()
    if value.requires_grad:
        value = value.detach()
    try:
        return value.view(torch.int16).numpy().view(_BFLOAT16) if value.dtype is torch.bfloat16 else value.numpy()
    except (RuntimeError, TypeError):
        if value.is_neg():  # the imaginary part of a conjugate
            return array(value.resolve_neg())
        return value


_SPARE_FROM = 1 << 22  # bytes. Smaller arrays come from memory that the process has already
_spare: dict[tuple, np.ndarray] = {}


def gradient_buffer(logits):
    """``{"out": array}`` with the memory of the last large gradient, if no tensor has it any more; {} where there is nothing to gain.

    A new array of 131 MB costs 32,000 page faults, more than its gradient. The last one is kept until one of another shape is asked for.
    """
    if type(logits) is not np.ndarray or logits.nbytes < _SPARE_FROM or not logits.flags.c_contiguous:
        return {}
    key = logits.shape, logits.dtype
    array = _spare.pop(key, None)
    if array is None or getrefcount(array) > 2:  # a tensor of `torch.from_numpy` has a reference while its memory is in use
        array = np.empty(*key)
    _spare.clear()
    _spare[key] = array
    return {"out": array}


def tensor(value):
    """A result of ``nbloss.functional`` as a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    value = np.asarray(value)
    if value.dtype.kind == "V":  # bfloat16
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)
