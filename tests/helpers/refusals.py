"""For tests of errors: `refused` expects one type of error and words in its message; `LOSSES` calls every loss in the same way."""

import re
from contextlib import contextmanager

import numpy as np
import pytest

import nbloss.functional as F

X, Y = np.float32([[1, 2, 3], [3, 1, 2]]), np.array([0, 2])
P = np.float32([[1, 0, 0], [0, 0.5, 0.5]])
LOSSES = {
    "cross_entropy": F.cross_entropy,
    "nll_loss": F.nll_loss,
    "cross_entropy_backward": lambda *a, **k: F.cross_entropy_backward(1.0, *a, **k),
    "nll_loss_backward": lambda *a, **k: F.nll_loss_backward(1.0, *a, **k),
    "value_and_grad": F.cross_entropy_value_and_grad,
}
WRITERS = ["cross_entropy_backward", "nll_loss_backward", "value_and_grad"]
every_loss = pytest.mark.parametrize("call", LOSSES.values(), ids=LOSSES.keys())
every_writer = pytest.mark.parametrize("call", [LOSSES[w] for w in WRITERS], ids=WRITERS)


@contextmanager
def refused(kind, *words):
    """Expects this type of error with every word in its message; a number must stand alone (the 3 of 13 is not a 3)."""
    with pytest.raises(kind) as info:
        yield info
    message = str(info.value)
    missing = [w for w in words if not re.search(rf"(?<![\w-]){re.escape(w)}(?!\w)" if w.lstrip("-").isdigit() else re.escape(w), message)]
    assert not missing, f"{message!r} lacks {missing}"
