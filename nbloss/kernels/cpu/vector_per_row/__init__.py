"""Kernels for contiguous rows, with vectors along each row.

Read ``reduce`` (maxima and sums), ``confident`` (sums to full precision) and ``write`` (outputs) first, then ``log_softmax``,
``cross_entropy`` and ``soft_targets``.
"""
