"""Kernels for channels-first arrays, such as (N, C, H, W): classes on an axis of their own, positions contiguous.

Read ``log_softmax`` (one block after the other) first, then ``pipeline``, ``cross_entropy`` and ``loss_only``; ``log_softmax_many`` is for
more than LANES_MAX_CLASSES classes.
"""
