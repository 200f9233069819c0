"""What the commands `bench` and `bench scaling` have in common: their options, and a run that Ctrl-C does not lose."""

import argparse
import os
from contextlib import contextmanager

from nbloss.progress import Progress

from . import files, machine
from .peers import cpus
from .report import title


class BadArguments(Exception):
    """What is wrong with the command line, in one line."""


class Parser(argparse.ArgumentParser):
    """A parser of one command, which raises what it has against the arguments."""

    def __init__(self, name, description, epilog=None):
        super().__init__(prog=f"python -m nbloss {name}", description=description, epilog=epilog, allow_abbrev=False)
        self.add_argument("--threads", type=int, metavar="N", help="let everybody use N processors (default: all)")
        self.add_argument("--quick", action="store_true", help="a look, not a result: less of everything, in short rounds")
        self.add_argument("--json", metavar="FILE", help="write every number, with the machine and the versions")
        self.add_argument("--png", metavar="FILE", help="draw them (needs matplotlib)")
        self.add_argument("--from", nargs="+", metavar="FILE", dest="earlier", help="measure nothing: take the numbers of --json files")

    def error(self, message):
        raise BadArguments(message)


def writable(*paths):
    """Refuse now what would otherwise be refused after minutes of measuring."""
    for path in filter(None, paths):
        folder = os.path.dirname(path) or "."
        if os.path.isdir(path) or not os.path.isdir(folder) or not os.access(folder, os.W_OK):
            raise BadArguments(f"cannot write {path}")


@contextmanager
def processors(n):
    """Let this process, and with it every library that starts its threads from now on, use n processors only."""
    if n is None:
        yield
        return
    if not hasattr(os, "sched_setaffinity"):
        raise BadArguments("--threads needs a system with processor affinity, as Linux has")
    if not 1 <= n <= cpus():
        raise BadArguments(f"--threads should be from 1 to {cpus()}; got {n}")
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:n])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def measured(jobs, show, options):
    """(records, facts, exit status) of jobs, or of earlier files if the options say so; Ctrl-C ends with what there is.

    A job takes a function to tell its progress to and returns a record; `show(record)` is what is printed after each.
    """
    status = 0
    if options.earlier:
        records, facts = files.read(options.earlier)
        print(*map(show, records), sep="\n", flush=True)
        if options.json:
            files.write(options.json, records, facts)
    else:
        records, facts, meter = [], {}, machine.BusyMeter()
        with Progress(len(jobs), "race") as progress:
            try:
                for job in jobs:
                    record = job(progress.note)
                    records.append(record)
                    facts = machine.facts() | {"others_cpus": meter.others()}
                    if options.json:  # after every race: nothing that ends the process loses the others
                        files.write(options.json, records, facts)
                    progress.say(show(record))
                    progress.step(title(record, " "))
            except KeyboardInterrupt:
                status = 130
    bad = any({"wrong", "failed"} & set(c) for record in records for c in record["contenders"].values())
    return records, facts, status or int(bad)
