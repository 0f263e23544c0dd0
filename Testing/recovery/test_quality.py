"""Proves each measure of a registration against geometry whose answer is known, and each threshold of the verdict."""

from dataclasses import asdict, replace

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.recovery import quality
from LungRecoveryLib.registration.register import Registration

GRID = Grid((48, 48, 48), (1.5, 1.5, 1.5), (10.0, -20.0, -920.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
GOOD = {
    "folds_percent": 0.0,
    "lung_dice": 0.98,
    "inverse_p95_mm": 0.2,
    "similarity_before": 0.3,
    "similarity_after": 0.7,
    "volume_ratio": 1.0,
}


def ball(radius_mm: float, offset=(0.0, 0.0, 0.0), grid: Grid = GRID) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1).reshape(-1, 3)
    distance = np.linalg.norm(grid.points(index) - grid.centre - np.array(offset), axis=1)
    return (distance <= radius_mm).reshape(grid.size).transpose(2, 1, 0)


def image(array, grid: Grid = GRID, dtype=np.uint8):
    return to_image(np.ascontiguousarray(array, dtype), grid)


def translation(shift) -> sitk.Transform:
    return sitk.TranslationTransform(3, [float(s) for s in shift])


@pytest.mark.parametrize(
    ("change", "expected", "words"),
    [
        ({}, "pass", "No fold"),
        ({"folds_percent": 0.05}, "review", "folds"),
        ({"folds_percent": 0.1}, "review", "folds"),
        ({"folds_percent": 0.11}, "fail", "folds"),
        ({"lung_dice": 0.95}, "pass", "No fold"),
        ({"lung_dice": 0.949}, "review", "0.949"),
        ({"lung_dice": 0.90}, "review", "0.900"),
        ({"lung_dice": 0.899}, "fail", "0.899"),
        ({"similarity_after": 0.3}, "fail", "more alike"),
        ({"similarity_after": 0.2}, "fail", "more alike"),
        ({"similarity_after": 0.301}, "pass", "No fold"),
        ({"similarity_before": 0.995, "similarity_after": 0.99}, "pass", "No fold"),
        ({"inverse_p95_mm": 1.0}, "pass", "No fold"),
        ({"inverse_p95_mm": 1.01}, "review", "1.01 mm"),
        ({"volume_ratio": 0.85}, "pass", "No fold"),
        ({"volume_ratio": 0.84}, "review", "Inspiration mismatch"),
        ({"volume_ratio": 1.15}, "pass", "No fold"),
        ({"volume_ratio": 1.16}, "review", "Inspiration mismatch"),
        ({"lung_dice": None}, "review", "Could not be measured: the lungs' overlap"),
        ({"similarity_after": float("nan")}, "review", "the similarity after"),
    ],
)
def test_every_threshold_turns_the_verdict_with_its_reason(change, expected, words):
    decision, reasons = quality.verdict(GOOD | change)
    assert decision == expected
    assert any(words in reason for reason in reasons)


def test_thresholds_can_be_edited():
    strict = replace(quality.Thresholds(), review_inverse_p95_mm=0.1, fail_dice=0.99)
    decision, reasons = quality.verdict(GOOD, strict)
    assert decision == "fail"
    assert len(reasons) == 2


def test_all_reasons_are_given_together():
    decision, reasons = quality.verdict(GOOD | {"folds_percent": 1.0, "lung_dice": 0.5, "volume_ratio": 2.0})
    assert decision == "fail"
    assert len(reasons) == 3


def test_concentric_balls_have_the_radii_s_difference_as_hd95():
    small, large = ball(15.0), ball(21.0)
    dice, hd95 = quality.lung_overlap(small, large, image(small))
    assert dice == pytest.approx(2 * small.sum() / (small.sum() + large.sum()))
    assert hd95 == pytest.approx(6.0, abs=1.0)


def test_surface_distances_are_mm_on_anisotropic_oblique_grids():
    angle = np.deg2rad(30)
    turn = (np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle), 0, 0, 0, 1)
    grid = Grid((40, 40, 20), (1.0, 1.0, 3.0), (0.0, 0.0, 0.0), turn)
    one = np.zeros(grid.shape, bool)
    one[5:15, 10:30, 10:30] = True
    dice, hd95 = quality.lung_overlap(one, np.roll(one, 2, axis=0), image(one, grid))
    assert hd95 == pytest.approx(6.0, abs=0.01)
    assert dice == pytest.approx(0.8)


def test_a_mask_that_reaches_the_images_border_has_its_surface_there():
    one = np.ones(GRID.shape, bool)
    assert quality.lung_overlap(one, one, image(one)) == (1.0, 0.0)


