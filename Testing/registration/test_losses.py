"""Similarities agree with direct computation and prefer what they should; regularity vanishes where it must."""

import pytest
import torch

from LungRecoveryLib.registration import flow, losses

SHAPE = (11, 10, 12)


@pytest.fixture
def images():
    generator = torch.Generator().manual_seed(3)
    fixed = torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    other = 0.6 * fixed + 0.4 * torch.rand(SHAPE, generator=generator, dtype=torch.float64)
    mask = torch.zeros(SHAPE, dtype=torch.float64)
    mask[2:9, 1:8, 3:11] = 1
    return fixed, other, mask


def smooth(shape=SHAPE, phase=0.0):
    z, y, x = (c.double() for c in flow.voxel_coordinates(shape).flip(0))
    return 0.5 + 0.2 * torch.sin(0.7 * x + phase) * torch.cos(0.5 * y) + 0.2 * torch.sin(0.6 * z + 0.3 * x + phase)


@pytest.mark.parametrize("radius", [1, 2, 3])
def test_box_sum_equals_summing_each_window(images, radius):
    padded = torch.nn.functional.pad(images[0], [radius] * 6)
    expected = padded.unfold(0, 2 * radius + 1, 1).unfold(1, 2 * radius + 1, 1).unfold(2, 2 * radius + 1, 1)
    torch.testing.assert_close(losses.box_sum(images[0], radius), expected.sum((-1, -2, -3)))


def direct_lncc(warped, fixed, mask, radius, epsilon, masked_windows):
    """Squared LNCC voxel by voxel."""
    total = 0.0
    for z, y, x in mask.nonzero().tolist():
        window = tuple(slice(max(c - radius, 0), min(c + radius + 1, n)) for c, n in zip((z, y, x), SHAPE, strict=True))
        w = mask[window] if masked_windows else torch.ones_like(mask[window])
        a, b = warped[window], fixed[window]
        mean_a, mean_b = (a * w).sum() / w.sum(), (b * w).sum() / w.sum()
        variances = [((c - m) ** 2 * w).sum() / w.sum() + epsilon for c, m in ((a, mean_a), (b, mean_b))]
        covariance = ((a - mean_a) * (b - mean_b) * w).sum() / w.sum()
        total = total + covariance**2 / (variances[0] * variances[1])
    return 1 - total / mask.sum()


@pytest.mark.parametrize("masked_windows", [False, True])
def test_lncc_and_its_written_out_gradient_equal_the_direct_computation(images, masked_windows):
    fixed, other, mask = images
    ours, direct = other.clone().requires_grad_(True), other.clone().requires_grad_(True)
    loss = losses.Lncc(fixed, mask, 2, 1e-3, masked_windows)(ours)
    expected = direct_lncc(direct, fixed, mask, 2, 1e-3, masked_windows)
    loss.backward()
    expected.backward()
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(ours.grad, direct.grad, rtol=1e-6, atol=1e-10)


def test_lncc_in_float32_is_close_to_float64(images):
    fixed, other, mask = images
    exact = losses.Lncc(fixed, mask)(other)
    single = losses.Lncc(fixed.float(), mask.float())(other.float())
    assert single.item() == pytest.approx(exact.item(), abs=1e-5)


def test_lncc_of_masked_windows_ignores_everything_outside_the_mask(images):
    fixed, other, mask = images
    outside = torch.where(mask > 0, other, torch.full_like(other, 9.0))
    similarity = losses.Lncc(fixed, mask, masked_windows=True)
    assert similarity(outside).item() == pytest.approx(similarity(other).item(), abs=1e-12)


@pytest.mark.parametrize("loss", [losses.ssim, losses.mind, losses.nmi, losses.mean_squared_error])
def test_similarities_are_best_for_the_same_image_and_worsen_with_a_shift(loss):
    fixed, mask = smooth(), torch.ones(SHAPE, dtype=torch.float64)
    values = [loss(smooth(phase=p), fixed, mask).item() for p in (0.0, 0.3, 0.9)]
    assert values[0] < values[1] < values[2]


@pytest.mark.parametrize("loss", [losses.ssim, losses.mind, losses.nmi])
def test_similarities_pass_a_gradient_that_descends(loss):
    fixed, mask = smooth(), torch.ones(SHAPE, dtype=torch.float64)
    start = smooth(phase=0.5).requires_grad_(True)
    before = loss(start, fixed, mask)
    before.backward()
    step = start.detach() - 1e-2 * start.grad / start.grad.abs().max()
    assert loss(step, fixed, mask) < before


def test_same_image_scores_zero():
    fixed, mask = smooth(), torch.ones(SHAPE, dtype=torch.float64)
    assert losses.ssim(fixed, fixed, mask).item() == pytest.approx(0, abs=1e-12)
    assert losses.mind(fixed, fixed, mask).item() == 0
    assert losses.Lncc(fixed, mask, epsilon=1e-12)(fixed).item() == pytest.approx(0, abs=1e-6)


def test_mind_and_nmi_do_not_care_about_inverted_contrast():
    fixed, mask = smooth(), torch.ones(SHAPE, dtype=torch.float64)
    assert losses.mind(1.0 - fixed, fixed, mask).item() == pytest.approx(0, abs=1e-12)
    shifted = losses.nmi(smooth(phase=0.9), fixed, mask, limits=(0.0, 1.0))
    assert losses.nmi(1.0 - fixed, fixed, mask, limits=(0.0, 1.0)) < shifted


def test_bending_energy_vanishes_for_affine_fields_and_diffusion_for_constant_ones():
    coordinates = flow.voxel_coordinates(SHAPE, dtype=torch.float64)
    affine = torch.einsum(
        "ij,jzyx->izyx", torch.tensor([[0.1, 0.2, 0], [0, -0.1, 0.3], [0.2, 0, 0.05]]).double(), coordinates
    )
    assert losses.bending_energy(affine).item() == pytest.approx(0, abs=1e-20)
    assert losses.diffusion(torch.ones_like(affine)).item() == 0
    assert losses.diffusion(affine).item() == pytest.approx(0.01 + 0.04 + 0.01 + 0.09 + 0.04 + 0.0025)
    assert losses.bending_energy(coordinates**2).item() == pytest.approx(12.0)


def test_folding_penalty_sees_a_fold_and_nothing_else():
    coordinates = flow.voxel_coordinates(SHAPE, dtype=torch.float64)
    mirrored = torch.zeros_like(coordinates)
    mirrored[0] = -3.0 * coordinates[0]  # x -> -2 x: J = -2
    assert losses.folding_penalty(mirrored).item() == pytest.approx(2.0)
    assert losses.folding_penalty(0.2 * coordinates).item() == 0


def test_squeezing_counts_what_is_smaller_than_the_least():
    shrinking = -0.7 * flow.voxel_coordinates((6, 6, 6)) * torch.tensor([1.0, 0.0, 0.0])[:, None, None, None]
    assert float(losses.squeezing(shrinking, 0.4)) == pytest.approx(0.01, rel=1e-3)
    assert float(losses.squeezing(shrinking, 0.2)) == 0


def test_mass_preservation_is_zero_where_density_falls_as_volume_grows():
    fixed = smooth()
    jacobian = torch.full_like(fixed, 1.25)
    assert losses.mass_preservation(fixed / 1.25, jacobian, fixed, torch.ones_like(fixed)).item() < 1e-25
    assert losses.mass_preservation(fixed, jacobian, fixed, torch.ones_like(fixed)).item() > 1e-3
