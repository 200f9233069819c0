"""Kernels with one position per SIMD lane: for short rows, and for classes that are not contiguous.

Read ``pack`` (tiles and blocks), ``blocks`` (the loop over blocks) and ``reduce`` (maxima and sums) first, then ``log_softmax``; then
``reduce_unshifted``, ``tile`` and ``cross_entropy``, and ``soft_targets``.
"""
