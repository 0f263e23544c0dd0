"""Lesions are weighed against healthy lung and followed in the baseline's frame."""

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.recovery.lesions import (
    GROWING,
    NEW,
    RESOLVED,
    SHRINKING,
    STABLE,
    Repeatability,
    change_classes,
    fate,
    laid_on,
    lesion_fates,
    lesions_by_region,
)

GRID = Grid((40, 40, 40), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
ML = 0.008


def box(x0, x1, y0=10, y1=20, z0=10, z1=20, value=1):
    labels = np.zeros(GRID.shape, np.uint8)
    labels[z0:z1, y0:y1, x0:x1] = value
    return labels


def lungs():
    labels = np.ones(GRID.shape, np.uint8)
    labels[:, :, 20:] = 2
    return labels


def test_the_excess_is_above_healthy_lung_whatever_the_scanner_s_offset():
    glass, dense = box(2, 12, value=1), box(25, 30, value=2)
    labels = glass + dense
    for offset in (-40, 40):
        hu = np.full(GRID.shape, -850 + offset, np.int16)
        hu[glass > 0] = -600 + offset
        hu[dense > 0] = 0 + offset
        masks = {"lungs": np.ones(GRID.shape, bool), "left": lungs() == 2, "none": np.zeros(GRID.shape, bool)}
        table = lesions_by_region(to_image(hu, GRID), to_image(labels, GRID), None, masks)
        assert list(table) == ["lungs", "left"]
        assert table["lungs"]["volume_ml"] == pytest.approx(1500 * ML)
        assert table["lungs"]["share_percent"] == pytest.approx(100 * 1500 / 64000)
        assert table["lungs"]["mean_excess_hu"] == pytest.approx((1000 * 250 + 500 * 850) / 1500)
        assert table["lungs"]["mass_excess_g"] == pytest.approx((1000 * 250 + 500 * 850) / 1000 * ML)
        kinds = table["lungs"]["kinds_ml"]
        assert kinds == pytest.approx({"ground glass": 1000 * ML, "consolidation": 500 * ML, "reticulation": 0})
        assert table["left"]["volume_ml"] == pytest.approx(500 * ML)


def test_without_lesions_the_excess_is_undefined():
    masks = {"lungs": np.ones(GRID.shape, bool)}
    nothing = to_image(np.zeros(GRID.shape, np.uint8), GRID)
    table = lesions_by_region(to_image(np.full(GRID.shape, -850, np.int16), GRID), nothing, None, masks)["lungs"]
    assert (table["volume_ml"], table["mean_excess_hu"], table["mass_excess_g"]) == (0.0, None, 0.0)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (10.0, 0.0, RESOLVED),
        (10.0, 6.0, SHRINKING),
        (10.0, 8.0, STABLE),
        (10.0, 12.0, STABLE),
        (10.0, 15.0, GROWING),
        (0.0, 3.0, NEW),
        (0.4, 0.0, STABLE),
    ],
)
def test_a_change_counts_beyond_what_repeats(before, after, expected):
    assert fate(before, after, Repeatability()) == expected


def test_every_lesion_is_followed_by_itself():
    """A shrinking one on the right and a new one on the left, with the volume that the follow-up's breath gives it."""
    before, after = box(2, 12), box(2, 6) + box(25, 30, value=2)
    jacobian = to_image(np.full(GRID.shape, 1.25, np.float32), GRID)
    images = [to_image(labels, GRID) for labels in (before, after)]
    found = lesion_fates(*images, jacobian, to_image(lungs(), GRID))
    assert [(f["number"], f["side"], f["kind"], f["fate"]) for f in found] == [
        (1, "right", "ground glass", SHRINKING),
        (2, "left", "consolidation", NEW),
    ]
    assert found[0]["volume_ml"] == pytest.approx(1000 * ML)
    assert found[0]["same_tissue_ml"] == pytest.approx(400 * ML)
    assert found[0]["volume_followup_ml"] == pytest.approx(500 * ML)
    assert found[0]["change_percent"] == pytest.approx(-60.0)
    assert found[0]["centre_lps"] == pytest.approx([13.0, 29.0, 29.0])
    assert found[1]["change_percent"] is None
    outside = np.ones(GRID.shape, bool)
    outside[:, :, 20:] = False
    assert len(lesion_fates(*images, jacobian, to_image(lungs(), GRID), outside)) == 1


def test_classes_add_up_to_the_whole():
    masks = {"lungs": np.ones(GRID.shape, bool)}
    table = change_classes(to_image(box(2, 12), GRID), to_image(box(7, 17), GRID), masks)["lungs"]
    share = 100 * 500 / 64000
    assert table == pytest.approx({"healthy": 100 - 3 * share, "cleared": share, "persistent": share, "new": share})


def test_the_registration_lays_lesions_on_the_baseline():
    moved = laid_on(to_image(box(12, 22), GRID), to_image(box(2, 12), GRID), sitk.TranslationTransform(3, (20.0, 0, 0)))
    assert np.array_equal(sitk.GetArrayViewFromImage(moved), box(2, 12))