def test_empty_masks_have_no_overlap():
    nothing, something = np.zeros(GRID.shape, bool), ball(10)
    assert quality.lung_overlap(nothing, nothing, image(nothing)) == (None, None)
    assert quality.lung_overlap(nothing, something, image(nothing)) == (0.0, None)


def test_an_inverse_that_misses_by_a_known_vector():
    mean, p95 = quality.inverse_consistency(
        translation((5, 0, 0)), translation((-5, 0.3, 0.4)), ball(20), image(ball(20))
    )
    assert (mean, p95) == pytest.approx((0.5, 0.5), abs=1e-4)


def test_the_forward_transform_is_applied_first():
    scale = sitk.AffineTransform(3)
    scale.Scale(2.0)
    scale.Translate((7.0, -3.0, 1.0))
    mean, p95 = quality.inverse_consistency(scale, scale.GetInverse(), ball(20), image(ball(20)))
    assert max(mean, p95) < 1e-3


def registration(fixed: np.ndarray, warped: np.ndarray, shift=(0.0, 0.0, 0.0), inside=None, **figures) -> Registration:
    """A registration by a translation with J = 1 everywhere and good figures of merit, but for those given."""
    jacobian = np.ones(GRID.shape, np.float32)
    merit = {
        "folding_percent": 0.0,
        "similarity_before": 0.2,
        "similarity_after": 0.9,
        "inverse_mean_mm": 0.1,
        "inverse_p95_mm": 0.2,
        "lung_dice": 2 * (fixed & warped).sum() / (fixed.sum() + warped.sum()),
    }
    return Registration(
        transform=translation(shift),
        inverse_transform=translation(-np.array(shift)),
        grid=GRID,
        warped=image(jacobian, dtype=np.float32),
        displacement_mm=np.zeros((3, *GRID.shape), np.float32),
        jacobian=image(jacobian, dtype=np.float32),
        fixed_lungs=image(fixed),
        warped_lungs=image(warped),
        inside=image(np.ones(GRID.shape, bool) if inside is None else inside),
        seconds={},
        settings={},
        device="cpu",
        **(merit | figures),
    )


def test_assess_a_perfect_shift_of_the_table():
    shift = (35.0, -4.0, 6.0)
    moving = Grid(GRID.size, GRID.spacing, tuple(np.array(GRID.origin) + shift), GRID.direction)
    lungs = ball(20)
    result = quality.assess(registration(lungs, lungs, shift), image(lungs, moving), tre={"mean": 0.4})
    assert result["verdict"] == "pass"
    assert result["lung_hd95_mm"] == pytest.approx(0.0)
    assert result["volume_ratio"] == pytest.approx(1.0)
    assert result["tre"] == {"mean": 0.4}
    assert result["warnings"] == []
    assert result["thresholds"] == asdict(quality.Thresholds())


def test_the_registration_s_own_figures_are_judged():
    lungs = ball(20)
    figures = {
        "folding_percent": 0.02,
        "similarity_before": 0.31,
        "similarity_after": 0.85,
        "inverse_mean_mm": 0.7,
        "inverse_p95_mm": 1.4,
        "lung_dice": 0.93,
    }
    result = quality.assess(registration(lungs, lungs, **figures), image(lungs))
    assert result["folds_percent"] == 0.02
    assert {name: result[name] for name in figures if name != "folding_percent"} == {
        name: value for name, value in figures.items() if name != "folding_percent"
    }
    assert result["verdict"] == "review"
    assert len(result["reasons"]) == 3


def test_assess_sees_a_breath_and_a_jacobian_that_contradicts_the_masks():
    small, large = ball(20), ball(23)
    result = quality.assess(registration(small, large), image(large))
    assert result["volume_ratio"] == pytest.approx(large.sum() / small.sum())
    assert result["verdict"] == "fail"  # the Dice is below 0.90
    assert any("Inspiration mismatch" in reason for reason in result["reasons"])
    assert "disagree" in result["warnings"][0]


def test_a_follow_up_cut_short_does_not_look_like_a_smaller_breath():
    lungs = ball(24)
    cut = Grid((48, 48, 30), GRID.spacing, GRID.origin, GRID.direction)
    inside = np.zeros(GRID.shape, bool)
    inside[:30] = True
    # Of the warped lungs too only what both scans show counts.
    result = quality.assess(registration(lungs, lungs, inside=inside), image(lungs[:30], cut))
    assert result["volume_ratio"] == pytest.approx(1.0)
    assert result["lung_hd95_mm"] == pytest.approx(0.0)
    still = translation((0, 0, 0))
    back = quality.lung_volume_ratio(image(lungs[:30], cut), image(lungs), still)
    assert back == pytest.approx(1.0, abs=0.02)
