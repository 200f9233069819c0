"""Vectors, memory accesses and elementary functions: the instructions that kernels are written in, as functions for Numba.

Read ``vec`` (the vector type) first, then ``half``, ``pointers``, ``load_store``, ``integers`` and ``workspace`` (memory), ``exp2`` and
``vecmath`` (elementary functions), and ``transpose`` and ``nontemporal``.
"""
