"""Steps 5 and 9: small shapes under one tool of NVIDIA's compute-sanitizer.

python -m gpu_steps.sanitizer TOOL [--shape NxC ...] [--dtype DTYPE ...]
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from . import records

PROGRAM = Path(__file__).parents[2] / "tests" / "cuda_gpu" / "sanitize.py"
SHAPES = ("70x3", "20x127", "9x1001", "3x20011", "2x128256", "2x21x7x9")  # 2x128256: a cluster for each row
FOUND = 86  # the exit status for errors that the tool found
TOOLS = {
    "memcheck": ["--track-stream-ordered-races", "all"],
    "racecheck": ["--racecheck-report", "analysis"],
    "synccheck": [],
}


def main():
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("tool", choices=TOOLS)
    options.add_argument("--shape", nargs="+", default=SHAPES)
    options.add_argument("--dtype", nargs="+", default=["float32"])
    options = options.parse_args()
    program = [sys.executable, str(PROGRAM), "--shape", *options.shape, "--dtype", *options.dtype]
    check = f"{options.tool} {' '.join(options.shape)}"
    if records.dry_run() or not shutil.which("compute-sanitizer"):
        if records.dry_run():  # the program is run at least
            subprocess.run(program, check=True)
        reason = "a dry run has no kernels to check" if records.dry_run() else "compute-sanitizer is not installed"
        records.write(check, records.SKIPPED, reason=reason)
        return 0
    words = ["compute-sanitizer", "--tool", options.tool, "--error-exitcode", str(FOUND), *TOOLS[options.tool], *program]
    said = []
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        for line in process.stdout:  # at once, so that a run that is stopped shows how far it came
            print(line, end="", flush=True)
            said += [line.strip()] if line.startswith("=========") else []
    status = records.FAILED if process.returncode else records.PASSED
    records.write(check, status, exit_status=process.returncode, errors_found=process.returncode == FOUND, summary=said[-3:])
    return process.returncode


if __name__ == "__main__":
    sys.exit(main())
