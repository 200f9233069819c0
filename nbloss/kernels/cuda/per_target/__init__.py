"""Kernels that do not reduce over logits: targets, the NLL loss, sums over positions, and copies."""
