"""`NotLogProbabilitiesWarning`: nll_loss picked numbers above 0, as it does where its input is logits. Once per process, on the CPU."""

import subprocess
import sys
import warnings

import numpy as np
import pytest

import nbloss
import nbloss.functional as F

TEXT = (
    "nll_loss got positive numbers at the targets, which are no log-probabilities: if its input is logits, call cross_entropy, "
    "or nll_loss(log_softmax(input, 1), target)"
)
Y = np.array([1, 0, 1])


@pytest.fixture
def fresh(monkeypatch):
    """A process that has not warned yet."""
    monkeypatch.setattr("nbloss._warnings._warned", False)


def warned(call):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call()
    return [w for w in caught if w.category is nbloss.NotLogProbabilitiesWarning]


def inputs(value, dtype):
    """Two arrays whose targets have log-probability -1, but one of them ``value``: in C order, and with other strides."""
    x = np.full((3, 2), -1, dtype)
    x[2, 1] = value
    return x, np.asfortranarray(x), np.repeat(x, 2, axis=1)[:, ::2]


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("layout", [0, 1, 2])
def test_a_positive_number_at_a_target_warns(layout, dtype, reduction):
    found = warned(lambda: F.nll_loss(inputs(0.5, dtype)[layout], Y, reduction=reduction))
    assert [str(w.message) for w in found] == [TEXT]
    assert found[0].filename == __file__


@pytest.mark.usefixtures("fresh")
@pytest.mark.parametrize("value", [0.0, 1e-6, -3.0, -np.inf])
def test_log_probabilities_do_not_warn(value):
    for x in inputs(value, np.float32):
        for reduction in ("mean", "none"):
            assert not warned(lambda x=x, reduction=reduction: F.nll_loss(x, Y, reduction=reduction))


@pytest.mark.usefixtures("fresh")
def test_other_classes_and_ignored_rows_are_not_judged():
    x = np.array([[5, -1], [-1, 5], [5, -1], [7, 7]], np.float32)
    assert not warned(lambda: F.nll_loss(x, np.array([1, 0, 1, -100])))


@pytest.mark.usefixtures("fresh")
def test_large_and_k_dimensional_inputs_warn_too():
    for x, y in (
        (np.ones((300_000, 3), np.float32), np.zeros(300_000, int)),
        (np.ones((2, 3, 40, 50), np.float32), np.zeros((2, 40, 50), int)),
    ):
        nbloss._warnings._warned = False
        assert len(warned(lambda x=x, y=y: F.nll_loss(x, y))) == 1


@pytest.mark.usefixtures("fresh")
def test_rounding_of_half_precision_is_no_reason():
    assert not warned(lambda: F.nll_loss(np.full((3, 2), 0.01, np.float16), Y))


@pytest.mark.usefixtures("fresh")
def test_a_filter_turns_it_off_or_into_an_error():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("ignore", nbloss.NotLogProbabilitiesWarning)
        F.nll_loss(np.ones((3, 2)), Y)
    assert not caught
    nbloss._warnings._warned = False
    with warnings.catch_warnings():
        warnings.simplefilter("error", nbloss.NotLogProbabilitiesWarning)
        with pytest.raises(nbloss.NotLogProbabilitiesWarning, match="call cross_entropy"):
            F.nll_loss(np.ones((3, 2)), Y)


def test_it_comes_once_per_process():
    code = (
        "import numpy as np, nbloss.functional as F, warnings\n"
        "warnings.simplefilter('always')\n"
        "for _ in range(3):\n    F.nll_loss(np.ones((3, 2)), np.array([0, 1, 1]))\n"
        "F.nll_loss(np.ones((3, 2)), np.array([0, 1, 1]), reduction='none')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.count("NotLogProbabilitiesWarning") == 1, done.stderr


def test_it_is_a_user_warning_of_the_package():
    assert issubclass(nbloss.NotLogProbabilitiesWarning, UserWarning)
    assert "NotLogProbabilitiesWarning" in nbloss.__all__
