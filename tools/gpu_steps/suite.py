"""Steps 6, 7 and 9: tests of tests/cuda_gpu, a line per test.

python -m gpu_steps.suite [-n PROCESSES] ARGUMENTS OF PYTEST ...
"""

import argparse
import os
import sys
from importlib.util import find_spec

from . import records

OPTIONS = ["-q", "-m", "gpu", "-p", "gpu_steps.pytest_records", "-p", "no:cacheprovider"]


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0], allow_abbrev=False)
    options.add_argument("-n", type=int, default=1)
    options, words = options.parse_known_args()
    if find_spec("pytest") is None:
        records.write("tests", records.SKIPPED, reason="pytest is not installed")
        return 0
    import pytest

    os.environ.pop("PYTEST_XDIST_WORKER", None)  # of a process of tests that started this one: here it is pytest_records that reads it
    spread = ["-n", str(options.n)] if options.n > 1 and find_spec("xdist") else []
    return int(pytest.main([*OPTIONS, *spread, *words]))


if __name__ == "__main__":
    sys.exit(main())
