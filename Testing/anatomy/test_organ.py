"""The part of an organ's examination: from its topmost slice down, in millimetres or slices, however the scan lies."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.anatomy.organ import organ_part
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_image

UP, DOWN = (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, -1.0)


def organ(direction=UP, slices=slice(10, 50), thickness: float = 2.5) -> sitk.Image:
    mask = np.zeros((60, 12, 14), bool)
    mask[slices, 3:9, 4:10] = True
    return to_image(mask, Grid((14, 12, 60), (3.0, 3.0, thickness), (0.0, 0.0, -400.0), direction))


def held(part) -> list[int]:
    return np.flatnonzero(sitk.GetArrayViewFromImage(part.mask).any(axis=(1, 2))).tolist()


def test_counts_down_from_the_top_whichever_way_slices_run():
    assert held(organ_part(organ(UP), 50.0)) == list(range(30, 50))
    assert held(organ_part(organ(DOWN), 50.0)) == list(range(10, 30))


def test_the_same_part_by_slices():
    part = organ_part(organ(UP), slices=20)
    assert held(part) == list(range(30, 50))
    assert (part.slices, part.mm, part.short) == (20, 50.0, False)


def test_a_scan_that_ends_before_is_short_and_says_how_much_there_is():
    part = organ_part(organ(UP), 200.0)
    assert part.short
    assert (part.slices, part.mm) == (50, 125.0)
    assert "50 slices, 125.0 mm" in part.described()
    assert "200 mm" in part.described()
    assert "200" not in organ_part(organ(UP), 100.0).described()


def test_a_mask_without_the_organ_and_a_height_of_nothing_are_refused():
    with pytest.raises(BadInput, match="mask is empty"):
        organ_part(organ(UP) * 0)
    with pytest.raises(BadInput, match="height above 0"):
        organ_part(organ(UP), 0.0)
