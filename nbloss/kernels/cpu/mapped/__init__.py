"""Kernels for more classes than ``row_per_lane`` takes, whose logits are scaled or capped: blocks of rows are mapped to a buffer."""
