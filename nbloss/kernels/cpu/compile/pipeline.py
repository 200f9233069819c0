"""How Numba compiles the functions that kernels are made of.

Numba takes every jitted function for one that Python may call: it optimises it alone, makes machine code of it, and wraps it twice. A
kernel here has some forty such functions and Python calls none of them, so they stop at LLVM's intermediate code, and the kernel
that they become part of is optimised once, as a whole.

A kernel's machine code shows the linker nothing but the kernel. Numba numbers the functions of a process from 1, so two kernels that
were compiled in different processes may each have, under one name, a function of their own; a process that loads both ran the first one's.
"""

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, _LowerResult
from numba.core.compiler_lock import require_global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering


class _InlineOnlyLibrary(JITCodeLibrary):
    """Code to be linked into a kernel."""

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
        described, env = state["cr"].fndesc, state["cr"].env
        if env.consts:
            raise NotImplementedError(f"{described.qualname} has Python objects among its constants: no kernel's file can keep them")
        name = described.qualname.split(".")[-1]
        function = _dynfunc.make_function(described.lookup_module(), name, "", 0, env, (state.library,))
        state.targetctx.insert_user_function(function, described, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = _LowerResult(described, state["cr"].call_helper, cfunc=function, env=env)
        return True


class _KernelLibrary(JITCodeLibrary):
    """Machine code that shows what is there before others are linked in: the kernel, its wrapper and its environment."""

    def _defined(self):
        module = self._final_module
        return [v for values in (module.functions, module.global_variables) for v in values if not v.is_declaration]

    def finalize(self):
        self._shown = {value.name for value in self._defined()}
        super().finalize()

    def _optimize_final_module(self):
        super()._optimize_final_module()
        for value in self._defined():  # not before: LLVM would inline what is meant to be called, which took up to 1.36 times as long
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
    """Numba's usual pipeline with another last step."""

    class Compiler(CompilerBase):
        def define_pipelines(self):
            pipelines = DefaultPassBuilder.define_nopython_pipeline(self.state)
            pipelines.passes = [(lowering if p is NativeLowering else p, why) for p, why in pipelines.passes]
            pipelines.finalize()
            return [pipelines]

    return Compiler


# Flags are stated, since unset ones are inherited from whichever caller is compiled first. No fast-math: contraction and reassociation
# would undo the arithmetic that keeps digits.
NUMERICS = {"error_model": "numpy", "fastmath": False}
OPTIONS = {**NUMERICS, "nogil": True}
INLINE_ONLY = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _compiler(_InlineOnlyLowering)}
NO_INLINE = {**NUMERICS, **INLINE_ONLY}  # one copy of the code for all its callers
INLINE = {**NO_INLINE, "forceinline": True}

KERNEL = {"no_cfunc_wrapper": True, "pipeline_class": _compiler(_KernelLowering)}  # nobody takes its C pointer

LOOP = {"no_cfunc_wrapper": True, "parallel": True}
