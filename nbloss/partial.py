"""Cross entropy over classes in blocks: a few numbers per row sum up a block, and merge without losing the digits of confident rows.

With blocks B of classes, target y and maximum m of a row, these are m, the sum of exp(x_c - m) over all classes but y, and x_y. Merging
takes the larger maximum and rescales one sum. The loss is log1p(sum) where y is the maximum, else log(sum + exp(x_y - m)) + (m - x_y):
sums of terms that are at least 0. The online softmax of Milakov and Gimelshein (2018), https://arxiv.org/abs/1805.02867, merges (m, sum
over all classes); its log-sum-exp minus x_y is 0 where the loss is small.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

import nbloss.functional as F
from nbloss._arguments import any_array, float_array, float_kind, real_array
from nbloss._options import checked_ignore_index
from nbloss.backends.cpu import CPU

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    _Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["Partial", "gradient", "losses", "merge", "summarize"]

BLOCK_ELEMENTS = 2**18  # of what NumPy computes in float64 at a time: 2 MB stay in the cache


@dataclass(frozen=True, eq=False)
class Partial:
    """What is known of N rows from some of their classes. `summarize` makes one, `merge` makes one of two, `losses` reads it.

    Parameters
    ----------
    top : ndarray of float64, shape (N,)
        The largest logit; -inf for no class.
    rest : ndarray of float64, shape (N,)
        The sum of exp(x_c - top) over the classes but the target.
    hit : ndarray of float64, shape (N,)
        The target's logit; 0 where the target is not among the classes.
    found : ndarray of bool, shape (N,)
        Whether the target is among the classes.
    ignored : ndarray of bool, shape (N,)
        Whether the target is ``ignore_index``.
    dtype : dtype
        That of the losses: float64, or float32 for float16, bfloat16 and float32 logits.
    gaps : ndarray of float64, shape (N,), or None
        The sum of w_c (top - x_c) over the classes, for label smoothing: see ``spread_weight`` of `summarize`.
    mass : float
        The sum of w_c over the classes; 0.0 without ``spread_weight``.
    carry : ndarray of float64, shape (N,), or 0.0
        What the rounding of sums has taken from ``rest``, so that many small blocks cost no digits.

    Examples
    --------
    >>> from nbloss.partial import Partial, losses, merge, summarize
    >>> left = summarize([[20.0, 0.0]], [0])
    >>> losses(merge(left, summarize([[0.0]], [0], first_class=2)))
    array([4.12230724e-09])
    >>> losses(merge(Partial.empty(1), left))
    array([2.06115362e-09])
    """

    top: _Array
    rest: _Array
    hit: _Array
    found: _Array
    ignored: _Array
    dtype: np.dtype[Any]
    gaps: _Array | None = None
    mass: float = 0.0
    carry: _Array | float = 0.0

    @classmethod
    def empty(cls, rows: int) -> Partial:
        """The partial of no class, which `merge` leaves out."""
        no, zero = np.zeros(rows, bool), np.zeros(rows)
        return cls(np.full(rows, -np.inf), zero, zero, no, no, np.dtype(np.float32))


def _checked(logits, target):
    """The arrays of a block: logits (N, c) of a float dtype, and class numbers (N,) as int64."""
    x, y = float_array(CPU, "logits", logits), any_array(CPU, "target", target)
    if x.ndim != 2:
        raise ValueError(f"logits should have shape (N, c), a block of c classes; got {x.shape}")
    if y.dtype.kind not in "iub":
        raise TypeError(f"target should hold class numbers; got dtype {y.dtype}")
    if y.shape != x.shape[:1]:
        raise ValueError(f"target should have shape {x.shape[:1]} to go with logits of shape {x.shape}; got {y.shape}")
    if y.dtype == np.uint64 and y.size and y.max() > np.iinfo(np.int64).max:
        raise IndexError(f"target should be in [0, C), the number of all classes; got {y.max()}")
    return x, y.astype(np.int64, copy=False)


def _checked_weight(weight, classes):
    """The class weights of a block in float64; None for None."""
    if weight is None:
        return None
    array = real_array(CPU, "spread_weight", weight, np.dtype(np.float64))
    if array.shape != (classes,):
        raise ValueError(f"spread_weight should have shape {(classes,)}, one per class of the block; got {array.shape}")
    return array


def _within(target, ignored, first_class, classes):
    """``(rows, columns)`` of the targets that are in a block."""
    column = target - first_class
    rows = np.flatnonzero((column >= 0) & (column < classes) & ~ignored)
    return rows, column[rows]


def _row_blocks(rows, classes):
    step = max(1, BLOCK_ELEMENTS // max(classes, 1))
    return [slice(start, start + step) for start in range(0, rows, step)]


def _argmax(x):
    """The class of each row's largest logit; a nan is the largest."""
    return F.cross_entropy_stats(x).argmax if float_kind(x.dtype)[0] is not None else x.argmax(axis=1)


