"""The lines of results.jsonl, which the runner and all programs of the steps append.

A line is one JSON object: the step, the check, its status, and what was found. It is one write to a file that is opened for appending, so
lines of several processes do not mix, and a process that is killed loses none that it wrote.
"""

import json
import os
import time

# the environment of a process of a step
RESULTS, STEP, PROCESS, DEADLINE, DRY_RUN = (f"GPU_CHECK_{name}" for name in ("RESULTS", "STEP", "PROCESS", "DEADLINE", "DRY_RUN"))

PASSED, FAILED, SKIPPED, MEASURED, NOT_COMPARED = "passed", "failed", "skipped", "measured", "not compared"
BEGAN, ENDED = "began", "ended"  # lines of the runner about a whole step


def dry_run():
    """Whether the driver computes nothing, so that no value may be compared."""
    return bool(os.environ.get(DRY_RUN))


def seconds_left():
    """What is left of the step's time; as much as anyone wants where a program runs by hand."""
    return float(os.environ.get(DEADLINE, "inf")) - time.time()


def write(check, status, **facts):
    """Append a line, and print it; without a runner it is only printed. The summary shows the fact ``note``."""
    line = {"step": os.environ.get(STEP), "process": os.environ.get(PROCESS), "check": check, "status": status, **facts}
    if dry_run():
        line["dry_run"] = True
    text = json.dumps(line)
    print(text, flush=True)
    if RESULTS in os.environ:
        append(os.environ[RESULTS], text)


def append(path, text):
    """Append a line with one write."""
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, text.encode() + b"\n")
    finally:
        os.close(file)


def read(path):
    """The lines of a file. One that a kill of the machine cut short is left out."""
    lines = []
    if os.path.exists(path):
        with open(path) as file:
            for text in file:
                try:
                    lines.append(json.loads(text))
                except ValueError:
                    continue
    return lines


def compared(check, right, **facts):
    """Write the outcome of a comparison, which says nothing if the driver computes nothing."""
    if dry_run():
        write(check, NOT_COMPARED, reason="the driver of a dry run computes nothing", **facts)
    else:
        write(check, PASSED if right else FAILED, **facts)
