"""A message on stderr when compilations have taken two seconds, once per process.

``NBLOSS_QUIET=1`` suppresses it. Kernels that are loaded from disk do not count.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress

AFTER = 2.0  # seconds of compilation, of one kernel or of several
TEXT = "nbloss: compiling kernels for this processor, once per machine; `python -m nbloss warmup` does it beforehand"

_elapsed, _printed = 0.0, False


def _print_once():
    global _printed
    if not _printed and sys.stderr is not None:
        _printed = True
        print(TEXT, file=sys.stderr, flush=True)


@contextmanager
def compiling():
    """Count the time in this context as compilation."""
    global _elapsed
    if _printed or os.environ.get("NBLOSS_QUIET", "0") not in ("", "0"):
        yield
        return
    timer, start = threading.Timer(max(0.0, AFTER - _elapsed), _print_once), time.monotonic()
    timer.daemon = True
    with suppress(RuntimeError):  # no thread can start while the interpreter shuts down
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _elapsed += time.monotonic() - start
