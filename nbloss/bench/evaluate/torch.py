"""PyTorch: what an evaluation loop does with each batch, with its public functions."""

import torch
import torch.nn.functional as F

from ..peers.torch import tensor
from .problem import BINS, calibration_error

BATCH_BYTES = 2**24  # of float32 logits: 1 or 4 MiB take up to ten times as long, 64 MiB 0.8 to 1.4 times (busy, 2026-12-01)
TOPK_MIN_CLASSES = (
    4096  # below, comparisons with the target's logit take 0.7 of the time of `topk`; with 32000 classes 1.2 (busy, 2026-12-01)
)


def batches(p):
    x, y = tensor(p.logits), tensor(p.target)
    rows = max(1, BATCH_BYTES // (4 * p.shape[1]))

    @torch.inference_mode()
    def run():
        sums, bins = torch.zeros(4, dtype=torch.float64), torch.zeros(3, BINS, dtype=torch.float64)
        for logits, target in zip(x.split(rows), y.split(rows), strict=True):
            log_p = F.log_softmax(logits.float(), 1)
            loss = F.nll_loss(log_p, target, reduction="sum")
            if p.shape[1] < TOPK_MIN_CLASSES:
                rank = (log_p > log_p.gather(1, target[:, None])).sum(1)
                right_of = [(rank < k).sum() for k in (1, 5)]
            else:
                best = log_p.topk(5, 1).indices == target[:, None]
                right_of = [best[:, 0].sum(), best.sum()]
            prob = log_p.exp()
            confidence, first = prob.max(1)
            entropy = -(prob * log_p).sum(1)
            sums += torch.stack([loss, entropy.sum(), *right_of])
            index = (confidence * BINS).ceil().long() - 1
            right = (first == target).double()
            bins += torch.stack([torch.bincount(index, v, BINS) for v in (torch.ones_like(right), confidence.double(), right)])
        return *(sums / p.rows), calibration_error(*bins.numpy())

    return run
