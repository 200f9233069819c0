"""The contract of ``nbloss.kernels`` on device memory. Importing the package imports no Numba; ``twin`` does."""
