"""The problem of the second derivatives of cross entropy: the Hessian depends on the targets through one number per row alone."""

from nbloss._problem import Problem, as_stored


class Hessian(Problem):
    """The logits, the targets and the options of a cross entropy, of which the Hessian is asked for."""

    def row_weights(self, grad_output):
        """M times the upstream gradient: one number, or one per position; 0 where a position does not count."""
        upstream, kernels, mass = self.upstream(grad_output), self.backend.kernels, self.scale
        if self.soft or self.smoothing > 0:
            mass, w = self.backend.scratch(self.positions, self.dtype), self.class_weights()
            if self.soft:
                share = self.smoothing / max(self.classes, 1)
                for at, y, _ in self._pieces([self.soft_targets()], None):
                    kernels.row_mass(y, w, 1.0 - self.smoothing, share, self.classes, None, None, at(mass))
            else:
                kernels.row_mass(None, w, 0.0, 0.0, self.classes, self.scale, self.spread, mass)
        if mass.size < self.positions:  # a single number for all positions is 1
            return upstream
        coef = self.backend.scratch(self.positions, self.dtype)
        if self.soft and upstream.size == self.positions:  # with the sample weights: those of 0 hide probabilities that are nan
            kernels.weigh(mass, upstream, coef)
        else:  # a scale of 0 hides the upstream gradient of a mean over nothing, which is nan
            kernels.weigh(upstream, mass, coef)
        return coef

    def hessian_product(self, v, grad_output, out):
        """Fill ``out`` with the Hessian times v, an array that `array_beside_input` checked."""
        coef = self.row_weights(grad_output)
        for at, x, v_part, part in self._pieces([as_stored(self.input), self._beside_input(v)], out):
            self.backend.kernels.cross_entropy_hvp(x, v_part, at(coef), self.options, part)

    def hessian_diagonal(self, grad_output, out):
        """Fill ``out`` with the diagonal of the Hessian."""
        coef = self.row_weights(grad_output)
        for at, x, part in self._pieces([as_stored(self.input)], out):
            self.backend.kernels.cross_entropy_hessian_diag(x, at(coef), self.options, part)
