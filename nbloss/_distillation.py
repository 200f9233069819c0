"""The problem of the distillation loss: its soft targets are a teacher's logits."""

from nbloss._arguments import array_beside_input
from nbloss._options import checked_temperature
from nbloss._problem import Problem, as_stored


class Distillation(Problem):
    """The logits of a student and of its teacher, and how their losses are reduced."""

    target_name = "teacher"

    def __init__(self, backend, input, teacher, temperature, reduction, sample_weight, divisor):
        self._start(backend, input, reduction, divisor, "nan")
        self.beta = 1.0 / checked_temperature(temperature)
        self.target_array, self.soft, self.weight = array_beside_input(backend, "teacher", teacher, self.input.shape), True, None
        self._weigh_rows(sample_weight)

    def distillation(self, grad_output, gradient, with_loss=True):
        """As `cross_entropy`."""
        upstream = None if gradient is None else self.upstream(grad_output)
        losses = self.loss_buffer(with_loss)
        beta = float(self.dtype.type(self.beta))  # rounded, so that losses and gradients belong to one temperature
        for at, x, y, out in self._pieces([as_stored(self.input), self.soft_targets()], gradient):
            self.backend.kernels.distillation(x, y, beta, at(upstream), at(losses), out)
        return self._weighed(losses)
