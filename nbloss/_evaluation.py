"""`Evaluation`: what `nbloss.evaluate` finds. Evaluations of parts merge exactly."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np


class Bins(NamedTuple):
    """The bins of a reliability diagram: arrays with one number per bin.

    Parameters
    ----------
    count : ndarray of int64
        Rows whose largest probability p is in the bin: bin b of n holds b / n < p <= (b + 1) / n.
    confidence : ndarray of float64
        The mean of p; nan in an empty bin.
    accuracy : ndarray of float64
        The fraction of the rows whose target is the first class with the largest logit; nan in an empty bin.
    """

    count: np.ndarray  # type: ignore[assignment]  # a tuple has a method of this name
    confidence: np.ndarray
    accuracy: np.ndarray


Sum = tuple[float, float]  # a sum, rounded to float64, and the rest of it


def exact_sum(highs: list[float], lows: list[float]) -> Sum:
    """The sum of all numbers. ``lows`` are rounding errors of ``highs``, without a meaning where one of those is inf or nan."""
    if len(highs) == 1 and math.isfinite(highs[0]):  # the same, in a tenth of the time (D. E. Knuth, TAOCP, volume 2, section 4.2.2)
        high, low = highs[0], lows[0]
        total = high + low
        part = total - high
        return total, (high - (total - part)) + (low - part)
    if not all(map(math.isfinite, highs)):
        return sum(highs), 0.0
    try:
        high = math.fsum([*highs, *lows])
        return high, math.fsum([*highs, *lows, -high])
    except OverflowError:
        return math.inf, 0.0


def _added(a: Sum, b: Sum) -> Sum:
    return exact_sum([a[0], b[0]], [a[1], b[1]])


@dataclass(frozen=True, repr=False)
class Evaluation:
    """What `evaluate` found: counts and sums over rows, and the numbers that follow from them.

    It cannot be changed, and it can be pickled. ``a + b`` is the evaluation of the rows of both; ``sum`` adds a list of them. Parts of any
    split, added in any order, have the same counts; the sums agree within 1e-15, and added in the same order they have the same bits.

    Parameters
    ----------
    top_k : tuple of int
        The k of the top-k accuracies.
    count : int
        Rows that count: those whose target is not ``ignore_index``.
    right : tuple of int
        For each k, the rows in which fewer than k classes have a larger logit than the target.
    loss_sum, entropy_sum : tuple of two floats
        The sum of the cross entropy, and of the entropy of the softmax: rounded to float64, and what the rounding left.
    bin_count, bin_right : tuple of int
        For each bin of the largest probability: its rows, and those whose target is the first class with the largest logit.
    bin_confidence : tuple of pairs of floats
        For each bin, the sum of the largest probabilities, as ``loss_sum``.

    Attributes
    ----------
    loss, perplexity, entropy, calibration_error : float
    accuracy : dict
    bins : Bins

    See Also
    --------
    evaluate : makes them.

    Examples
    --------
    >>> import numpy as np
    >>> import nbloss
    >>> logits = np.log([[0.25, 0.25, 0.5], [0.1, 0.8, 0.1]])
    >>> a, b = nbloss.evaluate(logits, [2, 1]), nbloss.evaluate(logits, [0, -100])
    >>> (a + b).count, (a + b).accuracy[1] == 2 / 3
    (3, True)
    """

    top_k: tuple[int, ...]
    count: int
    right: tuple[int, ...]
    loss_sum: Sum
    entropy_sum: Sum
    bin_count: tuple[int, ...]
    bin_right: tuple[int, ...]
    bin_confidence: tuple[Sum, ...]

    @staticmethod
    def empty(top_k: tuple[int, ...], bins: int) -> Evaluation:
        """The evaluation of no rows."""
        nothing = 0.0, 0.0
        return Evaluation(top_k, 0, (0,) * len(top_k), nothing, nothing, (0,) * bins, (0,) * bins, (nothing,) * bins)

    @property
    def loss(self) -> float:
        """The mean cross entropy; nan if nothing was counted, or if a counted row has nan."""
        return self.loss_sum[0] / self.count if self.count else math.nan

    @property
    def perplexity(self) -> float:
        """exp(loss)."""
        try:
            return math.exp(self.loss)
        except OverflowError:
            return math.inf

    @property
    def accuracy(self) -> dict[int, float]:
        """k -> the fraction of rows in which fewer than k classes have a larger logit than the target. Equal logits are not larger."""
        return {k: right / self.count if self.count else math.nan for k, right in zip(self.top_k, self.right, strict=True)}

    @property
    def entropy(self) -> float:
        """The mean entropy of the softmax, -sum_c p_c log p_c, in nats."""
        return self.entropy_sum[0] / self.count if self.count else math.nan

    @property
    def calibration_error(self) -> float:
        """The expected calibration error: sum_b n_b / n |accuracy_b - confidence_b| over the bins, which hold n rows (Guo et al., 2017)."""
        binned = sum(self.bin_count)
        if not binned:
            return math.nan
        return math.fsum(abs(right - total) for right, (total, _) in zip(self.bin_right, self.bin_confidence, strict=True)) / binned

    @property
    def bins(self) -> Bins:
        """The bins of the largest probability, for a reliability diagram."""
        count = np.array(self.bin_count, np.int64)
        with np.errstate(invalid="ignore"):
            confidence = np.array([total for total, _ in self.bin_confidence]) / count
            return Bins(count, confidence, np.array(self.bin_right, np.float64) / count)

    def __add__(self, other: Evaluation) -> Evaluation:
        if not isinstance(other, Evaluation):
            return NotImplemented
        for name, ours, theirs in (
            ("top_k", self.top_k, other.top_k),
            ("number of bins", len(self.bin_count), len(other.bin_count)),
        ):
            if ours != theirs:
                raise ValueError(f"evaluations that are added should have the same {name}; got {ours} and {theirs}")

        if not (self.count and other.count):
            return self if self.count else other

        def counts(a, b):
            return tuple(m + n for m, n in zip(a, b, strict=True))

        return Evaluation(
            self.top_k,
            self.count + other.count,
            counts(self.right, other.right),
            _added(self.loss_sum, other.loss_sum),
            _added(self.entropy_sum, other.entropy_sum),
            counts(self.bin_count, other.bin_count),
            counts(self.bin_right, other.bin_right),
            tuple(map(_added, self.bin_confidence, other.bin_confidence)),
        )

    def __radd__(self, other: int) -> Evaluation:
        return self if type(other) is int and other == 0 else NotImplemented  # the start of ``sum``

    def __repr__(self) -> str:
        accuracy = ", ".join(f"{k}: {value:.6g}" for k, value in self.accuracy.items())
        return (
            f"Evaluation(count={self.count}, loss={self.loss:.6g}, perplexity={self.perplexity:.6g}, accuracy={{{accuracy}}}, "
            f"entropy={self.entropy:.6g}, calibration_error={self.calibration_error:.6g})"
        )

    def to_dict(self) -> dict[str, Any]:
        """The results for JSON, by their names. ``accuracy`` has strings as keys; nan and inf, which JSON does not have, are None."""

        def plain(value):
            if isinstance(value, dict):
                return {str(k): plain(v) for k, v in value.items()}
            if isinstance(value, list):
                return [plain(v) for v in value]
            return None if isinstance(value, float) and not math.isfinite(value) else value

        names = "count", "loss", "perplexity", "accuracy", "entropy", "calibration_error"
        bins = {name: array.tolist() for name, array in self.bins._asdict().items()}
        return plain({**{name: getattr(self, name) for name in names}, "bins": bins})

    def plot(self, path: str | os.PathLike) -> None:
        """Draw a reliability diagram, the accuracy of each bin over its confidence, to a file. It needs matplotlib.

        Parameters
        ----------
        path : str or path
            A file name with the ending of a format that matplotlib writes, such as .png, .svg or .pdf.
        """
        try:
            from matplotlib.figure import Figure
        except ImportError as error:
            raise ImportError('Evaluation.plot needs matplotlib: pip install "nbloss[demo]"') from error
        bins, number = self.bins, len(self.bin_count)
        edges = np.arange(number + 1) / number
        figure = Figure(figsize=(5.6, 5.6), layout="constrained", facecolor="white")
        top, below = figure.subplots(2, 1, sharex=True, height_ratios=[3, 1])
        top.bar(edges[:-1], np.nan_to_num(bins.accuracy), 1 / number, align="edge", color="#a9c8ea", edgecolor="white", label="accuracy")
        top.plot([0, 1], [0, 1], "--", color="#1f2933", lw=1, label="calibrated: accuracy = confidence")
        low, high = (extreme(bins.confidence, bins.accuracy) for extreme in (np.minimum, np.maximum))
        top.vlines(bins.confidence, low, high, color="#c53030", lw=2, label="accuracy - mean confidence")
        top.plot(bins.confidence, bins.accuracy, "o", color="#c53030", ms=4, clip_on=False)
        top.set(ylim=(0, 1.02), ylabel="accuracy of the bin")
        top.set_title(f"calibration error {self.calibration_error:.4f}, {self.count:,} rows", loc="left")
        top.legend(loc="upper left", frameon=False, fontsize=9)
        below.bar(edges[:-1], bins.count, 1 / number, align="edge", color="#718096", edgecolor="white")
        below.set(xlim=(0, 1), xlabel="confidence: the largest probability of a row", ylabel="rows")
        for axes in (top, below):
            axes.spines[["top", "right"]].set_visible(False)
        figure.get_layout_engine().set(h_pad=0.1, w_pad=0.1)
        figure.savefig(path, dpi=110)


Evaluation.__module__ = "nbloss"  # where users find it
