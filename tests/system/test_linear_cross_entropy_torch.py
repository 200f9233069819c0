"""`linear_cross_entropy` against torch's own function, on torch's own samples."""

import numpy as np
import pytest

import nbloss.functional as F

torch = pytest.importorskip("torch")
if not hasattr(torch.nn.functional, "linear_cross_entropy"):
    pytest.skip("this torch has no linear_cross_entropy", allow_module_level=True)


def samples(dtype):
    common = pytest.importorskip("torch.testing._internal.common_methods_invocations")
    database = next(op for op in common.op_db if op.name == "nn.functional.linear_cross_entropy")
    torch.manual_seed(0)
    return list(database.sample_inputs("cpu", dtype, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_torchs_samples_give_torchs_results(dtype):
    limit = {"rtol": 2e-5, "atol": 2e-6} if dtype == torch.float32 else {"rtol": 1e-12, "atol": 1e-13}
    found = samples(dtype)
    assert len(found) > 50
    for sample in found:
        weight, target = sample.args
        options = {name: value for name, value in sample.kwargs.items() if name != "options"}
        loss = torch.nn.functional.linear_cross_entropy(sample.input, weight, target, **options)
        leaves = [sample.input, weight, *([options["linear_bias"]] if options.get("linear_bias") is not None else [])]
        wanted = torch.autograd.grad(loss.sum(), leaves)
        given = {name: value.detach().numpy() if torch.is_tensor(value) else value for name, value in options.items()}
        arrays = [a.detach().numpy() for a in (sample.input, weight, target)]
        for max_memory in (2**27, 1):
            result = F.linear_cross_entropy_value_and_grad(*arrays, **given, max_memory=max_memory)
            np.testing.assert_allclose(result.loss, loss.detach().numpy(), **limit)
            for got, want in zip([a for a in result[1:] if a is not None], wanted, strict=True):
                np.testing.assert_allclose(got, want.numpy(), **limit)


def test_chunked_torch_agrees():
    torch.manual_seed(1)
    x, w, y = torch.randn(40, 8, requires_grad=True), torch.randn(90, 8, requires_grad=True), torch.randint(0, 90, (40,))
    y[3] = -100
    options = torch.nn.LinearCrossEntropyOptions(batch_chunk_size=16)
    loss = torch.nn.functional.linear_cross_entropy(x, w, y, options=options)
    loss.backward()
    result = F.linear_cross_entropy_value_and_grad(x.detach().numpy(), w.detach().numpy(), y.numpy())
    np.testing.assert_allclose(result.loss, loss.detach().numpy(), rtol=1e-6)
    np.testing.assert_allclose(result.input, x.grad.numpy(), rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(result.linear_weight, w.grad.numpy(), rtol=1e-4, atol=1e-7)
