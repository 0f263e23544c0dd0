"""Lobes: cut along the fissures that a CT shows, left out where it shows none, on any grid."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.anatomy import fissures
from LungRecoveryLib.anatomy.lobes import (
    FISSURE_NAMES,
    LEAST_VISIBLE,
    LEFT_LOWER,
    LOBE_NAMES,
    RIGHT_LOWER,
    RIGHT_UPPER,
    Lobes,
    fitted_lobes,
    segment_lobes,
)
from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT
from LungRecoveryLib.anatomy.vessels import segment_vessels
from LungRecoveryLib.grids import Grid, grid_of, resample, resample_mask, to_array, to_image
from LungRecoveryLib.phantom.patient import make_patient

SPACING = 1.5


def chest(fissures=tuple(FISSURE_NAMES), shown=1.0, noise=25.0, seed=0):
    """Two lungs like eggs with wavy fissures of `fissures`, on `shown` of their length, and blobs of vessels.

    Returns (ct, lungs, lobes, vessels).
    """
    rng = np.random.default_rng(seed)
    grid = Grid((96, 60, 72), (SPACING,) * 3, (-71.0, -44.0, -53.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    z, y, x = (c * SPACING for c in np.ogrid[-36.0:36.0, -30.0:30.0, -48.0:48.0])
    side = np.where(x < 0, -1.0, 1.0)
    lung = ((x - side * 36.0) / 31.0) ** 2 + (y / 42.0) ** 2 + (z / 51.0) ** 2 < 1
    wave = 2.0 * np.sin(y / 9.0) + 2.0 * np.sin(x / 7.0)
    oblique = 0.75 * z - 0.66 * y - wave
    horizontal = z - 4.0 - 0.1 * y + 1.5 * np.sin(x / 8.0)
    right = np.where(oblique < 0, 3, np.where(horizontal < 0, 2, 1))
    lobes = np.where(lung, np.where(x < 0, right, np.where(oblique < 0, 5, 4)), 0).astype(np.uint8)
    plates = {
        "right_oblique": (oblique, x < 0),
        "left_oblique": (oblique, x >= 0),
        "right_horizontal": (horizontal, (x < 0) & (oblique > 0)),
    }
    hu = np.where(lung, -850.0, 30.0)
    for name in fissures:
        distance, where = plates[name]
        hu += 160.0 * np.clip(1 - np.abs(distance) / SPACING, 0, 1) * (where & lung & (y < 84.0 * shown - 42.0))
    apart = np.minimum(np.abs(oblique), np.where(x < 0, np.abs(horizontal), 99.0)) > 6.0
    spots = (rng.random(lung.shape) < 0.004) & lung & apart
    vessels = np.zeros(lung.shape, bool)
    vessels[1:] = spots[1:] | spots[:-1]
    hu[vessels] = -200.0
    hu = hu + noise * rng.standard_normal(lung.shape)
    lungs = np.where(lung, np.where(x < 0, 1, 2), 0).astype(np.uint8)
    return tuple(to_image(a, grid) for a in (np.rint(hu).astype(np.int16), lungs, lobes, vessels.astype(np.uint8)))


def dice(found: sitk.Image, truth: sitk.Image) -> dict[int, float]:
    a, b = to_array(found), to_array(truth)
    return {n: 2 * np.sum((a == n) & (b == n)) / max(np.sum(a == n) + np.sum(b == n), 1) for n in LOBE_NAMES}


def test_visible_fissures_divide_the_lungs_into_five_lobes():
    ct, lungs, truth, vessels = chest()
    lobes = segment_lobes(ct, lungs, vessels)
    assert lobes.complete
    assert lobes.missing() is None
    assert set(lobes.visible) == set(FISSURE_NAMES)
    assert min(lobes.visible.values()) > 0.7
    assert min(dice(lobes.labels, truth).values()) > 0.95
    assert np.array_equal(to_array(lobes.labels) > 0, to_array(lungs) > 0)


def test_lobes_are_not_invented_without_fissures():
    ct, lungs, _, vessels = chest(fissures=())
    lobes = segment_lobes(ct, lungs, vessels)
    assert lobes.found == []
    assert not lobes.complete
    assert max(lobes.visible.values()) < 0.5 * LEAST_VISIBLE
    assert "right oblique fissure" in lobes.missing()
    assert "left oblique fissure" in lobes.missing()


def test_without_the_horizontal_fissure_the_right_lower_lobe_stays_alone():
    ct, lungs, truth, vessels = chest(fissures=("right_oblique", "left_oblique"))
    lobes = segment_lobes(ct, lungs, vessels)
    assert lobes.found == [3, 4, 5]
    assert "right horizontal fissure" in lobes.missing()
    assert "oblique" not in lobes.missing()
    assert dice(lobes.labels, truth)[3] > 0.95


def test_confidence_follows_how_much_of_a_fissure_is_seen():
    """An incomplete fissure, as most people have one: the share falls with it, the surface goes on as it began."""
    ct, lungs, truth, vessels = chest(shown=0.6)
    lobes = segment_lobes(ct, lungs, vessels)
    whole = segment_lobes(*[chest()[i] for i in (0, 1, 3)])
    assert 0.4 < lobes.visible["left_oblique"] < 0.85 * whole.visible["left_oblique"]
    assert dice(lobes.labels, truth)[5] > 0.9


def test_the_same_lobes_on_a_turned_grid():
    """Axes in another order and direction change nothing: everything is done in the patient's frame."""
    ct, lungs, _, vessels = chest()
    turned = sitk.PermuteAxes(sitk.Flip(ct, (True, False, True)), (2, 0, 1))
    others = [resample_mask(image, grid_of(turned)) for image in (lungs, vessels)]
    here = segment_lobes(ct, lungs, vessels).labels
    there = segment_lobes(turned, *others).labels
    assert np.mean(to_array(resample_mask(there, here)) == to_array(here)) > 0.998


