"""`Softmax`."""

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.modules._base import AlongAxis


@documented()
class Softmax(AlongAxis):
    """Probabilities along one axis: ``y = exp(x) / sum(exp(x))``.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    The module keeps a reference to the last forward's result for `backward`: do not overwrite it in between.
    Source of names and meanings: ``torch.nn.Softmax``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> softmax = nbloss.Softmax(dim=1)
    >>> softmax(np.array([[0.0, 0.0]]))
    array([[0.5, 0.5]])
    >>> softmax.backward(np.array([[1.0, 0.0]]))
    array([[ 0.25, -0.25]])
    """

    _forward, _backward = F.softmax, F.softmax_backward
