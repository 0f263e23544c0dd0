"""The torch losses and exponentials that training uses, and the fused CUDA kernels, agree with float64 arithmetic.

The kernels run on a CUDA device, or by Triton's interpreter (TRITON_INTERPRET=1) on the CPU; without either their tests
are skipped, saying so.
"""

import os
from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch
from scipy.ndimage import map_coordinates

from LungRecoveryLib.registration import flow, losses
from LungRecoveryTrainingLib.acceleration import kernels_for

FIELDS = [(2, 3, 5, 7, 9), (1, 3, 4, 1, 6), (1, 3, 8, 6, 40)]
IMAGES = [((2, 1, 6, 9, 14), 2), ((1, 1, 9, 5, 70), 3), ((1, 1, 3, 5, 4), 4)]


@pytest.fixture(scope="module")
def fused():
    """(the kernels, the device they run on)."""
    if torch.cuda.is_available() and find_spec("triton") is not None:
        return kernels_for("cuda"), "cuda"
    if os.environ.get("TRITON_INTERPRET") == "1" and find_spec("triton") is not None:
        return import_module("LungRecoveryTrainingLib.kernels"), "cpu"
    pytest.skip("the fused kernels need a CUDA device with Triton (or Triton's interpreter)")


def pair(shape, seed=0):
    """A fixed image like lung tissue, a moving one that is partly alike, and a mask with holes."""
    generator = torch.Generator().manual_seed(seed)
    fixed = 0.15 + 0.1 * torch.rand(shape, generator=generator)
    moving = 0.5 * fixed + 0.05 * torch.rand(shape, generator=generator)
    return fixed, moving, (torch.rand(shape, generator=generator) > 0.3).float()


def field(shape, size=2.0, seed=1):
    return size * torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def with_gradient(function, leaf, upstream=None):
    """The function's value at a copy of `leaf`, and the gradient there."""
    leaf = leaf.detach().clone().requires_grad_(True)
    value = function(leaf)
    value.backward(torch.full_like(value, 3.0) if upstream is None else upstream.to(value))
    return value.detach(), leaf.grad


def apart(a, b):
    """|a - b| / |b|."""
    a, b = a.cpu().double(), b.cpu().double()
    return float((a - b).norm() / b.norm())


def direct_lncc(fixed, warped, mask, radius, epsilon=1e-4):
    """1 - mean squared local correlation, window by window, from the definition; arrays (n, 1, z, y, x) in float64."""
    total = 0.0
    for n, _, z, y, x in zip(*np.nonzero(mask), strict=True):
        window = tuple(slice(max(c - radius, 0), c + radius + 1) for c in (z, y, x))
        f, w = fixed[n, 0][window], warped[n, 0][window]
        covariance = ((f - f.mean()) * (w - w.mean())).mean()
        total += covariance**2 / ((f.var() + epsilon) * (w.var() + epsilon))
    return 1 - total / mask.sum()


@pytest.mark.parametrize(("shape", "radius"), IMAGES)
def test_lncc_of_a_batch_is_the_mean_over_every_window_of_the_mask(shape, radius):
    fixed, moving, mask = pair(shape)
    expected = direct_lncc(*(t.double().numpy() for t in (fixed, moving, mask)), radius)
    assert float(losses.Lncc(fixed, mask, radius)(moving)) == pytest.approx(expected, rel=1e-4)
    assert float(losses.Lncc(fixed.double(), mask.double(), radius)(moving.double())) == pytest.approx(expected)


@pytest.mark.parametrize(("shape", "radius"), IMAGES)
def test_lncc_in_float32_has_the_gradient_of_float64(shape, radius):
    fixed, moving, mask = pair(shape)
    single = with_gradient(losses.Lncc(fixed, mask, radius), moving)
    double = with_gradient(losses.Lncc(fixed.double(), mask.double(), radius), moving.double())
    assert apart(single[1], double[1]) < 2e-3


