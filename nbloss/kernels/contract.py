"""The contract that every backend keeps: the same names, the same parameters, the same formulas.

Arrays are (outer, C, inner) views of the caller's. C is the class axis; a position is one (outer, inner). float16 comes as uint16 and
bfloat16 as int16. The arithmetic is in float32, or in float64 for float64 logits; "computed type" below means that type.

============  ==================  ======================================================================================
name          shape               meaning
============  ==================  ======================================================================================
x             (outer, C, inner)   logits; ``logp`` log-probabilities; ``y`` probabilities, on the CPU of any of the four dtypes
m, s, rest    per position        max x, sum exp(x - m), s - 1 (``math.epilogue``); p = softmax(x); L = m + log s
target        (positions,)        class numbers, any integer dtype, seen as signed; ``mask`` (an int) undoes the sign of unsigned ones
scale         (positions,) or 1   weight of the target's class, 0 where the target is ignored; one number applies to all positions
spread        (positions,)        what label smoothing gives every class, before class weights; 0 where the target is ignored
w             (C,) or None        class weights; None: all are 1
sample_weight (positions,)        weights of positions, or None: all are 1; those of ignored positions are not read
q             (outer, C, inner)   target distribution; M = sum of q over the classes
options       RowOptions or None  options that act on a whole row (``math.epilogue``) or on its logits (``math.logit_map``)
upstream      (positions,) or 1   gradient of each loss, the division of a mean included
coef          (positions,) or 1   M times the upstream gradient; 0 makes the position's part of ``out`` 0, whatever its logits are
v             (outer, C, inner)   what the Hessian is multiplied by; on the CPU of any of the four dtypes
loss, out     outputs             filled in place; ``out`` may be x; None asks for the losses alone
lse, ...      (positions,)        statistics, one number per position: of the computed type, argmax int64, correct bool
============  ==================  ======================================================================================

================================  ======================================================================================
``log_softmax``                   out = (x - m) - log s
``log_softmax_backward``          out = g - exp(y) sum g
``softmax``                       out = exp(x - m) / s
``softmax_backward``              out = y (g - sum g y)
``nll``, ``nll_backward``         loss = -scale logp[target];  out = -scale upstream at the target, 0 elsewhere
``nll_soft``, ``..._backward``    loss = -sum w y logp;  out = -w y upstream
``cross_entropy``                 loss = scale (log s + (m - x[target]));  out = scale upstream (p - [c is target])
``cross_entropy_soft``            loss = M log s + sum q (m - x);  out = upstream (M p - q), where q = w (a y + b) for probabilities y
                                  (target, scale and spread are None); for smoothed class numbers (y is None) q = spread w, plus scale
                                  at the target
``cross_entropy_stats``           lse = L;  log_prob = -(log s + (m - x[target]));  entropy = log s + sum exp(x - m) (m - x) / s, where
                                  0 inf = 0;  argmax: the first nan, otherwise the first maximum;  correct = (x[target] is max x), False
                                  in a row with nan. Where scale is 0: 0, 0, 0, -1, False. A call without targets has None for target,
                                  scale, log_prob and correct
``evaluation`` (CPU)              ``log_prob``, ``entropy``;  rank: how many classes have a larger logit than the target;  confidence =
                                  1 / s;  is_argmax: the target is the first maximum. In a row whose s is nan: nan, nan, C, nan, False;
                                  where scale is 0: 0, 0, -1, 0, False. For `nbloss.evaluate`
``distillation``                  loss = KL(q || p) / beta^2;  out = upstream (p - q) / beta, where p = softmax(beta x) and q =
                                  softmax(beta y) of the teacher's logits y (``math.divergence``)
``cross_entropy_hvp``             out = A p (v - P) + B p P: the Hessian times v, where P = sum p v, A = coef (1 + 2 lam L), B = coef 2 lam.
                                  ``out`` may be v
``cross_entropy_hessian_diag``    out = A p (1 - p) + B p^2: the Hessian's diagonal
``mapped_hessian``                out = the Hessian times v, or its diagonal where v is None, if options map the logits. x, v and ``out``
                                  are of the computed type. ``hessian(u, v, out, part)`` and ``gradient(u, out, part)`` are the same and the
                                  gradient for mapped logits u, of a part of the positions (``part``; None: all)
``row_mass``                      mass = M: a sum w y + b sum w for probabilities y; for smoothed class numbers (y is None) it is scale +
                                  spread sum w
``row_scale``                     scale = hit w[target] sample_weight, spread = share sample_weight, 0 where ignored. Gives the sum of
                                  w[target] sample_weight, how many targets are out of range, and where the first one is. A scale of
                                  one number is set to ``hit``: it is right if the sum equals the number of positions
``scatter_rows`` (CPU)            out[out_rows[k]] += after (factors[k] x[rows[k]]) for k = 0, 1, ...; x and ``out`` are
                                  (rows, columns) of the computed type, ``out`` in C order
``tally`` (CPU)                   counts and sums over the rows of ``evaluation``
``weigh``                         out = sample_weight values, 0 where the weight is 0; ``values`` are per position or 1
``row_sum``                       sum over positions in float64, the same bits for any number of threads
``fused_loss`` (CPU)              ``row_scale``, ``cross_entropy`` or ``nll`` (and its gradient), and ``row_sum`` in one kernel
================================  ======================================================================================

``options`` add lam L^2 times the row's weight to the loss, and replace x by mapped logits u; ``out`` is then the gradient of u times
du / dx. A position whose scale (for smoothing: spread) is 0 has loss 0 and gradient 0, whatever its logits are. Kernels rely on the checks
of ``nbloss._problem``.
"""

KERNELS = (
    "cross_entropy",
    "cross_entropy_hessian_diag",
    "cross_entropy_hvp",
    "cross_entropy_soft",
    "cross_entropy_stats",
    "distillation",
    "evaluation",
    "fused_loss",
    "fused_soft_loss",
    "log_softmax",
    "log_softmax_backward",
    "mapped_hessian",
    "nll",
    "nll_backward",
    "nll_soft",
    "nll_soft_backward",
    "row_mass",
    "row_scale",
    "row_sum",
    "rows",
    "scatter_rows",
    "softmax",
    "softmax_backward",
    "tally",
    "weigh",
)

# What ``fused_loss`` and ``fused_soft_loss`` return: nothing was written; it was done; it was done, and a log-probability that the negative
# log-likelihood picked is above 0; it was done, and no row counts, so that the mean is nan.
NOT_DONE, DONE, POSITIVE, EMPTY = 0, 1, 2, 3
