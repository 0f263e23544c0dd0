"""Samples of whole synthetic chests: two visits with all around the lungs, the same for the same seed."""

from dataclasses import replace

import pytest
import torch

from LungRecoveryTrainingLib.datasets.chests import PhantomSettings
from LungRecoveryTrainingLib.datasets.whole_chests import whole_chest_samples

SIZE = (36, 28, 40)
SETTINGS = replace(PhantomSettings(), kinds=("pair",), pixel_mm=(5.0, 5.0), slice_mm=(5.0, 5.0), one_lung=1.0)


@pytest.fixture(scope="module")
def samples() -> list[dict]:
    return [next(iter(whole_chest_samples([5], 9.0, SIZE, SETTINGS))) for _ in range(2)]


def test_both_lungs_and_all_around_them_are_shown(samples):
    sample = samples[0]
    for scan in ("fixed", "moving"):
        image, mask = sample[scan].float(), sample[f"{scan}_mask"] > 0
        assert image.shape == (1, *SIZE)
        assert 0.03 < mask.float().mean() < 0.5
        assert image[mask].mean() < 0.6
        outside = image[~mask]
        assert (outside > 0.9).any()
        assert (outside < 0.1).any()
        middle = SIZE[2] // 2
        assert mask[..., :middle].any()
        assert mask[..., middle:].any()
    assert not sample["displacement"].any()


def test_the_same_seed_gives_the_same_sample(samples):
    one, again = samples
    assert torch.equal(one["fixed"], again["fixed"])
    assert one["pair"] == again["pair"]
