"""Numba compilation pipelines for kernels and for the functions that they call.

By default Numba optimises every jitted function separately, generates machine code for it, and adds two wrappers, because Python may call
it. A kernel calls some forty jitted functions, and Python calls none of them. Their compilation stops at LLVM IR, and the kernel is
optimised once, as a whole.

All functions in a kernel's object file have internal linkage, except the kernel. Numba numbers the functions of a process from 1, and the
number is part of a symbol. Two kernels that were compiled in different processes can therefore define different functions under the same
symbol, and a process that loaded both called the first one.
"""

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, _LowerResult
from numba.core.compiler_lock import require_global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _InlineOnlyLibrary(JITCodeLibrary):
    """A library that is linked into a kernel, as LLVM IR, and is never compiled to machine code."""

    def finalize(self):
        require_global_compiler_lock()
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _InlineOnlyLowering(NativeLowering):
    _name = "inline_only_lowering"

    def run_pass(self, state):
        state.library = _InlineOnlyLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        description, env = state["cr"].fndesc, state["cr"].env
        if env.consts:
            raise NotImplementedError(f"{description.qualname} has constants that are Python objects, which a kernel's file cannot hold")
        name = description.qualname.split(".")[-1]
        function = _dynfunc.make_function(description.lookup_module(), name, "", 0, env, (state.library,))
        state.targetctx.insert_user_function(function, description, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = _LowerResult(description, state["cr"].call_helper, cfunc=function, env=env)
        return True


class _KernelLibrary(JITCodeLibrary):
    """A library that exports only what it defines before others are linked in: the kernel, its wrapper and its environment."""

    def _defined(self):
        module = self._final_module
        return [v for values in (module.functions, module.global_variables) for v in values if not v.is_declaration]

    def finalize(self):
        self._shown = {value.name for value in self._defined()}
        super().finalize()

    def _optimize_final_module(self):
        super()._optimize_final_module()
        for value in self._defined():  # after optimisation: LLVM inlines internal functions, which took up to 1.36 times as long
            if value.name not in self._shown:
                value.linkage = "internal"


@register_pass(mutates_CFG=True, analysis_only=False)
class _KernelLowering(NativeLowering):
    _name = "kernel_lowering"

    def run_pass(self, state):
        state.library = _KernelLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.library.enable_object_caching()
        return super().run_pass(state)


def _compiler(lowering):
    """Numba's default pipeline with another lowering pass."""

    class Compiler(CompilerBase):
        def define_pipelines(self):
            pipelines = DefaultPassBuilder.define_nopython_pipeline(self.state)
            pipelines.passes = [(lowering if p is NativeLowering else p, why) for p, why in pipelines.passes]
            pipelines.finalize()
            return [pipelines]

    return Compiler


# Flags are set explicitly: a function inherits unset flags from the caller that is compiled first. No fast-math, because contraction and
# reassociation invalidate the compensated arithmetic.
NUMERICS = {"error_model": "numpy", "fastmath": False}
OPTIONS = {**NUMERICS, "nogil": True}
INLINE_ONLY = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _compiler(_InlineOnlyLowering)}
NO_INLINE = {**NUMERICS, **INLINE_ONLY}  # all callers share one copy of the code
INLINE = {**NO_INLINE, "forceinline": True}

KERNEL = {"no_cfunc_wrapper": True, "pipeline_class": _compiler(_KernelLowering)}

LOOP = {"no_cfunc_wrapper": True, "parallel": True}
