"""Selection and comparisons of numbers, as functions: what the formulas of ``kernels.math`` are made with."""

from nbloss.kernels.cuda.prims.api import device


@device
def select(mask, a, b):
    return a if mask else b


@device
def less(a, b):
    return a < b


@device
def equal(a, b):
    return a == b
