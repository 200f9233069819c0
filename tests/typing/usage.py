"""Typical uses, with the types that a checker must see, and wrong ones, which it must refuse.

Checked, not run: ``mypy --strict`` and pyright with unused ignores as errors. So each ``type: ignore`` here says that its line is an error.
"""

from typing import Any, Literal, assert_type

import numpy as np
from numpy.typing import NDArray

import nbloss
import nbloss.functional as F

Number = np.floating[Any]
Array = np.ndarray[Any, np.dtype[Any]]

x: NDArray[np.float32] = np.zeros((4, 3), np.float32)
y: NDArray[np.int64] = np.array([0, 2, 1, -100])
w: NDArray[np.float32] = np.ones(3, np.float32)
out: NDArray[np.float32] = np.empty_like(x)
any_reduction: Literal["mean", "sum", "none"] = "mean"


class OnDevice:
    """Any library's array on a GPU."""

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {}


def functions(chosen: Literal["mean", "none"]) -> None:
    assert_type(F.cross_entropy(x, y), Number)
    assert_type(F.cross_entropy(x, y, w, reduction="sum", label_smoothing=0.1, lse_square_scale=1e-4), Number)
    assert_type(F.cross_entropy(x, y, softcap=30.0, logit_scale=0.5), Number)
    assert_type(F.cross_entropy_value_and_grad(x, y, softcap=None, reduction="none"), tuple[Array, Array])
    assert_type(F.cross_entropy(x, y, sample_weight=np.ones(4), divisor=np.int64(3), empty="zero"), Number)
    assert_type(F.nll_loss(x, y, sample_weight=[1, 0, 1, 1], reduction="none"), Array)
    assert_type(F.cross_entropy(x, y, reduction="none"), Array)
    assert_type(F.cross_entropy(x, y, reduction=None), Array)
    assert_type(F.cross_entropy(x, y, reduction=chosen), Number | Array)
    assert_type(F.cross_entropy_value_and_grad(x, y, out=out), tuple[Number, Array])
    assert_type(F.cross_entropy_value_and_grad(x, y, reduction="none"), tuple[Array, Array])
    assert_type(F.cross_entropy_value_and_grad(x, y, reduction=chosen), tuple[Number, Array] | tuple[Array, Array])
    assert_type(F.nll_loss(x, y, reduction=chosen), Number | Array)
    assert_type(F.cross_entropy_backward(1.0, x, y), Array)
    assert_type(F.nll_loss(F.log_softmax(x), y, ignore_index=-1), Number)
    assert_type(F.nll_loss(x, y, reduction="none"), Array)
    assert_type(F.nll_loss_backward(1.0, x, y), Array)
    assert_type(F.log_softmax(x, 1, out=out), Array)
    assert_type(F.log_softmax_backward(x, x), Array)
    assert_type(F.softmax([[1, 2]], 1, dtype=np.float32), Array)
    assert_type(F.softmax_backward(x, F.softmax(x), out=out), Array)
    assert_type(F.focal_loss(x, y, w, gamma=1.5), Number)
    assert_type(F.focal_loss(x, y, reduction="none"), Array)
    assert_type(F.focal_loss_value_and_grad(x, y), tuple[Number, Array])
    assert_type(F.cross_entropy_stats(x, y, ignore_index=-1), F.Stats)
    assert_type(F.cross_entropy_stats([[1.0, 2.0]]), F.Stats)
    assert_type(F.cross_entropy_hvp(x, x, y, w, lse_square_scale=1e-4, grad_output=2.0, out=out), Array)
    assert_type(F.cross_entropy_hessian_diag(x, y, reduction="none", grad_output=np.ones(4)), Array)
    assert_type(F.cross_entropy([[1.0, 2.0]], [0]), Number)
    assert_type(F.distillation_loss(x, x, temperature=2.0), Number)
    assert_type(F.distillation_loss(x, x, reduction="none"), Array)
    assert_type(F.distillation_loss_backward(1.0, x, x), Array)
    assert_type(F.distillation_loss_value_and_grad(x, x, grad_output=2.0), tuple[Number, Array])
    F.distillation_loss(OnDevice(), OnDevice(), device="cuda")
    loss, grad = F.cross_entropy_value_and_grad(x, y)
    print(float(loss) + 1.0, x - 0.1 * grad)
    F.cross_entropy(OnDevice(), OnDevice(), device="cuda")
    F.log_softmax(OnDevice())
    F.softmax(OnDevice())


