"""Kernels of contiguous rows, where the classes of a position are adjacent in memory: a group of threads works on each row."""
