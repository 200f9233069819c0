"""The command `python -m nbloss`.

Each command imports what it needs when it runs, so `python -m nbloss --help` and usage errors do not wait for Numba.
"""

import argparse
import os
import sys
from importlib import import_module

from nbloss.kernels.levels import LEVELS

OLDEST_CAPABILITY = (7, 5)  # of NVIDIA's compilers for CUDA 13

DTYPES = ("float32", "float64", "float16", "bfloat16")


def whole_number(low, high):
    """A function that reads an int from `low` to `high`. argparse turns its error into a usage error."""

    def read(text):
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"should be a whole number from {low} to {high}; got {text!r}")
        return number

    return read


def logits_shape(text):
    """``((N, C, ...), whether transposed)`` of "65536x10", "8x21x512x512" or "4096x1000.T". argparse turns the error into a usage error."""
    sizes = text.removesuffix(".T").split("x")
    transposed = text.endswith(".T")
    good = all(size.isascii() and size.isdecimal() and 0 < int(size) < 2**40 for size in sizes)
    if not good or len(sizes) < 2 or (transposed and len(sizes) > 2):
        raise argparse.ArgumentTypeError(f"should be sizes N x C x ..., such as 65536x10, 8x21x512x512 or 4096x1000.T; got {text!r}")
    return tuple(map(int, sizes)), transposed


def build_parser():
    """The parser of all commands."""
    parser = argparse.ArgumentParser("python -m nbloss", description="Cross-entropy losses for NumPy, by Numba.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name, does):
        """A command. Its own help and the list of commands describe it with the same words."""
        return commands.add_parser(name, help=does, description=does[0].upper() + does[1:] + ".")

    info = command("info", "show versions, CPU, threads and compiled kernels for a bug report, or the kernels that calls run")
    shape_help = "show which kernels calls on logits of this shape run, and why: 65536x10, 8x21x512x512; 4096x1000.T if transposed"
    info.add_argument("--kernels", type=logits_shape, metavar="SHAPE", help=shape_help)
    info.add_argument("--dtype", choices=DTYPES, default=DTYPES[0], metavar="DTYPE", help=f"of these logits (default: {DTYPES[0]})")
    demo = command("demo", "train a digit classifier in plain NumPy and draw how it went")
    demo.add_argument("--device", choices=["cpu", "cuda"], help="where the loss runs (default: NBLOSS_DEVICE or cpu)")
    count, seed = whole_number(1, 10**6), whole_number(0, 2**32 - 1)  # the range that scikit-learn's split takes
    demo.add_argument("--epochs", type=count, default=30, metavar="N", help="passes over the data (default: 30)")
    demo.add_argument("--out", default=".", metavar="DIR", help="folder of nbloss-demo.png (default: this one)")
    demo.add_argument("--seed", type=seed, default=0, help="of the split, the weights and the batches (default: 0)")
    evaluate = command("evaluate", "evaluate logits in files: loss, perplexity, accuracy, entropy and calibration")
    evaluate.add_argument("logits", nargs="?", metavar="LOGITS", help="a .npy or .safetensors file of shape (..., C), of any size")
    evaluate.add_argument("targets", nargs="?", metavar="TARGETS", help="a .npy file of class numbers")
    evaluate.add_argument("--ignore-index", type=int, default=-100, metavar="I", help="rows with this target do not count (default: -100)")
    many = whole_number(1, 2**31 - 1)
    evaluate.add_argument("--top-k", type=many, nargs="+", default=[1, 5], metavar="K", help="of the accuracies (default: 1 5)")
    evaluate.add_argument("--bins", type=whole_number(1, 10**6), default=15, metavar="N", help="of the confidence (default: 15)")
    evaluate.add_argument("--key", metavar="NAME", help="the tensor of a .safetensors file that has several")
    evaluate.add_argument("--json", metavar="FILE", help="write the results there")
    evaluate.add_argument("--png", metavar="FILE", help="draw a reliability diagram there; needs matplotlib")
    evaluate.add_argument("--demo", action="store_true", help="write an example into this folder and evaluate it")
    warmup = command("warmup", "compile the usual kernels into the cache, so that no call waits for a compilation")
    shown = f"of the logits: any of {', '.join(DTYPES)} (default: float32 float64)"
    warmup.add_argument("--dtypes", nargs="+", choices=DTYPES, default=DTYPES[:2], metavar="DTYPE", help=shown)
    warmup.add_argument("--jobs", type=whole_number(1, 1024), metavar="N", help="processes that compile (default: one per thread)")
    warmup.add_argument("--check", action="store_true", help="compile nothing; name what is missing, with exit status 1")
    warmup.add_argument("--level", choices=LEVELS, help="compile for every processor of this level instead of for this machine's")
    warmup.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="compile the kernels of the CPU, or those of GPUs")
    shown = "with --device cuda: the compute capabilities of the GPUs, such as 9.0; no GPU is needed (default: those of this machine)"
    warmup.add_argument("--capability", nargs="+", type=capability, metavar="X.Y", help=shown)
    shown = "with --device cuda: the shapes of the logits, NxC or NxCxHxW (default: a list of common ones)"
    warmup.add_argument("--shapes", nargs="+", type=logits_shape, metavar="NxC", help=shown)
    cache = command("cache", "show the compiled kernels on disk, or remove them")
    cache.add_argument("action", choices=["info", "clear"], help="info: what there is; clear: remove what is in the cache folder")
    # Only for the list of commands: `main` passes the arguments of `bench` on.
    commands.add_parser("bench", help="time the kernels against PyTorch, JAX and NumPy on this machine", add_help=False)
    return parser


