"""The layers of the package: a module imports only modules of its own layer or of lower ones, and no imports form a circle.

Every import counts: also one inside a function, one for a type checker alone, and ``import_module`` of a name that is written out. The
modules that `nbloss.__getattr__` imports are names in a table there, and not seen here; all of them are lower than the package.
"""

import ast
from itertools import permutations
from pathlib import Path

import pytest

import nbloss.bench

PACKAGE = Path(__file__).parents[1] / "nbloss"

# The highest layer first. A name stands for the module and for everything inside it, unless another entry names that more closely.
CPU, CUDA = "nbloss.kernels.cpu", "nbloss.kernels.cuda"
BENCH = [
    "problem",
    "session",
    "races",
    "peers",
    "options",
    "interop",
    "linear",
    "evaluate",
    "measure",
    "variants",
    "report",
    "gpu",
    "cli",
]  # the lowest first, as nbloss.bench's docstring has them
LAYERS = [
    {
        "nbloss.__main__",
        "nbloss.demo",
        "nbloss.evaluate_command",
        "nbloss.info",
        "nbloss.warmup",
        "nbloss.warmup_cuda",
        "nbloss.bench",
    },  # commands
    *({f"nbloss.bench.{name}"} for name in reversed(BENCH)),
    {"nbloss"},  # the public names
    {"nbloss.interop"},
    {"nbloss._evaluate"},
    {"nbloss._evaluation", "nbloss._logit_files", "nbloss.partial"},
    {"nbloss.modules"},
    {"nbloss.functional"},
    {"nbloss._general_path"},
    {"nbloss._fast_path"},
    {"nbloss._fast_arguments"},
    {"nbloss._distillation", "nbloss._hessian", "nbloss._linear"},
    {"nbloss._linear_gradients"},
    {"nbloss._problem"},
    {"nbloss._arguments", "nbloss._options", "nbloss._docstrings", "nbloss._warnings"},
    {"nbloss.backends", "nbloss.backends.select"},
    {"nbloss.backends.gpu_calls", "nbloss.backends.cuda"},
    {"nbloss.backends.array_interop", "nbloss.backends.host_arrays", "nbloss.backends.cpu"},
    {f"{CPU}.kernel_set", f"{CUDA}.kernel_set", "nbloss.kernels.reference"},
    {"nbloss.kernels.reference_rows"},
    {f"{CUDA}.rows", f"{CUDA}.channels_first", f"{CUDA}.per_target"},
    {f"{CUDA}.row_in_registers", f"{CUDA}.row_statistics"},
    {
        f"{CUDA}.compensated",
        f"{CUDA}.divergence",
        f"{CUDA}.epilogue",
        f"{CUDA}.exp",
        f"{CUDA}.indexing",
        f"{CUDA}.logit_map",
        f"{CUDA}.operators",
        f"{CUDA}.second_order",
        f"{CUDA}.strided_classes",
        f"{CUDA}.sums",
        f"{CUDA}.unrolled",
    },
    {CUDA, f"{CUDA}.runtime"},
    {f"{CUDA}.prims"},
    {f"{CUDA}.tuning"},
    {f"{CPU}.choose", f"{CPU}.fused"},
    {CPU, f"{CPU}.channels_first"},
    {f"{CPU}.row_per_lane", f"{CPU}.blocked", f"{CPU}.mapped"},
    {f"{CPU}.vector_per_row", f"{CPU}.channels_first.pipeline"},  # the pipeline is called between the sums of a tile
    {f"{CPU}.per_target", f"{CPU}.divergence", f"{CPU}.epilogue", f"{CPU}.logit_map"},
    {f"{CPU}.compile", f"{CPU}.compile.jit"},
    {f"{CPU}.compile.build"},  # links kernels with the loop over chunks, which is written in simd's words
    {f"{CPU}.compile.parallel_for"},
    {f"{CPU}.simd"},
    {f"{CPU}.compile.optional"},
    {f"{CPU}.compile.pipeline", f"{CPU}.compile.cache"},
    {f"{CPU}.compile.processor", f"{CPU}.compile.threads"},
    {f"{CPU}.tuning"},
    {"nbloss.kernels.math"},
    {
        "nbloss.kernels",
        *(f"nbloss.kernels.{name}" for name in ("disk", "levels", "layouts", "compile_notice", "contract")),
    },
    {"nbloss._threadpoolctl"},
    {"nbloss._fork_safety", "nbloss._thread_count", "nbloss.progress"},
]


