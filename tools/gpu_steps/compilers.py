"""Step 8: torch.compile and Triton, a process per shape, the largest shape first.

python -m gpu_steps.compilers [--shape NxC ...] [--dtype DTYPE ...] [--op OPERATION ...]
"""

from nbloss.bench.gpu import isolated

from . import bandwidth, records

LIMIT = 60.0  # s; of one process
LAST = 20.0  # s; before its limit a process begins its last race, so that it ends by itself
MARGIN = 3.0  # s; of the step's time, to stop the last process and write its lines


def main():
    options = bandwidth.parser(__doc__).parse_args()
    for text in options.shape:
        seconds = max(0.0, min(LIMIT, records.seconds_left() - MARGIN))
        shape = [int(n) for n in text.split("x")]
        spec = isolated.Spec(
            list(isolated.COMPILERS), list(options.op), shape, list(options.dtype),
            rounds=bandwidth.ROUNDS, seconds=max(0.0, seconds - LAST), compared=not records.dry_run(),
        )  # fmt: skip
        for record in isolated.records(spec, seconds):
            bandwidth.write(record)


if __name__ == "__main__":
    main()
