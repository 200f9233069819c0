"""`python -m nbloss bench --device cuda`: nbloss on an NVIDIA GPU against torch, torch.compile, Triton and the GPU's own copy."""

from .command import main as main
