"""Calls on GPU arrays of every kind, for the laws of the host side."""

import numpy as np

import nbloss
import nbloss.functional as F

ROWS, CLASSES = 4096, 1000


def arrays(shape=(ROWS, CLASSES), dtype=np.float32):
    """``(logits, class numbers, probabilities, class weights, a gradient per row)`` on the device."""
    positions = shape[:1] + shape[2:]
    host = (
        np.zeros(shape, dtype), np.zeros(positions, np.int64), np.zeros(shape, np.float32), np.ones(shape[1], np.float32),
        np.ones(positions, np.float32),
    )  # fmt: skip
    return [nbloss.to_device(array, "cuda") for array in host]


CALLS = {
    "log_softmax": lambda x, y, p, w, g: F.log_softmax(x, 1),
    "log_softmax over rows": lambda x, y, p, w, g: F.log_softmax(x, 0),
    "log_softmax_backward": lambda x, y, p, w, g: F.log_softmax_backward(x, x, 1),
    "log_softmax_backward of a number": lambda x, y, p, w, g: F.log_softmax_backward(1.0, x, 1),
    "softmax": lambda x, y, p, w, g: F.softmax(x, 1),
    "softmax_backward": lambda x, y, p, w, g: F.softmax_backward(x, x, 1),
    "cross_entropy": lambda x, y, p, w, g: F.cross_entropy(x, y),
    "cross_entropy none": lambda x, y, p, w, g: F.cross_entropy(x, y, reduction="none"),
    "cross_entropy sum": lambda x, y, p, w, g: F.cross_entropy(x, y, reduction="sum"),
    "cross_entropy weights": lambda x, y, p, w, g: F.cross_entropy(x, y, w, ignore_index=3),
    "cross_entropy smoothing": lambda x, y, p, w, g: F.cross_entropy(x, y, label_smoothing=0.1),
    "cross_entropy lse_square_scale": lambda x, y, p, w, g: F.cross_entropy(x, y, lse_square_scale=1e-4),
    "cross_entropy softcap": lambda x, y, p, w, g: F.cross_entropy(x, y, softcap=30.0),
    "cross_entropy_value_and_grad softcap": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, softcap=30.0, logit_scale=0.5),
    "cross_entropy_value_and_grad softcap in place": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, softcap=30.0, out=x),
    "cross_entropy_value_and_grad logit_scale probabilities": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, p, logit_scale=0.5),
    "cross_entropy sample_weight": lambda x, y, p, w, g: F.cross_entropy(x, y, w, sample_weight=g, label_smoothing=0.1),
    "cross_entropy divisor": lambda x, y, p, w, g: F.cross_entropy(x, y, divisor=100.0, empty="zero"),
    "cross_entropy probabilities sample_weight": lambda x, y, p, w, g: F.cross_entropy(x, p, sample_weight=g),
    "cross_entropy probabilities": lambda x, y, p, w, g: F.cross_entropy(x, p),
    "cross_entropy_value_and_grad": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y),
    "cross_entropy_value_and_grad in place": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, out=x),
    "cross_entropy_value_and_grad smoothing": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, w, label_smoothing=0.1),
    "cross_entropy_value_and_grad probabilities": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, p, w),
    "cross_entropy_value_and_grad scaled": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, grad_output=1024.0),
    "cross_entropy_value_and_grad sample_weight": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(x, y, sample_weight=g, empty="zero"),
    "cross_entropy_value_and_grad probabilities sample_weight": lambda x, y, p, w, g: F.cross_entropy_value_and_grad(
        x, p, sample_weight=g, divisor=3.0, grad_output=2.0
    ),
    "cross_entropy_backward": lambda x, y, p, w, g: F.cross_entropy_backward(1.0, x, y),
    "cross_entropy_backward per row": lambda x, y, p, w, g: F.cross_entropy_backward(g, x, y, reduction="none"),
    "focal_loss": lambda x, y, p, w, g: F.focal_loss(x, y),
    "focal_loss_value_and_grad": lambda x, y, p, w, g: F.focal_loss_value_and_grad(x, y, w, gamma=1.5),
    "distillation_loss": lambda x, y, p, w, g: F.distillation_loss(x, p),
    "distillation_loss_value_and_grad": lambda x, y, p, w, g: F.distillation_loss_value_and_grad(x, p, temperature=2.0, sample_weight=g),
    "cross_entropy_stats": lambda x, y, p, w, g: F.cross_entropy_stats(x, y, ignore_index=3),
    "cross_entropy_stats without a target": lambda x, y, p, w, g: F.cross_entropy_stats(x),
    "cross_entropy_hvp": lambda x, y, p, w, g: F.cross_entropy_hvp(x, x, y),
    "cross_entropy_hvp smoothing": lambda x, y, p, w, g: F.cross_entropy_hvp(x, x, y, w, label_smoothing=0.1, sample_weight=g),
    "cross_entropy_hvp in place": lambda x, y, p, w, g: F.cross_entropy_hvp(x, x, y, lse_square_scale=1e-4, out=x),
    "cross_entropy_hvp softcap in place": lambda x, y, p, w, g: F.cross_entropy_hvp(x, x, y, softcap=30.0, out=x),
    "cross_entropy_hessian_diag logit_scale": lambda x, y, p, w, g: F.cross_entropy_hessian_diag(x, p, w, logit_scale=0.5),
    "cross_entropy_hessian_diag": lambda x, y, p, w, g: F.cross_entropy_hessian_diag(x, y, grad_output=2.0),
    "cross_entropy_hessian_diag probabilities": lambda x, y, p, w, g: F.cross_entropy_hessian_diag(x, p, w, label_smoothing=0.1),
    "nll_loss": lambda x, y, p, w, g: F.nll_loss(x, y),
    "nll_loss probabilities": lambda x, y, p, w, g: F.nll_loss(x, p),
    "nll_loss_backward": lambda x, y, p, w, g: F.nll_loss_backward(1.0, x, y),
    "nll_loss_backward probabilities sample_weight": lambda x, y, p, w, g: F.nll_loss_backward(1.0, x, p, sample_weight=g),
    "nll_loss_backward probabilities": lambda x, y, p, w, g: F.nll_loss_backward(1.0, x, p),
}

SHAPES = {
    "rows": (ROWS, CLASSES),
    "long rows": (64, 131072),
    "short rows": (65536, 10),
    "images": (4, 21, 64, 64),
    "many": (4, 150, 16, 16),
}
