"""`evaluate`: one pass over logits that are too large to hold."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from nbloss._arguments import any_array, float_array, float_kind
from nbloss._evaluation import Evaluation, exact_sum
from nbloss._logit_files import open_logits, open_npy
from nbloss._options import checked_ignore_index
from nbloss._problem import as_stored, signed_view
from nbloss.backends import host_arrays
from nbloss.backends.cpu import CPU
from nbloss.progress import ByteBar

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

BLOCK_MAX_ROWS = 1 << 18  # of a block that is evaluated at once: 29 bytes a row are taken for its results


# ------------------------------ arguments ------------------------------


def _positive(name: str, value: Any) -> int:
    if isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value > 0:
        return int(value)
    kind = ValueError if isinstance(value, (int, np.integer)) else TypeError
    raise kind(f"{name} should be a positive whole number; got {value!r}")


def _checked_top_k(top_k: Any) -> tuple[int, ...]:
    ks = (top_k,) if isinstance(top_k, (int, np.integer)) else top_k
    if isinstance(ks, (str, bytes)) or not isinstance(ks, Iterable):
        raise TypeError(f"top_k should be positive whole numbers; got {top_k!r}")
    checked = tuple(_positive("top_k", k) for k in ks)
    if len(set(checked)) < len(checked):
        raise ValueError(f"top_k should name each number once; got {top_k!r}")
    return checked


def _is_path(value: Any) -> bool:
    return isinstance(value, (str, os.PathLike))


def _refuse_gpu(name: str, value: Any) -> None:
    kind = type(value)
    if not isinstance(value, np.ndarray) and (hasattr(kind, "__cuda_array_interface__") or hasattr(kind, "__dlpack_device__")):
        from nbloss.backends.array_interop import on_gpu

        if on_gpu(value):
            raise TypeError(
                f"{name} should be in the memory of the host; got {host_arrays.type_name(value)} on a GPU: nbloss.to_host({name})"
            )


def _logits(value: Any, key: str | None) -> np.ndarray:
    _refuse_gpu("logits", value)
    if not _is_path(value):
        if key is not None:
            raise ValueError(f"key names a tensor of a .safetensors file; got key={key!r} without a path")
        value = np.asanyarray(value) if isinstance(value, np.memmap) else value
    array = open_logits(value, key) if _is_path(value) else value
    if not (isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)):
        array = any_array(CPU, "logits", array)
    if float_kind(array.dtype) is None:
        float_array(CPU, "logits", np.empty(0, array.dtype))  # raises what every function says
    if array.ndim == 0 or (array.shape[-1] == 0 and array.size < math.prod(array.shape[:-1])):
        raise ValueError(f"logits should have at least one class, on the last axis; got shape {array.shape}")
    return array


def _targets(value: Any, logits: np.ndarray) -> np.ndarray:
    _refuse_gpu("target", value)
    array = open_npy(value) if _is_path(value) else value
    if not (isinstance(array, np.ndarray) and not isinstance(array, np.ma.MaskedArray)):
        array = np.empty(0, np.int64) if isinstance(value, list) and not value else any_array(CPU, "target", value)
    if array.dtype.kind not in "iub":
        raise TypeError(f"target should hold class numbers; got {array.dtype}: {host_arrays.cast('target', value, 'int64')}")
    if array.shape != logits.shape[:-1]:
        wanted = f"{logits.shape[:-1]}, that of the logits {logits.shape} without their last axis, the classes"
        raise ValueError(f"target should have shape {wanted}; got {array.shape}")
    return array


def _pairs(logits: Any, target: Any, key: str | None) -> Iterator[tuple[Any, Any]]:
    """The ``(logits, target)`` of a call, as arrays, one by one."""
    if target is not None:
        x = _logits(logits, key)
        yield x, _targets(target, x)
        return
    if _is_path(logits) or isinstance(logits, np.ndarray) or not isinstance(logits, Iterable):
        raise TypeError(f"target is needed, unless logits is an iterable of (logits, target) batches; got {host_arrays.type_name(logits)}")
    for number, batch in enumerate(logits):
        if not isinstance(batch, (tuple, list)) or len(batch) != 2:
            raise TypeError(f"batch {number} should be a pair (logits, target); got {host_arrays.type_name(batch)}")
        x = _logits(batch[0], key)
        yield x, _targets(batch[1], x)


# ------------------------------ the pass ------------------------------


def _blocks(shape: tuple[int, ...], rows: int) -> Iterator[tuple[Any, ...]]:
    """Indices that cut the leading axes of an array into blocks of at most ``rows`` rows, in C order."""
    if not shape:
        yield ()
        return
    inner = math.prod(shape[1:])
    if inner <= rows:
        step = max(1, rows // max(inner, 1))
        yield from ((slice(first, first + step),) for first in range(0, shape[0], step))
        return
    for k in range(shape[0]):
        yield from ((k, *rest) for rest in _blocks(shape[1:], rows))


class _Scorer:
    """Evaluates blocks with the kernels, into memory that it keeps."""

    def __init__(self, ignore_index: int, top_k: tuple[int, ...], bins: int):
        self.ignore_index, self.top_k, self.bins = ignore_index, top_k, bins
        self.results: list[np.ndarray] = []

    def _memory(self, count: int, real: np.dtype) -> list[np.ndarray]:
        """Arrays for the results of ``count`` rows: log-probability, entropy, rank, confidence, whether the target is the argmax."""
        if not self.results or self.results[0].size < count or self.results[0].dtype != real:
            self.results = [np.empty(count, dtype) for dtype in (real, real, np.int64, real, np.bool_)]
        return [array[:count] for array in self.results]

    def _scale(self, y, mask, wide, classes, real):
        """``(one number for all rows or one per row, number of bad targets, position of the first)``; 0 where a row is ignored."""
        arguments = y, mask, wide, None, None, classes, self.ignore_index, 1.0, 0.0
        scale = np.empty(min(y.size, 1), real)
        total, wrong, first = CPU.kernels.row_scale(*arguments, scale, None)
        if not wrong and total < y.size and y.size > 1:
            scale = np.empty(y.size, real)
            CPU.kernels.row_scale(*arguments, scale, None)
        return scale, wrong, first

    def score(self, x: np.ndarray, target: np.ndarray, before: int, note: str) -> Evaluation:
        """The evaluation of a block. ``before`` rows have gone before it; ``note`` ends the error of a bad target."""
        kind = float_kind(x.dtype)
        assert kind is not None
        real, classes = kind[1], x.shape[-1]
        y = CPU.flat(target if target.dtype.isnative else target.astype(target.dtype.newbyteorder("=")))
        seen, mask, wide = signed_view(y.dtype)
        y = y.view(seen or y.dtype)
        scale, wrong, first = self._scale(y, mask, wide, classes, real)
        if wrong:
            value = int(y[first]) & mask if mask != -1 else int(y[first : first + 1].view(target.dtype.newbyteorder("="))[0])
            raise IndexError(
                f"target should be in [0, {classes}) or {self.ignore_index} (ignore_index): got {value} at row {before + first}{note}"
            )
        results = self._memory(y.size, real)
        rows = as_stored(x if x.dtype.isnative else x.astype(x.dtype.newbyteorder("=")))
        for start, stop, (view,), _ in CPU.pieces(x.ndim - 1, [rows], None):
            each = scale if scale.size == 1 else scale[start:stop]
            CPU.kernels.evaluation(view, y[start:stop], mask, each, *(array[start:stop] for array in results))
        # no rank is right in a row with nan, whose rank is the number of classes, even if k is larger
        counts, totals = CPU.kernels.tally(*results, np.minimum(self.top_k, classes).astype(np.int64), self.bins)
        sums = [exact_sum(column[0::2], column[1::2]) for column in totals.T.tolist()]
        count, kinds = counts.tolist(), len(self.top_k)
        right, binned, leading = count[1 : 1 + kinds], count[1 + kinds : 1 + kinds + self.bins], count[1 + kinds + self.bins :]
        return Evaluation(self.top_k, count[0], tuple(right), sums[0], sums[1], tuple(binned), tuple(leading), tuple(sums[2:]))


def evaluate(
    logits: ArrayLike | str | os.PathLike | Iterable[tuple[Any, Any]],
    target: ArrayLike | str | os.PathLike | None = None,
    *,
    ignore_index: int = -100,
    top_k: int | Iterable[int] = (1, 5),
    bins: int = 15,
    batch_bytes: int = 2**26,
    progress: bool | Callable[[int, int | None], object] | None = None,
    key: str | None = None,
) -> Evaluation:
    """Loss, perplexity, top-k accuracy, entropy and calibration error of logits, in one pass over arrays of any size.

    For each row x with target y, m = max x, s = sum_c exp(x_c - m) and p = softmax(x): the loss is log s + (m - x[y]), the entropy
    log s + sum_c p_c (m - x_c), the rank of the target the number of classes with a larger logit, and the confidence max p = 1 / s.

    Parameters
    ----------
    logits : array_like, path, or iterable of pairs
        An array of float16, bfloat16, float32 or float64 of shape (..., C), such as (N, C) or (B, T, V): the classes are on the last axis.
        It may be a memory map. Or the path of a ``.npy`` or ``.safetensors`` file, which is mapped, not read. Or an iterable of
        ``(logits, target)`` batches, such as a generator; then ``target`` is None.
    target : array_like or path
        Class numbers of any integer dtype or bool, of the shape of the logits without their last axis; or the path of a ``.npy`` file.
    ignore_index : int, default -100
        Rows with this target do not count, whatever their logits are.
    top_k : int or iterable of int, default (1, 5)
        The k for which ``accuracy`` tells how often fewer than k classes have a larger logit than the target.
    bins : int, default 15
        The number of bins of the largest probability, of equal width.
    batch_bytes : int, default 64 MiB
        At most so many bytes of logits are touched at once, but at least one row.
    progress : bool or callable, optional
        By default, a line with the speed and the time left, if stderr is a terminal. True and False show it or do not. A callable gets
        ``(done, total)`` after each block, both in bytes of logits; the total of an iterable is not known, and None.
    key : str, optional
        The name of the tensor in a ``.safetensors`` file that has several.

    Returns
    -------
    Evaluation
        Sums are in float64 with a correction, counts are integers. Where nothing was counted, the counts are 0 and the rest is nan.

    Raises
    ------
    TypeError
        For a wrong dtype, an array on a GPU (use `to_host`), or a missing target.
    ValueError
        For a wrong shape or option, or a file that is truncated or of another format.
    IndexError
        For a target out of range; it names the row, counted from 0 over the whole input.
    KeyboardInterrupt
        At Ctrl-C. Its attribute ``partial`` is the `Evaluation` of what was counted before.

    See Also
    --------
    nbloss.functional.cross_entropy_stats : the same numbers for each row.

    Notes
    -----
    A row with nan counts: its loss is nan, it is not right for any k, and it is in no bin. So does one with +inf, or of -inf alone.
    Equal logits are not larger than each other: where the target shares the largest logit, which half types do often, the row is right for
    k = 1. The accuracy of a bin goes by the first class with the largest logit.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss
    >>> logits = np.log([[0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
    >>> result = nbloss.evaluate(logits, [2, 0], top_k=(1, 2))
    >>> result.accuracy, round(result.loss, 4)
    ({1: 0.5, 2: 1.0}, 1.4979)
    """
    scorer = _Scorer(checked_ignore_index(ignore_index), _checked_top_k(top_k), _positive("bins", bins))
    most, before, done = _positive("batch_bytes", batch_bytes), 0, 0
    result = Evaluation.empty(scorer.top_k, scorer.bins)
    report = ByteBar.of(progress)
    try:
        for number, (x, y) in enumerate(_pairs(logits, target, key)):
            total = x.nbytes if target is not None else None
            room = max(1, min(most // (x.shape[-1] * x.itemsize), BLOCK_MAX_ROWS)) if x.size else 1
            for index in _blocks(x.shape[:-1], room) if x.size else ():
                part = x[index]
                note = "" if target is not None else f" of all batches (batch {number})"
                result += scorer.score(part, y[index], before, note)
                before, done = before + y[index].size, done + part.nbytes
                report(done, total)
    except KeyboardInterrupt as interrupt:
        interrupt.partial = result  # type: ignore[attr-defined]
        raise
    finally:
        report.close()
    return result


evaluate.__module__ = "nbloss"  # where users find it
