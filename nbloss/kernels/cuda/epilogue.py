"""The row epilogue of ``math.epilogue``, compiled for CUDA: from the reductions of a row to its loss and gradient.

A kernel without row options passes ``options = None``. Numba then removes every branch that reads them.
"""

from nbloss.kernels.cuda.operators import equal, select
from nbloss.kernels.cuda.prims.api import device, exp, expm1, power
from nbloss.kernels.math import epilogue
from nbloss.kernels.math.epilogue import RowOptions


@device
def _one_minus_exp(x):
    return -expm1(-x)


_formulas = epilogue.make(device, device, select, equal, exp, _one_minus_exp, power)

index_loss = _formulas.index_loss
index_factor = _formulas.index_factor
index_at_target = _formulas.index_at_target
soft_loss = _formulas.soft_loss
soft_factors = _formulas.soft_factors
soft_gradient = _formulas.soft_gradient
smoothed_at_target = _formulas.smoothed_at_target
log_sum_exp = _formulas.log_sum_exp
log_prob_of_target = _formulas.log_prob_of_target
entropy_of_row = _formulas.entropy_of_row
curvature = _formulas.curvature
lift = _formulas.lift
hessian_product = _formulas.hessian_product
hessian_diagonal = _formulas.hessian_diagonal


@device
def _lse_square_scale(number):
    return RowOptions(number, None, None, None)


@device
def _gamma(number):
    return RowOptions(None, number, None, None)


@device
def _no_options(number):
    return None


def options_reader(optioned):
    """A device function from a kernel's scalar argument to `RowOptions`; ``optioned`` names the option, or is None."""
    return {None: _no_options, "lse_square_scale": _lse_square_scale, "gamma": _gamma}[optioned]
