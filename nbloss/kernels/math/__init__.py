"""Formulas that the CPU's kernels, the CUDA kernels and the NumPy reference share. Each backend compiles them with its own decorator.

Read ``logit_map`` (one logit), ``epilogue`` (one row), ``divergence`` (one row of the distillation loss), ``rowmath`` (many rows).
"""
