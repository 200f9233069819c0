"""Losses and log-softmax of Dask arrays: lazy, chunked over rows and over classes, on every scheduler."""

from __future__ import annotations

import os
from functools import reduce
from operator import add
from typing import TYPE_CHECKING, Any

import numpy as np

import nbloss.functional as F
from nbloss._options import EMPTY, REDUCTIONS, checked_reduction
from nbloss.interop._classes import inert, row_weights, terms
from nbloss.partial import losses, merge, summarize

try:
    import dask.array as da
    from dask import delayed
except ImportError as error:
    raise ImportError('nbloss.interop.dask needs Dask: pip install "nbloss[dask]"') from error

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dask.delayed import Delayed
    from numpy.typing import ArrayLike, DTypeLike

    _File = str | os.PathLike[str]

__all__ = ["cross_entropy", "evaluate", "log_softmax"]

TASK_BYTES = 2**28  # of a file that one task reads


def log_softmax(input: da.Array, dim: int = -1, *, dtype: DTypeLike | None = None) -> da.Array:
    """`nbloss.functional.log_softmax` of a Dask array, as a Dask array of the same chunks.

    Each task holds its rows with all their classes: classes in several chunks are put together, and apart again.

    Parameters
    ----------
    input, dim, dtype
        As for `nbloss.functional.log_softmax`.

    Returns
    -------
    dask.array.Array

    Raises
    ------
    TypeError, ValueError
        As `nbloss.functional.log_softmax`, at once.

    Examples
    --------
    >>> import dask.array as da
    >>> from nbloss.interop.dask import log_softmax
    >>> log_softmax(da.zeros((4, 2), chunks=(2, 1))).compute()[0].round(4)
    array([-0.6931, -0.6931])
    """
    x = da.asarray(input)
    sample = F.log_softmax(np.zeros((1,) * x.ndim, x.dtype), dim, dtype=dtype)
    whole = x.rechunk({dim: -1})
    result = whole.map_blocks(_log_softmax, dim, sample.dtype, dtype=sample.dtype, meta=sample[(slice(0),) * x.ndim])
    return result.rechunk({dim: x.chunks[dim]})


def _log_softmax(x, dim, dtype):
    return F.log_softmax(x, dim, dtype=dtype)


