"""Where a call runs: on the CPU, or on an NVIDIA GPU. ``select`` decides; ``cpu`` and ``cuda`` offer the same methods."""
