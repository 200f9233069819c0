"""An extension of griffe: the docstrings that `nbloss._docstrings.documented` composes at run time.

griffe reads sources and imports nothing. Here a module is imported for its docstrings. One that needs a library that is not installed is
run without its imports of other libraries and without the bodies of its functions: what is left composes the same docstrings.
"""

import ast
from functools import cache
from importlib import import_module
from inspect import cleandoc
from pathlib import Path

import griffe

DECORATOR = "documented"


def _composing(node):
    """The decorators of a function or class that compose its docstring."""
    return [d for d in node.decorator_list if isinstance(d, ast.Call) and getattr(d.func, "id", None) == DECORATOR]


class _Reduced(ast.NodeTransformer):
    """Functions and classes with their names, parameters, decorator and docstring alone."""

    def visit_FunctionDef(self, node):
        arguments = node.args
        for argument in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs):
            argument.annotation = None
        node.returns = None
        node.decorator_list = _composing(node)
        has_text = ast.get_docstring(node) is not None
        node.body = node.body[:1] if has_text else [ast.Pass()]
        return node

    def visit_ClassDef(self, node):
        node.bases, node.keywords = [], []
        node.decorator_list = _composing(node)
        texts = node.body[:1] if ast.get_docstring(node) is not None else []
        node.body = [*texts, *(self.visit(part) for part in node.body if isinstance(part, ast.FunctionDef))] or [ast.Pass()]
        return node


def _is_of_nbloss(node):
    return (
        isinstance(node, ast.ImportFrom) and node.module is not None and node.module.startswith("nbloss.") and ".interop" not in node.module
    )


def _is_text(node):
    """Whether a statement sets an upper-case name, as those of the parts of docstrings."""
    return isinstance(node, ast.Assign) and all(isinstance(t, ast.Name) and t.id.isupper() for t in node.targets)


@cache
def _docstrings(path, module):
    """Name -> docstring of the composed functions and classes of a file."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    composed = [node for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef) and _composing(node)]
    if not composed:
        return {}
    try:
        return {node.name: getattr(import_module(module), node.name).__doc__ for node in composed}
    except ImportError:
        names = {}
    for node in [n for n in tree.body if _is_of_nbloss(n) or _is_text(n)] + [_Reduced().visit(node) for node in composed]:
        code = compile(ast.fix_missing_locations(ast.Module([node], [])), path, "exec")
        exec(code, names)
    return {node.name: names[node.name].__doc__ for node in composed}


class ComposedDocstrings(griffe.Extension):
    """Replaces the docstrings of the decorated functions and classes."""

    def on_object(self, *, obj, **kwargs):
        if not (obj.is_function or obj.is_class) or obj.docstring is None or not isinstance(obj.filepath, Path):
            return
        if obj.filepath.suffix == ".py":
            text = _docstrings(str(obj.filepath), obj.module.path).get(obj.name)
            if text is not None and obj.parent is not None and obj.parent.is_module:
                obj.docstring.value = cleandoc(text)
