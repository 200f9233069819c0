"""Other kinds of calls over the commits: their time over the plain call's of the same shape, in turns in one process. Lower is better.

`python -m nbloss bench --variants` has all of them, and the limits that are wanted.
"""

from nbloss.bench.variants import wanted
from nbloss.bench.variants.race import PLAN, measure

KINDS = ["smoothing", "prob target", "bf16 prob", "weight", "30% ignored", "logits x30", "float64", "Fortran order", "x[:, :-7] view"]
SHAPES = ["16384x100", "2048x1000", wanted.SMALL]


class Variants:
    params = [KINDS, SHAPES]
    param_names = ["variant", "shape"]
    unit = "x"
    timeout = 120

    def track_over_plain(self, variant, shape):
        record = measure(wanted.VALUE_AND_GRAD, variant, shape, PLAN, with_torch=False)
        if record["ratio"] is None:
            raise NotImplementedError(str(record["contenders"]["nbloss"]))
        return record["ratio"]
