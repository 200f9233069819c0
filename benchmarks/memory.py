"""Peak memory of a process that computes one loss and gradient. It includes the peer's own libraries, so compare each
number with `peakmem_import_only` of the same peer, not with the other peers'."""

from .common import WIDE, Race, problem


class PeakMemory(Race):
    operation = "cross_entropy_value_and_grad"
    params = [["nbloss", "numpy", "torch"], ["float32"], [WIDE]]

    def setup(self, peer, dtype, shape):
        self.problem = problem(dtype, shape)
        super().setup(peer, dtype, "2x3")  # the libraries are loaded, and nothing large is there
        self.problem.logits, self.problem.target  # noqa: B018  the two inputs, which everyone needs

    def peakmem_import_only(self, peer, dtype, shape):
        pass

    def peakmem_value_and_grad(self, peer, dtype, shape):
        super().setup(peer, dtype, shape)
