"""Loops over registers, written out as source."""

import inspect

from nbloss.kernels.cuda.prims.api import device


def unrolled(step, count, carried=0):
    """``run(*arguments)``: calls step(0, *arguments), step(1, *arguments), ...; ``step`` returns new values of its first ``carried`` ones.

    The calls are written out as source. The compiler does not unroll long loops, and an array indexed by the variable of a loop is in local
    memory instead of in registers.
    """
    names = list(inspect.signature(step).parameters)[1:]
    given, state = ", ".join(names), ", ".join(names[:carried])
    lines = [f"{state + ' = ' if state else ''}step({k}, {given})" for k in range(count)]
    return written(given, [*lines, f"return {state}"], {"step": device(step)}, f"{step.__qualname__} {count} times")


def written(parameters, lines, space, name):
    """The device function run(parameters) of these lines."""
    source = f"def run({parameters}):\n" + "".join(f"    {line}\n" for line in lines)
    exec(compile(source, f"<{name}>", "exec"), space)
    return device(space["run"])
