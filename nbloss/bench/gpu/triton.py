"""A typical Triton cross entropy: one program per row, maximum and sum in one online pass, the gradient in a second pass."""

import torch
import triton
import triton.language as tl


@triton.jit
def _row(x, y, loss, grad, classes, count, BLOCK: tl.constexpr, GRADIENT: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    x += row * classes
    target = tl.load(y + row)
    m = -float("inf")
    s = 0.0
    for start in range(0, classes, BLOCK):
        c = start + tl.arange(0, BLOCK)
        v = tl.load(x + c, mask=c < classes, other=-float("inf")).to(tl.float32)
        larger = tl.maximum(m, tl.max(v, 0))
        s = s * tl.exp(m - larger) + tl.sum(tl.exp(v - larger), 0)
        m = larger
    x_y = tl.load(x + target).to(tl.float32)
    tl.store(loss + row, tl.log(s) + (m - x_y))
    if GRADIENT:
        grad += row * classes
        for start in range(0, classes, BLOCK):
            c = start + tl.arange(0, BLOCK)
            v = tl.load(x + c, mask=c < classes, other=-float("inf")).to(tl.float32)
            p = tl.exp(v - m) / s - tl.where(c == target, 1.0, 0.0)
            tl.store(grad + c, p / count, mask=c < classes)


def _run(x, y, gradient):
    rows, classes = x.shape
    losses = torch.empty(rows, dtype=torch.float32, device=x.device)
    grad = torch.empty_like(x) if gradient else losses
    block = min(triton.next_power_of_2(classes), 32768 // x.element_size())
    warps = min(32, max(1, block // 256))
    _row[(rows,)](x, y, losses, grad, classes, rows, BLOCK=block, GRADIENT=gradient, num_warps=warps)
    return losses.mean(), grad


def cross_entropy(x, y):
    return _run(x, y, False)[0]


def cross_entropy_value_and_grad(x, y):
    return _run(x, y, True)
