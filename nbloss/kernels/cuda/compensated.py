"""Sums that collect their rounding errors."""

from nbloss.kernels.cuda.prims.api import device, fma


@device
def add_compensated(total, low, value):
    """``(total, low)`` plus a value. ``low`` collects the rounding errors of ``total``; an infinite total has none."""
    s = total + value
    b = s - total
    rounding = (total - (s - b)) + (value - b)
    return s, low + rounding if rounding == rounding else low


@device
def add_product(total, low, a, b):
    """``(total, low)`` plus a b."""
    product = a * b
    rounding = fma(a, b, -product)
    total, low = add_compensated(total, low, product)
    return total, low + rounding if rounding == rounding else low
