"""One parallel loop for all kernels.

Numba makes machine code of a parallel loop's body three times over, and none of it serves a call by one thread: the first parallel call
of a kernel took two to three times as long as the first small one. Here a kernel is compiled once, with a function that works off its
share; ``loop`` knows nothing but that function's address, and has its threads call it.
"""

from llvmlite import ir
from numba import prange, types
from numba.core import cgutils
from numba.extending import intrinsic

_BYTES, _I32, _I64 = ir.IntType(8).as_pointer(), ir.IntType(32), ir.IntType(64)

_WORK = ir.FunctionType(ir.VoidType(), [_BYTES])  # of what it is given


@intrinsic
def _call(typingctx, work, given):
    """Call the function at an address."""

    def codegen(context, builder, sig, args):
        builder.call(builder.inttoptr(args[0], _WORK.as_pointer()), [builder.inttoptr(args[1], _BYTES)])
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), codegen


def loop(work, given, workers):
    for _ in prange(workers):
        _call(work, given)


def _borrowed(context, builder, kind, value):
    """An array without its owner: all threads would count its references, in one place. Short rows took 1.4 to 2 times as long."""
    if not isinstance(kind, types.Array):
        return value
    array = context.make_array(kind)(context, builder, value)
    array.meminfo = cgutils.get_null_value(array.meminfo.type)
    return array._getvalue()


def _work_function(context, builder, part, sig, given):
    """``work(given)``: call ``part`` with what stands there, and note there if it failed."""
    code = part.dispatcher.overloads[sig.args]
    context.add_linking_libs([code.library])
    work = ir.Function(builder.module, _WORK, builder.module.get_unique_name(f"work.{code.fndesc.mangled_name}"))
    work.linkage = "internal"
    work.attributes.add("noinline")  # it is called in two places
    inside = ir.IRBuilder(work.append_basic_block())
    place = inside.bitcast(work.args[0], given.as_pointer())
    values = cgutils.unpack_tuple(inside, inside.load(cgutils.gep_inbounds(inside, place, 0, 0)))
    items = [_borrowed(context, inside, kind, value) for kind, value in zip(sig.args, values, strict=True)]
    status, _ = context.call_internal_no_propagate(inside, code.fndesc, sig, items)
    with inside.if_then(status.is_error, likely=False):
        inside.store(_I32(1), cgutils.gep_inbounds(inside, place, 0, 1))
    inside.ret_void()
    return work


@intrinsic
def run_parallel(typingctx, address, workers, part, arguments):
    """``part(*arguments)`` once in each of so many threads, by the loop at an address, or in this one where that is 0."""
    sig = typingctx.resolve_function_type(part, arguments.types, {})

    def codegen(context, builder, signature, args):
        address, workers, _, values = args
        given = ir.LiteralStructType([values.type, _I32])
        slot = cgutils.alloca_once(builder, given)
        builder.store(values, cgutils.gep_inbounds(builder, slot, 0, 0))
        failed = cgutils.gep_inbounds(builder, slot, 0, 1)
        builder.store(_I32(0), failed)
        work = _work_function(context, builder, part, sig, given)
        with builder.if_else(cgutils.is_null(builder, address)) as (alone, together):
            with alone:
                builder.call(work, [builder.bitcast(slot, _BYTES)])
            with together:
                kind = context.call_conv.get_function_type(types.none, (types.int64,) * 3)
                result, error = (cgutils.alloca_once(builder, t.pointee) for t in kind.args[:2])
                numbers = builder.ptrtoint(work, _I64), builder.ptrtoint(slot, _I64), workers
                builder.call(builder.inttoptr(address, kind.as_pointer()), [result, error, *numbers])
        with cgutils.if_unlikely(builder, cgutils.is_not_null(builder, builder.load(failed))):
            context.call_conv.return_user_exc(builder, MemoryError, ("no memory for a kernel's buffers",))
        return context.get_dummy_value()

    return types.void(types.int64, types.int64, part, arguments), codegen
