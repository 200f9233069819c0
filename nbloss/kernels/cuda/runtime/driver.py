"""NVIDIA's driver: its functions, its errors, its handles of streams."""

from functools import cache
from typing import Any

LEGACY_STREAM, THREAD_STREAM = 1, 2  # the driver's handles of the legacy default stream and of each thread's default stream


@cache
def driver() -> Any:
    """NVIDIA's bindings of the CUDA driver API."""
    from cuda.bindings import driver

    return driver


def handle(stream):
    """The driver's handle of a stream. The legacy default stream has two: this is never 0."""
    return LEGACY_STREAM if stream is None else int(stream.handle) or LEGACY_STREAM


def checked(result):
    """What a function of the driver returned beside its error code; raises for an error."""
    code, *values = result
    if int(code):
        raise RuntimeError(f"the CUDA driver answered {code.name}")
    return values[0] if values else None
