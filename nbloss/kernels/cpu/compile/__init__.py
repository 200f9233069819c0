"""How kernels are compiled, cached on disk, loaded and run by several threads.

Read ``jit`` (a call) first, then ``build`` and ``pipeline`` (compilation), ``parallel_for`` and ``threads`` (the parallel loop), and
``cache`` and ``processor`` (files of compiled code, and which of them this processor can run).
"""
