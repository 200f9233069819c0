"""Errors, streams, memory, and arrays of other libraries, on a real device."""

import numpy as np
import pytest

import nbloss
import nbloss.functional as F

pytestmark = pytest.mark.gpu


def problem(rng, rows=100000, classes=100):
    return rng.normal(0, 3, (rows, classes)).astype(np.float32), rng.integers(0, classes, rows)


@pytest.mark.parametrize("classes", [10, 1000, 128256])
def test_every_run_gives_the_same_bits(gpu, rng, classes):
    x, y = problem(rng, 2**24 // classes, classes)
    x, y = nbloss.to_device(x, gpu), nbloss.to_device(y, gpu)
    runs = [tuple(map(nbloss.to_host, F.cross_entropy_value_and_grad(x, y))) for _ in range(5)]
    for loss, gradient in runs[1:]:
        np.testing.assert_array_equal(loss, runs[0][0])
        np.testing.assert_array_equal(gradient, runs[0][1])


def test_a_bad_target_is_an_error_and_the_next_call_works(gpu, rng):
    x, y = problem(rng)
    good = F.cross_entropy(x, y, device=gpu)
    for wrong in (-1, 100, 2**40):
        bad = y.copy()
        bad[4321] = wrong
        with pytest.raises(IndexError, match=rf"got {wrong} at index \(4321,\)"):
            F.cross_entropy_value_and_grad(x, bad, device=gpu)
        assert F.cross_entropy(x, y, device=gpu) == good


def test_check_device_errors_raises_for_a_bad_target_on_the_device(gpu, rng):
    x, y = problem(rng)
    y[77] = 100
    loss = F.cross_entropy(nbloss.to_device(x, gpu), nbloss.to_device(y, gpu))
    assert np.isnan(nbloss.to_host(loss))
    with pytest.raises(IndexError, match="got 100 at index"):
        nbloss.check_device_errors()
    nbloss.check_device_errors()


def test_torch_tensors_use_the_stream_of_torch(torch, rng):
    x, y = problem(rng, 64, 1000)  # as the smoke step of tools/gpu_check: the same cubins
    expected = F.cross_entropy(x, y, device="cuda")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        t, target = torch.from_numpy(x).to("cuda", non_blocking=True), torch.from_numpy(y).cuda()
        torch.cuda._sleep(10**8)  # later work on the stream must wait for this and for the next line
        t += 1
        t -= 1
        loss, gradient = F.cross_entropy_value_and_grad(t, target)
    assert loss.is_cuda and gradient.is_cuda and gradient.shape == t.shape
    stream.synchronize()
    assert float(loss) == pytest.approx(float(expected), rel=1e-5)
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert F.log_softmax(t.to(dtype), 1).dtype == dtype


def test_a_torch_tensor_of_the_cpu_is_copied_like_a_numpy_array(torch, rng):
    """It has the protocols of GPU arrays, but its pointer is none of the device."""
    x, y = problem(rng, 64, 1000)
    loss = F.cross_entropy(torch.from_numpy(x).cuda(), torch.from_numpy(y))
    torch.cuda.synchronize()  # the context is still usable
    assert float(loss) == pytest.approx(float(F.cross_entropy(x, y, device="cuda")), rel=1e-6)


def test_torch_tensors_are_refused_as_on_the_cpu(torch):
    x = torch.zeros(2, 3, device="cuda")
    with pytest.raises(TypeError, match=r"^input should be a tensor outside autograd; .*: use input.detach\(\)"):
        F.cross_entropy(x.clone().requires_grad_(), [0, 1])
    with pytest.raises(TypeError, match=r"one with the negative bit set: use input.resolve_neg\(\)"):
        F.log_softmax(x.to(torch.complex64).conj().imag)
    with pytest.raises(TypeError, match=r"got int64: use target.to\(torch.float32\)"):
        F.cross_entropy(x, x.long())


@pytest.mark.parametrize("library", ["cupy", "numba"])
def test_arrays_of_other_libraries(gpu, rng, library):
    x, _ = problem(rng, 64, 1000)
    if library == "cupy":
        module = pytest.importorskip("cupy")
        to_device, to_host = module.asarray, module.asnumpy
    else:
        from numba import cuda

        to_device, to_host = cuda.to_device, lambda a: a.copy_to_host() if hasattr(a, "copy_to_host") else nbloss.to_host(a)
    result = F.log_softmax(to_device(x), 1)
    np.testing.assert_allclose(to_host(result), F.log_softmax(x, 1), rtol=1e-5, atol=1e-6)
    if library == "cupy":
        assert isinstance(result, module.ndarray)


def test_a_thousand_calls_leave_no_memory_allocated(gpu, rng):
    from cuda.bindings import driver

    x, y = problem(rng)
    x, y = nbloss.to_device(x, gpu), nbloss.to_device(y, gpu)
    free = []
    for _ in range(10):
        for _ in range(100):
            loss, _ = F.cross_entropy_value_and_grad(x, y)
        nbloss.to_host(loss)
        free.append(driver.cuMemGetInfo()[1])
    assert free[-1] == free[1]
