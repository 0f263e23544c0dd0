"""Samples of generated brains: two people with labels, or shapes that lie alike; the same for the same seed."""

import torch

from LungRecoveryTrainingLib.datasets.brains import SHAPES, brain_samples

SIZE, SPACING = (24, 28, 24), 8.0


def test_people_are_two_brains_with_their_labels():
    people, _ = brain_samples([2, 3], SPACING, SIZE, shapes=True)
    assert people["pair"] == "brain-2:people"
    for scan in ("fixed", "moving"):
        image, mask, labels = (people[f"{scan}{key}"] for key in ("", "_mask", "_labels"))
        assert image.shape == mask.shape == labels.shape == (1, *SIZE)
        assert labels.dtype == torch.uint8
        assert labels.unique().tolist() == list(range(15))
        # The brain's brightest is near 1, around it is nothing.
        assert abs(float(image[mask > 0].quantile(0.995)) - 1.0) < 0.02
        assert not image[mask == 0].any()
        assert ((labels > 0) & (mask > 0)).sum() > 0.97 * (labels > 0).sum()
    assert not torch.equal(people["fixed_labels"], people["moving_labels"])
    assert not people["truth"].any()  # nobody knows what of one person is what of another


def test_shapes_lie_alike_in_two_contrasts():
    (shapes,) = brain_samples([3], SPACING, SIZE, shapes=True)
    assert shapes["pair"] == "brain-3:shapes"
    assert torch.equal(shapes["fixed_labels"], shapes["moving_labels"])
    assert torch.equal(shapes["truth"], shapes["fixed_mask"])
    assert not shapes["displacement"].any()
    assert len(shapes["fixed_labels"].unique()) > SHAPES // 2
    assert 0.15 < shapes["fixed_mask"].float().mean() < 0.7
    assert not torch.allclose(shapes["fixed"], shapes["moving"], atol=0.05)


def test_only_people_are_validated_on_and_a_seed_gives_one_sample():
    (one,), (again,) = (list(brain_samples([3], SPACING, SIZE)) for _ in range(2))
    assert one["pair"] == again["pair"] == "brain-3:people"
    assert torch.equal(one["moving"], again["moving"])
    assert torch.equal(one["moving_labels"], again["moving_labels"])
