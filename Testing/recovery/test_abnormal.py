"""Proves the abnormal share on a lung of known truth: noise, vessels, the pleura's blur, fine and oblique grids."""

import numpy as np
import pytest
from scipy import ndimage

from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.recovery.abnormal import abnormal_mask

SHAPE = (64, 72, 68)
HEALTHY, GLASS, DENSE, BLOOD = -840.0, -570.0, -40.0, 45.0


def grid(spacing: float = 1.5) -> Grid:
    angle = np.deg2rad(12)
    turn = (1, 0, 0, 0, np.cos(angle), -np.sin(angle), 0, np.sin(angle), np.cos(angle))
    return Grid(SHAPE[::-1], (spacing,) * 3, (-40.0, 25.0, -920.0), turn)


def lung_truth(lesions: bool) -> tuple[np.ndarray, ...]:
    """Sharp masks (z, y, x) at twice the resolution: lung, vessels, ground glass, consolidation."""
    z, y, x = np.mgrid[: 2 * SHAPE[0], : 2 * SHAPE[1], : 2 * SHAPE[2]] / 2.0
    lung = ((z - 32) / 29) ** 2 + ((y - 36) / 32) ** 2 + ((x - 34) / 30) ** 2 < 1
    vessels = np.zeros_like(lung)
    for k, radius in enumerate((0.5, 0.7, 1.0, 1.6, 2.4)):
        for shift in (-18, -6, 8, 19):
            vessels |= (y - 36 - shift - 0.2 * (z - 32)) ** 2 + (x - 12 - 10 * k - 0.3 * (z - 32)) ** 2 < radius**2
    glass, dense = np.zeros_like(lung), np.zeros_like(lung)
    if lesions:  # one under the pleura at the back, one in the middle
        glass = ((z - 30) / 12) ** 2 + ((y - 64) / 11) ** 2 + ((x - 34) / 13) ** 2 < 1
        glass |= (z - 36) ** 2 + (y - 28) ** 2 + (x - 24) ** 2 < 64
        dense = ((z - 30) / 6) ** 2 + ((y - 66) / 7) ** 2 + ((x - 34) / 8) ** 2 < 1
    return lung, vessels & lung, glass & lung, dense & lung


def coarse(values: np.ndarray) -> np.ndarray:
    return values.reshape(SHAPE[0], 2, SHAPE[1], 2, SHAPE[2], 2).mean((1, 3, 5))


def scan(lesions: bool, noise: float, spacing: float = 1.5, seed: int = 0):
    """A scan with its masks: ct, lungs, vessels with their rim, and the true abnormal lung."""
    lung, vessels, glass, dense = lung_truth(lesions)
    hu = np.where(lung, np.where(dense, DENSE, np.where(glass, GLASS, HEALTHY)), 40.0)
    hu = coarse(ndimage.gaussian_filter(np.where(vessels, BLOOD, hu), 1.0))
    hu += np.random.default_rng(seed).normal(0, noise, SHAPE)
    lungs, share = coarse(lung) >= 0.5, coarse(vessels)
    truth = (coarse(glass | dense) >= 0.5) & lungs & (share < 0.5)
    rim = ndimage.binary_dilation(share > 0.2) & lungs
    return to_image(np.clip(hu, -1024, 3071).astype(np.int16), grid(spacing)), lungs, rim, truth


def percent(mask: np.ndarray, lungs: np.ndarray) -> float:
    return 100.0 * np.count_nonzero(mask) / np.count_nonzero(lungs)


@pytest.mark.parametrize("noise", [10, 30, 60])
def test_a_healthy_lung_with_vessels_has_no_abnormal_share(noise):
    ct, lungs, vessels, _ = scan(False, noise)
    raw = to_raw_share(ct, lungs)
    assert raw > 5.0  # what a plain threshold would say
    assert percent(abnormal_mask(ct, lungs, vessels), lungs) < 0.2


def to_raw_share(ct, lungs: np.ndarray) -> float:
    hu = to_array(ct)
    return percent(lungs & (hu >= -700) & (hu <= 100), lungs)


@pytest.mark.parametrize("noise", [10, 30, 60])
def test_the_share_of_subpleural_and_central_lesions_is_right(noise):
    ct, lungs, vessels, truth = scan(True, noise)
    found = abnormal_mask(ct, lungs, vessels)
    assert percent(found, lungs) == pytest.approx(percent(truth, lungs), abs=0.7)
    assert percent(found ^ truth, lungs) < 2.0
    assert not found[~lungs].any()


def test_a_scan_of_fine_voxels_gives_the_same_kind_of_answer_on_its_own_grid():
    ct, lungs, vessels, truth = scan(True, 60, spacing=0.75)
    found = abnormal_mask(ct, to_image(lungs, ct), to_image(vessels, ct))
    assert found.shape == SHAPE
    assert percent(found, lungs) == pytest.approx(percent(truth, lungs), abs=1.5)


def test_ground_glass_taken_for_a_vessel_still_counts():
    ct, lungs, vessels, truth = scan(True, 15)
    lesion, _ = ndimage.label(truth)
    mistaken = vessels | (lesion == lesion[36, 28, 24])
    found = abnormal_mask(ct, lungs, mistaken)
    assert percent(found, lungs) == pytest.approx(percent(truth, lungs), abs=1.0)


def test_vessels_in_a_lesion_are_not_part_of_it():
    ct, lungs, vessels, _ = scan(True, 0)
    _, tubes, glass, _ = lung_truth(True)
    lumen = (coarse(tubes) > 0.95) & (coarse(glass) > 0.95)
    found = abnormal_mask(ct, lungs, vessels)
    assert np.count_nonzero(lumen) >= 20
    assert np.count_nonzero(found & lumen) <= 0.15 * np.count_nonzero(lumen)


def test_specks_and_fat_are_not_abnormal_and_consolidation_is():
    values = np.full(SHAPE, -850, np.int16)
    lungs = np.zeros(SHAPE, bool)
    lungs[4:-4, 4:-4, 4:-4] = True
    values[20:22, 20:22, 20:22] = -400  # smaller than 0.15 ml
    values[30:40, 30:40, 30:40] = 0
    values[45:55, 45:55, 45:55] = 250  # calcified
    found = abnormal_mask(to_image(values, grid()), lungs, None)
    assert not found[20:22, 20:22, 20:22].any()
    assert found[32:38, 32:38, 32:38].all()
    assert not found[47:53, 47:53, 47:53].any()


def test_no_lung_no_abnormal_lung():
    ct, lungs, _, _ = scan(False, 10)
    assert not abnormal_mask(ct, np.zeros_like(lungs), None).any()


@pytest.mark.realdata
def test_a_real_normal_lung_is_clean_and_a_covid_lung_is_not(real_chest):
    from LungRecoveryLib.anatomy.vessels import vessels_with_rim

    shares = {}
    for name in ("normal001", "covid_p001"):
        ct, lungs = real_chest(name)
        shares[name] = percent(abnormal_mask(ct, lungs, vessels_with_rim(ct, lungs)), to_array(lungs) > 0)
    assert shares["normal001"] < 1.0
    assert 1.5 < shares["covid_p001"] < 6.0
