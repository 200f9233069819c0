"""nbloss: `evaluate` of an array and of a memory map."""

import tempfile

import numpy as np

import nbloss as package

from ..peers.nbloss import ready


def _evaluated(x, y):
    def run():
        result = package.evaluate(x, y, progress=False)
        return result.loss, result.entropy, result.accuracy[1], result.accuracy[5], result.calibration_error

    return ready(run)


def memory(p):
    return _evaluated(p.logits, p.target)


def mapped(p):
    """The logits in a file, which the page cache holds: it is written just before, and read once."""
    file = tempfile.TemporaryFile()  # noqa: SIM115  as long as the map
    p.logits.view(np.uint8).tofile(file)
    file.flush()
    return _evaluated(np.memmap(file, p.numpy_dtype, "r", 0, p.shape), p.target)
