"""Results that have to be equal to the last bit."""

import numpy as np
from numpy.testing import assert_array_equal

import nbloss


def assert_same_bits(ours, theirs, note=""):
    """Two sequences of arrays or numbers have the same values, dtypes and types."""
    for a, b in zip(ours, theirs, strict=True):
        assert_array_equal(a, b, err_msg=str(note))
        assert np.asarray(a).dtype == np.asarray(b).dtype and type(a) is type(b), note


def by_one_thread_and_two(call):
    """What ``call()`` returns with one thread, and with two."""
    before, found = nbloss.get_num_threads(), []
    try:
        for threads in (1, 2):
            nbloss.set_num_threads(threads)
            found.append(call())
    finally:
        nbloss.set_num_threads(before)
    return found
