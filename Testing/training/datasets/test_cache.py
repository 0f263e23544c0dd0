"""Cached pairs are the samples themselves, made once, made again when a file changes, and laid on a device whole."""

import os

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib.datasets import Manifest, Row
from LungRecoveryTrainingLib.datasets import cache as caching
from LungRecoveryTrainingLib.datasets.cache import CachedPairs, compact, expand
from LungRecoveryTrainingLib.datasets.samples import make_sample, stack

SETTINGS = {"spacing_mm": 6.0, "size": (48, 32, 48)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A cache that the tests fill and use again."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def counted(monkeypatch):
    """The pairs for which samples are really made."""
    made = []

    def count(fixed, moving, *arguments):
        made.append((fixed.subject, moving.timepoint))
        return make_sample(fixed, moving, *arguments)

    monkeypatch.setattr(caching, "make_sample", count)
    return made


def test_samples_are_those_of_make_sample(phantoms, folder):
    """What comes out of a cache, the first and the second time, is the sample within half precision."""
    pairs = CachedPairs(phantoms, "train", cache=folder, **SETTINGS)
    assert len(pairs) == 2
    expected = make_sample(*pairs.pairs[1], **SETTINGS)
    for found in (pairs[1], pairs[1]):
        assert set(found) == set(expected)
        for key, value in expected.items():
            if isinstance(value, str):
                assert found[key] == value
            else:
                assert found[key].dtype == value.dtype
                assert torch.allclose(found[key].float(), value.float(), atol=0.008, equal_nan=True)


def test_made_once_and_again_when_a_file_changes(phantoms, tmp_path, counted):
    """A second data set on the same folder makes nothing; a touched file, or another spacing, makes its pairs anew."""
    fixed, row = phantoms.pairs("train")[0]
    image = tmp_path / "moving.nii.gz"
    image.write_bytes(row.image.read_bytes())
    manifest = Manifest((fixed, Row(row.subject, 30.0, image, row.mask)), tmp_path / "manifest.csv")
    for _ in range(2):
        CachedPairs(manifest, "train", cache=tmp_path / "cache", **SETTINGS)[0]
    assert len(counted) == 1
    os.utime(image, ns=(1, 1))
    CachedPairs(manifest, "train", cache=tmp_path / "cache", **SETTINGS)[0]
    assert len(counted) == 2
    CachedPairs(manifest, "train", cache=tmp_path / "cache", **(SETTINGS | {"spacing_mm": 7.5}))[0]
    assert len(counted) == 3


def test_random_parts_are_not_cached(phantoms, folder):
    """A transform is applied each time, to a sample of its own: what it does to one does not reach the next."""
    calls = []

    def brighten(sample):
        calls.append(sample["pair"])
        sample["fixed"] += 100 * len(calls)
        return sample

    for cache in (folder, None):
        calls.clear()
        pairs = CachedPairs(phantoms, "val", cache=cache, transform=brighten, **SETTINGS)
        first, second = pairs[0], pairs[0]
        assert len(calls) == 2
        assert (second["fixed"] - first["fixed"]).unique().tolist() == pytest.approx([100.0], abs=1e-3)


def test_to_tensors(phantoms, folder):
    """The whole split as one batch: that of the samples, images and displacement in half precision, masks in bytes."""
    pairs = CachedPairs(phantoms, "train", cache=folder, **SETTINGS)
    batch = pairs.to_tensors("cpu")
    expected = stack(compact(pairs[i]) for i in range(2))
    assert set(batch) == set(expected)
    for key, value in expected.items():
        assert batch[key].dtype == value.dtype
        assert torch.equal(batch[key].nan_to_num(-9), value.nan_to_num(-9))
    assert batch["displacement"].dtype == torch.float16
    assert batch["truth"].dtype == torch.uint8
    assert expand(batch)["fixed"].dtype == torch.float32
    assert not any(key in batch for key in ("subject", "pair"))


def test_workers_fill_the_same_cache(phantoms, tmp_path):
    """Processes make the samples that this one would, and leave one file for each."""
    pairs = CachedPairs(phantoms, "train", cache=tmp_path / "cache", workers=1, **SETTINGS)
    seen = []
    pairs.fill(lambda stage, fraction, message: seen.append((fraction, message)))
    assert [message for _, message in seen] == pairs.names
    assert seen[-1][0] == 1.0
    assert len(list((tmp_path / "cache").glob("*.pt"))) == 2
    expected = compact(make_sample(*pairs.pairs[0], **SETTINGS))
    assert torch.equal(pairs.cached(0)["moving"], expected["moving"])


def test_optional_parts_are_there_for_all_or_none(phantoms, tmp_path):
    """One pair without landmarks takes them from all, so that batches can be stacked."""
    rows = [Row(r.subject, r.timepoint, r.image, r.mask, split="train") for r in phantoms.of("val")]
    mixed = Manifest((*phantoms.of("train"), *rows), tmp_path / "manifest.csv")
    pairs = CachedPairs(mixed, "train", cache=tmp_path / "cache", **SETTINGS)
    batch = stack([pairs[0], pairs[2]])
    assert batch["fixed"].shape[0] == 2
    assert "fixed_points" not in batch


def test_limits_and_mistakes(phantoms, folder):
    """`limit` takes so many pairs; a split without pairs, and tensors of samples without a common size, are refused."""
    assert len(CachedPairs(phantoms, "train", cache=folder, limit=1, **SETTINGS)) == 1
    with pytest.raises(BadInput, match="split 'test' has no pair"):
        CachedPairs(phantoms, "test", cache=folder)
    with pytest.raises(BadInput, match="give a size"):
        CachedPairs(phantoms, "train", spacing_mm=6.0, cache=folder).to_tensors("cpu")