def modules_of(package):
    """Every module of a folder that is a package -> its syntax tree. A package's ``__init__.py`` has the package's name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        words = [package.name, *path.relative_to(package).with_suffix("").parts]
        found[".".join(words[:-1] if words[-1] == "__init__" else words)] = path
    return {name: (ast.parse(path.read_text(encoding="utf-8")), path.name == "__init__.py") for name, path in found.items()}


def imports_of(name, tree, is_package, known):
    """The modules of the package, all in ``known``, that one module imports."""
    found = set()

    def add(module, *names):
        """``from module import names``: each name is a module below, or something inside the module itself."""
        for each in names or [None]:
            inner = f"{module}.{each}"
            target = inner if inner in known else module
            while target and target not in known:  # a module that is not there is a failure of its own elsewhere
                target = target.rpartition(".")[0]
            if target:
                found.add(target)

    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                add(alias.name)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                here = name.split(".") if is_package else name.split(".")[:-1]
                here = here[: len(here) - (node.level - 1)]
                base = ".".join([*here, *([node.module] if node.module else [])])
            add(base, *(alias.name for alias in node.names))
        elif isinstance(node, ast.Call) and node.args and "import_module" in ast.unparse(node.func):
            for argument in ast.walk(node.args[0]):  # also of one name or another
                if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
                    add(argument.value)
    return found - {name}


def graph_of(package):
    """module -> the modules of the same package that it imports."""
    modules = modules_of(package)
    return {name: imports_of(name, tree, is_package, modules) for name, (tree, is_package) in modules.items()}


def layer_of(module, layers):
    """The number of a module's layer, 0 for the highest: that of the longest entry which holds it."""
    while module:
        for number, layer in enumerate(layers):
            if module in layer:
                return number
        module = module.rpartition(".")[0]
    raise LookupError(module)


def upward_imports(graph, layers):
    """(importer, imported) of every import that goes to a higher layer."""
    return sorted((a, b) for a, imported in graph.items() for b in imported if layer_of(b, layers) < layer_of(a, layers))


def circle(graph):
    """The modules of one circle of imports, in order; None where there is none."""
    finished, path = set(), []

    def walk(module):
        if module in path:
            return [*path[path.index(module) :], module]
        if module in finished:
            return None
        path.append(module)
        for other in sorted(graph.get(module, ())):
            if found := walk(other):
                return found
        finished.add(path.pop())
        return None

    for module in sorted(graph):
        if found := walk(module):
            return found
    return None


def circles(graph):
    """Circles of imports, each once: without the last import of each there would be none."""
    rest, found = {module: set(imported) for module, imported in graph.items()}, []
    while one := circle(rest):
        rest[one[-2]].discard(one[-1])
        found.append(one)
    return found


@pytest.fixture(scope="module")
def graph():
    return graph_of(PACKAGE)


def test_no_module_imports_one_of_a_higher_layer(graph):
    assert [f"{a} imports {b}" for a, b in upward_imports(graph, LAYERS)] == []


def test_no_imports_form_a_circle(graph):
    assert [" imports ".join(one) for one in circles(graph)] == []


