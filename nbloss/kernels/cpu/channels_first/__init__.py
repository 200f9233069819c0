"""Kernels for channels-first arrays, such as (N, C, H, W): classes on an axis of their own, positions contiguous.

Read ``log_softmax`` (one block after the other) first, then ``pipeline``, ``cross_entropy`` and ``loss_only``; ``gradients`` has those of
log_softmax and softmax, of any number of classes, and ``log_softmax_many`` is for more than LANES_MAX_CLASSES of them.
"""
