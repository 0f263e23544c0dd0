"""The synthetic abdomen: its truth is exact, its phases are those of contrast medium, its organs have human sizes."""

import numpy as np
import pytest
import SimpleITK as sitk

from abdomens import small_abdomen
from LungRecoveryLib import grids
from LungRecoveryLib.phantom.abdomen import LABELS, make_abdomen


def hu(scan, name: str) -> float:
    """The median HU of an organ's inner part."""
    inside = grids.to_array(sitk.BinaryErode(scan.labels == LABELS[name], (1, 1, 1)))
    return float(np.median(sitk.GetArrayViewFromImage(scan.ct)[inside != 0]))


def test_the_truth_takes_every_organ_where_the_other_scan_shows_it():
    venous, arterial = small_abdomen()
    carried = grids.resample_mask(arterial.labels, venous.labels, arterial.from_body)
    shown, wanted = (sitk.GetArrayViewFromImage(image) for image in (carried, venous.labels))
    for name in ("liver", "spleen", "right_kidney", "left_kidney"):
        a, b = shown == LABELS[name], wanted == LABELS[name]
        assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.93, name
    where_it_was = sitk.GetArrayViewFromImage(arterial.labels) == LABELS["liver"]
    assert 2 * (where_it_was & (wanted == 1)).sum() / (where_it_was.sum() + (wanted == 1).sum()) < 0.9


def test_contrast_medium_fills_arteries_and_renal_cortex_before_the_liver():
    venous, arterial = small_abdomen()
    assert hu(venous, "liver") > hu(arterial, "liver") + 20
    assert 40 < hu(arterial, "liver") < 100
    brightest = [np.percentile(sitk.GetArrayViewFromImage(s.ct)[sitk.GetArrayViewFromImage(s.labels) == 5], 90)
                 for s in (venous, arterial)]  # fmt: skip
    assert brightest[1] > brightest[0] + 50


@pytest.mark.parametrize("seed", [1, 2])
def test_organs_have_human_sizes(seed):
    venous, _ = make_abdomen(seed, (58, 44, 45), (6.0, 6.0, 6.0))
    ml = np.bincount(sitk.GetArrayViewFromImage(venous.labels).ravel(), minlength=7) * 0.216
    assert 800 < ml[LABELS["liver"]] < 2300
    assert 60 < ml[LABELS["spleen"]] < 500
    for side in ("right_kidney", "left_kidney"):
        assert 90 < ml[LABELS[side]] < 350


def test_the_same_seed_gives_the_same_scans_and_another_seed_another_patient():
    first, again, other = (make_abdomen(seed, (40, 30, 30), (9.0, 9.0, 9.0)) for seed in (3, 3, 4))
    for a, b in zip(first, again, strict=True):
        assert np.array_equal(sitk.GetArrayViewFromImage(a.ct), sitk.GetArrayViewFromImage(b.ct))
    assert not np.array_equal(sitk.GetArrayViewFromImage(first[0].labels), sitk.GetArrayViewFromImage(other[0].labels))


def test_an_oblique_grid_shows_the_same_body():
    axes = (0.96, -0.28, 0.0, 0.28, 0.96, 0.0, 0.0, 0.0, 1.0)
    straight, _ = make_abdomen(3, (40, 30, 30), (9.0, 9.0, 9.0), noise_hu=0.0)
    oblique, _ = make_abdomen(3, (40, 30, 30), (9.0, 9.0, 9.0), noise_hu=0.0, direction=axes)
    laid = grids.resample_mask(oblique.labels, straight.labels)
    a, b = (sitk.GetArrayViewFromImage(image) == 1 for image in (laid, straight.labels))
    assert 2 * (a & b).sum() / (a.sum() + b.sum()) > 0.85
