"""Similarity and regularity, shared by refinement and training.

Images are (z, y, x) tensors in any linear scale of HU; `mask` holds weights (z, y, x) of the voxels that count.
Similarities are losses: smaller is better. They must see float32 or float64, never bf16.
"""

import torch


def box_sum(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Sums over windows of (2 radius + 1)^3 voxels, zeros outside the image: same shape. Separable shifted adds."""
    for axis in range(image.ndim - 3, image.ndim):
        image = _window_sum(image, radius, axis)
    return image


def _window_sum(image: torch.Tensor, radius: int, axis: int) -> torch.Tensor:
    width = 2 * radius + 1
    padding = [0, 0] * (image.ndim - 1 - axis) + [radius, radius]
    padded = torch.nn.functional.pad(image, padding)
    length = image.shape[axis]
    # Sums of 1, 2, 4, ... neighbours by doubling, put together as the width's binary digits say.
    total, start, span, run = None, 0, 1, padded
    while True:
        if width & span:
            piece = run.narrow(axis, start, length)
            total = piece if total is None else total + piece
            start += span
        if span * 2 > width:
            return total
        keep = run.shape[axis] - span
        run = run.narrow(axis, 0, keep) + run.narrow(axis, span, keep)
        span *= 2


class _SquaredLncc(torch.autograd.Function):
    """Mean of squared local correlation with its gradient for the warped image written out: 3 + 3 box sums a step."""

    @staticmethod
    def forward(ctx, warped, fixed, mask, moments, radius, epsilon):
        mean_f, variance_f, count = moments
        mean_w = box_sum(warped, radius) / count
        variance_w = (box_sum(warped * warped, radius) / count - mean_w * mean_w).clamp_(min=0) + epsilon
        covariance = box_sum(fixed * warped, radius) / count - mean_f * mean_w
        ratio = covariance / (variance_f * variance_w)
        squared = covariance * ratio
        total = mask.sum()
        a = (2 * mask / (total * count)) * ratio
        b = a * covariance / variance_w
        ctx.save_for_backward(warped, fixed, a, b, b * mean_w - a * mean_f)
        ctx.radius = radius
        return (squared * mask).sum() / total

    @staticmethod
    def backward(ctx, upstream):
        warped, fixed, a, b, c = ctx.saved_tensors
        r = ctx.radius
        gradient = fixed * box_sum(a, r) - warped * box_sum(b, r) + box_sum(c, r)
        return upstream * gradient, None, None, None, None, None


class Lncc:
    """1 - mean over `mask` of the squared local normalised cross-correlation with a fixed image.

    The fixed image's local moments are computed once, so that a refinement's steps cost little. `epsilon` is added to
    the local variances (in squared units of the images) so that windows of pure noise count for little.
    Source: Avants et al., Medical Image Analysis 2008.
    """

    def __init__(self, fixed: torch.Tensor, mask: torch.Tensor, radius: int = 2, epsilon: float = 1e-4):
        self.fixed, self.mask, self.radius, self.epsilon = fixed, mask, radius, epsilon
        count = box_sum(torch.ones_like(fixed), radius)
        mean = box_sum(fixed, radius) / count
        variance = (box_sum(fixed * fixed, radius) / count - mean * mean).clamp_(min=0) + epsilon
        self.moments = (mean, variance, count)

    def __call__(self, warped: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        mask = self.mask if mask is None else mask
        return 1 - _SquaredLncc.apply(warped, self.fixed, mask, self.moments, self.radius, self.epsilon)


def diffusion(field: torch.Tensor) -> torch.Tensor:
    """Mean squared first difference of a field (3, z, y, x), summed over its components and the three axes."""
    return sum(torch.diff(field, dim=axis).square().sum(0).mean() for axis in (1, 2, 3))
