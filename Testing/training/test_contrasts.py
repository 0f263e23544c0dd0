"""Contrast drawn from labels: each scan its own, scaled as registration scales a brain; without it nothing changes."""

import torch

from LungRecoveryTrainingLib.augmentation import Augmentation
from LungRecoveryTrainingLib.contrasts import Contrasts, scaled
from LungRecoveryTrainingLib.draws import Draws

from .batches import generator, make_batch
from .test_augmentation import STILL

ALONE = STILL | dict(ground=0.0)


def painted(contrasts: Contrasts, seed: int = 1, **settings) -> dict:
    """A batch of lungs' labels 1 and 2, painted."""
    return Augmentation(**ALONE | settings, contrasts=contrasts)(make_batch(), generator(seed))


def tones(batch: dict, scan: str) -> torch.Tensor:
    """The mean of each label of each sample, which must be all that is there: (n, 2)."""
    means = []
    for image, labels in zip(batch[scan], batch[f"{scan}_labels"], strict=True):
        means.append(torch.stack([image[labels == label].mean() for label in (1, 2)]))
        for label, mean in zip((1, 2), means[-1], strict=True):
            assert torch.allclose(image[labels == label], mean, atol=1e-4)
        assert not image[labels == 0].any()
    return torch.stack(means)


def test_tones_follow_labels_and_differ_from_scan_to_scan():
    batch = painted(Contrasts(1.0))
    fixed, moving = tones(batch, "fixed"), tones(batch, "moving")
    ratios = torch.stack([fixed[:, 0] / fixed[:, 1], moving[:, 0] / moving[:, 1]]).flatten()
    assert len(ratios.round(decimals=3).unique()) == len(ratios)
    # As `prepare_brains` scales: the brightest tissue is 1.
    assert torch.allclose(fixed.max(1).values, torch.ones(len(fixed)), atol=1e-4)
    assert torch.allclose(moving.max(1).values, torch.ones(len(moving)), atol=1e-4)


def test_pairs_of_one_scanner_share_their_tones():
    batch = painted(Contrasts(1.0, alike=1.0))
    assert torch.allclose(tones(batch, "fixed"), tones(batch, "moving"), atol=1e-4)


def test_without_labels_the_mask_is_painted():
    batch = make_batch()
    unlabelled = {key: value for key, value in batch.items() if not key.endswith("_labels")}
    Contrasts(1.0).paint(unlabelled, Draws(len(batch["fixed"]), torch.device("cpu"), generator(1)))
    for image, mask in zip(unlabelled["fixed"], unlabelled["fixed_mask"], strict=True):
        assert len(image[mask > 0].unique()) == 1
        assert not image[mask == 0].any()


def test_other_recipes_draw_as_before():
    """With a probability of 0 the generator is left as if there were no contrasts, images as the scanner made them."""
    after, drawn = [], []
    for contrasts in (Contrasts(), Contrasts(0.0, (0.4, 0.5), 1.0)):
        own = generator(5)
        after.append(Augmentation(contrasts=contrasts)(make_batch(), own))
        drawn.append(torch.rand(3, generator=own))
    assert torch.equal(*drawn)
    for key in ("fixed", "moving", "displacement"):
        assert torch.equal(after[0][key], after[1][key])
    # What is drawn before the contrasts is drawn alike with them.
    with_contrasts = Augmentation(contrasts=Contrasts(1.0))(make_batch(), generator(5))
    assert torch.equal(with_contrasts["displacement"], after[0]["displacement"])
    still = Augmentation(**ALONE)(make_batch(), generator(1))
    assert float(still["fixed"][still["fixed_mask"] > 0].max()) < 0.9  # nothing is scaled


def test_scaling_divides_by_the_brightest_inside_the_mask():
    image = torch.linspace(0, 50, 1000).reshape(1, 1, 10, 10, 10).repeat(2, 1, 1, 1, 1)
    mask = torch.ones_like(image)
    mask[1, 0, 5:] = 0
    found = scaled(image * mask, mask)
    for number in (0, 1):
        inside = mask[number] > 0
        assert abs(float(found[number][inside].quantile(0.995)) - 1.0) < 0.01
        assert abs(float(found[number].max()) - 1.005) < 0.01
    assert not scaled(torch.zeros(1, 1, 2, 2, 2), torch.zeros(1, 1, 2, 2, 2)).any()
