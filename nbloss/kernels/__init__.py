"""The kernels: one ``contract``, kept by ``cpu``, by ``cuda`` and, in plain NumPy, by ``reference``."""

from nbloss.kernels import disk as disk  # first: it takes a digest of the sources before others are read
