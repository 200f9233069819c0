"""Calls on torch tensors in a CUDA graph: captured once, replayed on new values."""

import numpy as np
import pytest

import nbloss.functional as F

pytestmark = pytest.mark.gpu

SHAPE = 64, 1000  # as the smoke step of tools/gpu_check: the same cubins


@pytest.mark.parametrize("options", [{}, {"label_smoothing": 0.1}], ids=["plain", "smoothing"])
@pytest.mark.parametrize("kind", ["class numbers", "probabilities"])
def test_a_captured_call_gives_the_results_of_new_logits(torch, rng, kind, options):
    values = [torch.from_numpy(rng.normal(0, 3, SHAPE).astype(np.float32)).cuda() for _ in range(2)]
    target = torch.from_numpy(rng.integers(0, SHAPE[1], SHAPE[0])).cuda()
    if kind == "probabilities":
        target = torch.full(SHAPE, 1 / SHAPE[1], device="cuda")
    expected = [F.cross_entropy_value_and_grad(x, target, **options) for x in values]
    x = values[0].clone()
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # before a capture, as torch asks for
        for _ in range(3):
            F.cross_entropy_value_and_grad(x, target, **options)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, gradient = F.cross_entropy_value_and_grad(x, target, **options)
    for new, (want_loss, want_gradient) in zip(values * 2, expected * 2, strict=True):
        x.copy_(new)
        graph.replay()
        torch.cuda.synchronize()
        assert torch.equal(loss, want_loss)
        assert torch.equal(gradient, want_gradient)