def test_the_gradient_of_lncc_is_its_slope():
    fixed, moving, mask = (t.double() for t in pair((1, 1, 4, 5, 6)))
    loss = losses.Lncc(fixed, mask, 2)
    assert torch.autograd.gradcheck(loss, moving.requires_grad_(True), atol=1e-8)


def test_squaring_moves_along_the_field_and_repeats_the_border():
    shape = (1, 3, 6, 7, 8)
    u = field(shape).double()
    grid = np.indices(shape[2:])
    where = [g + u[0, 2 - k].numpy() for k, g in enumerate(grid)]
    moved = np.stack([map_coordinates(c.numpy(), where, order=1, mode="nearest") for c in u[0]])
    squared = flow.exponentiate(2 * u, 1)[0].numpy()
    np.testing.assert_allclose(squared, u[0].numpy() + moved, atol=1e-10)


@pytest.mark.parametrize("shape", FIELDS)
def test_the_exponential_in_float32_is_that_of_float64(shape):
    velocity, upstream = field(shape), field(shape, seed=2)
    single = with_gradient(lambda v: flow.exponentiate(v, 7), velocity, upstream)
    double = with_gradient(lambda v: flow.exponentiate(v, 7), velocity.double(), upstream)
    assert apart(single[0], double[0]) < 1e-4
    assert apart(single[1], double[1]) < 1e-3


def test_the_kernels_are_given_only_where_they_run():
    assert kernels_for("cpu") is None
    if not torch.cuda.is_available():
        assert kernels_for("cuda") is None


@pytest.mark.parametrize(("shape", "radius"), IMAGES)
def test_fused_lncc_is_that_of_float64(fused, shape, radius):
    kernels, device = fused
    fixed, moving, mask = pair(shape)
    value, slope = with_gradient(kernels.Lncc(fixed.to(device), mask.to(device), radius), moving.to(device))
    expected = with_gradient(losses.Lncc(fixed.double(), mask.double(), radius), moving.double())
    assert float(value) == pytest.approx(float(expected[0]), rel=1e-4)
    assert apart(slope, expected[1]) < 2e-3


def test_fused_lncc_takes_other_centres_and_needs_no_gradient(fused):
    kernels, device = fused
    fixed, moving, mask = (t.to(device) for t in pair((1, 1, 6, 9, 14)))
    other = 1 - mask
    with torch.no_grad():
        value = kernels.Lncc(fixed, mask, 2)(moving, other)
    assert float(value) == pytest.approx(float(losses.Lncc(fixed, other, 2)(moving)), rel=1e-5)


def test_fused_lncc_refuses_half_precision_and_other_sizes(fused):
    kernels, device = fused
    fixed, moving, mask = (t.to(device) for t in pair((1, 1, 4, 5, 6)))
    with pytest.raises(TypeError, match="float32"):
        kernels.Lncc(fixed, mask)(moving.bfloat16())
    with pytest.raises(ValueError, match="one size"):
        kernels.Lncc(fixed, mask)(moving[..., 1:])


@pytest.mark.parametrize("shape", FIELDS)
def test_fused_exponential_is_that_of_float64(fused, shape):
    kernels, device = fused
    velocity, upstream = field(shape), field(shape, seed=2)
    value, slope = with_gradient(lambda v: kernels.exponentiate(v, 7), velocity.to(device), upstream)
    expected = with_gradient(lambda v: flow.exponentiate(v, 7), velocity.double(), upstream)
    assert apart(value, expected[0]) < 1e-4
    assert apart(slope, expected[1]) < 1e-3


def test_fused_squaring_keeps_nan_and_touches_nothing_else(fused):
    kernels, device = fused
    u = field((1, 3, 4, 5, 6)).to(device)
    u[0, :, 0, 0, 0] = torch.nan
    squared = kernels.square(u)
    assert torch.isnan(squared[0, :, 0, 0, 0]).all()
    assert torch.isfinite(squared[0, :, 3, 4, 5]).all()
