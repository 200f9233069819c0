"""cross_entropy, without and with its gradient."""

from .common import DTYPES, SMALL, SQUARE, THIN, WIDE, Race, peers


class CrossEntropy(Race):
    operation = "cross_entropy"
    params = [peers("cross_entropy"), ["float32"], [SMALL, SQUARE, WIDE]]

    def time_forward(self, peer, dtype, shape):
        self.run()


class CrossEntropyValueAndGrad(Race):
    operation = "cross_entropy_value_and_grad"
    params = [peers("cross_entropy_value_and_grad"), DTYPES, [SMALL, THIN, SQUARE, WIDE]]

    def time_value_and_grad(self, peer, dtype, shape):
        self.run()


class HalfPrecision(Race):
    operation = "cross_entropy_value_and_grad"
    params = [["nbloss", "torch", "jax"], ["float16", "bfloat16"], [SQUARE]]

    def time_value_and_grad(self, peer, dtype, shape):
        self.run()


class Pixels(Race):
    """Classes on the second of four axes, as in image segmentation."""

    operation = "cross_entropy_value_and_grad"
    params = [["nbloss", "numpy", "torch", "jax"], ["float32"], ["4x19x256x256"]]

    def time_value_and_grad(self, peer, dtype, shape):
        self.run()
