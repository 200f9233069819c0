"""What surrounds a kernel: device memory, the choice of a plan, compilation, and launches."""
