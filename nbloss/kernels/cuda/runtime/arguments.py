"""Arguments that several launches share."""

import numpy as np


def c_ordered(kernels, array):
    """The array itself if it is C-ordered, otherwise a C-ordered copy; None stays None."""
    return array if array is None or array.contiguous else kernels.packed(array)


def upstream_stride(upstream):
    """0 where one upstream number applies to all positions, otherwise 1."""
    return int(upstream.size > 1)


def gradient_arguments(upstream, loss, out):
    """``(upstream, its stride, loss, out)``. A kernel that writes no gradient reads no upstream and no out: ``loss`` fills both."""
    return (loss, 0, loss, loss) if out is None else (upstream, upstream_stride(upstream), loss, out)


def row_option(options, real):
    """``(name of the row option, its value in the computed type)``, for ``epilogue.options_reader``; None and 0 for a call without."""
    if options is None:
        return None, real(0.0)
    return next((name, real(value)) for name, value in options._asdict().items() if value is not None)


def stats_arguments(target, mask, scale, lse, log_prob, argmax, correct, entropy):
    """``(whether there are targets, arguments of the kernels)``. A kernel without targets does not use those that other arrays fill."""
    if target is None:
        return False, (argmax, 0, lse, lse, lse, argmax, argmax, entropy)
    return True, (target, int(mask), scale, lse, log_prob, argmax, correct.view(np.uint8), entropy)


def hessian_arguments(kernels, x, v, coef, options, out):
    """``(constants, arguments)`` of a kernel of second derivatives. That of the diagonal reads no v: the logits fill the argument."""
    x = c_ordered(kernels, x)
    optioned, option = row_option(options, coef.dtype.type)
    constants = "half" if x.itemsize == 2 else x.dtype.name, kernels.sm80, v is not None, optioned
    return constants, (x, x if v is None else c_ordered(kernels, v), coef, upstream_stride(coef), option, out)