def cross_entropy(
    input: da.Array,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: str | None = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    empty: str = "nan",
) -> da.Array:
    """`nbloss.functional.cross_entropy` of a Dask array, as a Dask array.

    Parameters
    ----------
    input : dask.array.Array
        Logits, chunked in any way.
    target, sample_weight : dask.array.Array or array_like
        They get the chunks of input's rows.
    weight : array_like
        Class weights of all classes, in memory.
    ignore_index, reduction, label_smoothing, lse_square_scale, softcap, logit_scale, divisor, empty
        As for `nbloss.functional.cross_entropy`.

    Returns
    -------
    dask.array.Array
        With "none" the losses, chunked as the rows: the bits of `nbloss.functional.cross_entropy` where the classes are in one chunk, and
        within 8 units in the last place where `nbloss.partial` merges them. Otherwise a number, from float64 sums of the chunks.

    Raises
    ------
    TypeError, ValueError
        As `nbloss.functional.cross_entropy`, at once.
    IndexError
        For a target out of range, when the result is computed.

    Examples
    --------
    >>> import dask.array as da
    >>> from nbloss.interop.dask import cross_entropy
    >>> cross_entropy(da.zeros((4, 2), chunks=(2, 1)), [0, 1, 0, 1]).compute().round(4)
    np.float64(0.6931)
    """
    x = da.asarray(input)
    axis = 0 if x.ndim == 1 else 1
    classes = x.shape[axis]
    if classes != classes:
        raise ValueError("input should have a known number of classes; call input.compute_chunk_sizes() first")
    shape, chunks = (of[:axis] + of[axis + 1 :] for of in (x.shape, x.chunks))
    soft = np.ndim(target) == x.ndim
    y = _beside("target", target, x.shape, x.chunks) if soft else _beside("target", target, shape, chunks)
    own = None if sample_weight is None else _beside("sample_weight", sample_weight, shape, chunks)
    w = None if weight is None else np.asarray(weight)
    common: dict[str, Any] = {"ignore_index": ignore_index, "label_smoothing": label_smoothing, "lse_square_scale": lse_square_scale}
    mapped: dict[str, Any] = {"softcap": softcap, "logit_scale": logit_scale}
    others: dict[str, Any] = {"reduction": reduction, "sample_weight": _no_rows(own, axis), "divisor": divisor, "empty": empty}
    # Of no row: this call raises the errors of all arguments.
    dtype = F.cross_entropy(_no_rows(x, axis), _no_rows(y, axis), w, **others, **common, **mapped).dtype
    axes = tuple(range(x.ndim))
    of_rows, of_target = axes[:axis] + axes[axis + 1 :], axes if soft else axes[:axis] + axes[axis + 1 :]
    rest = {"dtype": dtype, "meta": np.empty((0,) * len(of_rows), dtype)}
    beside = y, of_target, own, None if own is None else of_rows
    if x.numblocks[axis] == 1 or soft or softcap is not None or logit_scale != 1.0:
        rows = da.blockwise(_losses, of_rows, x, axes, *beside, weight=w, options=common | mapped, concatenate=True, **rest)
    else:
        blocks, of_classes = (x.chunks[axis],), (axis,)
        numbers = da.arange(classes, chunks=blocks)
        spread = None if not label_smoothing else da.from_array(np.ones(classes) if w is None else w.astype(dtype), chunks=blocks)
        beside_classes = numbers, of_classes, spread, None if spread is None else of_classes
        parts = da.blockwise(
            _part, axes, x, axes, *beside, *beside_classes, axis=axis, ignore_index=ignore_index, dtype=dtype,
            meta=np.empty((0,) * x.ndim, dtype),
        )  # fmt: skip
        rows = da.blockwise(
            _merged, of_rows, parts, axes, *beside, weight=w, classes=classes, options=common, concatenate=False, **rest
        )  # fmt: skip
    sums, divides = REDUCTIONS[checked_reduction(reduction)]
    if not sums:
        return rows
    total = rows.sum(dtype=np.float64)
    if not divides:
        return total.astype(dtype)
    if divisor is None:
        return _mean(total, _total_weight(y, own, w, soft, classes, ignore_index, of_rows, rest), own is not None, empty).astype(dtype)
    return (total / float(divisor)).astype(dtype)


def _beside(name, value, shape, chunks):
    """An argument as a Dask array with the chunks of input."""
    array = value if isinstance(value, da.Array) else da.from_array(np.asarray(value), chunks=-1)
    if any(size != size for size in shape):  # unknown sizes: the chunks have to fit as they are
        return array
    if array.shape != shape:
        raise ValueError(f"{name} should have shape {shape}; got {array.shape}")
    return array.rechunk(chunks)


def _no_rows(array, batched):
    """An array in memory like a Dask array, but of no row."""
    if array is None:
        return None
    return np.zeros((0, *(1 if size != size else size for size in array.shape[1:])) if batched else array.shape, array.dtype)


def _losses(x, y, own, weight, options):
    return np.asarray(F.cross_entropy(x, y, weight, sample_weight=own, reduction="none", **options))


def _part(x, y, own, numbers, spread, axis, ignore_index):
    rows = np.moveaxis(x, axis, -1).reshape(y.size, x.shape[axis])
    target = inert(y, ignore_index, own).reshape(-1)
    return summarize(rows, target, int(numbers[0]), ignore_index, spread_weight=spread)


def _merged(parts, y, own, weight, classes, options):
    flat = None if own is None else own.reshape(-1)
    part = reduce(merge, parts)
    return losses(part, **terms(y.reshape(-1), weight, classes, part.dtype, sample_weight=flat, **options)).reshape(y.shape)


