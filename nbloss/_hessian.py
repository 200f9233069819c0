"""The problem of the second derivatives of cross entropy: the Hessian depends on the targets through one number per row alone."""

from functools import partial

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

    def second_derivative(self, v, grad_output, out):
        """Fill ``out``, of the storage type, with the Hessian times v, an array that `array_beside_input` checked; None: its diagonal."""
        coef = self.row_weights(grad_output)
        if self.options is not None and self.options.maps:
            self._of_mapped(v, coef, grad_output, out)
            return
        kernels = self.backend.kernels
        for at, x, *given, part in self._pieces([as_stored(self.input), *([] if v is None else [self._beside_input(v)])], out):
            if v is None:
                kernels.cross_entropy_hessian_diag(x, at(coef), self.options, part)
            else:
                kernels.cross_entropy_hvp(x, *given, at(coef), self.options, part)

    def _of_mapped(self, v, coef, grad_output, out):
        """The same where options map the logits: it needs the gradient, too."""
        backend, kernels, options = self.backend, self.backend.kernels, self.options.of_rows
        upstream, losses = self.upstream(grad_output), backend.scratch(self.positions, self.dtype)
        inputs = [backend.cast(self.input, self.dtype), None if v is None else backend.cast(v, self.dtype)]
        inputs.append(self.soft_targets() if self.soft else None)
        result = out if out.dtype == self.dtype else backend.scratch(self.input.shape, self.dtype)
        for at, *given, into in self._pieces([array for array in inputs if array is not None], result):
            views = iter(given)
            x, of_v, y = (None if array is None else next(views) for array in inputs)

            def per_position(numbers, part, at=at):
                numbers = at(numbers)
                return numbers if part is None or numbers is None or numbers.size == 1 else numbers[part.positions]

            def hessian(u, moved, product, part, per_position=per_position):
                if moved is None:
                    kernels.cross_entropy_hessian_diag(u, per_position(coef, part), options, product)
                else:
                    kernels.cross_entropy_hvp(u, moved, per_position(coef, part), options, product)

            def gradient(u, of_logits, part, per_position=per_position, y=y):
                targets = y if part is None or y is None else part.of(y)
                self._losses_of(u, targets, partial(per_position, part=part), options, upstream, losses, of_logits)

            kernels.mapped_hessian(x, of_v, self.options, hessian, gradient, into)
        if result is not out:
            backend.store(result, out, self.input.dtype)
