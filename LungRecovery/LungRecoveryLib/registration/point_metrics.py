"""How alike two images are at scattered points: what rigid registration minimises.

`warped` and `fixed` are values (c, n) at n points, c features each (one for intensities), `weights` (n,) say how much
a point counts. Every function is a loss: smaller is better.
"""

from collections.abc import Callable

import torch

from . import losses

_BINS = 48
Metric = Callable[[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]


def mean_squares(warped: torch.Tensor, fixed: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Mean squared difference."""
    return (weights * (warped - fixed).square().mean(0)).sum() / weights.sum().clamp(min=1e-6)


def correlation(warped: torch.Tensor, fixed: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """1 - squared correlation over all points: blind to one linear change of contrast, also to its sign."""
    share = weights / weights.sum().clamp(min=1e-6)
    a, b = (v - (v * share).sum(1, keepdim=True) for v in (warped, fixed))
    covariance = (a * b * share).sum()
    return 1 - covariance.square() / ((a * a * share).sum() * (b * b * share).sum()).clamp(min=1e-12)


def mutual_information(warped: torch.Tensor, fixed: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Minus the mutual information, in nats, of values in 0 to 1."""
    return losses.mutual_information(warped[0], fixed[0], weights, _BINS)


def normalised_mutual_information(warped: torch.Tensor, fixed: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """2 - normalised mutual information of values in 0 to 1."""
    return losses.nmi(warped[0], fixed[0], weights, _BINS, (0.0, 1.0))


METRICS: dict[str, Metric] = {
    "mse": mean_squares,
    "ncc": correlation,
    "nmi": normalised_mutual_information,
    "mi": mutual_information,
    "mind": mean_squares,  # of descriptors
}