def _total_weight(y, own, weight, soft, classes, ignore_index, axes, rest):
    """What a mean divides by, in float64."""
    if soft:
        return da.asarray(float(y.size // classes)) if own is None else own.astype(np.float64).sum()
    given = {"weight": weight, "classes": classes, "like": rest["dtype"], "ignore_index": ignore_index}
    return da.blockwise(_weights, axes, y, axes, own, None if own is None else axes, **given, **rest).sum(dtype=np.float64)


def _weights(y, own, weight, classes, like, ignore_index):
    return np.asarray(row_weights(y, weight, classes, like, ignore_index, own))


def _mean(total, divisor, signed, empty):
    fits = divisor > 0 if signed else divisor != 0
    return da.where(fits, total / da.where(fits, divisor, 1), da.where(divisor == 0, EMPTY[empty], np.nan))


def evaluate(
    logits: da.Array | _File | Sequence[_File],
    target: da.Array | ArrayLike | _File | Sequence[_File] | None = None,
    *,
    task_bytes: int = TASK_BYTES,
    **options: Any,
) -> Delayed:
    """`nbloss.evaluate` of a Dask array, or of files that tasks read by themselves.

    Parameters
    ----------
    logits : dask.array.Array, path or list of paths
        An array of shape (N, C) or (B, T, V), or ``.npy`` files of such arrays that every worker can read: each task opens its own slice
        of a file, so that no logits travel between processes.
    target : array_like, dask.array.Array, path or list of paths, optional
        Class numbers; for a list of files a list of as many.
    task_bytes : int, default 2**28
        How much of a file one task reads.
    **options
        Those of `nbloss.evaluate`.

    Returns
    -------
    dask.delayed.Delayed
        Of an `nbloss.Evaluation`; the parts are added in their order, so the scheduler changes no bit.

    Examples
    --------
    >>> import dask.array as da
    >>> from nbloss.interop.dask import evaluate
    >>> evaluate(da.zeros((4, 2), chunks=(2, 1)), [0, 1, 0, 1]).compute().count
    4
    """
    if isinstance(logits, da.Array):
        parts = _array_tasks(logits, target, options)
    elif isinstance(logits, (str, os.PathLike)):
        parts = _file_tasks(logits, target, task_bytes, options)
    else:
        targets: Any = [None] * len(logits) if target is None else target
        parts = [task for pair in zip(logits, targets, strict=True) for task in _file_tasks(*pair, task_bytes, options)]
    return delayed(_sum, pure=False)(parts)


def _array_tasks(logits, target, options):
    x = logits.rechunk({axis: -1 for axis in range(1, logits.ndim)})
    blocks = x.to_delayed().reshape(-1)
    y = [None] * len(blocks) if target is None else _beside("target", target, x.shape[:-1], x.chunks[:-1]).to_delayed().reshape(-1)
    return [delayed(_evaluated, pure=False)(*pair, options) for pair in zip(blocks, y, strict=True)]


def _file_tasks(logits, target, task_bytes, options):
    logits = os.path.abspath(logits)
    header = np.load(logits, mmap_mode="r")
    rows = max(1, int(task_bytes * len(header) // max(header.nbytes, 1)))
    of_file = isinstance(target, (str, os.PathLike))
    target = os.path.abspath(target) if of_file else target
    size = len(header) if target is None else len(np.load(target, mmap_mode="r") if of_file else target)
    if size != len(header):
        raise ValueError(f"target should have {len(header)} rows, as {logits} has; got {size}")
    tasks = []
    for start in range(0, max(len(header), 1), rows):
        part = slice(start, start + rows)
        given = target if of_file or target is None else target[part]
        tasks.append(delayed(_evaluated_slice, pure=False)(logits, given, part, of_file, options))
    return tasks


def _evaluated_slice(logits, target, part, of_file, options):
    target = np.load(target, mmap_mode="r")[part] if of_file else target
    return _evaluated(np.load(logits, mmap_mode="r")[part], target, options)


def _evaluated(logits, target, options):
    from nbloss._evaluate import evaluate as of_arrays

    return of_arrays(logits, target, **options)


def _sum(parts):
    return reduce(add, parts)
