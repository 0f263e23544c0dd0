"""Similarity and regularity, shared by refinement and training.

Images are (z, y, x) tensors in any linear scale of HU (the defaults suit (HU + 1000) / 1000); `mask` holds weights
(z, y, x) of the voxels that count. Every function is a loss: smaller is better. They need float32 or float64, never
bf16. Fields are (3, z, y, x) in voxels. Training hands in batches: images and masks (n, 1, z, y, x), fields
(n, 3, z, y, x); every mean then runs over the whole batch.
"""

from collections.abc import Iterator
from itertools import combinations

import torch
import torch.nn.functional as F

from . import flow

_AXES = (-3, -2, -1)


def box_sum(image: torch.Tensor, radius: int) -> torch.Tensor:
    """Sums over windows of (2 radius + 1)^3 voxels, zeros outside the image: same shape. Separable shifted adds."""
    for axis in range(image.ndim - 3, image.ndim):
        image = _window_sum(image, radius, axis)
    return image


def _window_sum(image: torch.Tensor, radius: int, axis: int) -> torch.Tensor:
    width = 2 * radius + 1
    run = F.pad(image, [0, 0] * (image.ndim - 1 - axis) + [radius, radius])
    length = image.shape[axis]
    # Sums of 1, 2, 4, ... neighbours by doubling, put together as the width's binary digits say.
    total, start, span = None, 0, 1
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
    def forward(ctx, warped, fixed, mask, weights, moments, radius, epsilon):
        mean_f, variance_f, count = moments
        weighted = warped if weights is None else warped * weights
        mean_w = box_sum(weighted, radius) / count
        variance_w = (box_sum(weighted * warped, radius) / count - mean_w * mean_w).clamp_(min=0) + epsilon
        covariance = box_sum(fixed * weighted, radius) / count - mean_f * mean_w
        ratio = covariance / (variance_f * variance_w)
        total = mask.sum().clamp(min=1e-6)
        a = (2 * mask / (total * count)) * ratio
        b = a * covariance / variance_w
        ctx.save_for_backward(warped, fixed, weights, a, b, b * mean_w - a * mean_f)
        ctx.radius = radius
        return (covariance * ratio * mask).sum() / total

    @staticmethod
    def backward(ctx, upstream):
        warped, fixed, weights, a, b, c = ctx.saved_tensors
        r = ctx.radius
        gradient = fixed * box_sum(a, r) - warped * box_sum(b, r) + box_sum(c, r)
        if weights is not None:
            gradient = gradient * weights
        return upstream * gradient, None, None, None, None, None, None


