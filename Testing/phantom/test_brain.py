"""Synthetic brains: two people with the same structures in other shapes, the same for the same seed; pairs on disk."""

import json

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.evaluate import label_overlap
from LungRecoveryLib.phantom.brain import LABELS, make_brains
from LungRecoveryLib.phantom.pair_files import write_organ_pair


def test_both_brains_have_all_structures_in_other_shapes():
    one, other = make_brains(2, 4.0)
    for brain in (one, other):
        labels = sitk.GetArrayViewFromImage(brain.labels)
        assert set(np.unique(labels)) == set(range(len(LABELS) + 1))
        image = sitk.GetArrayViewFromImage(brain.image)
        white, cortex = (np.median(image[np.isin(labels, pair)]) for pair in ((3, 4), (1, 2)))
        assert white > 1.2 * cortex > 0
        assert not image[0].any()
    assert 0.2 < label_overlap(one.labels, other.labels)["mean_dice"] < 0.8


def test_the_same_seed_gives_the_same_brains():
    first, again = make_brains(2, 6.0)[1], make_brains(2, 6.0)[1]
    assert np.array_equal(sitk.GetArrayViewFromImage(first.image), sitk.GetArrayViewFromImage(again.image))


@pytest.mark.parametrize("kind", ["abdomen", "brain"])
def test_pairs_are_written_whole_and_known_as_phantoms(tmp_path, kind):
    about = write_organ_pair(kind, 3, 8.0, tmp_path / "pair")
    assert json.loads((tmp_path / "pair" / "phantom.json").read_text(encoding="utf-8")) == about
    names = {path.name for path in (tmp_path / "pair").iterdir()}
    assert {"abdomen": "truth.tfm", "brain": "brain_b_labels.nii.gz"}[kind] in names
    with pytest.raises(BadInput, match="not empty"):
        write_organ_pair(kind, 3, 8.0, tmp_path / "pair")
