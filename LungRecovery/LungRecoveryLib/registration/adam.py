"""Adam, without the second that `torch.optim` takes to import torch's compiler when its first optimiser is made."""

import torch

_BETAS, _EPSILON = (0.9, 0.999), 1e-8


class Adam:
    """Adam (Kingma and Ba, ICLR 2015) with bias correction, for a few tensors that require gradients.

    `rate` may be changed between steps. The steps are those of `torch.optim.Adam`.
    """

    def __init__(self, parameters: list[torch.Tensor], rate: float):
        self.parameters, self.rate, self.count = parameters, rate, 0
        self._means = [(torch.zeros_like(p), torch.zeros_like(p)) for p in parameters]

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter against its gradient, and forget the gradients."""
        self.count += 1
        first, second = (1 - beta**self.count for beta in _BETAS)
        for parameter, (mean, square) in zip(self.parameters, self._means, strict=True):
            gradient = parameter.grad
            mean.lerp_(gradient, 1 - _BETAS[0])
            square.mul_(_BETAS[1]).addcmul_(gradient, gradient, value=1 - _BETAS[1])
            parameter.addcdiv_(mean, (square.sqrt() / second**0.5).add_(_EPSILON), value=-self.rate / first)
            parameter.grad = None
