"""Splits by patient are the same on every machine and never leave a split out."""

import pytest

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import split_by_patient


def test_the_same_whatever_the_order():
    """The order and repetition of patients do not matter, the seed does."""
    names = [f"p{i}" for i in range(50)]
    splits = split_by_patient(names, 0.2, 0.1)
    assert splits == split_by_patient([*names[::-1], *names], 0.2, 0.1)
    assert splits != split_by_patient(names, 0.2, 0.1, seed=1)
    counts = {split: list(splits.values()).count(split) for split in ("train", "val", "test")}
    assert counts == {"train": 35, "val": 10, "test": 5}


def test_known_answer():
    """The split itself is fixed, so that a published split can be made again."""
    expected = {"a": "val", "b": "train", "c": "train", "d": "test", "e": "train"}
    assert split_by_patient(["a", "b", "c", "d", "e"], 0.2, 0.2) == expected


def test_small_sets():
    """Three patients already give each split one; two are for training only."""
    assert sorted(split_by_patient(["a", "b", "c"]).values()) == ["test", "train", "val"]
    assert set(split_by_patient(["a", "b"]).values()) == {"train"}


@pytest.mark.parametrize(("val", "test"), [(0.5, 0.5), (-0.1, 0.2)])
def test_impossible_shares(val, test):
    """Shares that leave nobody to train on are refused."""
    with pytest.raises(BadInput, match="nothing to train on"):
        split_by_patient(["a", "b", "c"], val, test)
