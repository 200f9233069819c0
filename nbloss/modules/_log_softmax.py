"""`LogSoftmax`."""

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss.modules._base import AlongAxis


@documented()
class LogSoftmax(AlongAxis):
    """Logarithm of the softmax along one axis: ``y = x - log(sum(exp(x)))``.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    The module keeps a reference to the last forward's result for `backward`: do not overwrite it in between.
    Source of names and meanings: ``torch.nn.LogSoftmax``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> log_softmax = nbloss.LogSoftmax(dim=1)
    >>> log_softmax(np.array([[0.0, 0.0]])).round(4)
    array([[-0.6931, -0.6931]])
    >>> log_softmax.backward(np.array([[1.0, 0.0]]))
    array([[ 0.5, -0.5]])
    """

    _forward, _backward = F.log_softmax, F.log_softmax_backward
