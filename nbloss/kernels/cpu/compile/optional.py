"""Functions of an optional argument: None where it is None, which Numba knows when it compiles.

Numba prunes a branch on ``argument is None`` only if the argument is None. A function with two returns, of None and of a vector, therefore
has the type of an optional vector, which no intrinsic takes. Here each type of the argument has a body of its own.
"""

import inspect

from numba import njit, types
from numba.extending import overload

from nbloss.kernels.cpu.compile.pipeline import INLINE


def none_of_none(body):
    """A decorator: the function returns None where its first argument is None, and otherwise what ``body`` returns.

    The source of both bodies is generated, because Numba asks for the same parameters.
    """
    parameters = ", ".join(inspect.signature(body).parameters)
    where = f"<nbloss {body.__module__}.{body.__qualname__}>"

    def made(result):
        return eval(compile(f"lambda {parameters}: {result}", where, "eval"), {"_body": njit(**INLINE)(body), "__name__": body.__module__})

    stub, nothing, something = made("None"), made("None"), made(f"_body({parameters})")

    def choose(*arguments):
        return nothing if isinstance(arguments[0], types.NoneType) else something

    typed = eval(f"lambda {parameters}: _choose({parameters})", {"_choose": choose})
    overload(stub, jit_options=INLINE)(typed)
    return stub


@none_of_none
def if_given(array, value):
    """``value`` where there is an array, else None: Numba prunes what is None."""
    return value
