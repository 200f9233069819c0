"""The command `python -m nbloss`.

Every import below a command is lazy: `python -m nbloss --help` and a mistyped option answer at once, without Numba.
"""

import argparse
import os
import platform
import sys
from importlib import import_module, metadata

from nbloss.kernels.levels import LEVELS

# The instruction sets that decide how wide the CPU kernels run, in LLVM's names, best first.
CPU_FEATURES = ("avx512fp16", "avx512bf16", "avx512f", "avx2", "fma", "f16c", "sve2", "sve", "neon")


def whole_number(low, high):
    """The reader of an option that takes an int from `low` to `high`; argparse makes its refusal a usage error."""

    def read(text):
        try:
            number = int(text)
        except ValueError:
            number = low - 1
        if not low <= number <= high:
            raise argparse.ArgumentTypeError(f"should be a whole number from {low} to {high}; got {text!r}")
        return number

    return read


def build_parser():
    """The parser; the description of each command is the one that `--help` shows."""
    parser = argparse.ArgumentParser("python -m nbloss", description="Cross-entropy losses for NumPy, by Numba.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def command(name, does):
        """A command whose own help begins with what it does, as the list of commands has it."""
        return commands.add_parser(name, help=does, description=does[0].upper() + does[1:] + ".")

    command("info", "show versions, CPU, threads and compiled kernels: paste this into a bug report")
    demo = command("demo", "train a digit classifier in plain NumPy and draw how it went")
    demo.add_argument("--device", choices=["cpu", "cuda"], help="where the loss runs (default: NBLOSS_DEVICE or cpu)")
    count, seed = whole_number(1, 10**6), whole_number(0, 2**32 - 1)  # the range that scikit-learn's split takes
    demo.add_argument("--epochs", type=count, default=30, metavar="N", help="passes over the data (default: 30)")
    demo.add_argument("--out", default=".", metavar="DIR", help="folder of nbloss-demo.png (default: this one)")
    demo.add_argument("--seed", type=seed, default=0, help="of the split, the weights and the batches (default: 0)")
    warmup = command("warmup", "compile the usual kernels into the cache, before anybody waits for them")
    dtypes = ("float32", "float64", "float16", "bfloat16")
    shown = f"of the logits: any of {', '.join(dtypes)} (default: float32 float64)"
    warmup.add_argument("--dtypes", nargs="+", choices=dtypes, default=dtypes[:2], metavar="DTYPE", help=shown)
    warmup.add_argument("--jobs", type=whole_number(1, 1024), metavar="N", help="processes that compile (default: one per thread)")
    warmup.add_argument("--check", action="store_true", help="compile nothing; name what is missing, with exit status 1")
    warmup.add_argument("--level", choices=LEVELS, help="compile for every processor of this level instead of for this machine's")
    cache = command("cache", "show the compiled kernels on disk, or remove them")
    cache.add_argument("action", choices=["info", "clear"], help="info: what there is; clear: remove what is in the cache folder")
    # For the list of commands only: `main` hands the words after `bench` over unread.
    commands.add_parser("bench", help="time the kernels against PyTorch, JAX and NumPy on this machine", add_help=False)
    return parser


def version(package):
    """An optional package's version."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "not installed"


def info():
    """Print what a bug report needs."""
    from llvmlite import binding

    import nbloss
    from nbloss.backends import select
    from nbloss.bench.measure import machine
    from nbloss.kernels.cpu.compile import cache, threads

    features = binding.get_host_cpu_features()
    names = [name for name in CPU_FEATURES if features.get(name)]
    rows = {
        "nbloss": nbloss.__version__,
        **{name: metadata.version(name) for name in ("numpy", "numba", "llvmlite")},
        "python": f"{platform.python_version()} ({platform.python_implementation()}, {platform.platform()})",
        "cpu": f"{machine.processor()}, {os.cpu_count()} cores, {binding.get_host_cpu_name()} ({' '.join(names) or 'baseline'})",
        "threads": threads.describe(),
        "cache": "\n".join(f"{name}: {text}" for name, text in cache.describe().items()),
        **{name: version(name) for name in ("numba-cuda", "cuda-core", "nvidia-nvjitlink")},
        "gpus": "\n".join(select.gpus()),
    }
    for name, value in rows.items():
        print(f"{name:<17}" + str(value).replace("\n", "\n" + 17 * " "))
    return 0


def cache(action):
    """Print, or remove, what is kept on disk."""
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
    # argparse cannot pass `--options` of a sub-command through untouched, so `bench` is taken off before it looks.
    args = argparse.Namespace(command="bench") if argv[:1] == ["bench"] else parser.parse_args(argv)
    try:
        if args.command is None:
            parser.print_help()
            return 0
        if args.command == "info":
            return info()
        if args.command == "cache":
            return cache(args.action)
        command = import_module(f"nbloss.{args.command}")
        return command.main(argv[1:] if args.command == "bench" else args)
    except ModuleNotFoundError as error:
        if error.name.split(".")[0] in ("nbloss", "numba", "numpy"):
            raise  # these come with every installation: a bug or a broken one, and the traceback says which
        extra = f'pip install "nbloss[{args.command}]"'
        print(f"nbloss {args.command} needs the package {error.name}, which is not installed: {extra}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run():
    """`main` for the shell: whoever stops reading, as `head` does, ends the command without a word."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would try again at its end
        return 141  # what the shell gives for SIGPIPE
    return status


if __name__ == "__main__":
    sys.exit(_run())
