"""Kernels of strided classes, as in (N, C, H, W): one thread works on each position."""
