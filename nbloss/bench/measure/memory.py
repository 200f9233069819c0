"""The memory of one call of a contender of `bench --linear`, in a process of its own."""

import subprocess
import sys

CODE = """
import ctypes, gc, sys
from nbloss.bench.linear import PEERS, LinearRace

setup, p = PEERS[sys.argv[1]][sys.argv[2]], LinearRace.parse(sys.argv[3])
p.features, p.layer, p.target
setup(LinearRace.parse("64x8x32"))()  # loads the library and starts its threads

def resident(line):
    with open("/proc/self/status") as file:
        return next(1024 * int(text.split()[1]) for text in file if text.startswith(line))

def collect():
    gc.collect()
    getattr(ctypes.CDLL(None), "malloc_trim", int)(0)

collect()
before = resident("VmRSS:")
run = setup(p)
run()  # compiles
collect()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")  # the peak starts from here
result = run()
print(max(0, resident("VmHWM:") - before))
"""


def peak(operation, contender, shape):
    """The peak of the resident memory in a call, in bytes more than with the arrays alone; None where that cannot be measured.

    It includes the results, and what the library keeps between calls.
    """
    done = subprocess.run([sys.executable, "-c", CODE, operation, contender, shape], capture_output=True, text=True, check=False)
    return int(done.stdout) if done.returncode == 0 and done.stdout.strip().isdigit() else None


def add(record, tell=lambda text: None):
    """Add "memory" to every contender of a race that was timed, and was called."""
    for name, contender in record["contenders"].items():
        if "seconds" in contender and name != record["yardstick"]:
            tell(f"{record['operation']} {record['shape']}: memory of {name}")
            contender["memory"] = peak(record["operation"], name, record["shape"])
    return record
