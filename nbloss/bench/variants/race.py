"""Timing a variant, the plain call and torch in turns."""

import numpy as np

from ..measure.clock import Plan, quartiles
from ..measure.timing import interleaved
from ..problem import TOLERANCE
from ..session import cpus
from . import calls, inputs, wanted

PLAN, QUICK = Plan(rounds=5, pause=0.015, turn=0.02, budget=0.6), Plan(rounds=3, pause=0.015, turn=0.006, budget=0.3)

HALF_SUMS = 10  # how much further off sums in half precision may be


class Different(Exception):
    """torch's result is not nbloss's, so their times must not be compared."""


def measure(operation, variant, shape, plan=PLAN, tell=lambda text: None, with_torch=True):
    """The record of one variant on one shape, for JSON.

    ``contenders`` has "nbloss" (the variant), "plain" (nbloss's plain call) and "torch" (the variant by torch) as in `measure.timing.race`:
    "seconds" with quartiles, or the reason why there are none. ``ratio`` is the variant's time over the plain call's (the median of the
    rounds), ``low`` and ``high`` are its quartiles, and ``to_torch`` is torch's time over the variant's (above 1 where nbloss is faster).
    They are None without the times.
    """
    name = f"{operation} {variant} {shape}"
    tell(f"{name}: checking")
    contenders, runs, dtype = {}, {}, None
    try:
        call = inputs.of_variant(operation, variant, shape)
        dtype = call.logits.dtype.name
        runs["nbloss"] = calls.nbloss(operation, call)
        runs["plain"] = calls.nbloss(operation, inputs.plain(operation, shape))
        if not with_torch:
            raise NotImplementedError("left out")
        runs["torch"] = calls.torch(operation, call)
        _compare(runs["nbloss"](), runs["torch"](), runs["plain"](), dtype)
    except Exception as error:
        kind = "absent" if isinstance(error, NotImplementedError) else "wrong" if isinstance(error, Different) else "failed"
        missing = "nbloss" if "plain" not in runs else "torch"
        runs.pop(missing, None)
        contenders[missing] = {kind: str(error) if kind != "failed" else f"{type(error).__name__}: {error}"}
    low = ratio = high = to_torch = None
    if "nbloss" in runs:
        found, turns = interleaved(runs, plan, tell=lambda text: tell(f"{name}: {text}"))
        contenders |= found
        low, ratio, high = _ratio(turns["nbloss"], turns["plain"])
        to_torch = _ratio(turns["torch"], turns["nbloss"])[1] if "torch" in turns else None
    return {
        "operation": operation,
        "variant": variant,
        "shape": shape,
        "dtype": dtype,
        "threads": cpus(),
        "limit": wanted.limit(operation, variant, shape),
        "ratio": ratio,
        "low": low,
        "high": high,
        "to_torch": to_torch,
        "rounds": plan.rounds,
        "contenders": contenders,
    }


def _ratio(these, those):
    """(lower quartile, median, upper quartile) of the ratio over the rounds in which both had a turn: both see the same minute."""
    return quartiles([one / other for one, other in zip(these, those, strict=True) if one and other])


def _compare(ours, theirs, plain, dtype):
    """Raise `Different` unless two results are those of one computation, whatever rounding does. nan and inf stand where they stand.

    The error is relative to the largest number of the result and of the plain call's: torch loses the digits of confident rows. It also
    adds half types in half precision, which loses digits; where its float16 loss overflows, its gradient is lost as well. That takes the
    same time, so it is no other computation.
    """
    tuples = [result if isinstance(result, tuple) else (result,) for result in (ours, theirs, plain)]
    for mine, other, usual in zip(*tuples, strict=True):
        mine, other = np.asarray(mine).astype(np.float64), other.detach().double().numpy()
        finite = np.isfinite(mine) & np.isfinite(other)
        if dtype == "float16" and (np.isfinite(mine) & ~finite).any():
            return
        if not (finite | (np.isnan(mine) & np.isnan(other)) | (mine == other)).all():
            raise Different("its result is nan or inf where nbloss's is not, or the reverse")
        scale = max(np.abs(mine[finite]).max(initial=0), np.nanmax(np.abs(usual)), np.finfo(np.float64).tiny)
        error = np.abs(mine[finite] - other[finite]).max(initial=0) / scale
        if error > TOLERANCE[dtype] * (HALF_SUMS if dtype in ("float16", "bfloat16") else 1):
            raise Different(f"its result differs from nbloss's by {error:.1e} of the largest value")
