"""The arrays of the variants are what their names say."""

import numpy as np
import pytest

from nbloss.bench.variants import inputs, wanted


@pytest.mark.parametrize("cell", wanted.cells(shapes=["32x10"]), ids=" ".join)
def test_a_call_has_the_arrays_of_its_shape(cell):
    operation, variant, shape = cell
    call = inputs.of_variant(operation, variant, shape)
    assert call.logits.shape == (32, 10)
    if variant in wanted.VIEWS or "Fortran" in variant:
        assert not call.logits.flags.c_contiguous
    if call.target is not None:
        assert call.target.shape in ((32,), (32, 10))
    if operation == wanted.NLL:
        assert (call.logits <= 0).all(), "log-probabilities"


def test_dtypes_and_values():
    def call(variant, shape="32x10"):
        return inputs.of_variant(wanted.VALUE_AND_GRAD, variant, shape)

    assert call("uint8/16 target").target.dtype == np.uint8
    assert call("uint8/16 target", "2048x1000").target.dtype == np.uint16
    assert (call("all ignored").target == -100).all() and (call("30% ignored", "2048x1000").target == -100).mean() == pytest.approx(
        0.3, abs=0.05
    )
    assert call("prob target").target.sum(1) == pytest.approx(1, rel=1e-5)
    assert call("one-hot target").target.sum() == 32
    masked = call("masked -inf 20%")
    assert np.isinf(masked.logits).any() and (np.take_along_axis(masked.logits, masked.target[:, None], 1) == 1).all()
    plain = inputs.plain(wanted.VALUE_AND_GRAD, "32x10")
    raised = call("confident +25").logits - plain.logits
    assert raised.sum() == pytest.approx(25 * 32, rel=1e-4)


def test_the_shift_and_its_plain_call_have_the_same_labels(monkeypatch):
    monkeypatch.setattr(wanted, "TOKENS", "2x5x7")
    shifted, plain = (
        f(wanted.VALUE_AND_GRAD, *rest, "2x5x7") for f, rest in ((inputs.of_variant, ["next-token shift"]), (inputs.plain, []))
    )
    kept = plain.target != -100
    assert shifted.logits.shape == (2, 7, 4) and plain.logits.shape == (10, 7) and kept.sum() == 8
    assert (np.moveaxis(shifted.logits, 1, -1).reshape(-1, 7) == plain.logits[kept]).all()
    assert (shifted.target.ravel() == plain.target[kept]).all()
    assert shifted.out.shape == shifted.logits.shape and shifted.out.strides == shifted.logits.strides
