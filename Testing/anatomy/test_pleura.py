"""The pleura is continued behind consolidation, and where it is seen nothing is added to the lung."""

import numpy as np
import pytest

from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT
from LungRecoveryLib.anatomy.pleura import hidden_lung
from LungRecoveryLib.anatomy.working import working_volume
from LungRecoveryLib.grids import resample_mask, to_array

# On the dome of the diaphragm, and broad on the chest wall behind: centre and radii in mm, and the ml behind the pleura
# that may be added by mistake: a dome with a wide ground glass is continued a little too flat.
CONSOLIDATION = {
    "diaphragm": ((-75, 30, -66), (17, 17, 15), 20.0),
    "chest wall": ((-92, 58, 20), (20, 16, 24), 5.5),
}


HALF = {"extent": (170.0, 220.0, 290.0), "centre": (-85.0, 0.0, 0.0)}


def hidden_behind(made, lesion):
    """The right lung, it without a lesion (z, y, x bool on the working grid), and what that one is completed by."""
    work = working_volume(made.ct)
    labels = to_array(resample_mask(made.lungs, work.grid))
    truth = labels == RIGHT
    seen = truth & ~lesion(work.grid)
    return truth, seen, hidden_lung(work, seen, np.zeros(truth.shape, bool), labels == LEFT, -1)


@pytest.mark.parametrize("place", CONSOLIDATION)
def test_consolidation_belongs_to_the_lung(chest, on_grid, shapes, place):
    """Consolidation in its ground glass, on diaphragm or chest wall, is added, and little of what lies behind it."""
    (centre, radii, stray_ml), grid = CONSOLIDATION[place], on_grid(**HALF)
    lung = to_array(chest(grid, noise=0.0).lungs) == RIGHT
    points = shapes["lps"](grid)
    dense = shapes["ellipsoid"](points, centre, radii) & lung
    glass = shapes["ellipsoid"](points, centre, np.add(radii, 9)) & lung
    made = chest(grid, extras=[(lambda _: glass, -420.0, RIGHT), (lambda _: dense, 35.0, RIGHT)])
    truth, seen, added = hidden_behind(
        made, lambda work: shapes["ellipsoid"](shapes["lps"](work), centre, np.add(radii, 1))
    )
    missing = truth & ~seen
    assert (added & missing).sum() > 0.9 * missing.sum()
    assert (added & ~truth).sum() * 0.008 < stray_ml


def test_a_healthy_lung_is_left_as_it_is(chest, on_grid):
    """Neither the dome of the diaphragm nor heart, spine or chest wall are taken for lesions."""
    _, _, added = hidden_behind(chest(on_grid(**HALF)), lambda work: np.zeros(work.shape, bool))
    assert not added.any()
