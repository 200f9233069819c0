"""The CUDA backend: the kernels of ``nbloss.kernels.contract`` for NVIDIA GPUs, in Numba.

Imports go one way: ``kernel_set``, then ``rows``, ``channels_first`` and ``per_target``, then ``epilogue``, ``exp`` and ``indexing``, then
``runtime``, ``prims`` and ``tuning``.
"""
