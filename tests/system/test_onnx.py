"""The node tests that ONNX ships for its backends: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss, LogSoftmax."""

import importlib

import numpy as np
import pytest

import nbloss
import nbloss.functional as F

onnx = pytest.importorskip("onnx", reason="the ONNX node tests are in the onnx package")
from onnx.backend.test.case import node as onnx_nodes  # noqa: E402

OPERATORS = {  # and the modules of ONNX that hold their cases
    "NegativeLogLikelihoodLoss": "negativeloglikelihoodloss",
    "SoftmaxCrossEntropyLoss": "softmax_cross_entropy_loss",
    "LogSoftmax": "logsoftmax",
}


@pytest.fixture(scope="module")
def loaded():
    """Name -> test case of one node of ours; the ``_expanded`` ones write the same nodes with other operators."""
    with np.errstate(all="ignore"):
        for module in OPERATORS.values():  # which files its cases when it is imported; the cases of all operators take a minute
            importlib.import_module(f"onnx.backend.test.case.node.{module}")
    tests = [t for t in onnx_nodes._NodeTestCases if len(t.model.graph.node) == 1]
    return {t.name: t for t in tests if t.model.graph.node[0].op_type in OPERATORS}


def names():
    """The cases by name, known when pytest collects: they are what ONNX 1.23 has, and `test_no_case_is_left_out` compares."""
    logs = "example_1 large_number axis_0 axis_1 axis_2 negative_axis default_axis"
    nll = (
        "NC NCd1d2 NCd1d2_reduction_mean NCd1d2_reduction_sum NCd1d2_with_weight NCd1d2_with_weight_reduction_mean "
        "NCd1d2_with_weight_reduction_sum NCd1d2_with_weight_reduction_sum_ii NCd1d2_no_weight_reduction_mean_ii NCd1 NCd1_weight "
        "NCd1_ii NCd1_weight_ii NCd1d2d3d4d5_mean_weight NCd1d2d3d4d5_none_no_weight NCd1_mean_weight_negative_ii "
        "NCd1d2d3_none_no_weight_negative_ii NCd1d2d3_sum_weight_high_ii"
    )
    sce = (
        "none none_weights sum mean mean_3d mean_weight mean_weight_ii mean_no_weight_ii mean_weight_ii_3d mean_no_weight_ii_3d "
        "mean_weight_ii_4d mean_no_weight_ii_4d NCd1d2d3d4d5_mean_weight NCd1d2d3d4d5_none_no_weight NCd1_mean_weight_negative_ii "
        "NCd1d2d3_none_no_weight_negative_ii NCd1d2d3_sum_weight_high_ii"
    )
    yield from (f"test_logsoftmax_{n}" for n in logs.split())
    yield from (f"test_nllloss_{n}" for n in nll.split())
    yield from (f"test_sce_{n}{output}" for n in sce.split() for output in ("", "_log_prob"))


def test_no_case_is_left_out(loaded):
    assert len(list(names())) == 7 + 18 + 34
    assert set(loaded) >= set(names())
    assert len(loaded) >= 59, "a newer ONNX may have more"


def options(node):
    """ONNX's attributes as ours: no ignore_index means none at all, here a number that is no class."""
    given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
    given["reduction"] = given.get("reduction", b"mean").decode()
    return given


def outputs(node, inputs):
    """What nbloss makes of the node, in the order of its outputs."""
    given = options(node)
    if node.op_type == "LogSoftmax":
        return [F.log_softmax(*inputs, given.get("axis", -1))]
    given.setdefault("ignore_index", -100)
    if node.op_type == "NegativeLogLikelihoodLoss":
        return [F.nll_loss(*inputs, **given)]
    return [F.cross_entropy(*inputs, **given), F.log_softmax(inputs[0], 1)]


def check(case):
    node = case.model.graph.node[0]
    assert len(case.data_sets) > 0
    for inputs, expected in case.data_sets:
        actual = outputs(node, inputs)[: len(node.output)]
        assert len(actual) == len(expected) == len(node.output)
        for a, e in zip(actual, expected, strict=True):
            assert np.shape(a) == np.shape(e)
            assert a.dtype == np.asarray(e).dtype
            # ONNX computes its expectations in float32, on logits of at most 3: a few ulp of the largest term on their side
            np.testing.assert_allclose(a, e, rtol=1e-5 if case.name != "test_logsoftmax_large_number" else 1e-4, atol=1e-6)


@pytest.mark.parametrize("name", list(names()))
def test_the_node_gives_what_onnx_expects(name, loaded):
    check(loaded[name])


def test_cases_of_a_newer_onnx_give_what_it_expects(loaded):
    for name in set(loaded) - set(names()):
        check(loaded[name])


@pytest.mark.parametrize("name", [n for n in names() if "logsoftmax" not in n])
def test_the_modules_give_what_the_functions_give(name, loaded):
    case = loaded[name]
    node = case.model.graph.node[0]
    given = options(node)
    loss = {"NegativeLogLikelihoodLoss": nbloss.NLLLoss, "SoftmaxCrossEntropyLoss": nbloss.CrossEntropyLoss}[node.op_type]
    for inputs, expected in case.data_sets:
        weight = inputs[2] if len(inputs) == 3 else None
        module = loss(weight, ignore_index=given.get("ignore_index", -100), reduction=given["reduction"])
        np.testing.assert_allclose(module(*inputs[:2]), expected[0], rtol=1e-5, atol=1e-6)
