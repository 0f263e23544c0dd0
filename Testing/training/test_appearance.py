"""What the simulated scanner does to images, against the plain definitions."""

import pytest
import torch

from LungRecoveryTrainingLib import appearance
from LungRecoveryTrainingLib.appearance import Scanner
from LungRecoveryTrainingLib.draws import Draws

from .batches import SAME_SCANNER, generator, make_batch

NEVER = dict(slices_probability=0.0, noise_probability=0.0, kernel_probability=0.0, tone_probability=0.0)


def draw(count: int = 3) -> Draws:
    return Draws(count, torch.device("cpu"), generator(0))


def test_slices_three_voxels_thick_are_means_of_three():
    image = torch.rand(2, 1, 9, 5, 6, generator=generator(1))
    thick = appearance.thicker_slices(image, torch.tensor([1.0, 3.0]))
    torch.testing.assert_close(thick[0], image[0])
    torch.testing.assert_close(thick[1, 0, 1:-1], (image[1, 0, :-2] + image[1, 0, 1:-1] + image[1, 0, 2:]) / 3)


def test_blur_keeps_the_mean_and_spreads_by_its_variance_along_every_axis():
    point = torch.zeros(1, 1, 11, 11, 11)
    point[..., 5, 5, 5] = 1
    spread = appearance.blurred(point, torch.tensor([0.2]))
    assert spread.sum().item() == pytest.approx(1, abs=1e-5)
    offsets = (torch.arange(11.0) - 5) ** 2
    for axis in (2, 3, 4):
        profile = spread.sum([a for a in (0, 1, 2, 3, 4) if a != axis])
        assert (profile * offsets).sum().item() == pytest.approx(2 * 0.2, abs=1e-5)
    edge = (torch.arange(11.0) > 5).float().expand(1, 1, 11, 11, 11)
    assert appearance.blurred(edge, torch.tensor([-0.08])).max() > 1.05  # sharpened edges overshoot


def test_noise_has_the_deviation_of_its_sample():
    image = torch.zeros(2, 1, 30, 30, 30)
    noise = appearance.noisy(image, torch.tensor([0.0, 0.05]), draw(2))
    assert not noise[0].any()
    assert noise[1].std().item() == pytest.approx(0.05, rel=0.03)


def test_tone_follows_its_formula():
    image = torch.full((1, 1, 2, 2, 2), 0.25)
    bias = torch.full_like(image, 0.1)
    numbers = [torch.tensor([v]) for v in (0.5, 2.0, 0.01)]
    torch.testing.assert_close(appearance.toned(image, *numbers, bias), torch.full_like(image, 2 * 1.1 * 0.5 + 0.01))
    torch.testing.assert_close(appearance.toned(image - 1, *numbers, None), torch.full_like(image, 0.01))


@pytest.mark.parametrize("step", ["slices", "noise", "kernel", "tone"])
def test_each_step_changes_the_lungs_and_nothing_else(step):
    batch = make_batch()
    mask = batch["fixed_mask"].float()
    scanner = Scanner(**NEVER | {f"{step}_probability": 1.0})
    changed = scanner(batch["fixed"], mask, draw())
    difference = (changed - batch["fixed"]).abs()
    assert (difference[mask == 0] == 0).all()
    assert (difference * mask).amax((1, 2, 3, 4)).min() > 1e-3
    assert changed[mask > 0].max() <= scanner.limits[1]
    assert changed[mask > 0].min() >= scanner.limits[0]


def test_a_scanner_without_steps_leaves_the_image():
    batch = make_batch()
    assert torch.equal(SAME_SCANNER(batch["fixed"], batch["fixed_mask"], draw()), batch["fixed"])


def test_compressed_tissue_gets_no_denser_than_soft_tissue_unless_it_was():
    density = torch.tensor([0.2, 0.9, 1.2, 1.2])
    factor = torch.tensor([1.5, 1.5, 1.5, 0.5])
    torch.testing.assert_close(appearance.compressed(density, factor), torch.tensor([0.3, 1.05, 1.2, 0.6]))
