"""nbloss as the differentiable functions of other libraries: one module per library, imported only by name.

``import nbloss.interop.torch`` imports PyTorch; ``import nbloss`` imports none of these libraries.
"""
