"""log_softmax and its gradient."""

from .common import SMALL, SQUARE, WIDE, Race, peers


class LogSoftmax(Race):
    operation = "log_softmax"
    params = [peers("log_softmax"), ["float32"], [SMALL, SQUARE, WIDE]]

    def time_forward(self, peer, dtype, shape):
        self.run()


class LogSoftmaxBackward(Race):
    operation = "log_softmax_backward"
    params = [peers("log_softmax_backward"), ["float32"], [SQUARE]]

    def time_backward(self, peer, dtype, shape):
        self.run()
