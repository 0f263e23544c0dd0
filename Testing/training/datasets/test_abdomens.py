"""Samples of synthetic abdomens: two phases that lie alike, about the liver, the same for the same seed."""

import torch

from LungRecoveryLib.registration import flow
from LungRecoveryTrainingLib.datasets.abdomens import abdomen_samples

SIZE = (20, 18, 24)


def test_samples_are_two_phases_of_one_body_at_rest():
    first, second = abdomen_samples([3, 4], 14.0, SIZE)
    for sample in (first, second):
        assert sample["fixed"].shape == (1, *SIZE)
        assert not sample["displacement"].any()
        inside = sample["fixed_mask"] > 0
        assert 0.02 < inside.float().mean() < 0.9
        assert inside[0, SIZE[0] // 2, SIZE[1] // 2, SIZE[2] // 2]
        # The same body: bones and fat agree; another phase: something differs.
        correlation = torch.corrcoef(torch.stack([sample["fixed"][inside], sample["moving"][inside]]))[0, 1]
        assert 0.5 < correlation < 0.999
    assert {first["subject"], second["subject"]} == {"abdomen-3", "abdomen-4"}


def test_pairs_that_lie_apart_know_how():
    (sample,) = abdomen_samples([3], 14.0, SIZE, apart=True)
    known, field = sample["truth"] > 0, sample["displacement"]
    assert field.square().sum(0).sqrt()[known[0]].mean() > 0.5
    laid = flow.warp(sample["moving"], flow.voxel_coordinates(SIZE) + field)
    apart, together = (
        torch.corrcoef(torch.stack([sample["fixed"][known], moving[known]]))[0, 1]
        for moving in (sample["moving"], laid)
    )
    assert together > 0.5
    assert together > apart + 0.1


def test_the_same_seed_gives_the_same_sample():
    (one,), (again,) = (list(abdomen_samples([3], 14.0, SIZE)) for _ in range(2))
    assert torch.equal(one["fixed"], again["fixed"])
    assert one["pair"] == again["pair"]
