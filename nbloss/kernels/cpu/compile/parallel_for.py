"""One parallel loop that all kernels share.

Numba generates machine code for the body of a parallel loop three times, and none of it serves a call on one thread: the first parallel
call of a kernel took two to three times as long as the first call on one thread. Here a kernel is compiled once. It contains a worker
function, which processes chunks until none is left. ``loop``, the only parallel loop, calls the worker function by its address on each
thread.
"""

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES, _I32, _I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)

_WORK_TYPE = ir.FunctionType(ir.VoidType(), [_BYTES])  # the argument is a pointer to the worker's arguments


@intrinsic
def _call(typingctx, work, data):
    """Call the worker function at the address ``work``."""

    def codegen(context, builder, sig, args):
        builder.call(builder.inttoptr(args[0], _WORK_TYPE.as_pointer()), [builder.inttoptr(args[1], _BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def loop(work, data, workers):
    """Call ``work(data)`` on each of ``workers`` threads; both are addresses."""
    for _ in prange(workers):
        _call(work, data)


def _without_owner(context, builder, kind, value):
    """An array without its meminfo, so that threads do not update one shared reference count: short rows took 1.4 to 2 times as long."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


def _work_function(context, builder, part, sig, struct_type):
    """Generate the worker function: it loads the arguments from a structure, calls ``part``, and sets a flag there on an error."""
    code = part.dispatcher.overloads[sig.args]
    context.add_linking_libs([code.library])
    work = ir.Function(builder.module, _WORK_TYPE, builder.module.get_unique_name(f"work.{code.fndesc.mangled_name}"))
    work.linkage = "internal"
    work.attributes.add("noinline")  # it has two callers
    work_builder = ir.IRBuilder(work.append_basic_block())
    struct = work_builder.bitcast(work.args[0], struct_type.as_pointer())
    values = cgutils.unpack_tuple(work_builder, work_builder.load(cgutils.gep_inbounds(work_builder, struct, 0, 0)))
    items = [_without_owner(context, work_builder, kind, value) for kind, value in zip(sig.args, values, strict=True)]
    status, _ = context.call_internal_no_propagate(work_builder, code.fndesc, sig, items)
    with work_builder.if_then(status.is_error, likely=False):
        work_builder.store(_I32(1), cgutils.gep_inbounds(work_builder, struct, 0, 1))
    work_builder.ret_void()
    return work


@intrinsic
def run_parallel(typingctx, address, workers, part, arguments):
    """Call ``part(*arguments)`` on each of ``workers`` threads with the parallel loop at ``address``; on this thread alone if it is 0.

    The only error of a kernel is that an allocation fails.
    """
    sig = typingctx.resolve_function_type(part, arguments.types, {})

    def codegen(context, builder, signature, args):
        address, workers, _, values = args
        struct_type = ir.LiteralStructType([values.type, _I32])
        slot = cgutils.alloca_once(builder, struct_type)
        builder.store(values, cgutils.gep_inbounds(builder, slot, 0, 0))
        failed = cgutils.gep_inbounds(builder, slot, 0, 1)
        builder.store(_I32(0), failed)
        work = _work_function(context, builder, part, sig, struct_type)
        with builder.if_else(cgutils.is_null(builder, address)) as (serial, parallel):
            with serial:
                builder.call(work, [builder.bitcast(slot, _BYTES)])
            with parallel:
                kind = context.call_conv.get_function_type(types.none, (types.int64,) * 3)
                result, error = (cgutils.alloca_once(builder, t.pointee) for t in kind.args[:2])
                loop_arguments = builder.ptrtoint(work, _I64), builder.ptrtoint(slot, _I64), workers
                builder.call(builder.inttoptr(address, kind.as_pointer()), [result, error, *loop_arguments])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, builder.load(failed))):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel's buffers",))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, part, arguments), codegen
