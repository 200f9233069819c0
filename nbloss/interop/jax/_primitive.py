"""One JAX primitive for all calls: how it is computed on each platform, mapped and differentiated."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from nbloss.interop.jax import _ffi
from nbloss.interop.jax._formula import formula
from nbloss.interop.jax._host import runner

use_ffi = True  # False: jax.pure_callback instead, which copies

_call = Primitive("nbloss")
_call.multiple_results = True


def call(spec, *arrays):
    """The results of a call, as a list."""
    return _call.bind(*arrays, spec=spec, ffi=use_ffi)


# ------------------------------ shapes ------------------------------


def _front(spec, arrays):
    """The axes of `jax.vmap`, which all arrays have in front, of size 1 where an array is the same for all."""
    return np.broadcast_shapes(*(array.shape[: array.ndim - rank] for array, rank in zip(arrays, spec.ranks, strict=True)))


def _result_types(spec, arrays):
    """``(shape, dtype)`` of each result."""
    front, x = _front(spec, arrays), arrays[spec.names[0] == "v" and not spec.along_axis]
    like = front + x.shape[x.ndim - spec.ndim :], x.dtype
    if spec.along_axis or spec.order == 2:
        return [like]
    rows = x.shape[x.ndim - spec.ndim :]
    rows = rows[: min(len(rows) - 1, 1)] + rows[2:] if dict(spec.options)["reduction"] == "none" else ()
    value = front + rows, jnp.promote_types(x.dtype, jnp.float32)
    return [value, like][: 1 + spec.order]


@_call.def_abstract_eval
def _abstract(*arrays, spec, ffi):
    return [jax.core.ShapedArray(shape, dtype) for shape, dtype in _result_types(spec, arrays)]


# ------------------------------ computation ------------------------------


def _on_cpu(*arrays, spec, ffi):
    if spec.loss == "log_softmax" and spec.order == 1:  # only forward mode asks for it
        return _by_formula(*arrays, spec=spec)
    types = _result_types(spec, arrays)
    results = [jax.ShapeDtypeStruct(*each) for each in types]
    if ffi and _ffi.registered():
        text = repr((tuple(spec), *([(shape, dtype.name) for shape, dtype in each] for each in (_types(arrays), types))))
        return jax.ffi.ffi_call(_ffi.TARGET, results)(*arrays, call=text)

    def on_host(*arrays):
        filled = [np.empty(*each) for each in types]
        runner(spec)([np.asarray(array) for array in arrays], filled)
        return filled

    return jax.pure_callback(on_host, results, *arrays)


def _types(arrays):
    return [(array.shape, array.dtype) for array in arrays]


def _by_formula(*arrays, spec):
    front, function = _front(spec, arrays), formula(spec)
    arrays = [jnp.broadcast_to(array, front + array.shape[array.ndim - rank :]) for array, rank in zip(arrays, spec.ranks, strict=True)]
    for _ in front:
        function = jax.vmap(function)
    return function(*arrays)


@_call.def_impl
@partial(jax.jit, static_argnames=("spec", "ffi"))
def _eager(*arrays, spec, ffi):
    return _call.bind(*arrays, spec=spec, ffi=ffi)


def _elsewhere(*arrays, spec, ffi):
    return _by_formula(*arrays, spec=spec)


mlir.register_lowering(_call, mlir.lower_fun(_on_cpu, multiple_results=True), platform="cpu")
mlir.register_lowering(_call, mlir.lower_fun(_elsewhere, multiple_results=True))


def _mapped(arrays, axes, *, spec, ffi):
    arrays = [array[None] if axis is None else jnp.moveaxis(array, axis, 0) for array, axis in zip(arrays, axes, strict=True)]
    if spec.names[0] == "v":  # it has the shape of the result
        arrays[0] = jnp.broadcast_to(arrays[0], _front(spec, arrays) + arrays[0].shape[-spec.ndim :])
    results = call(spec, *arrays)
    return results, [0] * len(results)


batching.primitive_batchers[_call] = _mapped


# ------------------------------ derivatives ------------------------------


def _is_zero(tangent):
    return type(tangent) is ad.Zero or tangent.dtype == jax.dtypes.float0


def _tangents(spec, arrays, tangents, names):
    """The tangents of the results by formula, for the tangents of these arrays."""
    at = [i for i, (name, tangent) in enumerate(zip(spec.names, tangents, strict=True)) if name in names and not _is_zero(tangent)]
    if not at:
        return None

    def of_some(*some):
        every = list(arrays)
        for i, array in zip(at, some, strict=True):
            every[i] = array
        return _by_formula(*every, spec=spec)

    return jax.jvp(of_some, [arrays[i] for i in at], [tangents[i] for i in at])[1]


def _loss_jvp(arrays, tangents, spec):
    if arrays[0].dtype == jnp.float16:  # else a loss scale would multiply what float16 has rounded to 0
        arrays = [arrays[0].astype(jnp.float32), *arrays[1:]]
    value, gradient = call(spec._replace(order=1), *arrays)
    dx, tangent = tangents[0], jnp.zeros_like(value)
    if not _is_zero(dx):
        product, front = gradient.astype(value.dtype) * dx.astype(value.dtype), len(_front(spec, arrays))
        classes = front + min(spec.ndim - 1, 1)
        tangent = product.sum(classes if dict(spec.options)["reduction"] == "none" else tuple(range(front, product.ndim)))
    others = _tangents(spec._replace(order=0), arrays, tangents, spec.names[1:])
    return [value, gradient], [tangent if others is None else tangent + others[0]]


def _jvp(arrays, tangents, *, spec, ffi):
    if spec.along_axis and not spec.order:
        results, ndim = call(spec, *arrays), spec.ndim
        return results, call(spec._replace(order=1, names=("v", "y"), ranks=(ndim, ndim)), *tangents, *results)
    if spec.names[0] == "v":
        moved = jnp.zeros_like(arrays[0]) if _is_zero(tangents[0]) else call(spec, tangents[0], *arrays[1:])[0]
        others = _tangents(spec, arrays, tangents, spec.names[1:])
        return call(spec, *arrays), [moved if others is None else moved + others[0]]
    results, moved = _loss_jvp(arrays, tangents, spec)
    if spec.order == 0:
        return results[:1], moved
    dx, of_gradient = tangents[0], jnp.zeros_like(results[1])
    by_kernel = spec.loss == "cross_entropy" and not _is_zero(dx)
    if by_kernel:
        second = spec._replace(order=2, names=("v", *spec.names), ranks=(spec.ndim, *spec.ranks))
        (of_gradient,) = call(second, jnp.broadcast_to(dx, of_gradient.shape), *arrays)
    others = _tangents(spec, arrays, tangents, spec.names[by_kernel:])
    return results, [*moved, of_gradient if others is None else of_gradient + others[1]]


ad.primitive_jvps[_call] = _jvp


def _transposed(cotangents, v, *arrays, spec, ffi):
    (g,) = cotangents
    transposed = spec._replace(order=3 - spec.order) if spec.along_axis else spec  # a Hessian is symmetric
    return [ad.Zero(v.aval) if type(g) is ad.Zero else call(transposed, g, *arrays)[0], *[None] * len(arrays)]


ad.primitive_transposes[_call] = _transposed
