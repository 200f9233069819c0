"""The primitives that kernels are written with, once for hardware and once for the simulator."""
