from typing import Any, Generic, Literal, Self, TypeVar, overload

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from nbloss.functional import LinearGradients, _Array, _Each, _Empty, _Number, _Real, _Reduction, _Sum

__all__ = ["CrossEntropyLoss", "DistillationLoss", "FocalLoss", "LinearCrossEntropyLoss", "LogSoftmax", "NLLLoss", "Softmax"]

_Result = TypeVar("_Result", default=Any, covariant=True)  # of a loss: a number ("mean", "sum") or an array ("none")

class _Module:
    device: str | None
    reuse_grad: bool
    def __init__(self, device: str | None, reuse_grad: bool) -> None: ...
    def to(self, device: str | None) -> Self: ...
    def extra_repr(self) -> str: ...

class LogSoftmax(_Module):
    dim: int
    def __init__(self, dim: int = -1, *, device: str | None = None, reuse_grad: bool = False) -> None: ...
    def __call__(self, input: ArrayLike) -> _Array: ...
    def forward(self, input: ArrayLike) -> _Array: ...
    def backward(self, grad_output: ArrayLike = 1.0) -> _Array: ...

class Softmax(_Module):
    dim: int
    def __init__(self, dim: int = -1, *, device: str | None = None, reuse_grad: bool = False) -> None: ...
    def __call__(self, input: ArrayLike) -> _Array: ...
    def forward(self, input: ArrayLike) -> _Array: ...
    def backward(self, grad_output: ArrayLike = 1.0) -> _Array: ...

class _Loss(_Module, Generic[_Result]):
    weight: ArrayLike | None
    ignore_index: int
    reduction: Literal["mean", "sum", "none"]
    divisor: float | None
    empty: _Empty
    @property
    def options(self) -> dict[str, Any]: ...
    def __call__(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: _Real | None = None
    ) -> _Result: ...
    def forward(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: _Real | None = None
    ) -> _Result: ...
    def backward(self, grad_output: ArrayLike = 1.0) -> _Array: ...

class NLLLoss(_Loss[_Result]):
    @overload
    def __init__(
        self: NLLLoss[_Number],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Sum = "mean",
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: None = None,
        reduce: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: NLLLoss[_Array],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Each,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: None = None,
        reduce: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: NLLLoss[_Number | _Array],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Reduction = "mean",
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ) -> None: ...

class CrossEntropyLoss(_Loss[_Result]):
    label_smoothing: float
    lse_square_scale: float
    softcap: float | None
    logit_scale: float
    @overload
    def __init__(
        self: CrossEntropyLoss[_Number],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Sum = "mean",
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: None = None,
        reduce: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: CrossEntropyLoss[_Array],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Each,
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: None = None,
        reduce: None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: CrossEntropyLoss[_Number | _Array],
        weight: ArrayLike | None = None,
        *,
        ignore_index: int = -100,
        reduction: _Reduction = "mean",
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
        size_average: bool | None = None,
        reduce: bool | None = None,
    ) -> None: ...

class FocalLoss(_Loss[_Result]):
    gamma: float
    @overload
    def __init__(
        self: FocalLoss[_Number],
        weight: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: _Sum = "mean",
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: FocalLoss[_Array],
        weight: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: _Each,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: FocalLoss[_Number | _Array],
        weight: ArrayLike | None = None,
        *,
        gamma: float = 2.0,
        ignore_index: int = -100,
        reduction: _Reduction = "mean",
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...

class DistillationLoss(_Module, Generic[_Result]):
    temperature: float
    reduction: Literal["mean", "sum", "none"]
    divisor: float | None
    @property
    def options(self) -> dict[str, Any]: ...
    @overload
    def __init__(
        self: DistillationLoss[_Number],
        *,
        temperature: float = 1.0,
        divisor: float | None = None,
        reduction: _Sum = "mean",
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: DistillationLoss[_Array],
        *,
        temperature: float = 1.0,
        divisor: float | None = None,
        reduction: _Each,
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...
    @overload
    def __init__(
        self: DistillationLoss[_Number | _Array],
        *,
        temperature: float = 1.0,
        divisor: float | None = None,
        reduction: _Reduction = "mean",
        device: str | None = None,
        reuse_grad: bool = False,
    ) -> None: ...
    def __call__(
        self, input: ArrayLike, teacher: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None
    ) -> _Result: ...
    def forward(
        self, input: ArrayLike, teacher: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None
    ) -> _Result: ...
    def backward(self, grad_output: ArrayLike = 1.0) -> _Array: ...

class LinearCrossEntropyLoss(_Module, Generic[_Result]):
    linear_weight: Any
    linear_bias: Any
    grad_weight: Any
    grad_bias: Any
    weight: ArrayLike | None
    ignore_index: int | None
    reduction: Literal["mean", "sum", "none"]
    label_smoothing: float
    lse_square_scale: float
    softcap: float | None
    logit_scale: float
    divisor: float | None
    empty: _Empty
    max_memory: float
    @property
    def options(self) -> dict[str, Any]: ...
    @overload
    def __init__(
        self: LinearCrossEntropyLoss[_Number],
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: DTypeLike = ...,
        rng: np.random.Generator | int | None = None,
        weight: ArrayLike | None = None,
        reduction: _Sum = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        max_memory: float = ...,
        device: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: LinearCrossEntropyLoss[_Array],
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: DTypeLike = ...,
        rng: np.random.Generator | int | None = None,
        weight: ArrayLike | None = None,
        reduction: _Each,
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        max_memory: float = ...,
        device: str | None = None,
    ) -> None: ...
    @overload
    def __init__(
        self: LinearCrossEntropyLoss[_Number | _Array],
        in_features: int,
        num_classes: int,
        *,
        out_features: tuple[int, ...] = (),
        bias: bool = False,
        dtype: DTypeLike = ...,
        rng: np.random.Generator | int | None = None,
        weight: ArrayLike | None = None,
        reduction: _Reduction = "mean",
        ignore_index: int | None = None,
        label_smoothing: float = 0.0,
        lse_square_scale: float = 0.0,
        softcap: float | None = None,
        logit_scale: float = 1.0,
        divisor: _Real | None = None,
        empty: _Empty = "nan",
        max_memory: float = ...,
        device: str | None = None,
    ) -> None: ...
    def __call__(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: _Real | None = None
    ) -> _Result: ...
    def forward(
        self, input: ArrayLike, target: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: _Real | None = None
    ) -> _Result: ...
    def backward(self, grad_output: ArrayLike = 1.0) -> _Array: ...
    def value_and_grad(
        self,
        input: ArrayLike,
        target: ArrayLike,
        *,
        sample_weight: ArrayLike | None = None,
        divisor: _Real | None = None,
        grad_output: ArrayLike = 1.0,
    ) -> LinearGradients: ...
