"""The backends: ``cpu``, and ``cuda`` for an NVIDIA GPU, have the same methods. ``select`` decides which one runs a call."""
