"""Importing is cheap, the public names are there, and every docstring tells the truth."""

import doctest
import inspect
import pickle
import re
import subprocess
import sys

import pytest

import nbloss
import nbloss.functional
import nbloss.modules
from nbloss._docstrings import documented

MODULES = ["LogSoftmax", "Softmax", "NLLLoss", "CrossEntropyLoss", "FocalLoss", "DistillationLoss", "LinearCrossEntropyLoss"]
FUNCTIONS = [
    "log_softmax", "log_softmax_backward", "softmax", "softmax_backward", "nll_loss", "nll_loss_backward",
    "cross_entropy", "cross_entropy_backward", "cross_entropy_value_and_grad", "cross_entropy_stats", "Stats",
    "cross_entropy_hvp", "cross_entropy_hessian_diag",
    "distillation_loss", "distillation_loss_backward", "distillation_loss_value_and_grad",
    "focal_loss", "focal_loss_backward", "focal_loss_value_and_grad",
    "linear_cross_entropy", "linear_cross_entropy_backward", "linear_cross_entropy_value_and_grad", "LinearGradients",
]  # fmt: skip
OTHERS = [
    "functional",
    "evaluate",
    "Evaluation",
    "DeviceUnavailableError",
    "set_default_device",
    "to_device",
    "to_host",
    "set_num_threads",
    "get_num_threads",
]
OF_LINEAR = (
    "linear_bias=None, weight=None, reduction='mean', ignore_index=None, label_smoothing=0.0, lse_square_scale=0.0, softcap=None, "
    "logit_scale=1.0, sample_weight=None, divisor=None, empty='nan', max_memory=134217728"
)
SIGNATURES = {
    "log_softmax": "input, dim=-1, *, dtype=None, out=None, device=None",
    "log_softmax_backward": "grad_output, output, dim=-1, *, out=None, device=None",
    "softmax": "input, dim=-1, *, dtype=None, out=None, device=None",
    "softmax_backward": "grad_output, output, dim=-1, *, out=None, device=None",
    "nll_loss": "input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', sample_weight=None, divisor=None, empty='nan', device=None",
    "nll_loss_backward": "grad_output, input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', sample_weight=None, divisor=None, empty='nan', out=None, device=None",
    "cross_entropy": "input, target, weight=None, *, ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, "
    "softcap=None, logit_scale=1.0, "
    "sample_weight=None, divisor=None, empty='nan', device=None",
    "cross_entropy_backward": "grad_output, input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, "
    "softcap=None, logit_scale=1.0, "
    "sample_weight=None, divisor=None, empty='nan', out=None, device=None",
    "cross_entropy_value_and_grad": "input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, "
    "softcap=None, logit_scale=1.0, "
    "sample_weight=None, divisor=None, empty='nan', grad_output=1.0, out=None, device=None",
    "cross_entropy_hvp": "v, input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, softcap=None, logit_scale=1.0, "
    "sample_weight=None, divisor=None, empty='nan', grad_output=1.0, out=None, device=None",
    "cross_entropy_hessian_diag": "input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, softcap=None, logit_scale=1.0, "
    "sample_weight=None, divisor=None, empty='nan', grad_output=1.0, out=None, device=None",
    "focal_loss": "input, target, weight=None, *, "
    "gamma=2.0, ignore_index=-100, reduction='mean', sample_weight=None, divisor=None, empty='nan', device=None",
    "focal_loss_backward": "grad_output, input, target, weight=None, *, "
    "gamma=2.0, ignore_index=-100, reduction='mean', sample_weight=None, divisor=None, empty='nan', out=None, device=None",
    "focal_loss_value_and_grad": "input, target, weight=None, *, "
    "gamma=2.0, ignore_index=-100, reduction='mean', sample_weight=None, divisor=None, empty='nan', grad_output=1.0, out=None, device=None",
    "cross_entropy_stats": "input, target=None, *, ignore_index=-100, device=None",
    "Stats": "lse, log_prob, argmax, correct, entropy",
    "distillation_loss": "input, teacher, *, temperature=1.0, sample_weight=None, divisor=None, reduction='mean', device=None",
    "distillation_loss_backward": "grad_output, input, teacher, *, "
    "temperature=1.0, sample_weight=None, divisor=None, reduction='mean', out=None, device=None",
    "distillation_loss_value_and_grad": "input, teacher, *, "
    "temperature=1.0, sample_weight=None, divisor=None, reduction='mean', grad_output=1.0, out=None, device=None",
    "DistillationLoss": "*, temperature=1.0, divisor=None, reduction='mean', device=None, reuse_grad=False",
    "linear_cross_entropy": f"input, linear_weight, target, *, {OF_LINEAR}, stats=None, device=None",
    "linear_cross_entropy_backward": f"grad_output, input, linear_weight, target, *, {OF_LINEAR}, "
    "wrt=('input', 'linear_weight', 'linear_bias'), out=None, accumulate=False, device=None",
    "linear_cross_entropy_value_and_grad": f"input, linear_weight, target, *, {OF_LINEAR}, stats=None, grad_output=1.0, "
    "wrt=('input', 'linear_weight', 'linear_bias'), out=None, accumulate=False, device=None",
    "LinearGradients": "loss, input, linear_weight, linear_bias",
    "LinearCrossEntropyLoss": "in_features, num_classes, *, out_features=(), bias=False, dtype=<class 'numpy.float32'>, rng=None, "
    "weight=None, reduction='mean', ignore_index=None, label_smoothing=0.0, lse_square_scale=0.0, softcap=None, logit_scale=1.0, "
    "divisor=None, empty='nan', max_memory=134217728, device=None",
    "LogSoftmax": "dim=-1, *, device=None, reuse_grad=False",
    "Softmax": "dim=-1, *, device=None, reuse_grad=False",
    "FocalLoss": "weight=None, *, gamma=2.0, ignore_index=-100, reduction='mean', divisor=None, empty='nan', device=None, reuse_grad=False",
    "NLLLoss": "weight=None, *, ignore_index=-100, reduction='mean', divisor=None, empty='nan', "
    "device=None, reuse_grad=False, size_average=None, reduce=None",
    "CrossEntropyLoss": "weight=None, *, ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, "
    "softcap=None, logit_scale=1.0, "
    "divisor=None, empty='nan', device=None, reuse_grad=False, size_average=None, reduce=None",
}


