"""The contract that both twins keep: same names, same parameters, same formulas.

Arrays are views (outer, C, inner) of the caller's; float16 comes as uint16 and bfloat16 as int16. ``target`` (signed integers of its
size), ``spread`` and ``loss`` hold one number per position, ``scale`` and ``upstream`` one per position or one for all, the last four in
the type that is computed in (float32, or float64 for float64 logits). m, s and rest are those of ``rowmath``. Outputs come last and are
filled in place; ``out`` may be ``x``; None asks for the losses alone. Kernels assume what ``nbloss._problem`` has checked.

================================  ====================================================================================
``log_softmax``                   out = (x - m) - log s
``log_softmax_backward``          out = g - exp(y) sum g
``nll``, ``nll_backward``         loss = -scale logp[y];  out = -scale upstream at y, 0 elsewhere
``nll_soft``, ``..._backward``    loss = -sum_c w y logp;  out = -w y upstream
``cross_entropy``                 loss = scale (log s + (m - x[y]));  out = scale upstream (p - [c is y])
``cross_entropy_smooth``          the same plus masses q[c] = spread w[c] on every class
``cross_entropy_soft``            masses q[c] = w[c] (a y[c] + b): loss = sum q (log s + m - x);  out = upstream (p sum q - q)
``row_scale``                     scale = hit w[y], spread = share; 0 where ignored. Sum of w[y]; how many targets are no class.
                                  A scale of one number holds ``hit``: it is right if the sum says that all rows count alike
``row_sum``                       a float64 sum over positions, the same bits for any number of threads
``whole``                         ``row_scale``, ``cross_entropy`` or ``nll`` (and its gradient), and ``row_sum`` in one call
================================  ====================================================================================

A position whose scale (for ``smooth``: spread) is 0 is never judged by its logits: its loss and its gradient are 0, whatever they hold.
"""

from nbloss.kernels import disk as disk  # first: it takes a digest of the sources before others are read

SUMMED = {"nll": 2**63, "cross_entropy": 48}  # classes up to which ``whole`` adds losses without an array of them