def test_coarse_voxels_show_no_fissure():
    ct, lungs, _, vessels = chest()
    grid = Grid((41, 26, 31), (3.5,) * 3, (-71.0, -44.0, -53.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    lobes = segment_lobes(resample(ct, grid), resample_mask(lungs, grid), resample_mask(vessels, grid))
    assert lobes.found == []
    assert lobes.visible == {}
    assert "too coarse" in lobes.missing()


def test_a_missing_lung_misses_its_lobes():
    ct, lungs, _, vessels = chest()
    lobes = segment_lobes(ct, sitk.Cast(lungs == 2, sitk.sitkUInt8) * 2, vessels)
    assert lobes.found == [4, 5]
    assert lobes.missing() == "the scan shows no right upper lobe and no right middle lobe and no right lower lobe"
    assert isinstance(lobes, Lobes)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [3, 8])
def test_dice_of_every_lobe_of_a_phantom(seed):
    """At 1.5 mm every lobe reaches a Dice of 0.97 with the vessels that were found, in sick lungs too."""
    visit = make_patient("recovering", seed, size=(205, 160, 215), spacing=(1.5,) * 3, days=(0,)).visits[0]
    lobes = segment_lobes(visit.ct, visit.lungs, segment_vessels(visit.ct, visit.lungs))
    assert lobes.complete
    assert min(dice(lobes.labels, visit.lobes).values()) > 0.97, dice(lobes.labels, visit.lobes)


def test_known_lobes_fit_lungs_that_were_drawn_anew():
    """Lost lung is lost; gained lung goes to the nearest lobe of its own side, on any grid."""
    lungs, lobes = np.zeros((4, 6, 12), np.uint8), np.zeros((4, 6, 12), np.uint8)
    lobes[2:, 1:5, 1:5], lobes[:2, 1:5, 1:5], lobes[:, 1:5, 7:10] = RIGHT_UPPER, RIGHT_LOWER, LEFT_LOWER
    lungs[:, 1:5, 2:6], lungs[:, 1:5, 6:11] = RIGHT, LEFT
    grid = Grid((12, 6, 4), (2.0, 2.0, 2.0), (-100.0, 50.0, -900.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    fine = Grid((24, 12, 8), (1.0, 1.0, 1.0), (-100.5, 49.5, -900.5), grid.direction)
    given = resample_mask(to_image(lobes, grid), fine)
    found = to_array(fitted_lobes(given, to_image(lungs, grid)).labels)
    assert np.array_equal(found > 0, lungs > 0)
    assert set(np.unique(found[2:, :, :6])) == {0, RIGHT_UPPER}
    assert set(np.unique(found[:2, :, :6])) == {0, RIGHT_LOWER}
    assert set(np.unique(found[:, :, 6:])) == {0, LEFT_LOWER}


@pytest.mark.parametrize(
    ("shares", "looks", "best"), [((0.4, 0.6, 0.5), 3, 0.6), ((0.4, 0.9, 0.95), 2, 0.9), ((0.8,), 1, 0.8)]
)
def test_a_fissure_that_hardly_shows_is_looked_for_higher_and_lower(monkeypatch, shares, looks, best):
    """Of several starts the surface counts that is seen best; one that is seen well ends the search."""
    levels = []

    def look(level, cost, hu, core):
        levels.append(level)
        return np.zeros(hu.shape[1:]), shares[len(levels) - 1]

    monkeypatch.setattr(fissures, "_from", look)
    grid = Grid((40, 40, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), np.eye(3).ravel().tolist())
    lung = np.zeros(grid.shape, np.uint8)
    lung[5:35, 5:35, 5:35] = 1
    ct = to_image(np.where(lung, -850, 30).astype(np.int16), grid)
    none = to_image(np.zeros(grid.shape, np.uint8), grid)
    sheet = fissures.find_sheet(ct, to_image(lung, grid), none, fissures.Course((0.0, 0.0, 1.0), 0.45))
    assert sheet.visible == best
    assert len(levels) == looks
    assert levels == sorted(set(levels), key=lambda level: (0 if level == levels[0] else 1, -level))
