"""The same numbers laid out in memory in every way that NumPy allows: name -> function from a C-order array to a view."""

import tempfile

import numpy as np


def negative(a):
    """Every axis walked backwards."""
    flip = (slice(None, None, -1),) * a.ndim
    return a[flip].copy()[flip]


def sliced(a):
    """Every second element of something larger, on every axis."""
    big = np.zeros([2 * n + 1 for n in a.shape], a.dtype)
    view = big[tuple(slice(1, None, 2) for _ in a.shape)]
    view[...] = a
    return view


def transposed(a):
    """The first two axes swapped in memory."""
    return a.swapaxes(0, -1).copy().swapaxes(0, -1)


def moved(a):
    """Classes last in memory: channels-last images."""
    return np.moveaxis(np.moveaxis(a, 1, -1).copy(), -1, 1) if a.ndim > 1 else a.copy()


def unaligned(a):
    """Starts at an odd byte."""
    raw = np.zeros(a.nbytes + 1, np.uint8)
    view = raw[1:].view(a.dtype).reshape(a.shape)
    view[...] = a
    assert a.itemsize == 1 or not view.flags.aligned
    return view


def swapped(a):
    """The other byte order; bfloat16 has none of its own."""
    return a.astype(a.dtype.newbyteorder()) if a.dtype.kind in "iuf" else a


def read_only(a):
    a = a.copy()
    a.flags.writeable = False
    return a


def memmap(a):
    with tempfile.NamedTemporaryFile() as file:
        np.asarray(a).tofile(file)
        file.flush()
        return np.memmap(file.name, dtype=a.dtype, mode="r", shape=a.shape)


def as_list(a):
    return a.tolist()


LAYOUTS = {
    "C": np.copy,
    "Fortran": np.asfortranarray,
    "negative": negative,
    "sliced": sliced,
    "transposed": transposed,
    "channels_last": moved,
    "unaligned": unaligned,
    "byte_swapped": swapped,
    "read_only": read_only,
    "memmap": memmap,
}
