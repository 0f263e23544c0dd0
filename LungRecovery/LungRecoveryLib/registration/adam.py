"""Adam, without the second that `torch.optim` takes to import torch's compiler when its first optimiser is made."""

import torch

_MOMENTUM, _SQUARES, _EPSILON = 0.9, 0.999, 1e-8
# Who looks ahead may forget sooner: nearer the end after ten or twenty steps of a refinement than with 0.9.
_MOMENTUM_AHEAD = 0.8


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) with bias correction, for a few tensors that require gradients.

    `rate` may be changed between steps. With `ahead` the mean gradient is that of the next step (Nesterov's momentum:
    Dozat, ICLR 2016), which turns sooner where a step went too far. The steps are those of `torch.optim.Adam`, or of
    `torch.optim.NAdam` with a constant momentum.
    """

    def __init__(self, parameters: list[torch.Tensor], rate: float, ahead: bool = False):
        self.parameters, self.rate, self.ahead, self.count = parameters, rate, ahead, 0
        self.momentum = _MOMENTUM_AHEAD if ahead else _MOMENTUM
        self._means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter against its gradient, and forget the gradients."""
        self.count += 1
        second = 1 - _SQUARES**self.count
        of_mean, of_gradient = self._shares()
        for parameter, (mean, square) in zip(self.parameters, self._means, strict=True):
            gradient = parameter.grad
            mean.lerp_(gradient, 1 - self.momentum)
            square.mul_(_SQUARES).addcmul_(gradient, gradient, value=1 - _SQUARES)
            direction = (mean * of_mean).add_(gradient, alpha=of_gradient)
            parameter.addcdiv_(direction, (square.sqrt() / second**0.5).add_(_EPSILON), value=-self.rate)
            parameter.grad = None

    def _shares(self) -> tuple[float, float]:
        """What the mean gradient and the newest one count for in a step, the bias of a short past corrected."""
        if not self.ahead:
            return 1 / (1 - self.momentum**self.count), 0.0
        of_gradient = (1 - self.momentum) / (1 - self.momentum**self.count)
        return self.momentum / (1 - self.momentum ** (self.count + 1)), of_gradient