class Lncc:
    """1 - mean over `mask` of the squared local normalised cross-correlation with a fixed image.

    The fixed image's local moments are computed once, so that a refinement's steps cost little. With `masked_windows`
    the windows see the voxels of the mask alone, else whole windows of which only the centres are masked. `epsilon`
    is added to the local variances (in squared units of the images) so that windows of pure noise count for little.
    Source: Avants et al., Medical Image Analysis 2008.
    """

    def __init__(
        self,
        fixed: torch.Tensor,
        mask: torch.Tensor,
        radius: int = 2,
        epsilon: float = 1e-4,
        masked_windows: bool = False,
    ):
        self.fixed, self.mask, self.radius, self.epsilon = fixed, mask, radius, epsilon
        self.weights = mask if masked_windows else None
        weights = torch.ones_like(fixed) if self.weights is None else self.weights
        count = box_sum(weights, radius).clamp(min=1e-6)
        mean = box_sum(fixed * weights, radius) / count
        variance = (box_sum(fixed * fixed * weights, radius) / count - mean * mean).clamp_(min=0) + epsilon
        self.moments = (mean, variance, count)

    def __call__(self, warped: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        """The loss of a warped image; `mask` replaces the centres that count, for instance inside a field of view."""
        mask = self.mask if mask is None else mask
        return 1 - _SquaredLncc.apply(warped, self.fixed, mask, self.weights, self.moments, self.radius, self.epsilon)


def mean_squared_error(warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the mask of the squared difference."""
    return _masked_mean((warped - fixed) ** 2, mask)


def ssim(warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor, radius: int = 3, extent: float = 1.0):
    """1 - mean structural similarity over the mask; `extent` is the range of the images' values.

    Source: Wang et al., IEEE Transactions on Image Processing 2004, with box windows.
    """
    count = box_sum(torch.ones_like(fixed), radius)
    mean_w, mean_f = box_sum(warped, radius) / count, box_sum(fixed, radius) / count
    variance_w = box_sum(warped * warped, radius) / count - mean_w**2
    variance_f = box_sum(fixed * fixed, radius) / count - mean_f**2
    covariance = box_sum(warped * fixed, radius) / count - mean_w * mean_f
    c1, c2 = (0.01 * extent) ** 2, (0.03 * extent) ** 2
    luminance = (2 * mean_w * mean_f + c1) / (mean_w**2 + mean_f**2 + c1)
    structure = (2 * covariance + c2) / (variance_w + variance_f + c2)
    return 1 - _masked_mean(luminance * structure, mask)


def mind_ssc(image: torch.Tensor, radius: int = 1, dilation: int = 2) -> torch.Tensor:
    """Modality-independent descriptors of self-similarity context: ([n, 1,] z, y, x) -> ([n,] 12, z, y, x) in 0..1.

    Source: Heinrich et al., MICCAI 2013: distances between patches at the six neighbours, the twelve pairs that lie
    at a right angle, normalised by their local mean.
    """
    shifts = [(d, 0, 0) for d in (-dilation, dilation)]
    shifts += [(0, d, 0) for d in (-dilation, dilation)] + [(0, 0, d) for d in (-dilation, dilation)]
    batch = image.reshape(-1, 1, *image.shape[-3:])
    padded = F.pad(batch, [dilation] * 6, mode="replicate")
    neighbours = [_shifted(padded, shift, dilation, image.shape[-3:]) for shift in shifts]
    distances = torch.cat(
        [
            box_sum((neighbours[i] - neighbours[j]) ** 2, radius)
            for i in range(6)
            for j in range(i + 1, 6)
            if i // 2 != j // 2
        ],
        dim=1,
    )
    distances = distances - distances.amin(dim=1, keepdim=True)
    local = distances.mean(dim=1, keepdim=True)
    middle = local.mean(dim=(1, 2, 3, 4), keepdim=True).detach()
    descriptors = torch.exp(-distances / local.clamp(1e-3 * middle + 1e-12, 1e3 * middle + 1e-12))
    return descriptors if image.ndim == 5 else descriptors[0]


def _shifted(padded: torch.Tensor, shift: tuple[int, int, int], margin: int, shape) -> torch.Tensor:
    for axis, (step, length) in enumerate(zip(shift, shape, strict=True), start=2):
        padded = padded.narrow(axis, margin + step, length)
    return padded


def mind(warped: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """Mean over the mask of the squared difference of MIND-SSC descriptors."""
    return _masked_mean((mind_ssc(warped) - mind_ssc(fixed)).square().mean(dim=-4, keepdim=warped.ndim == 5), mask)


def nmi(
    warped: torch.Tensor,
    fixed: torch.Tensor,
    mask: torch.Tensor,
    bins: int = 32,
    limits: tuple[float, float] = (0.0, 1.3),
) -> torch.Tensor:
    """2 - normalised mutual information (H(w) + H(f)) / H(w, f) over the mask, in 0 (equal) to 1 (independent).

    The joint histogram has linear Parzen windows over `limits`. Source: Studholme et al., Pattern Recognition 1999.
    """
    joint = _joint_histogram(warped, fixed, mask, bins, limits)
    return 2 - (_entropy(joint.sum(0)) + _entropy(joint.sum(1))) / _entropy(joint)


def mutual_information(
    warped: torch.Tensor,
    fixed: torch.Tensor,
    mask: torch.Tensor,
    bins: int = 32,
    limits: tuple[float, float] = (0.0, 1.0),
) -> torch.Tensor:
    """Minus the mutual information H(w) + H(f) - H(w, f) over the mask, in nats; the histogram is that of `nmi`.

    Source: Viola and Wells, International Journal of Computer Vision 1997.
    """
    joint = _joint_histogram(warped, fixed, mask, bins, limits)
    return _entropy(joint) - _entropy(joint.sum(0)) - _entropy(joint.sum(1))


def _joint_histogram(warped, fixed, mask, bins: int, limits: tuple[float, float]) -> torch.Tensor:
    """The shares (bins, bins) of the mask's voxels with each pair of values."""
    inside = mask > 0
    low, high = limits

    def memberships(image: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        position = (image[inside].clamp(low, high) - low) / (high - low) * (bins - 1)
        first = position.detach().floor().clamp(max=bins - 2)
        return first.long(), position - first

    # A value belongs to two bins, a pair of values to four.
    (row, down), (column, right), weights = memberships(warped), memberships(fixed), mask[inside]
    joint = torch.zeros(bins * bins, dtype=warped.dtype, device=warped.device)
    for below, share in ((0, 1 - down), (1, down)):
        for beside, part in ((0, 1 - right), (1, right)):
            joint = joint.index_add(0, (row + below) * bins + column + beside, weights * share * part)
    return joint.reshape(bins, bins) / weights.sum()


def _entropy(shares: torch.Tensor) -> torch.Tensor:
    return -(shares * (shares + 1e-12).log()).sum()


def diffusion(field: torch.Tensor) -> torch.Tensor:
    """Mean squared first difference of a field (3, z, y, x), summed over its components and the three axes."""
    return sum(torch.diff(field, dim=axis).square().sum(-4).mean() for axis in _AXES)


def bending_energy(field: torch.Tensor) -> torch.Tensor:
    """Mean squared second difference of a field, summed over components and all pairs of axes: 0 for affine fields.

    Source: Rueckert et al., IEEE Transactions on Medical Imaging 1999.
    """
    return sum(term.square().sum(-4).mean() for term in _second_differences(field))


def _second_differences(field: torch.Tensor) -> Iterator[torch.Tensor]:
    for axis in _AXES:
        yield torch.diff(field, n=2, dim=axis)
    for first, second in combinations(_AXES, 2):
        yield 2**0.5 * torch.diff(torch.diff(field, dim=first), dim=second)


def folding_penalty(displacement: torch.Tensor) -> torch.Tensor:
    """Mean of max(0, -J) of a displacement field: 0 where nothing folds."""
    return flow.jacobian_determinant(displacement).neg().clamp(min=0).mean()


def squeezing(displacement: torch.Tensor, least: float) -> torch.Tensor:
    """Mean square of what the Jacobian determinant of a displacement field is below `least`.

    Differences to the next node and from the one before: central ones do not see what folds between two nodes.
    """
    short = 0.0
    for side in (0, 1):
        # Slopes at the nodes that have a neighbour on that side along every axis.
        columns = []
        for axis in (-1, -2, -3):
            step = torch.diff(displacement, dim=axis)
            for other in {-1, -2, -3} - {axis}:
                step = step.narrow(other, side, displacement.shape[other] - 1)
            columns.append(step)
        jacobian = flow.determinant(torch.stack(columns, dim=-4))
        short = short + (least - jacobian).clamp(min=0).square().mean() / 2
    return short


def mass_preservation(
    warped: torch.Tensor, jacobian: torch.Tensor, fixed: torch.Tensor, mask: torch.Tensor
) -> torch.Tensor:
    """Mean squared difference of tissue mass, J (HU_moving(phi) + 1000) against HU_fixed + 1000, both over 1000.

    The images are (HU + 1000) / 1000. Source: Yin et al., Medical Physics 2009.
    """
    return _masked_mean((warped * jacobian - fixed) ** 2, mask)


def _masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return (values * mask).sum() / mask.sum().clamp(min=1e-6)
