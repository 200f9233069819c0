"""The row epilogue (``math.epilogue``), compiled for numbers and for vectors of rows."""

from numba import njit

from nbloss.kernels.cpu.compile.pipeline import INLINE, NO_INLINE
from nbloss.kernels.cpu.simd.power import exp, one_minus_exp, power
from nbloss.kernels.cpu.simd.vec import equal, select
from nbloss.kernels.math import epilogue

_formulas = epilogue.make(njit(**INLINE), njit(**NO_INLINE), select, equal, exp, one_minus_exp, power)

index_loss = _formulas.index_loss
index_factor = _formulas.index_factor
index_at_target = _formulas.index_at_target
soft_loss = _formulas.soft_loss
soft_factors = _formulas.soft_factors
soft_gradient = _formulas.soft_gradient
soft_elsewhere = _formulas.soft_elsewhere
smoothed_at_target = _formulas.smoothed_at_target
smoothed_loss = _formulas.smoothed_loss
log_sum_exp = _formulas.log_sum_exp
log_prob_of_target = _formulas.log_prob_of_target
entropy_of_row = _formulas.entropy_of_row
curvature = _formulas.curvature
lift = _formulas.lift
hessian_product = _formulas.hessian_product
hessian_diagonal = _formulas.hessian_diagonal
