"""How Numba compiles the functions that kernels are made of.

Numba takes every jitted function for one that Python may call: it optimises it alone, makes machine code of it, and wraps it twice. A
kernel here has some forty such functions and Python calls none of them, so they stop at LLVM's intermediate code, and the kernel
that they become part of is optimised once, as a whole.
"""

from numba import _dynfunc
from numba.core.codegen import JITCodeLibrary
from numba.core.compiler import CompilerBase, DefaultPassBuilder, _LowerResult
from numba.core.compiler_lock import require_global_compiler_lock
from numba.core.compiler_machinery import register_pass
from numba.core.typed_passes import NativeLowering

ALONE = {"no_cfunc_wrapper": True}  # of kernels: nobody takes their C pointer


class _PartLibrary(JITCodeLibrary):
    """Code to be linked into a kernel."""

    def finalize(self):
        require_global_compiler_lock()
        self._raise_if_finalized()
        for library in dict.fromkeys(self._linking_libraries):
            self._reload_init.update(library._reload_init)
            self._final_module.link_in(library._get_module_for_linking(), preserve=True)
        self._finalized = True


@register_pass(mutates_CFG=True, analysis_only=False)
class _PartLowering(NativeLowering):
    _name = "part_lowering"

    def run_pass(self, state):
        state.library = _PartLibrary(state.targetctx.codegen(), state.func_id.func_qualname)
        state.flags.no_compile = True
        super().run_pass(state)
        described, env = state["cr"].fndesc, state["cr"].env
        name = described.qualname.split(".")[-1]
        function = _dynfunc.make_function(described.lookup_module(), name, "", 0, env, (state.library,))
        state.targetctx.insert_user_function(function, described, [state.library])
        state.reload_init.extend(state.library._reload_init)
        state["cr"] = _LowerResult(described, state["cr"].call_helper, cfunc=function, env=env)
        return True


class _PartCompiler(CompilerBase):
    def define_pipelines(self):
        pipelines = DefaultPassBuilder.define_nopython_pipeline(self.state)
        pipelines.passes = [(_PartLowering if p is NativeLowering else p, why) for p, why in pipelines.passes]
        pipelines.finalize()
        return [pipelines]


PART = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": _PartCompiler}