def capability(text):
    """(9, 0) of "9.0"."""
    major, _, minor = text.partition(".")
    if not (major.isdecimal() and minor.isdecimal()) or (int(major), int(minor)) < OLDEST_CAPABILITY:
        raise argparse.ArgumentTypeError(f"should be a compute capability of 7.5 or newer, such as 9.0; got {text!r}")
    return int(major), int(minor)


def cache(action):
    """Print, or remove, the compiled kernels on disk."""
    from nbloss.kernels import disk

    if action == "info":
        from nbloss.kernels.cpu.compile.cache import describe

        for name, value in describe().items():
            print(f"{name:<10}{value}")
        return 0
    before, stuck = len(disk.kept()), disk.clear()
    print(f"removed {before - len(disk.kept())} files from {disk.cache_dir()}")
    for path in stuck:
        print(f"could not remove {path}", file=sys.stderr)
    return 1 if stuck else 0


def main(argv=None):
    """Run one command; returns the exit status."""
    argv = sys.argv[1:] if argv is None else argv
    parser = build_parser()
    # argparse cannot pass the options of a sub-command on, so it does not see those of `bench`.
    args = argparse.Namespace(command="bench") if argv[:1] == ["bench"] else parser.parse_args(argv)
    try:
        if args.command is None:
            parser.print_help()
            return 0
        if args.command == "cache":
            return cache(args.action)
        name = "warmup_cuda" if args.command == "warmup" and args.device == "cuda" else args.command
        name = "evaluate_command" if name == "evaluate" else name  # nbloss.evaluate is the function
        command = import_module(f"nbloss.{name}")
        return command.main(argv[1:] if args.command == "bench" else args)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("nbloss", "numba", "numpy"):
            raise  # every installation has these: the traceback shows the bug, or what is broken
        extra = f'pip install "nbloss[{args.command}]"'
        print(f"nbloss {args.command} needs the package {error.name}, which is not installed: {extra}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run():
    """`main` for the shell. If the reader of its output stops, as `head` does, the command ends without a message."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Python flushes stdout again at exit
        return 141  # the shell's exit status for SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(_run())
