"""The script behind docs/numerics.md: it runs, its page holds what it would print, and nbloss keeps its own rules in every cell."""

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpmath", reason="the errors are counted against mpmath")
pytest.importorskip("ml_dtypes", reason="the table has bfloat16")

ROOT = Path(__file__).parents[2]
spec = importlib.util.spec_from_file_location("numerics", ROOT / "tools" / "numerics.py")
numerics = importlib.util.module_from_spec(spec)
spec.loader.exec_module(numerics)


@pytest.fixture(scope="module")
def lines():
    """A small table: few rows, few classes."""
    return list(numerics.measure(3, 300))


def test_every_loss_and_log_probability_is_within_4_ulp(lines):
    texts = [(dtype, name, operation, numbers[0]) for dtype, name, operation, numbers, _ in lines if operation != "gradient"]
    assert len(texts) > 80
    assert [t for t in texts if float(t[3]) > 4] == []


def test_the_page_has_the_lines_that_the_script_makes(lines):
    page = (ROOT / "docs" / "numerics.md").read_text()
    told = re.findall(r"^\| (\w+) \| ([^|]+) \| (\w+) \| [*\d]", page, re.M)
    made = [(dtype, name.replace("300 classes", "20000 classes"), operation) for dtype, name, operation, *_ in lines]
    assert told == made


@pytest.fixture(scope="module")
def option_lines():
    return list(numerics.measure_options(3))


def test_every_option_keeps_its_bound(option_lines):
    options = numerics.OPTIONS
    bounded = [(*texts, ours) for *texts, ours, _ in option_lines if texts[-1] != "gradient" and options[texts[1]].bound]
    assert {line[1] for line in bounded} == {name for name, option in options.items() if option.bound}
    assert [line for line in bounded if not line[-1] <= options[line[1]].bound] == []
    assert [line for line in option_lines if not np.isfinite(line[-2])] == []


def test_the_options_of_the_page_are_those_of_the_script(option_lines):
    page = (ROOT / "docs" / "numerics.md").read_text().partition(numerics.BEGIN.format(", options"))[2].partition(numerics.END)[0]
    told = re.findall(r"^\| (float\d+) \| ([^|]+) \| ([^|]+) \| (\w+) \| [*\d]", page, re.M)
    assert told == [tuple(texts) for *texts, _, _ in option_lines]


def test_a_wrong_option_has_a_large_error(monkeypatch):
    right = numerics.OPTIONS["sample_weight"]
    wrong = right._replace(ours=lambda F, x, y, v: right.ours(F, x, y, 1.00001 * v))
    monkeypatch.setattr(numerics, "OPTIONS", {"sample_weight": wrong})
    assert all(ours > 20 for dtype, _, _, result, ours, _ in numerics.measure_options(3) if result == "loss")


def test_an_error_is_counted_in_units_in_the_last_place():
    wanted = numerics.pairs([numerics.mpmath.mpf(1), numerics.mpmath.mpf(2) ** -149, -numerics.mpmath.inf])
    assert numerics.worst(np.float32([1, 2.0**-149, -np.inf]), wanted, np.float32) == 0
    assert numerics.worst(np.float32([1 + 2.0**-22, 2.0**-149, -np.inf]), wanted, np.float32) == 2
    assert numerics.worst(np.float32([1, 0, -np.inf]), wanted, np.float32) == 1
    assert numerics.worst(np.float32([1, 2.0**-149, 0]), wanted, np.float32) == np.inf
    with numerics.mpmath.workdps(50):
        third = numerics.pairs([numerics.mpmath.mpf(1) / 3])
    assert 0.3 < numerics.worst(np.array([1 / 3]), third, np.float64) <= 0.5