APART = [  # modules that have no order among them: what they share is below all of them
    (CPU, CUDA, "nbloss.kernels.reference"),
    (f"{CUDA}.rows", f"{CUDA}.channels_first", f"{CUDA}.per_target"),
    (f"{CUDA}.epilogue", f"{CUDA}.exp", f"{CUDA}.indexing"),
]


@pytest.mark.parametrize(("one", "other"), [pair for group in APART for pair in permutations(group, 2)])
def test_modules_without_an_order_do_not_import_each_other(one, other, graph):
    crossing = [
        (a, b) for a, imported in graph.items() for b in imported if f"{a}.".startswith(f"{one}.") and f"{b}.".startswith(f"{other}.")
    ]
    assert crossing == []


@pytest.mark.parametrize("name", [f"{CPU}.tuning", f"{CUDA}.tuning", "nbloss.kernels.levels", "nbloss.kernels.contract"])
def test_modules_of_numbers_and_names_import_nothing_of_the_package(name, graph):
    assert graph[name] == set()


def test_the_docstring_of_bench_has_its_layers_in_this_order():
    places = [nbloss.bench.__doc__.index(f"\n    {name} ") for name in BENCH]
    assert places == sorted(places)


def test_every_module_is_named_in_a_layer(graph):
    """None falls into the layer of the package itself, which is for its __init__.py: a new module has to be put into a layer."""
    forgotten = [m for m in graph if m != "nbloss" and LAYERS[layer_of(m, LAYERS)] == {"nbloss"}]
    forgotten += [m for m in graph if m.startswith("nbloss.bench.") and layer_of(m, LAYERS) == layer_of("nbloss.bench", LAYERS)]
    assert forgotten == [], "name them in LAYERS"


def test_no_layer_names_a_module_twice():
    names = [name for layer in LAYERS for name in layer]
    assert len(names) == len(set(names))


# ---- the test finds what it looks for ------------------------------------------------------------------------------------

TWO_LAYERS = [{"made"}, {"made.high"}, {"made.low"}]


def make_package(folder, **sources):
    """A package of some modules, and one package inside it, made.low."""
    (folder / "made" / "low").mkdir(parents=True)
    for name in ("", "low/"):
        (folder / "made" / f"{name}__init__.py").write_text("")
    for name, source in sources.items():
        (folder / "made" / f"{name.replace('__', '/')}.py").write_text(source)
    return graph_of(folder / "made")


UPWARD = {
    "at the top": "import made.high",
    "with another name": "import numpy, made.high as h",
    "from the package": "from made import high",
    "from the module": "from made.high import something",
    "relative": "from ..high import something",
    "relative, from the package": "from .. import high",
    "in a function": "def f():\n    from made.high import something",
    "for a type checker": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from made import high",
    "with import_module": "import importlib\ndef f():\n    importlib.import_module('made.high')",
    "with import_module, one or another": "from importlib import import_module\nimport_module('made.low' if f else 'made.high')",
}


@pytest.mark.parametrize("way", UPWARD)
def test_a_made_up_upward_import_is_found(way, tmp_path):
    graph = make_package(tmp_path, high="import os", low__part=UPWARD[way])
    assert upward_imports(graph, TWO_LAYERS) == [("made.low.part", "made.high")]
    assert circles(graph) == []


@pytest.mark.parametrize(
    "text", ["import os, numpy", "from made.low import other", "from . import other", "from .other import x", "'made.high'"]
)
def test_other_lines_are_no_upward_imports(text, tmp_path):
    assert upward_imports(make_package(tmp_path, high="from made.low import part", low__part=text, low__other=""), TWO_LAYERS) == []


def test_a_made_up_circle_is_found(tmp_path):
    sources = {"low__a": "from made.low import b", "low__b": "def f():\n    from . import c", "low__c": "import made.low.a"}
    graph = make_package(tmp_path, **sources)
    assert upward_imports(graph, TWO_LAYERS) == []
    assert circles(graph) == [["made.low.a", "made.low.b", "made.low.c", "made.low.a"]]
