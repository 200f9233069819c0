"""nll_loss and its gradient."""

from .common import SMALL, SQUARE, THIN, Race, peers


class NllLoss(Race):
    operation = "nll_loss"
    params = [peers("nll_loss"), ["float32"], [SMALL, THIN]]

    def time_forward(self, peer, dtype, shape):
        self.run()


class NllLossBackward(Race):
    operation = "nll_loss_backward"
    params = [peers("nll_loss_backward"), ["float32"], [SQUARE]]

    def time_backward(self, peer, dtype, shape):
        self.run()
