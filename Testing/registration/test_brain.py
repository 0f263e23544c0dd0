"""Brains: labels are carried over, nothing folds, brains of other scanners are aligned first and the text says so."""

import numpy as np
import pytest
import SimpleITK as sitk

from brains import small_brains
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.evaluate import label_overlap
from LungRecoveryLib.grids import to_array
from LungRecoveryLib.phantom.brain import make_brains
from LungRecoveryLib.registration import brain
from LungRecoveryLib.registration.brain import LEVELS, foreground, register_brains
from LungRecoveryLib.registration.refine import Level
from LungRecoveryLib.registration.velocity import Velocity
from LungRecoveryLib.registration.weights import load_weights
from LungRecoveryLib.resources import BRAIN_WEIGHTS, NO_NETWORK

SPACING = 3.0


def test_labels_of_another_brain_are_carried_over_without_a_fold():
    fixed, moving = small_brains()
    found = register_brains(fixed.image, moving.image, preset="fast", threads=1, spacing_mm=SPACING)
    before = label_overlap(fixed.labels, moving.labels)["mean_dice"]
    after = label_overlap(fixed.labels, moving.labels, found.transform)["mean_dice"]
    assert before < 0.7
    assert after > 0.85
    assert found.folding_percent == 0.0
    assert found.similarity_after > found.similarity_before + 0.1
    assert found.inverse_mean_mm < 0.3
    assert not found.aligned
    back = label_overlap(moving.labels, fixed.labels, found.inverse_transform)["mean_dice"]
    assert back > 0.8


def test_brains_that_do_not_lie_in_one_space_are_aligned_first():
    fixed, moving = small_brains()
    away, labels = (sitk.Image(image) for image in (moving.image, moving.labels))
    for image in (away, labels):
        image.SetOrigin((400.0, -300.0, 900.0))
    found = register_brains(fixed.image, away, preset="fast", threads=1, spacing_mm=SPACING)
    assert found.aligned
    assert "did not lie in one space" in found.notes[0]
    assert label_overlap(fixed.labels, labels, found.transform)["mean_dice"] > 0.85


@pytest.mark.slow
def test_intensities_of_another_scanner_change_little():
    fixed, moving = small_brains()
    scaled = sitk.Cast(moving.image, sitk.sitkFloat32) * 7.3
    found = register_brains(fixed.image, scaled, preset="fast", threads=1, spacing_mm=SPACING)
    assert label_overlap(fixed.labels, moving.labels, found.transform)["mean_dice"] > 0.85


def test_the_foreground_is_what_is_not_background():
    fixed, _ = small_brains()
    inside = to_array(foreground(fixed.image, "fixed")) != 0
    labelled = sitk.GetArrayViewFromImage(fixed.labels) != 0
    assert (inside & labelled).sum() > 0.99 * labelled.sum()
    assert inside.sum() < 1.2 * labelled.sum()
    with pytest.raises(BadInput, match="fixed image is all alike"):
        foreground(fixed.image * 0, "fixed")


def test_the_shipped_network_alone_carries_labels_over():
    """Two people that it was not trained on, and its card says what it was trained on."""
    fixed, moving = make_brains(5_001, spacing_mm=4.0)
    found = register_brains(
        fixed.image, moving.image, preset="preview", weights=BRAIN_WEIGHTS, threads=1, spacing_mm=4.0
    )
    before = label_overlap(fixed.labels, moving.labels)["mean_dice"]
    after = label_overlap(fixed.labels, moving.labels, found.transform)["mean_dice"]
    assert after > before + 0.1
    assert found.folding_percent == 0.0
    card = load_weights(BRAIN_WEIGHTS).card
    assert found.weights_sha256 == card["sha256"]
    assert (card["anatomy"], found.settings["network"], found.settings["levels"]) == ("brain", True, [])
    assert "no real scan" in card["data"]


def test_refinement_goes_on_from_a_start_that_matches_and_from_rest_otherwise(monkeypatch):
    fixed, moving = make_brains(5_002, spacing_mm=4.0)
    monkeypatch.setattr(brain, "refine", lambda pair, alignment, levels, start, *rest: start or still(pair, levels))
    for matches in (True, False):
        monkeypatch.setattr(brain, "helps", lambda *_, matches=matches: matches)
        found = register_brains(
            fixed.image, moving.image, preset="fast", weights=BRAIN_WEIGHTS, threads=1, spacing_mm=4.0
        )
        assert found.settings["network"] == (found.weights_sha256 is not None) == matches
        assert [Level(**level) for level in found.settings["levels"]] == list(LEVELS["fast"])
        assert any("refined from rest" in note for note in found.notes) != matches


def still(pair, levels) -> Velocity:
    """Rest, on some grid."""
    assert levels
    return Velocity.zeros(tuple(pair.fixed.shape), 2.0, 4.0, pair.fixed.device)


def test_an_unknown_preset_and_a_preview_without_a_network_are_refused():
    fixed, moving = small_brains()
    with pytest.raises(BadInput, match="no preset 'best' for brains"):
        register_brains(fixed.image, moving.image, preset="best")
    with pytest.raises(BadInput, match="'preview' is the network alone"):
        register_brains(fixed.image, moving.image, preset="preview", weights=NO_NETWORK)
    assert np.isfinite(sitk.GetArrayViewFromImage(fixed.image)).all()
