"""`LinearCrossEntropyLoss`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from nbloss import functional as F
from nbloss._arguments import float_dtype, float_kind
from nbloss._docstrings import PARAMETERS, documented
from nbloss._options import CHECKS, checked_bytes, checked_divisor
from nbloss.functional._linear_cross_entropy import ENTRIES
from nbloss.modules._base import Module

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, DTypeLike

OF_LAYER = {
    "in_features": "in_features : int\n    D, the number of features of a row.",
    "num_classes": "num_classes : int\n    C.",
    "out_features": "out_features : tuple of int, default ()\n    d1, ..., dK: a row has d1 * ... * dK positions with C logits each.",
    "bias": "bias : bool, default False\n    Whether the layer has a bias.",
    "dtype": "dtype : dtype, default float32\n    The dtype of weight and bias: one of the four float dtypes.",
    "rng": "rng : numpy.random.Generator or int, optional\n    What draws the first weight and bias, uniform in +-1 / sqrt(D).",
    "ignore_index": ENTRIES["ignore_index"],
    "softcap": PARAMETERS["softcap"],
    "logit_scale": PARAMETERS["logit_scale"],
    "max_memory": ENTRIES["max_memory"],
    "device": ENTRIES["device"],
}


@documented(**OF_LAYER)
class LinearCrossEntropyLoss(Module):
    """A linear layer and the cross entropy of its logits, which exist for a chunk of rows at a time.

    The attributes ``linear_weight``, of shape (C, d1, ..., dK, D), and ``linear_bias`` (None: no bias) may be assigned. They are used as
    they are, not copied: a weight that is the array of an embedding is tied to it. `backward` and `value_and_grad` set ``grad_weight``
    and ``grad_bias``.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    %(keeps_references)s
    `value_and_grad` takes three matrix products; `forward` and `backward` take four, because `backward` computes the logits again.
    Pickles and deep copies have the layer, and no gradients. Source of names and meanings: ``torch.nn.LinearCrossEntropyLoss``.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> loss = nbloss.LinearCrossEntropyLoss(3, 4, rng=0)
    >>> loss.linear_weight = np.zeros((4, 3), np.float32)
    >>> loss(np.ones((2, 3), np.float32), np.array([1, 3])).round(4)
    np.float32(1.3863)
    >>> loss.backward().shape, loss.grad_weight.shape
    ((2, 3), (4, 3))
    >>> loss.extra_repr().split(", ")[:3]
    ['in_features=3', 'num_classes=4', 'out_features=()']
    """

    _options = ("reduction", "label_smoothing", "lse_square_scale", "softcap", "logit_scale", "empty")
    _more = ("weight", "ignore_index", "divisor", "max_memory")
    grad_weight: Any = None
    grad_bias: Any = None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: DTypeLike = np.float32,
        rng: np.random.Generator | int | None = None,
        weight: ArrayLike | None = None,
        reduction: str | None = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: float | None = None,
        empty: str = "nan",
        max_memory: float = 2**27,
        device: str | None = None,
    ):
        super().__init__(device, False)
        given = reduction, label_smoothing, lse_square_scale, softcap, logit_scale, empty
        for name, value in zip(self._options, given, strict=True):
            setattr(self, name, CHECKS[name](value))
        self.ignore_index = None if ignore_index is None else CHECKS["ignore_index"](ignore_index)
        self.divisor = checked_divisor(divisor, reduction)
        self.weight, self.max_memory = weight, checked_bytes("max_memory", max_memory)
        outputs, kind, draw = (num_classes, *out_features), float_dtype(dtype), np.random.default_rng(rng)

        def drawn(*shape):
            numbers = draw.random(shape, float_kind(kind)[1]) * 2 - 1
            return (numbers / max(in_features, 1) ** 0.5).astype(kind, copy=False)

        self.linear_weight: Any = drawn(*outputs, in_features)
        self.linear_bias: Any = drawn(*outputs) if bias else None

    @property
    def options(self) -> dict[str, Any]:
        """The keyword arguments of the functional form, without the layer."""
        return {name: getattr(self, name) for name in (*self._options, *self._more)} | {"device": self.device}

    def __call__(self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None) -> Any:
        """The same as `forward`."""
        return self.forward(input, target, sample_weight=sample_weight, divisor=divisor)

    def forward(self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None) -> Any:
        """The loss of ``input`` and ``target``; shapes, and the meaning of ``sample_weight``, as in the functional form.

        ``divisor`` replaces the module's for this call and its `backward`.
        """
        arrays, of_call = self._call(input, target, sample_weight, divisor)
        value = F.linear_cross_entropy(*arrays, **self.options | of_call)
        self._saved = arrays, of_call
        return value

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's ``input``. Sets ``grad_weight``, and ``grad_bias``: None without a bias."""
        arrays, of_call = self._saved_arrays()
        gradients = F.linear_cross_entropy_backward(grad_output, *arrays, **self.options | of_call)
        of_input, self.grad_weight, self.grad_bias = gradients
        return of_input

    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        divisor: float | None = None,
        grad_output: ArrayLike = 1.0,
    ) -> F.LinearGradients:
        """The loss and its gradients, as the functional form gives them. Sets ``grad_weight`` and ``grad_bias``."""
        arrays, of_call = self._call(input, target, sample_weight, divisor)
        result = F.linear_cross_entropy_value_and_grad(*arrays, **self.options | of_call, grad_output=grad_output)
        self.grad_weight, self.grad_bias = result.linear_weight, result.linear_bias
        return result

    def _call(self, input, target, sample_weight, divisor):
        of_call = {"linear_bias": self.linear_bias, "sample_weight": sample_weight} | ({} if divisor is None else {"divisor": divisor})
        return (input, self.linear_weight, target), of_call

    def __getstate__(self):
        """The layer and the options. Arrays are not copied, so that a pickle or a deep copy of a model keeps its ties."""
        return {k: v for k, v in self.__dict__.items() if k not in ("_saved", "grad_weight", "grad_bias")}

    def extra_repr(self) -> str:
        """The text between the parentheses of ``repr``: torch's, and the other options where they are not the default."""
        classes, *more, features = np.shape(self.linear_weight)
        shown = {"in_features": features, "num_classes": classes, "out_features": tuple(more), "bias": self.linear_bias is not None}
        shown |= {name: getattr(self, name) for name in ("reduction", "ignore_index", "label_smoothing")}
        defaults = {"lse_square_scale": 0.0, "softcap": None, "logit_scale": 1.0, "divisor": None, "empty": "nan", "max_memory": 2**27}
        shown |= {name: getattr(self, name) for name, value in defaults.items() if getattr(self, name) != value}
        return ", ".join(f"{name}={value}" for name, value in shown.items())
