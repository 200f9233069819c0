"""Floor 2: where arrays live and which twin of the kernels works on them. The only home of device names."""

import os
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from nbloss import _forks

TWINS = {"cpu": "nbloss.kernels.cpu"}  # the CUDA twin is not part of this version
KINDS = ("cpu", "cuda")

_named = os.environ.get("NBLOSS_DEVICE") or None  # read once: a look into the environment costs as much as a small kernel
_default = _named


class DeviceUnavailableError(RuntimeError):
    """A device was asked for that this machine, or this installation, does not have."""


def _parsed(device):
    """``(kind, index)`` of "cpu", "cuda" or "cuda:1"."""
    kind, _, index = device.partition(":") if isinstance(device, str) else ("", "", "")
    if kind not in KINDS or (index and not (kind == "cuda" and index.isdecimal())) or device.endswith(":"):
        raise ValueError(f"device should be one of 'cpu', 'cuda', 'cuda:<index>', or None; got {device!r}")
    return kind, int(index or 0)


def _no_cuda(device):
    found = "numba-cuda is installed" if find_spec("numba_cuda") else "numba-cuda is not installed"
    return DeviceUnavailableError(
        f"device {device!r} is not available: this version of nbloss has no CUDA kernels yet ({found}). "
        'They will come with `pip install "nbloss[cuda]"`; until then use device="cpu"'
    )


def checked(device):
    """A usable device's name; None stays None."""
    if device is not None and _parsed(device)[0] == "cuda":
        raise _no_cuda(device)
    return device


def set_default_device(device: str | None) -> None:
    """What NumPy arrays are computed on when a call names no device.

    Parameters
    ----------
    device : str or None
        "cpu", "cuda" or "cuda:<index>"; None goes back to the variable ``NBLOSS_DEVICE``, or the CPU.

    Raises
    ------
    ValueError
        If there is no such kind of device.
    DeviceUnavailableError
        If this machine or installation does not have it.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.set_default_device("cpu")
    """
    global _default
    _default = _named if device is None else checked(device)


def plain():
    """Whether a call without a device on NumPy arrays is the CPU's."""
    return _default is None or _default == "cpu"


@cache
def _twin(device):
    return _forks.shielded(import_module, TWINS[_parsed(checked(device))[0]])


def twin(device, *arrays):
    """The kernels for a call: of the named device, else where the arrays are, else of the default device."""
    if any(hasattr(a, "__cuda_array_interface__") for a in arrays):
        raise _no_cuda("cuda")
    if device is None:
        device = _default or "cpu"
    return _twin(device if isinstance(device, str) else checked(device))


def to_device(array: Any, device: str) -> np.ndarray:
    """``array`` on a device.

    Parameters
    ----------
    array : array_like
    device : str
        "cpu", "cuda" or "cuda:<index>".

    Returns
    -------
    ndarray
        For "cpu", the array itself if it is one of NumPy's.

    Raises
    ------
    ValueError, DeviceUnavailableError
        As `set_default_device`.

    Examples
    --------
    >>> import nbloss
    >>> nbloss.to_device([1.0, 2.0], "cpu")
    array([1., 2.])
    """
    if device is None:
        raise ValueError("device should be one of 'cpu', 'cuda', 'cuda:<index>'; got None")
    checked(device)
    return to_host(array)


def to_host(array: Any) -> np.ndarray:
    """``array`` as a NumPy array; itself if it is one.

    Parameters
    ----------
    array : array_like

    Returns
    -------
    ndarray

    Examples
    --------
    >>> import nbloss
    >>> nbloss.to_host([1.0, 2.0])
    array([1., 2.])
    """
    return np.asarray(array)
