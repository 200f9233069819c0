"""The peers on a GPU. PEERS[name](operation, arrays) returns a callable, or raises NotImplementedError with the reason."""

from itertools import cycle

import numpy as np

from nbloss import functional, to_host

from .device import Ring


class Run:
    """One peer on one operation. Each call uses the next arrays of the rotation and keeps its result alive for a while."""

    def __init__(self, call, arrays, host):
        self.call, self.host = call, host
        self.arrays, self.ring = cycle(arrays), Ring(len(arrays))

    def __call__(self):
        self.ring.keep(self.call(*next(self.arrays)))

    def checked(self, rows):
        """The results of a call as NumPy arrays. Of an array, the first and the last ``rows``."""
        results = self.call(*next(self.arrays))
        results = results if isinstance(results, tuple) else (results,)
        return [
            np.concatenate([self.host(r, slice(rows)), self.host(r, slice(-rows, None))]) if r.ndim else self.host(r, ()) for r in results
        ]


def nbloss(operation, arrays):
    calls = {
        "log_softmax": lambda x, y: functional.log_softmax(x, 1),
        "cross_entropy": functional.cross_entropy,
        "cross_entropy_value_and_grad": functional.cross_entropy_value_and_grad,
    }
    return Run(calls[operation], arrays, lambda result, part: to_host(result.seen(result.geometry[part])))


def torch_with_cuda():
    """torch, or NotImplementedError with the reason."""
    try:
        import torch
    except ImportError:
        raise NotImplementedError("torch is not installed") from None
    if not torch.cuda.is_available():
        raise NotImplementedError("this torch has no CUDA")
    return torch


def _tensors(torch, arrays):
    """torch tensors that share the memory."""
    return [(as_torch(torch, x), as_torch(torch, y)) for x, y in arrays]


def as_torch(torch, array):
    """A torch tensor of the memory of a `DeviceArray`. DLPack of NumPy dtypes has no bfloat16, so these travel as int16."""
    if array.dtype.name == "bfloat16":
        return torch.from_dlpack(array.view(np.int16)).view(torch.bfloat16)
    return torch.from_dlpack(array)


def _host(tensor, part):
    return tensor.detach()[part].float().cpu().numpy()


def _torch_calls(torch):
    F = torch.nn.functional

    def value_and_grad(x, y):
        x = x.detach().requires_grad_()
        loss = F.cross_entropy(x, y)
        return loss, torch.autograd.grad(loss, x)[0]

    return {
        "log_softmax": lambda x, y: F.log_softmax(x, 1),
        "cross_entropy": lambda x, y: F.cross_entropy(x, y),
        "cross_entropy_value_and_grad": value_and_grad,
    }


def torch_eager(operation, arrays):
    torch = torch_with_cuda()
    return Run(_torch_calls(torch)[operation], _tensors(torch, arrays), _host)


def torch_compile(operation, arrays):
    torch = torch_with_cuda()
    torch._dynamo.reset()  # otherwise torch compiles for any shape after the shapes of earlier races
    call = _torch_calls(torch)[operation]
    if operation == "cross_entropy_value_and_grad":
        loss_of = torch.compile(lambda x, y: torch.nn.functional.cross_entropy(x, y), dynamic=False)

        def call(x, y):
            x = x.detach().requires_grad_()
            loss = loss_of(x, y)
            return loss, torch.autograd.grad(loss, x)[0]
    else:
        call = torch.compile(call, dynamic=False)
    return Run(call, _tensors(torch, arrays), _host)


def triton(operation, arrays):
    torch = torch_with_cuda()
    if operation == "log_softmax" or len(arrays[0][0].shape) != 2:
        raise NotImplementedError("the Triton kernel is a cross entropy for (N, C)")
    try:
        from . import triton as kernels
    except ImportError:
        raise NotImplementedError("triton is not installed") from None
    return Run(getattr(kernels, operation), _tensors(torch, arrays), _host)


PEERS = {"nbloss": nbloss, "torch": torch_eager, "torch.compile": torch_compile, "triton": triton}
