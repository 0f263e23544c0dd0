"""Chests of plain shapes are laid out like patients, and no two alike."""

import pytest
import torch

from LungRecoveryTrainingLib.draws import Draws
from LungRecoveryTrainingLib.plain_chests import plain_chests

SHAPE, SPACING = (56, 44, 58), 6.0
TISSUE = 0.8


def made(count: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    return plain_chests(Draws(count, torch.device("cpu"), torch.Generator().manual_seed(seed)), SHAPE, SPACING)


@pytest.fixture(scope="module")
def chests() -> tuple[torch.Tensor, torch.Tensor]:
    return made(16)


def middle(mask: torch.Tensor) -> torch.Tensor:
    """The mean place (z, y, x) of a mask (z, y, x)."""
    return torch.nonzero(mask).float().mean(0)


def test_the_lungs_are_dark_on_both_sides_and_as_large_as_lungs(chests):
    image, lung = chests
    assert image.shape == lung.shape == (16, 1, *SHAPE)
    assert set(lung.unique().tolist()) == {0.0, 1.0}
    assert image[lung > 0].median() < 0.4
    right, left = lung[..., : SHAPE[2] // 2], lung[..., SHAPE[2] // 2 :]
    for side in (right, left):
        litres = side.sum((1, 2, 3, 4)) * SPACING**3 / 1e6
        assert litres.min() > 0.5
        assert litres.max() < 6.0


def test_bones_lie_dorsally_and_abdomen_caudally(chests):
    """The axes are the patient's S, P and L: the spine behind the lungs' middle, dense tissue below them."""
    image, lung = chests
    column = slice(SHAPE[2] // 2 - 3, SHAPE[2] // 2 + 3)
    dorsal, caudal = [], []
    for chest, mask in zip(image[:, 0], lung[:, 0] > 0, strict=True):
        at = middle(mask)
        dorsal.append(float(middle(chest[:, :, column] > 1.14)[1] - at[1]))
        below, above = chest[: int(at[0]) // 2], chest[-(int(SHAPE[0] - at[0]) // 2) :]
        caudal.append(float((below > TISSUE).float().mean() - (above > TISSUE).float().mean()))
    for sides in (dorsal, caudal):  # a bright heart may outweigh a slender spine, gas the liver
        assert sorted(sides)[4] > 0


def test_both_lungs_reach_about_as_far_down(chests):
    """As in patients: what one lung hides can be read from the other."""
    _, lung = chests
    levels = lung.amax(dim=3)[:, 0]  # (n, z, x)
    lowest = [side.amax(dim=2).argmax(dim=1).float() for side in levels.split(SHAPE[2] // 2, dim=2)]
    assert lowest[0].std() > 2
    assert torch.corrcoef(torch.stack(lowest))[0, 1] > 0.7


def test_chests_differ_and_the_same_generator_draws_the_same(chests):
    image, lung = chests
    volumes = lung.sum((1, 2, 3, 4))
    assert volumes.std() > 0.1 * volumes.mean()
    tissue = torch.stack([chest[(chest > 0.96) & (chest < 1.1)].median() for chest in image])
    assert tissue.std() > 0.01
    again = made(16)
    assert torch.equal(again[0], image)
    assert torch.equal(again[1], lung)
    assert not torch.equal(made(16, seed=1)[1], lung)
