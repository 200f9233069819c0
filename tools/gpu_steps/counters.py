"""Step 4: what Nsight Compute counts in the kernels of one call: share of the memory's peak, of the issue slots, and why warps wait.

python -m gpu_steps.counters [OPERATION:SHAPE:DTYPE ...]
"""

import csv
import io
import re
import shutil
import subprocess
import sys

from . import records

CALLS = (
    "cross_entropy_value_and_grad:4096x128256:bfloat16",
    "cross_entropy:8192x32768:float32",
    "cross_entropy_value_and_grad:32768x1024:float32",
)
# Sections exist on every device, which single metrics do not; their metrics come along in the raw page.
SECTIONS = (
    "SpeedOfLight",
    "MemoryWorkloadAnalysis",
    "ComputeWorkloadAnalysis",
    "SchedulerStats",
    "WarpStateStats",
    "LaunchStats",
    "Occupancy",
)
TIME = "gpu__time_duration.sum"
NAMES = {  # in ncu -> in the line
    TIME: "ns",
    "gpu__dram_throughput.avg.pct_of_peak_sustained_elapsed": "dram_percent",
    "sm__inst_issued.avg.pct_of_peak_sustained_active": "issue_percent",
    "sm__warps_active.avg.pct_of_peak_sustained_active": "warps_percent",
    "dram__bytes.sum.per_second": "dram_bytes_per_second",
    "launch__registers_per_thread": "registers",
    "launch__grid_size": "blocks",
    "launch__block_size": "threads",
}
STALL = re.compile(r"smsp__average_warps_issue_stalled_(\w+?)_per_issue_active\.ratio")
NANOSECONDS = {"ns": 1, "nsecond": 1, "us": 1e3, "usecond": 1e3, "ms": 1e6, "msecond": 1e6}
STALLS = 4  # the largest ones that are kept
DENIED = "ERR_NVGPUCTRPERM"  # the driver lets only the administrator read the counters


def kernels(text):
    """What ncu counted for each kernel, from its CSV with a column per metric; the longest kernel first. The log has all of it."""
    lines = text.splitlines()
    start = next((k for k, line in enumerate(lines) if line.startswith('"ID"')), len(lines))
    table = list(csv.DictReader(io.StringIO("\n".join(lines[start:]))))
    if not table:
        return []
    units, *rows = table  # the line below the names has the units
    found = [_facts(row, NANOSECONDS.get(units.get(TIME), 1)) for row in rows if row.get(TIME)]
    return sorted(found, key=lambda facts: -facts["ns"])


def _facts(row, unit):
    numbers = {name: float(value.replace(",", "")) for name, value in row.items() if re.fullmatch(r"[\d.,]+", value or "")}
    facts = {short: numbers[name] for name, short in NAMES.items() if name in numbers}
    stalls = {match[1]: value for name, value in numbers.items() if (match := STALL.match(name))}
    largest = sorted(stalls, key=lambda name: -stalls[name])[:STALLS]
    return {"kernel": row["Kernel Name"][:120], **facts, "ns": facts["ns"] * unit, "stalls": {name: stalls[name] for name in largest}}


def profile(call):
    """Profile one call and write the lines of its kernels."""
    program = [sys.executable, "-m", "gpu_steps.profiled", *call.split(":")]
    if records.dry_run() or not shutil.which("ncu"):
        if records.dry_run():  # the program is run at least
            subprocess.run(program, check=True)
        records.write(call, records.SKIPPED, reason="a dry run has no counters" if records.dry_run() else "ncu is not installed")
        return
    options = ["--clock-control", "none", "--profile-from-start", "off", "--csv", "--page", "raw", "--print-units", "base"]
    options += [word for section in SECTIONS for word in ("--section", section)]
    done = subprocess.run(["ncu", *options, *program], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    print(done.stdout, flush=True)
    if DENIED in done.stdout:
        records.write(call, records.SKIPPED, reason=f"this user may not read the counters ({DENIED})")
        return
    found = kernels(done.stdout)
    if done.returncode or not found:
        records.write(call, records.FAILED, reason=f"ncu ended with {done.returncode} and {len(found)} kernels")
    for facts in found:
        records.write(call, records.MEASURED, **facts)
    if found:
        longest = found[0]
        stall = next(iter(longest["stalls"]), "nothing")
        note = f"DRAM {longest.get('dram_percent')} %, issue {longest.get('issue_percent')} %, waits most for {stall}"
        records.write(f"{call}, longest kernel", records.MEASURED, note=note)


if __name__ == "__main__":
    for named in sys.argv[1:] or CALLS:
        profile(named)
