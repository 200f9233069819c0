"""Step 3: how fast a copy and a read are, then nbloss and torch on each shape, a line per race.

python -m gpu_steps.bandwidth [--shape NxC ...] [--dtype DTYPE ...] [--op OPERATION ...]
"""

import argparse

from nbloss.bench.gpu import peers, races, report
from nbloss.bench.gpu.device import Clock

from . import records

ROUNDS = 9
MARGIN = 4.0  # s; what a race with its arrays may take
EAGER = ("nbloss", "torch")
PROBLEMS = ("4096x128256", "8192x32768", "32768x1024", "4096x50257", "16x21x512x512")
DTYPES = ("bfloat16", "float32")


def parser(about):
    """The options that choose races."""
    options = argparse.ArgumentParser(description=about.partition("\n")[0])
    options.add_argument("--shape", nargs="+", default=PROBLEMS)
    options.add_argument("--dtype", nargs="+", default=DTYPES)
    options.add_argument("--op", nargs="+", default=races.OPERATIONS)
    return options


def write(record):
    """The line of a race. It failed if a peer is wrong, and says nothing if no peer was timed."""
    shares = [f"{name} {100 * c['share']:.0f} % of copy" for name, c in record["contenders"].items() if "share" in c]
    bad = [f"{name}: {reason}" for name, c in record["contenders"].items() for key in ("wrong", "failed") if (reason := c.get(key))]
    absent = [f"{name}: {c['absent']}" for name, c in record["contenders"].items() if "absent" in c]
    status = records.FAILED if bad else records.MEASURED if shares else records.SKIPPED
    told = {"note": ", ".join(shares)} if status == records.MEASURED else {"reason": "; ".join(bad or absent)}
    records.write(report.title(record), status, **told, **{k: record[k] for k in ("bytes", "contenders")})
    print(report.race_table(record), flush=True)


def ceilings(clock):
    """The rate of a copy (bytes read and written), and of torch's sum, which only reads."""
    records.write("copy", records.MEASURED, bytes_per_second=clock.bandwidth, note=_rate(clock.bandwidth))
    try:
        torch = peers.torch_with_cuda()
    except NotImplementedError as reason:
        records.write("read", records.SKIPPED, reason=str(reason))
        return
    tensor = peers.as_torch(torch, clock.copied[0])
    seconds = min(clock.turn(tensor.sum, *clock.plan(tensor.sum))[0] for _ in range(ROUNDS))
    rate = clock.copied[0].nbytes / seconds
    records.write("read", records.MEASURED, bytes_per_second=rate, by="torch sum", note=_rate(rate))


def _rate(bytes_per_second):
    return f"{bytes_per_second / 1e9:.0f} GB/s"


def main():
    options = parser(__doc__).parse_args()
    clock = Clock("cuda")
    ceilings(clock)
    eager = {name: peers.PEERS[name] for name in EAGER}
    for text in options.shape:
        for dtype in options.dtype:
            if records.seconds_left() < MARGIN:
                records.write(f"{text} {dtype}", records.SKIPPED, reason="no time was left")
                continue
            problem = races.Repeated(tuple(map(int, text.split("x"))), dtype)
            arrays = clock.arrays(problem)
            for operation in options.op:
                write(races.race(operation, problem, arrays, eager, clock, ROUNDS, lambda: False, not records.dry_run()))


if __name__ == "__main__":
    main()
