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


def option_arguments(options, real):
    """The scalars that ``epilogue.options_reader`` reads, in the computed type; 0 for a call without row options."""
    return (real(0.0 if options is None else options.lse_square_scale),)


def stats_arguments(target, mask, scale, lse, log_prob, argmax, correct, entropy):
    """``(whether there are targets, arguments of the kernels)``. A kernel without targets does not use those that other arrays fill."""
    if target is None:
        return False, (argmax, 0, lse, lse, lse, argmax, argmax, entropy)
    return True, (target, int(mask), scale, lse, log_prob, argmax, correct.view(np.uint8), entropy)
