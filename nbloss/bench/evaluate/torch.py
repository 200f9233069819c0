"""PyTorch: what an evaluation loop does with each batch, with its public functions."""

import torch
import torch.nn.functional as F

from ..peers.torch import tensor
from .problem import BINS, calibration_error

BATCH_BYTES = 2**24  # of float32 logits, which a cache holds


def batches(p):
    x, y = tensor(p.logits), tensor(p.target)
    rows = max(1, BATCH_BYTES // (4 * p.shape[1]))

    @torch.inference_mode()
    def run():
        sums, bins = torch.zeros(4, dtype=torch.float64), torch.zeros(3, BINS, dtype=torch.float64)
        for logits, target in zip(x.split(rows), y.split(rows), strict=True):
            log_p = F.log_softmax(logits.float(), 1)
            loss = F.nll_loss(log_p, target, reduction="sum")
            best = log_p.topk(5, 1).indices == target[:, None]
            prob = log_p.exp()
            confidence, first = prob.max(1)
            entropy = -(prob * log_p).sum(1)
            sums += torch.stack([loss, entropy.sum(), best[:, 0].sum(), best.sum()])
            index = (confidence * BINS).ceil().long() - 1
            right = (first == target).double()
            bins += torch.stack([torch.bincount(index, v, BINS) for v in (torch.ones_like(right), confidence.double(), right)])
        return *(sums / p.rows), calibration_error(*bins.numpy())

    return run
