"""Samples of synthetic abdomens and chests: two scans that lie alike, about the organ, the same for the same seed."""

import pytest
import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib.datasets.trunks import trunk_samples

SIZE = (24, 20, 28)
SPACING_MM = 14.0
ABDOMEN, CHEST = 4, 3


def likeness(sample, moving, inside):
    return torch.corrcoef(torch.stack([sample["fixed"][inside], moving[inside]]))[0, 1]


def test_samples_are_two_scans_of_one_body_at_rest():
    for sample in trunk_samples([CHEST, ABDOMEN], SPACING_MM, SIZE):
        assert sample["fixed"].shape == (1, *SIZE)
        assert not sample["displacement"].any()
        inside = sample["fixed_mask"] > 0
        assert 0.02 < inside.float().mean() < 0.9
        # The same body: bones and fat agree; another scan: something differs.
        assert 0.5 < likeness(sample, sample["moving"], inside) < 0.999


def test_bodies_are_abdomens_and_chests_in_turns():
    chest, abdomen = trunk_samples([CHEST, ABDOMEN], SPACING_MM, SIZE)
    assert (chest["subject"], abdomen["subject"]) == ("chest-3", "abdomen-4")
    # The middle of the liver, and between two lungs, much of which is air.
    assert abdomen["fixed"][0, SIZE[0] // 2, SIZE[1] // 2, SIZE[2] // 2] > 0.9
    assert (chest["fixed"] < 0.3)[chest["fixed_mask"] > 0].float().mean() > 0.4


@pytest.mark.parametrize("seed", [ABDOMEN, CHEST])
def test_pairs_that_lie_apart_know_how(seed):
    (sample,) = trunk_samples([seed], SPACING_MM, SIZE, apart=True)
    known, field = sample["truth"] > 0, sample["displacement"]
    assert field.square().sum(0).sqrt()[known[0]].mean() > 0.4
    laid = flow.warp(sample["moving"], flow.voxel_coordinates(SIZE) + field)
    apart, together = (likeness(sample, moving, known) for moving in (sample["moving"], laid))
    assert together > 0.5
    assert together > apart + 0.1


@pytest.mark.parametrize("seed", [ABDOMEN, CHEST])
def test_the_same_seed_gives_the_same_sample(seed):
    (one,), (again,) = (list(trunk_samples([seed], SPACING_MM, SIZE)) for _ in range(2))
    assert torch.equal(one["fixed"], again["fixed"])
    assert one["pair"] == again["pair"]