def summarize(
    logits: ArrayLike, target: ArrayLike, first_class: int = 0, ignore_index: int = -100, *, spread_weight: ArrayLike | None = None
) -> Partial:
    """Sum up a block of classes of N rows.

    Parameters
    ----------
    logits : array_like, shape (N, c)
        The logits of the classes from ``first_class`` on, of dtype float16, bfloat16, float32 or float64.
    target : array_like, shape (N,)
        Class numbers among all classes, of any integer dtype.
    first_class : int, default 0
        The number of the block's first class.
    ignore_index : int, default -100
        Rows with this target do not count, whatever their logits are.
    spread_weight : array_like, shape (c,), optional
        The class weights of the block, to sum ``gaps`` as well; ones for label smoothing without class weights.

    Returns
    -------
    Partial

    Raises
    ------
    IndexError
        If a target is negative and not ``ignore_index``. A target beyond all classes is found by `losses`.
    TypeError, ValueError
        For an argument of a wrong dtype or shape.

    Examples
    --------
    >>> from nbloss.partial import summarize
    >>> part = summarize([[1.0, 3.0]], [5], first_class=4)
    >>> part.top, part.hit, part.found
    (array([3.]), array([3.]), array([ True]))
    """
    x, y = _checked(logits, target)
    ignored = y == checked_ignore_index(ignore_index)
    wrong = (y < 0) & ~ignored
    if wrong.any():
        at = int(wrong.argmax())
        raise IndexError(f"target should be at least 0 or {ignore_index} (ignore_index); got {y[at]} at index ({at},)")
    rows, classes = x.shape
    weight = _checked_weight(spread_weight, classes)
    empty = replace(Partial.empty(rows), ignored=ignored, dtype=float_kind(x.dtype)[1])
    if x.size == 0:
        return replace(empty, gaps=None if weight is None else np.zeros(rows))
    best = _argmax(x)
    with np.errstate(all="ignore"):
        top = x[np.arange(rows), best].astype(np.float64)
        # The cross entropy with the maximum as target is log1p of the sum over the other classes.
        others = np.where(top == -np.inf, 0, np.expm1(F.cross_entropy(x, best, reduction="none").astype(np.float64)))
        rest = others + (top != -np.inf)
        gaps, mass = (None, 0.0) if weight is None else (_gaps(x, top, weight), float(weight.sum()))
        at, column = _within(y, ignored, first_class, classes)
        hit, found = np.zeros(rows), np.zeros(rows, bool)
        hit[at], found[at] = x[at, column].astype(np.float64), True
        rest[at] = others[at] - np.where((best[at] == column) | (top[at] == -np.inf), 0, np.expm1(hit[at] - top[at]))
    top[ignored], rest[ignored], hit[ignored] = -np.inf, 0, 0
    if gaps is not None:
        gaps[ignored] = 0
    return Partial(top, rest, hit, found, ignored, empty.dtype, gaps, mass)


def _gaps(x, top, weight):
    """The sum of w_c (top - x_c) of each row: 0 where w_c is 0, whatever x_c is."""
    used = weight != 0
    gaps, all_used = np.zeros(len(x)), bool(used.all())
    for part in _row_blocks(*x.shape):
        away = top[part, None] - x[part].astype(np.float64)
        gaps[part] = (away if all_used else away[:, used]) @ (weight if all_used else weight[used])
    return np.where(top == -np.inf, np.inf if used.any() else 0.0, gaps)


def _two_sum(a, b):
    """``(a + b, its rounding error)``, by Knuth; no error where the sum is not finite."""
    total = a + b
    part = total - a
    error = (a - (total - part)) + (b - part)
    return total, np.where(np.isfinite(error), error, 0)


