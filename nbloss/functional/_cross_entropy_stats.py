"""`cross_entropy_stats`: numbers about each row of logits, for monitoring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from nbloss import _general_path
from nbloss._docstrings import documented

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

TARGET = """\
target : array_like, optional
    Class numbers of any integer dtype or bool, of input's shape without the class axis."""
IGNORE_INDEX = """\
ignore_index : int, default -100
    Rows with this target do not count, whatever their logits are: 0, 0, -1, False and 0."""


class Stats(NamedTuple):
    """One number per row of logits: what `cross_entropy_stats` returns.

    Parameters
    ----------
    lse : floating or ndarray
        The log-sum-exp, log sum_c exp(x_c).
    log_prob : floating or ndarray, or None
        The log-probability of the target: the cross entropy, negated.
    argmax : int64 or ndarray of int64
        The class with the largest logit, the first one of several. A nan is larger than every number, as for ``numpy.argmax``.
    correct : bool or ndarray of bool, or None
        Whether no logit is larger than that of the target. False where a logit is nan.
    entropy : floating or ndarray
        The entropy of the softmax, -sum_c p_c log p_c.

    Examples
    --------
    >>> import nbloss.functional as F
    >>> F.cross_entropy_stats([2.0, 2.0], 1)._fields
    ('lse', 'log_prob', 'argmax', 'correct', 'entropy')
    """

    lse: Any
    log_prob: Any | None
    argmax: Any
    correct: Any | None
    entropy: Any


@documented(target=TARGET, ignore_index=IGNORE_INDEX)
def cross_entropy_stats(
    input: ArrayLike,
    target: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    device: str | None = None,
) -> Stats:
    """Statistics of each row of logits, in one pass: log-sum-exp, log-probability of the target, argmax, correct, entropy.

    With m = max x, s = sum_c exp(x_c - m) and p = softmax(x): lse = m + log s, log_prob = -(log s + (m - x[y])), and
    entropy = log s + sum_c p_c (m - x_c), whose terms are all at least 0. There is no gradient.

    Parameters
    ----------
    %(parameters)s

    Returns
    -------
    Stats
        A tuple of ``lse``, ``log_prob``, ``argmax``, ``correct``, ``entropy``, each of input's shape without the class axis, or a number
        for an input of shape (C,). lse, log_prob and entropy have input's dtype; float32 for float16 and bfloat16. Without a target,
        log_prob and correct are None.

    %(raises)s

    See Also
    --------
    cross_entropy : the loss, with class weights, smoothing and a mean.

    Notes
    -----
    A float32 log_prob or entropy is within 4 units in its own last place; lse has the error of m + log s. The entropy of a confident row
    keeps its digits, where log s - sum_c p_c x_c would lose all of them. A class whose logit is -inf adds 0. A row of -inf only, or with
    +inf or nan, has lse, log_prob and entropy nan. For more than 48 classes, log_prob has the bits of the negated loss. Results are the
    same bits for any number of threads and any layout.

    The mean of ``correct`` over the rows that count is the accuracy; a tie of the target with the argmax counts as correct.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss.functional as F
    >>> logits = np.log([[0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
    >>> stats = F.cross_entropy_stats(logits, np.array([0, 1]))
    >>> stats.argmax, stats.correct
    (array([2, 1]), array([False,  True]))
    >>> stats.entropy.round(4)
    array([1.0397, 0.639 ])
    """
    return Stats(*_general_path.stats(input, target, ignore_index, device))
