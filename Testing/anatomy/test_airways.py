"""The airways are followed from the trachea into the lungs, by generation, and do not leak."""

import numpy as np
import pytest
from scipy import ndimage

from LungRecoveryLib.anatomy.airways import segment_airways
from LungRecoveryLib.grids import grid_of, same_grid, to_array, to_image

OBLIQUE = (0.9397, -0.3420, 0.0, 0.3420, 0.9397, 0.0, 0.0, 0.0, 1.0)
# Bronchi that go on where the main bronchi of the chest end: start, end, radius of the lumen.
BRONCHI = [
    ((-40, 5, 7), (-62, 15, 40), 3.0),
    ((-40, 5, 7), (-60, 20, -30), 3.0),
    ((40, 5, 2), (62, 15, 40), 3.0),
    ((40, 5, 2), (62, 22, -25), 3.0),
]
SPACING = (2.0, 2.0, 2.0)


@pytest.fixture(scope="module", params=[{"direction": OBLIQUE}], ids=["oblique"])
def tree(request, chest, on_grid, shapes):
    """A chest with bronchi: its CT, its lungs with the bronchi in them, and the true lumen."""
    grid = on_grid(spacing=SPACING, extent=(320.0, 220.0, 280.0), **request.param)
    sides = [1 if bronchus[1][0] < 0 else 2 for bronchus in BRONCHI]
    pairs = list(zip(BRONCHI, sides, strict=True))
    walls = [(lambda p, b=b: shapes["tube"](p, b[0], b[1], b[2] + 2.0), 20.0, side) for b, side in pairs]
    lumens = [(lambda p, b=b: shapes["tube"](p, *b), -990.0, side) for b, side in pairs]
    made = chest(grid, extras=[*walls, *lumens])
    points = shapes["lps"](grid)
    lumen = shapes["tube"](points, (0, 5, 30), (0, 0, 400), 9)
    for end in ((-40, 5, 7), (40, 5, 2)):
        lumen |= shapes["tube"](points, (0, 5, 30), end, 6)
    for bronchus in BRONCHI:
        lumen |= shapes["tube"](points, *bronchus)
    return made.ct, made.lungs, lumen


def test_the_lumen_is_found_and_does_not_leak(tree):
    """Dice of 0.80 and more, nothing far from the tree, on the scan's own grid."""
    ct, lungs, lumen = tree
    image = segment_airways(ct, lungs)
    found = to_array(image) > 0
    assert same_grid(image, ct)
    assert 2 * (found & lumen).sum() / (found.sum() + lumen.sum()) > 0.80
    assert (found & ~ndimage.binary_dilation(lumen, iterations=2)).sum() < 0.02 * lumen.sum()


def test_generations_count_the_branchings(tree, shapes):
    """1 in the trachea, 2 in the main bronchi, 3 in the bronchi that leave them, or 4 where those part in two steps."""
    ct, lungs, _ = tree
    labels = to_array(segment_airways(ct, lungs))
    points = shapes["lps"](grid_of(ct))
    for start, end, expected in (
        ((0, 0, 60), (0, 0, 100), (1,)),
        ((-15, 5, 21), (-28, 5, 14), (2,)),
        ((15, 5, 21), (28, 5, 12), (2,)),
        ((-50, 9.5, 22), (-58, 13, 34), (3, 4)),
        ((50, 12, -10), (58, 18, -20), (3, 4)),
    ):
        here = labels[shapes["tube"](points, start, end, 2.0) & (labels > 0)]
        assert here.size
        assert np.median(here) in expected


def test_without_trachea_or_lung_there_are_no_airways(chest, on_grid):
    """That is no error: the maps are empty."""
    made = chest(on_grid(spacing=(4.0, 4.0, 4.0)), airways=False)
    assert not to_array(segment_airways(made.ct, made.lungs)).any()
    nothing = to_image(np.zeros(to_array(made.lungs).shape, np.uint8), made.ct)
    assert not to_array(segment_airways(made.ct, nothing)).any()
