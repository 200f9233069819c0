"""`python -m nbloss warmup --device cuda`: compiles the usual kernels for GPUs, also on a machine that has none.

As in `nbloss.warmup`, a list of public calls defines what is usual, and a dry run of them finds the kernels. The files are in the cache
folder and depend on no machine: the folder can be carried to one that has a GPU and no compiler.
"""

import sys

import numpy as np

import nbloss
from nbloss.backends.array_interop import numpy_dtype
from nbloss.warmup import GPU_CALLS, compile_all
from nbloss.warmup import SHAPES as COMMON_SHAPES

# Also vocabularies and images of the usual sizes: a kernel is compiled for how many numbers of a row a thread holds.
SHAPES = (
    *COMMON_SHAPES, (65536, 2), (65536, 100), (4096, 1000), (4096, 1024), (4096, 4096), (4096, 32000), (4096, 32768), (4096, 50257),
    (4096, 65536), (4096, 128256), (16, 21, 512, 512), (64, 10, 28, 28),
)  # fmt: skip

# A row takes a warp or a block by how many rows there are for a multiprocessor. Both are compiled: devices of a capability differ.
MULTIPROCESSORS = (16, 200)


def wanted(dtypes, shapes, capability):
    """The kernels of the usual calls on a device: arguments of `build.cubin` -> what needs them first."""
    from nbloss.kernels.cuda.runtime import launch, memory

    found = {}
    for multiprocessors in MULTIPROCESSORS:
        with launch.dry_run(capability, multiprocessors) as kernels:
            for dtype in dtypes:
                for shape in shapes:
                    x = memory.empty(shape, numpy_dtype(dtype), 0, None)
                    y = memory.empty(shape[:1] + shape[2:], np.int64, 0, None)
                    for name, call in GPU_CALLS.items():
                        call(x, y)
                        for kernel in kernels:
                            found.setdefault(kernel, f"{dtype} {name} {'x'.join(map(str, shape))}")
    return found


def _make(kernel):
    """Compile one kernel, in a worker process; returns the errors of the disk."""
    from nbloss.kernels import disk
    from nbloss.kernels.cuda.runtime import build

    build.cubin(*kernel)
    return list(disk.said)


def _capabilities(args):
    """The compute capabilities to compile for: those asked for, else those of the GPUs of this machine."""
    if args.capability:
        return list(dict.fromkeys(args.capability))
    from nbloss.backends import select
    from nbloss.kernels.cuda.runtime import devices

    try:
        select.checked_device("cuda")
    except nbloss.DeviceUnavailableError as error:
        print(f"nbloss warmup: {error}; or name a GPU's compute capability, such as --capability 9.0", file=sys.stderr)
        return []
    return sorted({devices.capability(index) for index in range(devices.count()[0])})


def main(args):
    """Run the command: `args.capability`, `args.dtypes`, `args.shapes`, `args.jobs`, `args.check`. Returns the exit status."""
    from nbloss.backends import select
    from nbloss.kernels import disk

    reason = select.missing_package()
    if reason is None and any(transposed for _, transposed in args.shapes or ()):
        reason = "--shapes takes no transposed shapes with --device cuda: such logits are copied"
    if reason:
        print(f"nbloss warmup: {reason}", file=sys.stderr)
        return 1
    capabilities = _capabilities(args)
    if not capabilities:
        return 1
    from nbloss.kernels.cuda.runtime import build

    shapes = [shape for shape, _ in args.shapes] if args.shapes else SHAPES
    kernels = {}
    for capability in capabilities:
        kernels |= wanted(dict.fromkeys(args.dtypes), shapes, capability)
    missing = {kernel: use for kernel, use in kernels.items() if build.find(*kernel) is None}
    errors = []
    if missing and not args.check:
        tasks = [(use, _make, kernel) for kernel, use in missing.items()]
        errors = compile_all(tasks, min(args.jobs or nbloss.get_num_threads(), len(missing)))
        if errors is None:
            return 1
        missing = {kernel: use for kernel, use in missing.items() if build.find(*kernel) is None}
    for text in [*errors, *disk.said]:
        print(f"nbloss warmup: {text}", file=sys.stderr)
    for kernel, use in missing.items():
        print(f"missing: {kernel[0].__qualname__} ({use})")
    names = ", ".join(f"{major}.{minor}" for major, minor in capabilities)
    print(f"{len(kernels) - len(missing)} of {len(kernels)} kernels for compute capability {names} are in {disk.cache_dir()}")
    return int(bool(missing))
