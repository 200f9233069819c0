"""The points of `python -m nbloss bench scaling`."""

import pytest
from records import record

from nbloss.bench.measure import scaling
from nbloss.bench.session import cpus


def test_the_sweeps_cover_two_to_a_quarter_of_a_million_classes():
    points = scaling.sweeps(quick=False)
    classes = [shape for sweep, shape, _ in points if sweep == "classes"]
    assert [c for _, c in classes] == [2**k for k in range(1, 19)]
    assert {n * c for n, c in classes} == {scaling.SIZE}
    rows = [n for sweep, (n, _), _ in points if sweep == "rows of 1000 classes"]
    assert rows[0] == 1 and rows[-1] * 1000 > scaling.SIZE / 4 and rows == sorted(rows)
    assert {t for _, _, t in points} == set(range(1, cpus() + 1))


def test_a_point_is_nanoseconds_per_logit():
    one = record(nbloss=35e-9, read=1e-9) | {"sweep": "classes"}
    one["contenders"]["jax"] = {"absent": "not installed"}
    assert scaling.per_number(one, "nbloss") == pytest.approx(1.0)
    assert scaling.per_number(one, "jax") is None
