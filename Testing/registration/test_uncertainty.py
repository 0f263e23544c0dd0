"""How far a deformation may be off: what tells of it is measured right, and the map lies where the errors are."""

import numpy as np
import pytest
from scipy import ndimage

from LungRecoveryLib import grids
from LungRecoveryLib.phantom import make_pair
from LungRecoveryLib.registration import uncertainty
from LungRecoveryLib.registration.deform import Plan
from LungRecoveryLib.registration.register import register

TILT = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)


def test_a_quadratic_displacement_bends_evenly():
    """u_x = x^2 / 100 and u_y = x z / 200 mm: second derivatives 1/50, and 1/200 twice, whatever the voxels."""
    for voxel in (1.0, 3.0):
        z, _, x = np.indices((9, 8, 10)) * voxel
        bending = uncertainty._bending(np.stack([x**2 / 100, x * z / 200, 0 * x]), voxel)
        np.testing.assert_allclose(bending[2:-2, 2:-2, 2:-2], np.sqrt(1 / 50**2 + 2 / 200**2), rtol=1e-6)


def test_structure_is_what_ties_the_field_in_every_direction():
    """Waves along two axes leave the third free; along all three, the weakest counts; the pleura's edge does not."""
    z, y, x = np.indices((30, 30, 30)) * 2.0
    lung = np.zeros(x.shape, bool)
    lung[4:-4, 4:-4, 4:-4] = True
    waves = [0.1 * np.sin(2 * np.pi * c / 12) for c in (x, y, z)]
    two, three, weak = (uncertainty._structure(np.where(lung, i, 1.0), lung, 2.0)[15, 15, 15] for i in (
        waves[0] + waves[1], sum(waves), waves[0] + waves[1] + 0.1 * waves[2]
    ))  # fmt: skip
    assert two < 1e-3 * three
    assert weak == pytest.approx(0.01 * three, rel=0.1)
    flat = uncertainty._structure(np.where(lung, 0.1, 1.0), lung, 2.0)
    assert flat.max() < 1e-12


def test_a_mean_nearby_knows_nothing_of_what_lies_outside_the_lungs():
    lung = np.zeros((12, 14, 16), bool)
    lung[:, :, :8] = True
    values = np.where(lung, 3.0, 1e6)
    np.testing.assert_allclose(uncertainty._mean_nearby(values, lung, 2.0)[lung], 3.0, rtol=1e-6)


@pytest.fixture(scope="module")
def deep_breath():
    size = {"size": (88, 68, 92), "spacing": (3.5, 3.5, 3.5)}
    return make_pair(5, mean_motion_mm=18.0, **size, direction=TILT, centre=(-310.0, 75.0, -1400.0))


@pytest.mark.parametrize("preset", ["fast", "standard"])
def test_the_most_uncertain_tenth_holds_much_of_the_error(deep_breath, preset):
    """Nearly half of what the tenth with the largest errors holds; and its size is about right. On an oblique, far-off
    grid, coarser than the one that the exponents were fitted on."""
    baseline, followup = deep_breath.visits
    found = register(
        baseline.ct, followup.ct, baseline.lungs, followup.lungs, preset=preset, spacing_mm=3.0, uncertainty=True
    )
    assert found.uncertainty.GetDirection() == pytest.approx(TILT)
    expected = grids.to_array(grids.resample(found.uncertainty, found.grid, outside=0.0))
    truth = grids.to_array(grids.resample(followup.displacement, found.grid))
    lung = grids.to_array(grids.resample_mask(baseline.lungs, found.grid)) > 0
    # At the pleura the truth jumps.
    inner = ndimage.binary_erosion(lung & (grids.to_array(found.inside) > 0), iterations=2)
    square = np.square(found.displacement_mm - truth).sum(0)[inner]
    tenth = inner.sum() // 10
    assert square[np.argsort(-expected[inner])[:tenth]].sum() > 0.4 * np.sort(square)[-tenth:].sum()
    assert 0.3 < np.sqrt(np.square(expected[inner]).mean() / square.mean()) < 3.0


def test_where_memory_is_short_the_probe_is_coarser_too():
    assert Plan.of("standard", "none").probe.scale == 1
    assert Plan.of("standard", "none").halved().probe.scale == 2
