"""The kernels for the CPU, compiled by Numba.

Read ``kernel_set`` (the functions that a backend calls), ``choose`` (which kernel a call runs) and ``compile`` (how a kernel is compiled
and run) first. ``simd`` has the vector instructions. Each of ``vector_per_row``, ``row_per_lane``, ``channels_first`` and ``per_target`` is
one algorithm, and ``fused`` combines them into kernels for a whole loss. ``tuning`` has every constant that affects speed.
"""
