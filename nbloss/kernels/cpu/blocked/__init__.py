"""Kernels for more classes than ``row_per_lane`` takes, where some array's classes are not contiguous: blocks of rows are copied.

Read ``copy`` (blocks) first, then ``kernels``.
"""
