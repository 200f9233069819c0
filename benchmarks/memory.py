"""Peak memory of a process that computes one loss and gradient.

It includes the libraries of the peer. Compare each result with `peakmem_import_only` of the same peer, not with other peers.
"""

from .common import WIDE, Race, problem


class PeakMemory(Race):
    operation = "cross_entropy_value_and_grad"
    params = [["nbloss", "numpy", "torch"], ["float32"], [WIDE]]

    def setup(self, peer, dtype, shape):
        self.problem = problem(dtype, shape)
        super().setup(peer, dtype, "2x3")  # loads the libraries with small arrays
        self.problem.logits, self.problem.target  # noqa: B018  makes the two inputs, which every peer needs

    def peakmem_import_only(self, peer, dtype, shape):
        pass

    def peakmem_value_and_grad(self, peer, dtype, shape):
        super().setup(peer, dtype, shape)
