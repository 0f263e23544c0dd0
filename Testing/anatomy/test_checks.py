"""What limits a segmentation is said in words, and nothing is said about a good scan."""

import numpy as np

from LungRecoveryLib.anatomy.checks import segmentation_warnings
from LungRecoveryLib.grids import Grid, to_image


def grid(spacing=(3.0, 3.0, 3.0)):
    return Grid((40, 30, 30), spacing, (0.0, 0.0, 0.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def two_lungs():
    labels = np.zeros((30, 30, 40), np.uint8)
    labels[5:25, 5:25, 4:18] = 1
    labels[5:25, 5:25, 22:36] = 2
    return labels


def told(labels, hu=-850, spacing=(3.0, 3.0, 3.0), **maps):
    where = grid(spacing)
    images = {name: to_image(np.asarray(m, np.uint8), where) for name, m in maps.items()}
    ct = to_image(np.broadcast_to(np.asarray(hu, np.int16), where.shape).copy(), where)
    return " | ".join(segmentation_warnings(ct, to_image(labels, where), **images))


def test_a_good_scan_has_nothing_to_warn_of():
    labels = two_lungs()
    assert told(labels, airways=labels == 1, lesions=labels * 0) == ""


def test_what_limits_a_scan_is_named():
    labels = two_lungs()
    assert "10 mm apart" in told(labels, spacing=(1.0, 1.0, 10.0))
    assert "only the left lung" in told(np.where(labels == 1, 0, labels).astype(np.uint8))
    small = labels.copy()
    small[10:25][small[10:25] == 1] = 0
    assert "the right lung has 25 %" in told(small)
    cut = labels.copy()
    cut[:5] = cut[10]
    assert "cuts the lungs" in told(cut)
    metal = np.full(labels.shape, -850, np.int16)
    metal[2:6, 2:6, 2:6] = 3000
    assert "metal" in told(labels, metal)
    assert "no trachea" in told(labels, airways=labels * 0)
    assert "% of the lung are lesions" in told(labels, lesions=labels)


def test_a_large_part_without_air_is_named_and_vessels_are_not():
    labels, hu = two_lungs(), np.full((30, 30, 40), -850, np.int16)
    hu[5:25, 10:13, 4:18] = 40  # as thick as the largest vessels
    assert told(labels, hu) == ""
    hu[6:20, 8:20, 22:34] = 40
    ml = 14 * 12 * 12 * 27e-3
    found = told(labels, hu)
    assert "of the left lung hold no air" in found
    assert "right" not in found
    assert 0.6 * ml < float(found.split(" ml")[0].removeprefix("about ")) < ml  # without the rim
