"""Importing is cheap, the public names are there, and every docstring tells the truth."""

import doctest
import inspect
import subprocess
import sys

import pytest

import nbloss
import nbloss.functional
import nbloss.modules

MODULES = ["LogSoftmax", "NLLLoss", "CrossEntropyLoss"]
FUNCTIONS = [
    "log_softmax", "log_softmax_backward", "nll_loss", "nll_loss_backward",
    "cross_entropy", "cross_entropy_backward", "cross_entropy_value_and_grad",
]  # fmt: skip
OTHERS = [
    "functional",
    "DeviceUnavailableError",
    "set_default_device",
    "to_device",
    "to_host",
    "set_num_threads",
    "get_num_threads",
]
SIGNATURES = {
    "log_softmax": "input, dim=-1, *, dtype=None, out=None, device=None",
    "log_softmax_backward": "grad_output, output, dim=-1, *, out=None, device=None",
    "nll_loss": "input, target, weight=None, *, ignore_index=-100, reduction='mean', device=None",
    "nll_loss_backward": "grad_output, input, target, weight=None, *, ignore_index=-100, reduction='mean', out=None, device=None",
    "cross_entropy": "input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, device=None",
    "cross_entropy_backward": "grad_output, input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, out=None, device=None",
    "cross_entropy_value_and_grad": "input, target, weight=None, *, "
    "ignore_index=-100, reduction='mean', label_smoothing=0.0, lse_square_scale=0.0, out=None, device=None",
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


@pytest.mark.parametrize("command", [[], ["info"], ["warmup"], ["cache"], ["demo"]], ids=" ".join)
def test_a_command_s_help_begins_with_what_it_does(command, capsys):
    from nbloss.__main__ import main

    with pytest.raises(SystemExit) as stop:
        main([*command, "--help"])
    lines = [line for line in capsys.readouterr().out.split("\n\n") if not line.startswith("usage")]
    assert stop.value.code == 0 and lines[0][0].isupper() and lines[0].endswith(".")


def test_the_signatures_of_modules_are_real():
    for module in (nbloss.NLLLoss, nbloss.CrossEntropyLoss):
        for name in ("forward", "__call__"):
            assert list(inspect.signature(getattr(module, name)).parameters) == ["self", "input", "target"]
    assert list(inspect.signature(nbloss.LogSoftmax.__call__).parameters) == ["self", "input"]
    with pytest.raises(TypeError, match="target"):
        nbloss.CrossEntropyLoss()([[1.0, 2.0]])


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no_such_name"):
        nbloss.no_such_name  # noqa: B018


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_have_the_contract_s_signature(name):
    function = getattr(nbloss.functional, name)
    parameters = inspect.signature(function).parameters.values()
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in parameters]
    assert str(inspect.Signature(bare)) == f"({SIGNATURES[name]})"


def documented(module):
    """Public functions and classes, and the public methods of those classes, that are written in this module."""
    for name, value in vars(module).items():
        if name.startswith("_") or getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value) or inspect.isclass(value):
            yield name, value
        if inspect.isclass(value):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                if not method.startswith("_"):
                    yield f"{name}.{method}", function


@pytest.mark.parametrize("module", [nbloss.functional, nbloss.modules], ids=lambda m: m.__name__)
def test_every_public_object_has_a_docstring(module):
    objects = dict(documented(module))
    assert len(objects) >= 3
    assert [name for name, value in objects.items() if not inspect.getdoc(value)] == []


@pytest.mark.parametrize("name", FUNCTIONS)
def test_every_function_s_docstring_has_an_example(name):
    assert ">>>" in getattr(nbloss.functional, name).__doc__


@pytest.mark.parametrize("name", MODULES[:3])
def test_every_module_s_docstring_has_an_example(name):
    assert ">>>" in getattr(nbloss, name).__doc__


@pytest.mark.parametrize("module", [nbloss.functional, nbloss.modules], ids=lambda m: m.__name__)
def test_every_example_runs_and_prints_what_it_says(module):
    result = doctest.testmod(module)
    assert result.attempted > 0
    assert result.failed == 0
