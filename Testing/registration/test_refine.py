"""What refinement trusts: lung whose density stayed, whatever all of it has in common."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import grids
from LungRecoveryLib.registration.prepare import prepare
from LungRecoveryLib.registration.refine import CHANGE_SCALE, DENSITY_CHANGE, _trust
from LungRecoveryLib.registration.velocity import Velocity


@pytest.mark.parametrize("shift", [0.0, 60.0])
def test_lesions_are_not_trusted_and_a_shift_of_the_whole_lung_is_no_lesion(shift):
    """A block of 300 HU more loses its weight; 60 HU more in all of the lung cost none."""
    grid = grids.Grid((60, 50, 50), (2.0, 2.0, 2.0), (-60.0, 20.0, -900.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    lungs = np.zeros(grid.shape, np.uint8)
    lungs[6:44, 6:44, 6:54] = 1
    rng = np.random.default_rng(0)
    fixed = np.where(lungs > 0, -850.0, 40.0) + rng.normal(0, 10, grid.shape)
    moving = fixed + np.where(lungs > 0, shift, 0.0)
    block = (slice(15, 35), slice(15, 35), slice(30, 48))
    moving[block] += 300.0
    images = [grids.to_image(a.astype(np.float32), grid) for a in (fixed, moving)]
    masks = [grids.to_image(lungs, grid)] * 2
    pair = prepare(*images, *masks, 2.0, "cpu")
    rest = Velocity.zeros(tuple(pair.fixed.shape), 8.0, 18.0, pair.fixed.device)
    shape = tuple(pair.level(CHANGE_SCALE)[0].shape)
    trust = _trust(pair, sitk.AffineTransform(3), rest, CHANGE_SCALE, shape).numpy()
    places = pair.fixed_box.points(np.indices(shape)[::-1].reshape(3, -1).T * CHANGE_SCALE + 0.5)
    inside = grids.to_array(grids.to_image(lungs, grid))
    index = np.rint((places - np.array(grid.origin)) / 2.0).astype(int)
    known = np.all((index >= 0) & (index < np.array(grid.size)), axis=1)
    z, y, x = index[known].T[::-1]
    weight = trust.reshape(-1)[known]
    lesion = np.zeros(grid.shape, bool)
    lesion[tuple(slice(s.start + 5, s.stop - 5) for s in block)] = True
    healthy = inside > 0
    healthy[:, :, 14:] = False
    assert weight[lesion[z, y, x]].max() < 1 / (1 + (0.2 / DENSITY_CHANGE) ** 4)
    assert weight[healthy[z, y, x]].min() > 0.95
