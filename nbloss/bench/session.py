"""What the commands `bench` and `bench scaling` share: options, argument errors and the processors to use."""

import argparse
import os
from contextlib import contextmanager


class BadArguments(Exception):
    """An error in the command line, described in one line."""


class Parser(argparse.ArgumentParser):
    """The parser of one command. It raises BadArguments instead of exiting."""

    def __init__(self, name, description, epilog=None):
        super().__init__(prog=f"python -m nbloss {name}", description=description, epilog=epilog, allow_abbrev=False)
        self.add_argument("--threads", type=int, metavar="N", help="use N processors (default: all)")
        self.add_argument("--quick", action="store_true", help="run fewer races in fewer, shorter rounds; the results are less reliable")
        self.add_argument("--json", metavar="FILE", help="write all results, the machine and the versions")
        self.add_argument("--png", metavar="FILE", help="draw the results (needs matplotlib)")
        self.add_argument("--from", nargs="+", metavar="FILE", dest="earlier", help="run nothing; read the results from --json files")

    def error(self, message):
        raise BadArguments(message)


def writable(*paths):
    """Raise BadArguments for a path that cannot be written. Called first, so that no long run ends with this error."""
    for path in filter(None, paths):
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise BadArguments(f"cannot write {path}")


def cpus():
    """The number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


@contextmanager
def processors(n):
    """Restrict this process to n processors. A library that starts its threads afterwards starts n of them."""
    if n is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise BadArguments("--threads needs a system with processor affinity, such as Linux")
    if not 1 <= n <= cpus():
        raise BadArguments(f"--threads should be from 1 to {cpus()}; got {n}")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)