def modules() -> None:
    mean, each = nbloss.CrossEntropyLoss(w, label_smoothing=0.1), nbloss.NLLLoss(reduction="none")
    assert_type(mean(x, y), Number)
    assert_type(each(x, y), Array)
    assert_type(mean.forward(x, y), Number)
    assert_type(nbloss.NLLLoss(divisor=8, empty="zero")(x, y, sample_weight=np.ones(4), divisor=4.0), Number)
    assert_type(mean.backward(), Array)
    assert_type(mean.to("cpu")(x, y), Number)
    log_softmax = nbloss.LogSoftmax(dim=1)
    assert_type(log_softmax(x), Array)
    softmax = nbloss.Softmax(dim=1, reuse_grad=True)
    assert_type(softmax(x), Array)
    assert_type(softmax.backward(x), Array)
    assert_type(log_softmax.backward(each.backward(np.ones(4))), Array)
    nbloss.CrossEntropyLoss(size_average=False)
    nbloss.CrossEntropyLoss(lse_square_scale=1e-4)
    nbloss.CrossEntropyLoss(softcap=30.0, logit_scale=2)
    distillation = nbloss.DistillationLoss(temperature=2.0)
    assert_type(distillation(x, x, sample_weight=np.ones(4), divisor=2), Number)
    assert_type(distillation.backward(), Array)
    assert_type(nbloss.DistillationLoss(reduction="none")(x, x), Array)


def others() -> None:
    nbloss.set_num_threads(2)
    nbloss.set_default_device(None)
    assert_type(nbloss.get_num_threads(), int)
    nbloss.to_host(nbloss.to_device(x, "cpu"))


def wrong() -> None:
    assert_type(F.linear_cross_entropy(x, x, y, linear_bias=w, max_memory=2**20), Number)
    assert_type(F.linear_cross_entropy(x, x, y, reduction="none"), Array)
    assert_type(F.linear_cross_entropy_value_and_grad(x, x, y, wrt=["input"], out=(out, None, None)), F.LinearGradients)
    assert_type(nbloss.LinearCrossEntropyLoss(3, 4, rng=0)(x, y), Number)
    F.linear_cross_entropy(x, y)  # type: ignore
    F.cross_entropy(x, y, reduction="avg")  # type: ignore
    F.cross_entropy(x, y, empty="none")  # type: ignore
    F.cross_entropy(x)  # type: ignore
    F.cross_entropy(x, y, w, -100)  # type: ignore
    F.cross_entropy(x, y, smoothing=0.1)  # type: ignore
    F.cross_entropy(x, y, label_smoothing="0.1")  # type: ignore
    F.cross_entropy(x, y, lse_square_scale="0.1")  # type: ignore
    F.cross_entropy(x, y, logit_scale=None)  # type: ignore
    F.nll_loss(x, y, lse_square_scale=0.1)  # type: ignore
    F.cross_entropy(x, y, ignore_index=1.5)  # type: ignore
    F.nll_loss(x, y, reduction="Mean")  # type: ignore
    F.nll_loss(x, y, label_smoothing=0.1)  # type: ignore
    F.nll_loss_backward(x, y)  # type: ignore
    F.log_softmax(x, axis=1)  # type: ignore
    F.log_softmax(x, out=[1.0])  # type: ignore
    F.log_softmax_backward(x)  # type: ignore
    F.softmax(x, axis=1)  # type: ignore
    F.softmax_backward(x)  # type: ignore
    F.cross_entropy_stats(x, y, w)  # type: ignore
    F.softmax_cross_entropy(x, y)  # type: ignore
    nbloss.CrossEntropyLoss(reduction="avg")  # type: ignore
    nbloss.CrossEntropyLoss(-100)(x)  # type: ignore
    nbloss.CrossEntropyLoss()(x)  # type: ignore
    nbloss.NLLLoss(w, -100)  # type: ignore
    nbloss.NLLLoss().forward(x)  # type: ignore
    nbloss.NLLLoss().backward(1.0, 2.0)  # type: ignore
    nbloss.LogSoftmax()(x, y)  # type: ignore
    nbloss.LogSoftmax(dim="1")  # type: ignore
    nbloss.Softmax(dim="1")  # type: ignore
    nbloss.set_num_threads("2")  # type: ignore
