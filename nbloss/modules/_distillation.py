"""`DistillationLoss`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nbloss import functional as F
from nbloss._docstrings import documented
from nbloss._options import checked_divisor, checked_reduction, checked_temperature
from nbloss.functional._distillation import ENTRIES
from nbloss.modules._base import Module

if TYPE_CHECKING:
    from numpy.typing import ArrayLike


@documented(**ENTRIES)
class DistillationLoss(Module):
    """Divergence of a student's softmax from its teacher's: ``l_i = T^2 sum_c q_ic log(q_ic / p_ic)`` at the temperature T.

    Parameters
    ----------
    %(parameters)s

    Notes
    -----
    The module keeps references to the last forward's input and teacher for `backward`: do not overwrite them in between.
    `nbloss.functional.distillation_loss_value_and_grad` gives loss and gradient in one pass over the logits, faster than two calls.

    Examples
    --------
    >>> import numpy as np, nbloss
    >>> loss = nbloss.DistillationLoss(temperature=2.0)
    >>> loss(np.array([[0.0, 0.0]]), np.array([[0.0, 2.0]])).round(4)
    np.float64(0.4438)
    >>> loss.backward().round(4)
    array([[ 0.4621, -0.4621]])
    >>> loss
    DistillationLoss(temperature=2.0, reduction='mean')
    """

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        divisor: float | None = None,
        reduction: str | None = "mean",
        device: str | None = None,
        reuse_grad: bool = False,
    ):
        super().__init__(device, reuse_grad)
        self.temperature, self.reduction = checked_temperature(temperature), checked_reduction(reduction)
        self.divisor = checked_divisor(divisor, self.reduction)

    @property
    def options(self):
        """The keyword arguments of the functional form."""
        return {name: getattr(self, name) for name in ("temperature", "divisor", "reduction", "device")}

    def __call__(
        self, input: ArrayLike, teacher: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None
    ) -> Any:
        """The same as `forward`."""
        return self.forward(input, teacher, sample_weight=sample_weight, divisor=divisor)

    def forward(self, input: ArrayLike, teacher: ArrayLike, *, sample_weight: ArrayLike | None = None, divisor: float | None = None) -> Any:
        """The loss of ``input`` and ``teacher``, as in the functional form.

        ``divisor`` replaces the module's for this call and its `backward`; it often is another number in each step.
        """
        of_call = {"sample_weight": sample_weight} | ({} if divisor is None else {"divisor": divisor})
        value = F.distillation_loss(input, teacher, **self.options | of_call)
        self._saved = input, teacher, of_call
        return value

    def backward(self, grad_output: ArrayLike = 1.0) -> Any:
        """Gradient with respect to the last forward's ``input``; ``grad_output`` has the loss's shape or is one number."""
        input, teacher, of_call = self._saved_arrays()
        return self._gradient(F.distillation_loss_backward, input, grad_output, input, teacher, **self.options | of_call)

    def extra_repr(self) -> str:
        """The temperature and the reduction, and the divisor if there is one."""
        shown = [f"temperature={self.temperature!r}", f"reduction={self.reduction!r}"]
        shown += [] if self.divisor is None else [f"divisor={self.divisor!r}"]
        return ", ".join(filter(None, [*shown, super().extra_repr()]))