def loaded_after(code, names):
    """Which of these modules a fresh interpreter has loaded after running the code."""
    code += f"; import sys; print(*[m for m in {names!r} if m in sys.modules])"
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


HEAVY = ["numba", "llvmlite", "torch", "jax", "scipy", "cupy", "matplotlib"]


def test_importing_nbloss_does_not_import_numba():
    assert loaded_after("import nbloss", HEAVY) == []


def test_listing_the_names_does_not_import_numba_either():
    assert loaded_after("import nbloss; dir(nbloss); nbloss.__version__", HEAVY) == []


def test_the_check_above_can_fail():
    assert loaded_after("import numba", HEAVY)[:2] == ["numba", "llvmlite"]


@pytest.mark.parametrize("name", MODULES + OTHERS)
def test_public_names_are_there_listed_and_documented(name):
    value = getattr(nbloss, name)
    assert name in dir(nbloss)
    assert name in nbloss.__all__
    assert inspect.getdoc(value)


def test_everything_in_all_exists():
    assert all(hasattr(nbloss, name) for name in nbloss.__all__)
    assert len(set(nbloss.__all__)) == len(nbloss.__all__)


@pytest.mark.parametrize("module", [nbloss.functional, nbloss.modules], ids=lambda m: m.__name__)
def test_listing_a_module_s_names_shows_the_public_ones(module):
    assert dir(module) == sorted(module.__all__)


@pytest.mark.parametrize("command", [[], ["info"], ["evaluate"], ["warmup"], ["cache"], ["demo"]], ids=" ".join)
def test_a_command_s_help_begins_with_what_it_does(command, capsys):
    from nbloss.__main__ import main

    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    lines = [line for line in capsys.readouterr().out.split("\n\n") if not line.startswith("usage")]
    assert stop.value.code == 0 and lines[0][0].isupper() and lines[0].endswith(".")


def test_the_signatures_of_modules_are_real():
    for module in (nbloss.NLLLoss, nbloss.CrossEntropyLoss):
        for name in ("forward", "__call__"):
            assert list(inspect.signature(getattr(module, name)).parameters) == ["self", "input", "target", "sample_weight", "divisor"]
    assert list(inspect.signature(nbloss.LogSoftmax.__call__).parameters) == ["self", "input"]
    with pytest.raises(TypeError, match="target"):
        nbloss.CrossEntropyLoss()([[1.0, 2.0]])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        nbloss.no_such_name  # noqa: B018


def public(name):
    """A public function or class by its name."""
    return getattr(nbloss.functional if name in FUNCTIONS else nbloss.modules, name)


every_public_name = pytest.mark.parametrize("name", FUNCTIONS + MODULES)


@every_public_name
def test_signatures_are_those_of_the_contract(name):
    parameters = inspect.signature(public(name)).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[name]})"


@every_public_name
def test_public_objects_show_their_public_module(name):
    value = public(name)
    assert value.__module__ == ("nbloss.functional" if name in FUNCTIONS else "nbloss.modules")
    assert pickle.loads(pickle.dumps(value)) is value


def test_no_public_function_or_class_is_untested():
    assert sorted(FUNCTIONS) == sorted(nbloss.functional.__all__)
    assert sorted(MODULES) == sorted(nbloss.modules.__all__)


PUBLIC = [public(name) for name in FUNCTIONS + MODULES]
PUBLIC += [getattr(nbloss, name) for name in nbloss.__all__ if callable(getattr(nbloss, name)) and name not in MODULES]
METHODS = [
    method
    for value in PUBLIC
    if inspect.isclass(value)
    for name, method in inspect.getmembers(value, inspect.isfunction)
    if not name.startswith("_")
]


@pytest.mark.parametrize("value", PUBLIC + METHODS, ids=lambda v: v.__qualname__)
def test_docstrings_are_there_and_complete(value):
    assert inspect.getdoc(value)
    assert "%(" not in value.__doc__


@every_public_name
def test_docstrings_describe_every_parameter_in_order(name):
    section = inspect.getdoc(public(name)).split("Parameters\n----------\n")[1].split("\n\n")[0]
    assert re.findall(r"^(\w+) : ", section, re.MULTILINE) == list(inspect.signature(public(name)).parameters)
    assert re.findall(r"^(\w+) : .+\n    \S", section, re.MULTILINE) == list(inspect.signature(public(name)).parameters)


def test_a_docstring_with_an_unknown_entry_is_an_error():
    def function(new_option):
        """Has an option that nobody has described.

        %(parameters)s
        """

    with pytest.raises(KeyError, match="new_option"):
        documented()(function)


def test_python_may_run_without_docstrings():
    code = "import nbloss.functional as F; print(F.cross_entropy.__doc__)"
    run = subprocess.run([sys.executable, "-OO", "-c", code], check=True, capture_output=True, text=True)
    assert run.stdout == "None\n"


@every_public_name
def test_every_example_runs_and_prints_what_it_says(name):
    tests = doctest.DocTestFinder(recurse=False).find(public(name), name, module=False, globs={})
    result = doctest.DocTestRunner().run(tests[0])
    assert result.attempted > 0
    assert result.failed == 0