def rescaled(part, top):
    """``(rest, carry, gaps)`` of a partial, relative to another maximum of its rows."""
    same = part.top == top
    # The rounding of the difference would be a relative error of half a unit per unit of the difference.
    difference, error = _two_sum(part.top, -top)
    factor = np.where(same, 1, np.exp(difference) * (1 + error))
    if part.gaps is None or part.mass == 0:
        return part.rest * factor, part.carry * factor, part.gaps
    return part.rest * factor, part.carry * factor, part.gaps + np.where(same, 0, -part.mass * difference)


def merge(a: Partial, b: Partial) -> Partial:
    """The partial of the classes of both, of the same rows; blocks may come in any order.

    Merging is associative to the rounding of float64, and ``Partial.empty(N)`` is its identity.

    Parameters
    ----------
    a, b : Partial
        Of blocks that have no class in common.

    Returns
    -------
    Partial

    Raises
    ------
    ValueError
        If the numbers of rows differ, or the target of a row is in both.

    Examples
    --------
    >>> from functools import reduce
    >>> from nbloss.partial import Partial, losses, merge, summarize
    >>> blocks = [summarize([[float(c)]], [2], first_class=c) for c in range(4)]
    >>> losses(reduce(merge, blocks, Partial.empty(1))).round(4)
    array([1.4402])
    """
    if a.top.shape != b.top.shape:
        raise ValueError(f"a and b should have the same rows; got {len(a.top)} and {len(b.top)}")
    both = a.found & b.found
    if both.any():
        raise ValueError(f"a and b should have no class in common; got the target of row {int(both.argmax())} in both")
    top = np.maximum(a.top, b.top)
    with np.errstate(all="ignore"):
        (rest, carry, gaps), (more, more_carry, more_gaps) = rescaled(a, top), rescaled(b, top)
        rest, error = _two_sum(rest, more)
        carry = carry + more_carry + error
    if gaps is None or more_gaps is None:
        gaps = more_gaps if gaps is None else gaps
    else:
        gaps = gaps + more_gaps
    dtype = max(a.dtype, b.dtype, key=lambda dtype: dtype.itemsize)
    return Partial(top, rest, a.hit + b.hit, a.found | b.found, a.ignored | b.ignored, dtype, gaps, a.mass + b.mass, carry)


def _row_terms(part):
    """``(log s, top - x_y, s, rest)`` of rows."""
    lost = ~(part.found | part.ignored)
    if lost.any():
        raise IndexError(
            f"target should be in one of the blocks of classes; got one that is in none at index ({int(lost.argmax())},); "
            f"{int(lost.sum())} of {len(lost)} targets are so"
        )
    gap, rest = part.top - part.hit, part.rest + part.carry
    s = rest + np.exp(-gap)
    return np.where(gap == 0, np.log1p(rest), np.log(s)), gap, s, rest


def losses(partial: Partial, *, hit: ArrayLike = 1.0, spread: ArrayLike = 0.0, lse_square_scale: float = 0.0) -> _Array:
    """The cross entropy of each row, once all blocks of classes are merged.

    With s = sum_c exp(x_c - m), L = m + log s and M = hit + spread * sum_c w_c:
    hit * (log s + m - x_y) + spread * (sum_c w_c * log s + sum_c w_c (m - x_c)) + lse_square_scale * M * L^2.

    Parameters
    ----------
    partial : Partial
        Of all classes.
    hit : float or array_like, shape (N,), default 1.0
        The weight of the target: (1 - e) w_y with label smoothing e and class weights w.
    spread : float or array_like, shape (N,), default 0.0
        What multiplies ``spread_weight``: e / C with label smoothing e.
    lse_square_scale : float, default 0.0
        As in `nbloss.functional.cross_entropy`.

    Returns
    -------
    ndarray, shape (N,)
        Of ``partial.dtype``; 0 for ignored rows, and where ``hit`` and ``spread`` are 0.

    Raises
    ------
    IndexError
        If the target of a row is in none of the blocks.

    Examples
    --------
    >>> from nbloss.partial import losses, summarize
    >>> losses(summarize([[0.0, 0.0]], [1])).round(4)
    array([0.6931])
    """
    with np.errstate(all="ignore"):
        log_s, gap, _, _ = _row_terms(partial)
        hit, spread = np.asarray(hit, np.float64), np.asarray(spread, np.float64)
        result = np.where(hit == 0, 0, hit * (log_s + gap))
        if partial.gaps is not None:
            result = result + np.where(spread == 0, 0, spread * (partial.mass * log_s + partial.gaps))
        if lse_square_scale:
            result = result + (hit + spread * partial.mass) * lse_square_scale * (partial.top + log_s) ** 2
        result = np.where(np.isnan(partial.rest) | (partial.top == -np.inf), np.nan, result)
        return np.where(partial.ignored | ((hit == 0) & (spread == 0)), 0, result).astype(partial.dtype)


