"""How far a scan's scale is off: only what moves air and soft tissue alike counts."""

import numpy as np
import pytest

from LungRecoveryLib.anatomy.scale import scale_offset
from LungRecoveryLib.grids import AIR_HU, grid_of, to_array, to_image


@pytest.fixture(scope="module")
def scan(chest, on_grid, shapes):
    """A chest and its trachea."""
    made = chest(on_grid())
    trachea = shapes["tube"](shapes["lps"](grid_of(made.ct)), (0, 5, 30), (0, 0, 400), 9)
    return made, to_image(trachea.astype(np.uint8), made.ct)


def moved(image, change):
    """The scan with HU changed, cut where scanners cut."""
    return to_image(np.clip(to_array(image) + change, AIR_HU, 3071).astype(np.int16), image)


@pytest.mark.parametrize("offset", [-40, -25, 0, 25, 40])
def test_an_offset_is_told_even_where_air_was_cut(scan, offset):
    made, trachea = scan
    assert scale_offset(moved(made.ct, offset), made.lungs, trachea) == pytest.approx(offset, abs=8)


def test_what_moves_tissue_or_air_alone_is_no_offset(scan):
    """Contrast medium makes tissue denser, scatter air; neither is taken for the scale."""
    made, trachea = scan
    hu, lumen = to_array(made.ct), to_array(trachea) > 0
    for part in ((hu > -50), lumen):
        assert abs(scale_offset(moved(made.ct, 35 * part), made.lungs, trachea)) <= 5
    assert scale_offset(moved(made.ct, 30), made.lungs, None) == 0
