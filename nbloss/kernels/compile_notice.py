"""A word on stderr where somebody waits for compilations: after two seconds of them, once per process.

``NBLOSS_QUIET=1`` leaves it out. Kernels that are found on disk never bring it about.
"""

import os
import sys
import threading
import time
from contextlib import contextmanager, suppress

AFTER = 2.0  # seconds of compilation, of one kernel or of several
TEXT = "nbloss: compiling kernels for this processor, once per machine; `python -m nbloss warmup` does it beforehand"

_waited, _said = 0.0, False


def _say():
    global _said
    if not _said and sys.stderr is not None:
        _said = True
        print(TEXT, file=sys.stderr, flush=True)


@contextmanager
def compiling():
    """Count what is done inside as compilation."""
    global _waited
    if _said or os.environ.get("NBLOSS_QUIET", "0") not in ("", "0"):
        yield
        return
    timer, start = threading.Timer(max(0.0, AFTER - _waited), _say), time.monotonic()
    timer.daemon = True
    with suppress(RuntimeError):  # no thread can be started when the interpreter ends
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
        _waited += time.monotonic() - start
