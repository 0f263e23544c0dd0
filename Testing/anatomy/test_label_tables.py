"""Masks of other programs: their labels become sides and lobes by a table, and what does not fit is refused."""

import json

import numpy as np
import pytest

from LungRecoveryLib.anatomy.label_tables import TABLES, given_lungs
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_array, to_image
from LungRecoveryLib.images import write_image

GRID = Grid((20, 10, 10), (3.0, 3.0, 3.0), (-30.0, -15.0, -15.0), (1, 0, 0, 0, 1, 0, 0, 0, 1))


def scan():
    return to_image(np.full(GRID.shape, -850, np.int16), GRID)


def lobes():
    """Five lobes of ours, the right lung at smaller x."""
    labels = np.zeros(GRID.shape, np.uint8)
    for label, box in {
        1: np.s_[6:, :, 1:9],
        2: np.s_[3:6, :, 1:9],
        3: np.s_[:3, :, 1:9],
        4: np.s_[5:, :, 11:19],
        5: np.s_[:5, :, 11:19],
    }.items():
        labels[box] = label
    return labels


def written(tmp_path, labels):
    path = tmp_path / "mask.nii.gz"
    write_image(to_image(labels, GRID), path)
    return path


@pytest.mark.parametrize(
    ("table", "theirs"),
    [("TotalSegmentator", {1: 12, 2: 13, 3: 14, 4: 10, 5: 11}), ("lungmask-LTRCLobes", {1: 3, 2: 4, 3: 5, 4: 1, 5: 2})],
)
def test_lobes_of_other_programs_are_used_as_lobes(tmp_path, table, theirs):
    labels = np.array([0, *(theirs[n] for n in range(1, 6))], np.uint8)[lobes()]
    labels[0, 0, 0] = 51 if table == "TotalSegmentator" else 0  # the heart is no lung
    lungs, found = given_lungs(written(tmp_path, labels), scan(), table)
    assert np.array_equal(to_array(found.labels), lobes())
    assert np.array_equal(to_array(lungs), np.array([0, 1, 1, 1, 2, 2])[lobes()])
    assert found.complete
    assert found.visible == {}


def test_sides_alone_name_no_lobes(tmp_path):
    sides = np.array([0, 1, 1, 1, 2, 2], np.uint8)[lobes()]
    lungs, found = given_lungs(written(tmp_path, sides), scan(), "lungmask-r231")
    assert np.array_equal(to_array(lungs), sides)
    assert found is None
    assert np.array_equal(to_array(given_lungs(written(tmp_path, sides), scan())[0]), sides)


def test_a_table_of_ones_own(tmp_path):
    table = tmp_path / "labels.json"
    table.write_text(json.dumps({"7": "lung_upper_lobe_right", "8": "lung_left", "9": "heart"}), encoding="utf-8")
    labels = np.array([9, 7, 7, 7, 8, 8], np.uint8)[lobes()]
    lungs, found = given_lungs(written(tmp_path, labels), scan(), str(table))
    assert np.array_equal(to_array(lungs), np.array([0, 1, 1, 1, 2, 2])[lobes()])
    assert found.found == [1]


def test_what_cannot_be_used_is_refused(tmp_path):
    mask = written(tmp_path, lobes())
    with pytest.raises(BadInput, match="no table of labels 'lunges': choose totalsegmentator"):
        given_lungs(mask, scan(), "lunges")
    bad = tmp_path / "bad.json"
    bad.write_text('["lung"]', encoding="utf-8")
    with pytest.raises(BadInput, match="is no table of labels"):
        given_lungs(mask, scan(), str(bad))
    bad.write_text('{"1": "heart"}', encoding="utf-8")
    with pytest.raises(BadInput, match="names neither lung nor lobe"):
        given_lungs(mask, scan(), str(bad))
    with pytest.raises(BadInput, match="has no lung by the given labels"):
        given_lungs(mask, scan(), "totalsegmentator")
    assert set(TABLES) == {"totalsegmentator", "lungmask-r231", "lungmask-ltrclobes"}
