"""How far a scan's scale is off: only what moves air and soft tissue alike counts."""

import numpy as np
import pytest

from LungRecoveryLib.anatomy.airways import segment_airways
from LungRecoveryLib.anatomy.lungs import segment_lungs
from LungRecoveryLib.anatomy.scale import lowered, on_scale, scale_offset
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


def test_the_scan_on_its_scale_keeps_what_was_cut(scan):
    """Whole HU are taken out, the type stays, and so do padding and air that was cut."""
    made, trachea = scan
    hu = to_array(made.ct)
    hu[:2] = -2048
    right = to_array(on_scale(moved(to_image(hu, made.ct), 40), made.lungs, trachea))
    assert right.dtype == hu.dtype
    assert (right[:2] == AIR_HU).all()
    tissue = hu > 0
    assert np.median(right[tissue] - hu[tissue]) == pytest.approx(0, abs=8)
    assert lowered(made.ct, 0.4) is made.ct


@pytest.mark.parametrize("offset", [-40, 40])
def test_lungs_and_airways_do_not_follow_the_scale(chest, on_grid, offset):
    """Where the scale is low the air in the trachea is cut at -1024 HU, as padding is, but is no padding."""
    made = chest(on_grid())
    quiet = to_image(np.where(to_array(made.ct) < -970, -1000, to_array(made.ct)).astype(np.int16), made.ct)
    found = []
    for scan in (quiet, moved(quiet, offset)):
        lungs = segment_lungs(scan, method="classical")
        found.append([to_array(image) > 0 for image in (lungs, segment_airways(scan, lungs))])
    for here, there in zip(*found, strict=True):
        assert here.any()
        assert 2 * (here & there).sum() > 0.98 * (here.sum() + there.sum())