def gradient(
    partial: Partial,
    logits: ArrayLike,
    target: ArrayLike,
    first_class: int = 0,
    grad_output: ArrayLike = 1.0,
    *,
    hit: ArrayLike = 1.0,
    spread: ArrayLike = 0.0,
    spread_weight: ArrayLike | None = None,
    lse_square_scale: float = 0.0,
    out: _Array | None = None,
) -> _Array:
    """The gradient of ``sum(grad_output * losses(partial))`` with respect to a block of the logits.

    With p = exp(x - m) / s and D = 2 lse_square_scale * M * L, it is (M + D) p_c - spread * w_c, less ``hit`` at the target, where
    hit * (p - 1) is written -hit * rest / s.

    Parameters
    ----------
    partial : Partial
        Of all classes.
    logits, target, first_class
        As for `summarize`.
    grad_output : float or array_like, shape (N,), default 1.0
        The gradient of the losses.
    hit, spread, lse_square_scale
        As for `losses`.
    spread_weight : array_like, shape (c,), optional
        As for `summarize`.
    out : ndarray, optional
        Where the gradient is written, of the shape and dtype of ``logits``; may be ``logits`` itself.

    Returns
    -------
    ndarray, shape (N, c)
        Of the dtype of ``logits``; exactly 0 in ignored rows, and where ``grad_output``, or both ``hit`` and ``spread``, are 0.

    Examples
    --------
    >>> from nbloss.partial import gradient, summarize
    >>> x = [[0.0, 0.0]]
    >>> gradient(summarize(x, [1]), x, [1])
    array([[ 0.5, -0.5]])
    """
    x, y = _checked(logits, target)
    rows, classes = x.shape
    weight = _checked_weight(spread_weight, classes)
    if len(partial.top) != rows:
        raise ValueError(f"partial should be of the {rows} rows of logits; got {len(partial.top)}")
    if out is not None and (out.shape != x.shape or out.dtype != x.dtype):
        raise ValueError(f"out should have shape {x.shape} and dtype {x.dtype}; got {out.shape} and {out.dtype}")
    with np.errstate(all="ignore"):
        g, hit, spread = (np.broadcast_to(np.asarray(value, np.float64), (rows,)) for value in (grad_output, hit, spread))
        log_s, _, s, rest = _row_terms(partial)
        total = spread * partial.mass
        if lse_square_scale:
            total = total + 2 * lse_square_scale * (hit + total) * (partial.top + log_s)
        live = ~partial.ignored & (g != 0) & ((hit != 0) | (spread != 0))
        result = np.empty(x.shape, x.dtype) if out is None else out
        if x.size == 0:
            return result
        best = x[np.arange(rows), _argmax(x)].astype(np.float64)
        nowhere = best == -np.inf  # no class of the block has any probability
        at, column = _within(y, ~live, first_class, classes)
        chance = np.exp(x[at, column].astype(np.float64) - partial.top[at]) / s[at]
        own = g[at] * (total[at] * chance - hit[at] * rest[at] / s[at])
        soft = F.softmax(x, -1, dtype=partial.dtype) if x.dtype != partial.dtype else F.softmax(x, -1, out=result)
        # Softmax of the block times its part of the row's probability: the largest class says how large that is.
        part = np.exp(best - partial.top) / s / soft.max(axis=1).astype(np.float64)
        soft[nowhere & ~np.isnan(s)] = 0
        soft *= np.where(nowhere, np.where(np.isnan(s), np.nan, 0), g * (hit + total) * part).astype(soft.dtype)[:, None]
        soft[at, column] = own
        if weight is not None:
            for block in _row_blocks(rows, classes):
                soft[block] -= ((g * spread)[block, None] * weight).astype(soft.dtype)
        soft[~live] = 0
        if soft is not result:
            result[...] = soft
        return result
