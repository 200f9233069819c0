"""Tensors as the arrays that ``nbloss.functional`` takes, and its results as tensors. No memory is copied."""

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


def tensor(value):
    """A result of ``nbloss.functional`` as a tensor."""
    if isinstance(value, torch.Tensor):
        return value
    value = np.asarray(value)
    if value.dtype.kind == "V":  # bfloat16
        return torch.from_numpy(value.view(np.int16)).view(torch.bfloat16)
    return torch.from_numpy(value)
