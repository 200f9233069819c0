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
