"""Cross entropy of rows, or of classes, that are spread over the ranks of an MPI communicator: global means and their gradients."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

import nbloss.functional as F
from nbloss._arguments import float_array, float_kind
from nbloss._options import EMPTY, REDUCTIONS, checked_divisor, checked_empty, checked_reduction
from nbloss.backends.cpu import CPU
from nbloss.interop._classes import inert, row_weights, terms
from nbloss.partial import Partial, gradient, losses, rescaled, summarize

try:
    from mpi4py import MPI
except ImportError as error:
    raise ImportError('nbloss.interop.mpi needs mpi4py and an MPI library: pip install "nbloss[mpi]"') from error

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from nbloss._evaluation import Evaluation

    _Array = np.ndarray[Any, np.dtype[Any]]

__all__ = ["cross_entropy", "cross_entropy_value_and_grad", "evaluate"]


def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    comm: MPI.Comm | None = None,
    split: str = "rows",
    reduction: str | None = "mean",
    divisor: float | None = None,
    empty: str = "nan",
    **options: Any,
) -> Any:
    """`nbloss.functional.cross_entropy` of what all ranks have together. All ranks must call it.

    Parameters
    ----------
    input : array_like, shape (N, C) or (N, C, d1, ..., dK)
        With ``split="rows"`` this rank's rows, with all classes. With ``split="classes"`` this rank's classes of all rows; the blocks of
        classes are in the order of ranks, and may differ in size.
    target : array_like
        Of input's rows. With ``split="classes"`` all ranks give the same class numbers among all classes; no probabilities.
    weight : array_like, shape (C,), optional
        Class weights of all classes, the same on all ranks.
    comm : mpi4py.MPI.Comm, optional
        ``MPI.COMM_WORLD`` by default.
    split : {"rows", "classes"}, default "rows"
        What the ranks share out.
    reduction, divisor, empty, **options
        As for `nbloss.functional.cross_entropy`, the same on all ranks: ``ignore_index``, ``label_smoothing``, ``lse_square_scale``,
        ``softcap``, ``logit_scale``, ``sample_weight`` (of input's rows).

    Returns
    -------
    floating or ndarray
        The loss of all rows, the same on all ranks: "mean" divides by the weights of all ranks' rows together. With "none" the losses
        of input's rows.

    Raises
    ------
    IndexError, TypeError, ValueError
        On all ranks, if one rank's arguments are wrong. That rank has the error of `nbloss.functional.cross_entropy`, the others one of
        the same type that names the rank.

    Notes
    -----
    The classes are merged with one Allreduce of the maxima and one of five float64 numbers per row.

    Examples
    --------
    >>> from nbloss.interop.mpi import cross_entropy
    >>> cross_entropy([[0.0, 0.0]], [1]).round(4)  # on one rank
    np.float64(0.6931)
    """
    return _Call(comm, split, reduction, divisor, empty).run(input, target, weight, options)[0]


def cross_entropy_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    comm: MPI.Comm | None = None,
    split: str = "rows",
    reduction: str | None = "mean",
    divisor: float | None = None,
    empty: str = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    **options: Any,
) -> tuple[Any, _Array]:
    """The loss of `cross_entropy`, and its gradient with respect to this rank's ``input``.

    The gradient of the global mean is the sum over ranks of gradients of parameters: add them up (Allreduce with SUM), do not average.
    If one rank's arguments are wrong, ``out`` may have been written on the others before they raise.

    Parameters
    ----------
    input, target, weight, comm, split, reduction, divisor, empty, **options
        As for `cross_entropy`.
    grad_output : float or array_like, default 1.0
        What multiplies the gradient; with "none" also an array of the losses' shape.
    out : ndarray, optional
        Where the gradient is written, of input's shape and dtype.

    Returns
    -------
    loss, gradient : tuple

    Examples
    --------
    >>> from nbloss.interop.mpi import cross_entropy_value_and_grad
    >>> cross_entropy_value_and_grad([[0.0, 0.0]], [1])[1]
    array([[ 0.5, -0.5]])
    """
    return _Call(comm, split, reduction, divisor, empty, grad_output, out).run(input, target, weight, options)


class _Call:
    """One call on this rank. Whatever may fail runs within `agreed`, so that no rank waits for one that has failed."""

    def __init__(self, comm, split, reduction, divisor, empty, g=None, out=None):
        self.comm = MPI.COMM_WORLD if comm is None else comm
        self.split, self.reduction, self.over, self.empty, self.g, self.out = split, reduction, divisor, empty, g, out

    def agreed(self, function, *arguments):
        """The results of ``function(*arguments)`` of all ranks. If it raises on one rank, all ranks raise."""
        try:
            result, error = function(*arguments), None
        except Exception as raised:
            result, error = None, raised
        kind = type(error) if type(error) in (IndexError, TypeError, ValueError) else RuntimeError
        done = self.comm.allgather((None if error is None else (kind, str(error)), self.split, result))
        if error is not None:
            raise error
        for rank, (failed, _, _) in enumerate(done):
            if failed is not None:
                raise failed[0](f"on rank {rank}: {failed[1]}")
        if any(split != self.split for _, split, _ in done):
            raise ValueError(f"split should be the same on all ranks; got {[split for _, split, _ in done]}")
        return [result for _, _, result in done]

    def run(self, input, target, weight, options):
        return (self.of_classes if self.split == "classes" else self.of_rows)(input, target, weight, **options)

    def check(self):
        if self.split not in ("rows", "classes"):
            raise ValueError(f"split should be 'rows' or 'classes'; got {self.split!r}")
        self.sums, self.divides = REDUCTIONS[checked_reduction(self.reduction)]
        self.over = checked_divisor(self.over, self.reduction)
        self.zero = EMPTY[checked_empty(self.empty)]
        if self.sums and self.g is not None and np.ndim(self.g):
            raise ValueError(f"grad_output should be a number with reduction={self.reduction!r}; got shape {np.shape(self.g)}")

    # -------------------- rows --------------------

    def of_rows(self, input, target, weight, *, sample_weight=None, **options):
        given = {"sample_weight": sample_weight, **options}

        def divisor():
            self.check()
            x = float_array(CPU, "input", input)
            axis = 0 if x.ndim < 2 else 1
            if np.ndim(target) == x.ndim:  # probabilities
                own = np.ones(x.shape[:axis] + x.shape[axis + 1 :]) if sample_weight is None else np.asarray(sample_weight, np.float64)
            else:
                dtype = float_kind(x.dtype)[1]
                own = row_weights(target, weight, x.shape[axis] if x.ndim else 0, dtype, options.get("ignore_index", -100), sample_weight)
            return float(np.sum(own, dtype=np.float64)), sample_weight is not None

        weights = self.agreed(divisor)
        total = self.total(weights) if self.divides and self.over is None else self.over
        each, gradients = [], []

        def compute():
            if self.g is None:
                each.append(F.cross_entropy(input, target, weight, reduction="none", **given))
            else:
                g = self.upstream(total)
                loss, grad = F.cross_entropy_value_and_grad(input, target, weight, reduction="none", grad_output=g, out=self.out, **given)
                each.append(loss)
                gradients.append(grad)
            return float(np.sum(each[0], dtype=np.float64))

        parts = self.agreed(compute)
        loss = self.reduced(sum(parts), total, each[0].dtype) if self.sums else each[0]
        return loss, gradients[0] if gradients else None

    def total(self, parts):
        """What the mean divides by: the sum of the ranks' parts, in the order of ranks; nan if sample weights make it negative."""
        total = sum(part for part, _ in parts)
        return np.nan if total < 0 and any(signed for _, signed in parts) else total

    def upstream(self, total):
        """The gradient of each row's loss."""
        return self.g if total is None else float(self.g) * (self.zero if total == 0 else 1 / total)

    def reduced(self, loss, total, dtype):
        if total is not None:
            loss = self.zero if total == 0 else loss / total
        return dtype.type(loss)

    # -------------------- classes --------------------

    def of_classes(
        self, input, target, weight, *, ignore_index=-100, label_smoothing=0.0, lse_square_scale=0.0, softcap=None, logit_scale=1.0,
        sample_weight=None,
    ):  # fmt: skip
        def shape():
            self.check()
            x = float_array(CPU, "input", input)
            if x.ndim < 2:
                raise ValueError(f"input should have shape (N, c, ...) with split='classes'; got {x.shape}")
            if np.ndim(target) == x.ndim:
                raise TypeError("target should hold class numbers with split='classes'; got an array of input's shape")
            if self.out is not None and (self.out.shape != x.shape or self.out.dtype != x.dtype):
                raise ValueError(f"out should have input's shape {x.shape} and dtype {x.dtype}; got {self.out.shape} and {self.out.dtype}")
            rows = x.shape[:1] + x.shape[2:]
            if self.g is not None and np.ndim(self.g) and np.shape(self.g) != rows:
                raise ValueError(f"grad_output should have the loss's shape {rows}; got {np.shape(self.g)}")
            return rows, x.shape[1], x.dtype.name

        shapes = self.agreed(shape)
        x, sizes = float_array(CPU, "input", input), [size for _, size, _ in shapes]
        first, classes, dtype = sum(sizes[: self.comm.rank]), sum(sizes), float_kind(x.dtype)[1]

        def part():
            if len({(rows, kind) for rows, _, kind in shapes}) > 1:
                raise ValueError(f"input should have the same rows and dtype on all ranks; got (rows, classes, dtype) {shapes}")
            F.cross_entropy(  # of no row: it checks the options
                np.zeros((0, classes), x.dtype), np.zeros(0, np.int64), weight, ignore_index=ignore_index, label_smoothing=label_smoothing,
                lse_square_scale=lse_square_scale, softcap=softcap, logit_scale=logit_scale,
            )  # fmt: skip
            own = None if sample_weight is None else np.asarray(sample_weight)
            self.own = row_weights(target, weight, classes, dtype, ignore_index, own)
            self.y = inert(target, ignore_index, own).reshape(-1)
            self.w, self.mass = None, 0.0
            if label_smoothing:
                w = np.ones(classes) if weight is None else np.asarray(weight, dtype).astype(np.float64)
                self.mass = float(w.sum())
                self.w = w[first : first + sizes[self.comm.rank]]
            self.terms = terms(
                np.asarray(target).reshape(-1), weight, classes, dtype, ignore_index, label_smoothing, lse_square_scale,
                None if own is None else own.reshape(-1),
            )  # fmt: skip
            rows = np.moveaxis(x, 1, -1).reshape(math.prod(shapes[0][0]), x.shape[1])
            self.rows, self.slope = _mapped(rows, softcap, logit_scale)
            self.part = summarize(self.rows, self.y, first, ignore_index, spread_weight=self.w)

        self.agreed(part)
        merged = self.merged()
        each = losses(merged, **self.terms).astype(dtype)
        total = self.over
        if self.divides and total is None:
            total = self.total([(float(self.own.sum(dtype=np.float64)), sample_weight is not None)])
        loss = self.reduced(float(each.sum(dtype=np.float64)), total, dtype) if self.sums else each.reshape(shapes[0][0])
        return loss, None if self.g is None else self.gradient(x, merged, first, total)

    def merged(self):
        """The partial of the classes of all ranks."""
        part = self.part
        top = np.where(np.isnan(part.top), -np.inf, part.top)  # MPI does not say what the maximum with a nan is
        self.comm.Allreduce(MPI.IN_PLACE, top, MPI.MAX)
        with np.errstate(all="ignore"):
            rest, _, gaps = rescaled(part, top)
        sums = np.stack([rest, part.hit, part.found, part.ignored, np.zeros(len(top)) if gaps is None else gaps])
        self.comm.Allreduce(MPI.IN_PLACE, sums, MPI.SUM)
        rest, hit, found, ignored, gaps = sums
        unlike = np.flatnonzero((ignored != np.where(found == 1, 0, self.comm.size)) | (found > 1))
        if len(unlike):  # on all ranks, from the same sums
            raise ValueError(f"target should be the same on all ranks; it differs, first at row {unlike[0]}")
        return Partial(top, rest, hit, found > 0, ignored > 0, part.dtype, None if part.gaps is None else gaps, self.mass)

    def gradient(self, x, merged, first, total):
        g = self.upstream(total)
        g = np.asarray(g, np.float64).reshape(-1) if np.ndim(g) else float(g)
        rows = gradient(merged, self.rows, self.y, first, g, spread_weight=self.w, **self.terms)
        if self.slope is not None:
            rows = np.where(rows == 0, 0, rows * self.slope)
        back = np.moveaxis(rows.reshape(x.shape[:1] + x.shape[2:] + x.shape[1:2]), -1, 1)
        if self.out is None:
            return back.astype(x.dtype, copy=False)
        self.out[...] = back
        return self.out


def _mapped(rows, softcap, logit_scale):
    """``(u, du / dx)`` in float64; the logits themselves and None where nothing maps them."""
    if softcap is None and logit_scale == 1.0:
        return rows, None
    scaled = rows.astype(np.float64) * logit_scale
    if softcap is None:
        return scaled, logit_scale
    with np.errstate(all="ignore"):
        return np.where(np.isinf(scaled), scaled, softcap * np.tanh(scaled / softcap)), logit_scale / np.cosh(scaled / softcap) ** 2


def evaluate(logits: ArrayLike, target: ArrayLike | None = None, *, comm: MPI.Comm | None = None, **options: Any) -> Evaluation:
    """`nbloss.evaluate` of the rows of all ranks, each of which gives its own. All ranks must call it.

    Parameters
    ----------
    logits, target, **options
        As for `nbloss.evaluate`: this rank's rows.
    comm : mpi4py.MPI.Comm, optional
        ``MPI.COMM_WORLD`` by default.

    Returns
    -------
    nbloss.Evaluation
        The same on all ranks: the ranks' parts, added in the order of ranks.

    Examples
    --------
    >>> from nbloss.interop.mpi import evaluate
    >>> evaluate([[0.0, 1.0]], [1]).count  # on one rank
    1
    """
    from nbloss._evaluate import evaluate as of_rank

    return reduce(add, _Call(comm, "rows", "none", None, "nan").agreed(lambda: of_rank(logits, target, **options)))
