"""`python -m nbloss warmup --device cuda` compiles what calls launch, and cubins that are carried load where no compiler is installed."""

import numpy as np
import pytest

from nbloss import warmup, warmup_cuda
from nbloss.backends.array_interop import numpy_dtype


@pytest.mark.parametrize("shape", warmup_cuda.SHAPES, ids=lambda shape: "x".join(map(str, shape)))
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_dry_run_finds_every_kernel_that_calls_launch(dtype, shape, recorded, monkeypatch):
    from nbloss.kernels.cuda.runtime import build, memory

    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    memory.enter(0)
    launched, code = set(), build.cubin
    monkeypatch.setattr(build, "cubin", lambda *kernel: launched.add(kernel) or code(*kernel))
    x = memory.empty((min(shape[0], 8), *shape[1:]), numpy_dtype(dtype), 0, memory.stream())
    wide = memory.at(x.address, shape, None, x.dtype, 0, x)  # nothing runs, so an address is enough
    y = memory.empty(shape[:1] + shape[2:], np.int64, 0, memory.stream())
    monkeypatch.setattr(memory, "upload", lambda host, device, stream: memory.at(x.address, host.shape, None, host.dtype, 0, x))
    for call in warmup.GPU_CALLS.values():
        call(wide, y)
    assert launched
    assert launched <= set(warmup_cuda.wanted([dtype], [shape], (9, 0)))


@pytest.fixture
def no_compiler(monkeypatch):
    from nbloss.kernels.cuda.runtime import build

    monkeypatch.setattr(build, "_version", lambda package: "none" if package.startswith("nvidia") else "1.0")
    build._folders.cache_clear()
    yield
    build._folders.cache_clear()


KERNEL = (5, "float32", True, 1, False), ("*float32", "*float32", "int64", "int64"), (9, 0), 128


def test_carried_cubins_load_where_no_compiler_is_installed(driver, tmp_path, monkeypatch, request):
    from nbloss.kernels.cuda.channels_first import registers
    from nbloss.kernels.cuda.runtime import build

    monkeypatch.setenv("NBLOSS_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(build, "compile_kernel", lambda *kernel: b"a cubin")
    assert build.cubin(registers.log_softmax, *KERNEL) == b"a cubin"
    monkeypatch.setattr(build, "compile_kernel", lambda *kernel: pytest.fail("compiled"))
    request.getfixturevalue("no_compiler")
    assert build.cubin(registers.log_softmax, *KERNEL) == b"a cubin"
    with pytest.raises(RuntimeError, match=r"for compute capability 8\.0 is not in .* nvidia-nvvm, nvidia-nvjitlink is not inst"):
        build.cubin(registers.log_softmax, *KERNEL[:2], (8, 0), 128)


def test_cubins_of_another_compiler_are_compiled_again(tmp_path, monkeypatch):
    from nbloss.kernels.cuda.channels_first import registers
    from nbloss.kernels.cuda.runtime import build

    monkeypatch.setenv("NBLOSS_CACHE_DIR", str(tmp_path))
    for version in ("1.0", "2.0"):
        monkeypatch.setattr(build, "_version", lambda package, version=version: version)
        monkeypatch.setattr(build, "compile_kernel", lambda *kernel, version=version: version.encode())
        build._folders.cache_clear()
        assert build.cubin(registers.log_softmax, *KERNEL) == version.encode()
    build._folders.cache_clear()


def test_the_command_says_what_is_missing(capsys, tmp_path, monkeypatch):
    from nbloss import __main__

    monkeypatch.setenv("NBLOSS_CACHE_DIR", str(tmp_path))
    command = ["warmup", "--device", "cuda", "--capability", "9.0", "--shapes", "64x10", "--dtypes", "float32", "--check"]
    assert __main__.main(command) == 1
    shown = capsys.readouterr().out
    assert "missing: cross_entropy (float32 cross_entropy_value_and_grad 64x10)" in shown
    assert f"kernels for compute capability 9.0 are in {tmp_path}" in shown
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "status", "text"),
    [
        (["--capability", "6.1"], 2, "7.5 or newer, such as 9.0; got '6.1'"),
        (["--capability", "nine"], 2, "got 'nine'"),
        (["--capability", "9.0", "--shapes", "64x10.T"], 1, "takes no transposed shapes"),
    ],
)
def test_bad_options(options, status, text, capsys):
    from nbloss import __main__

    command = ["warmup", "--device", "cuda", *options]
    if status == 2:
        with pytest.raises(SystemExit, match="2"):
            __main__.main(command)
    else:
        assert __main__.main(command) == status
    assert text in capsys.readouterr().err


def test_capability_goes_with_the_gpu(capsys):
    from nbloss import __main__

    assert __main__.main(["warmup", "--capability", "9.0"]) == 2
    assert "go with --device cuda" in capsys.readouterr().err
