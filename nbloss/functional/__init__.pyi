from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, Protocol, TypeAlias, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

__all__ = [
    "LinearGradients",
    "Stats",
    "cross_entropy",
    "cross_entropy_backward",
    "cross_entropy_hessian_diag",
    "cross_entropy_hvp",
    "cross_entropy_stats",
    "cross_entropy_value_and_grad",
    "distillation_loss",
    "distillation_loss_backward",
    "distillation_loss_value_and_grad",
    "focal_loss",
    "focal_loss_backward",
    "focal_loss_value_and_grad",
    "linear_cross_entropy",
    "linear_cross_entropy_backward",
    "linear_cross_entropy_value_and_grad",
    "log_softmax",
    "log_softmax_backward",
    "nll_loss",
    "nll_loss_backward",
    "softmax",
    "softmax_backward",
]

_Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
_Number: TypeAlias = np.floating[Any]
_Sum: TypeAlias = Literal["mean", "sum"]
_Each: TypeAlias = Literal["none"] | None
_Reduction: TypeAlias = Literal["mean", "sum", "none"] | None
_Empty: TypeAlias = Literal["nan", "zero"]
_Real: TypeAlias = float | np.integer[Any] | np.floating[Any]

class _OnDevice(Protocol):
    """An array on a GPU: PyTorch's, CuPy's, Numba's or nbloss's own. Results are of its kind."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]: ...

_Like: TypeAlias = ArrayLike | _OnDevice

@overload
def log_softmax(input: _OnDevice, dim: int = -1, *, dtype: DTypeLike | None = None, out: Any = None, device: str | None = None) -> Any: ...
@overload
def log_softmax(
    input: ArrayLike, dim: int = -1, *, dtype: DTypeLike | None = None, out: _Array | None = None, device: str | None = None
) -> _Array: ...
@overload
def log_softmax_backward(grad_output: _Like, output: _OnDevice, dim: int = -1, *, out: Any = None, device: str | None = None) -> Any: ...
@overload
def log_softmax_backward(
    grad_output: ArrayLike, output: ArrayLike, dim: int = -1, *, out: _Array | None = None, device: str | None = None
) -> _Array: ...
@overload
def softmax(input: _OnDevice, dim: int = -1, *, dtype: DTypeLike | None = None, out: Any = None, device: str | None = None) -> Any: ...
@overload
def softmax(
    input: ArrayLike, dim: int = -1, *, dtype: DTypeLike | None = None, out: _Array | None = None, device: str | None = None
) -> _Array: ...
@overload
def softmax_backward(grad_output: _Like, output: _OnDevice, dim: int = -1, *, out: Any = None, device: str | None = None) -> Any: ...
@overload
def softmax_backward(
    grad_output: ArrayLike, output: ArrayLike, dim: int = -1, *, out: _Array | None = None, device: str | None = None
) -> _Array: ...
@overload
def nll_loss(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> Any: ...
@overload
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Sum = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Number: ...
@overload
def nll_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Each,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Array: ...
@overload
def nll_loss_backward(
    grad_output: _Like,
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def nll_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def cross_entropy(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> Any: ...
@overload
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Sum = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Number: ...
@overload
def cross_entropy(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Each,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Array: ...
@overload
def cross_entropy_backward(
    grad_output: _Like,
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def cross_entropy_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def cross_entropy_hvp(
    v: _Like,
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: _Like = 1.0,
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def cross_entropy_hvp(
    v: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def cross_entropy_hessian_diag(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: _Like = 1.0,
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def cross_entropy_hessian_diag(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def cross_entropy_value_and_grad(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: Any = 1.0,
    out: Any = None,
    device: str | None = None,
) -> tuple[Any, Any]: ...
@overload
def cross_entropy_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Sum = "mean",
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Number, _Array]: ...
@overload
def cross_entropy_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    ignore_index: int = -100,
    reduction: _Each,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Array, _Array]: ...
@overload
def focal_loss(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> Any: ...
@overload
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Sum = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Number: ...
@overload
def focal_loss(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Each,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    device: str | None = None,
) -> _Array: ...
@overload
def focal_loss_backward(
    grad_output: _Like,
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def focal_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def focal_loss_value_and_grad(
    input: _OnDevice,
    target: _Like,
    weight: _Like | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Reduction = "mean",
    sample_weight: _Like | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: Any = 1.0,
    out: Any = None,
    device: str | None = None,
) -> tuple[Any, Any]: ...
@overload
def focal_loss_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Sum = "mean",
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Number, _Array]: ...
@overload
def focal_loss_value_and_grad(
    input: ArrayLike,
    target: ArrayLike,
    weight: ArrayLike | None = None,
    *,
    gamma: float = 2.0,
    ignore_index: int = -100,
    reduction: _Each,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Array, _Array]: ...

class Stats(NamedTuple):
    lse: Any
    log_prob: Any | None
    argmax: Any
    correct: Any | None
    entropy: Any

def cross_entropy_stats(input: _Like, target: _Like | None = None, *, ignore_index: int = -100, device: str | None = None) -> Stats: ...
@overload
def distillation_loss(
    input: _OnDevice,
    teacher: _Like,
    *,
    temperature: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: float | None = None,
    reduction: _Reduction = "mean",
    device: str | None = None,
) -> Any: ...
@overload
def distillation_loss(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: _Sum = "mean",
    device: str | None = None,
) -> _Number: ...
@overload
def distillation_loss(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: _Each,
    device: str | None = None,
) -> _Array: ...
@overload
def distillation_loss_backward(
    grad_output: _Like,
    input: _OnDevice,
    teacher: _Like,
    *,
    temperature: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: float | None = None,
    reduction: _Reduction = "mean",
    out: Any = None,
    device: str | None = None,
) -> Any: ...
@overload
def distillation_loss_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: _Reduction = "mean",
    out: _Array | None = None,
    device: str | None = None,
) -> _Array: ...
@overload
def distillation_loss_value_and_grad(
    input: _OnDevice,
    teacher: _Like,
    *,
    temperature: float = 1.0,
    sample_weight: _Like | None = None,
    divisor: float | None = None,
    reduction: _Reduction = "mean",
    grad_output: Any = 1.0,
    out: Any = None,
    device: str | None = None,
) -> tuple[Any, Any]: ...
@overload
def distillation_loss_value_and_grad(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: _Sum = "mean",
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Number, _Array]: ...
@overload
def distillation_loss_value_and_grad(
    input: ArrayLike,
    teacher: ArrayLike,
    *,
    temperature: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: float | None = None,
    reduction: _Each,
    grad_output: ArrayLike = 1.0,
    out: _Array | None = None,
    device: str | None = None,
) -> tuple[_Array, _Array]: ...

class LinearGradients(NamedTuple):
    loss: Any
    input: Any
    linear_weight: Any
    linear_bias: Any

@overload
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: _Sum = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    max_memory: float = ...,
    stats: dict[str, _Array] | None = None,
    device: str | None = None,
) -> _Number: ...
@overload
def linear_cross_entropy(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: _Each,
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    max_memory: float = ...,
    stats: dict[str, _Array] | None = None,
    device: str | None = None,
) -> _Array: ...
def linear_cross_entropy_value_and_grad(
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    max_memory: float = ...,
    stats: dict[str, _Array] | None = None,
    grad_output: ArrayLike = 1.0,
    wrt: Sequence[str] = ...,
    out: tuple[_Array | None, _Array | None, _Array | None] | None = None,
    accumulate: bool = False,
    device: str | None = None,
) -> LinearGradients: ...
def linear_cross_entropy_backward(
    grad_output: ArrayLike,
    input: ArrayLike,
    linear_weight: ArrayLike,
    target: ArrayLike,
    *,
    linear_bias: ArrayLike | None = None,
    weight: ArrayLike | None = None,
    reduction: _Reduction = "mean",
    ignore_index: int | None = None,
    label_smoothing: float = 0.0,
    lse_square_scale: float = 0.0,
    softcap: float | None = None,
    logit_scale: float = 1.0,
    sample_weight: ArrayLike | None = None,
    divisor: _Real | None = None,
    empty: _Empty = "nan",
    max_memory: float = ...,
    wrt: Sequence[str] = ...,
    out: tuple[_Array | None, _Array | None, _Array | None] | None = None,
    accumulate: bool = False,
    device: str | None = None,
) -> tuple[Any, Any, Any]: ...
