"""Synthetic patients: exact truth, the variety asked for, the same from the same seed, resumed where stopped."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import grid_of, sample, to_array
from LungRecoveryLib.images import read_image, read_scan
from LungRecoveryLib.landmarks import read_points
from LungRecoveryTrainingLib.datasets import prepare, read_manifest
from LungRecoveryTrainingLib.datasets.chests import DEEPEST_MM, HELD_OUT, PhantomSettings, patient_scans, true_map
from LungRecoveryTrainingLib.datasets.phantoms import generate_samples

COARSE = replace(PhantomSettings(), pixel_mm=(5.0, 6.0), slice_mm=(5.0, 6.0), visits=1)
WHOLE = replace(COARSE, cropped=0.0, one_lung=0.0, rough_masks=0.0)


@pytest.fixture(scope="module")
def deep():
    """Kind and scans of a patient whose diaphragm moves by up to 70 mm."""
    return patient_scans(5, replace(WHOLE, kinds=("pair",), deep=1.0, deep_mm=(60.0, DEEPEST_MM), visits=2))


def test_folder(phantoms, phantom_root):
    """The manifest names scans that read as CT, masks and landmarks inside the lungs, and truth on the baseline's grid
    that takes the baseline's landmarks to the follow-up's."""
    assert read_manifest(phantom_root / "manifest.csv").rows == phantoms.rows
    assert sorted(len(phantoms.pairs(split)) for split in ("train", "val", "test")) == [0, 1, 2]
    for fixed, moving in (*phantoms.pairs("train"), *phantoms.pairs("val")):
        read_scan(fixed.image)
        image = read_image(moving.displacement)
        assert grid_of(image) == grid_of(read_image(fixed.image))
        before, after = (read_points(row.landmarks).points for row in (fixed, moving))
        assert len(before) > 20
        moved = before + sample(to_array(image), grid_of(image), before)
        assert np.linalg.norm(moved - after, axis=1).mean() < 0.3
        mask = read_image(fixed.mask)
        assert (sample(to_array(mask, np.float32), grid_of(mask), before) > 0).all()


def test_resumed(phantoms, phantom_root):
    """Patients that are there are kept, those that lack are made, and other options are refused."""
    first = phantom_root / phantoms.rows[0].subject / "phantom.json"
    about, before = first.read_text(), first.stat().st_mtime_ns
    last = phantom_root / phantoms.rows[-1].subject
    content = {path.name: path.read_bytes() for path in last.iterdir()}
    for path in last.iterdir():
        path.unlink()
    last.rmdir()
    options = {"count": 3, "spacing": 5.0, "visits": 1, "val": 0.3, "test": 0.0, "kinds": ("pair",)}
    again = prepare("phantoms", phantom_root, **options)
    assert again.rows == phantoms.rows
    assert first.stat().st_mtime_ns == before
    assert {path.name for path in last.iterdir()} == set(content)
    assert (last / "day-030-landmarks.csv").read_bytes() == content["day-030-landmarks.csv"]
    assert json.loads(about)["kind"] == "pair"
    with pytest.raises(BadInput, match="made with other options"):
        prepare("phantoms", phantom_root, **(options | {"spacing": 6.0}))


def test_validation_is_from_another_generator(phantoms, phantom_root):
    """A held-out patient is drawn from other settings than those to train on: scanner, noise and motion."""
    settings = {}
    for row in phantoms.rows:
        about = json.loads((phantom_root / row.subject / "phantom.json").read_text())
        settings[row.split] = about["settings"]
    for name in ("blur_mm", "sharpen", "noise_hu", "motion_mm", "deep_mm"):
        assert settings["train"][name] != settings["val"][name]
    training = PhantomSettings()
    assert HELD_OUT.pixel_mm[1] < training.pixel_mm[0]
    assert HELD_OUT.sharpen[0] >= training.sharpen[1]


def test_truth_is_exact(deep):
    """The map takes every scan's branching points to every other scan's, forth and back, and is one to one."""
    _, scans = deep
    for fixed in scans:
        for moving in scans:
            seen = np.isfinite(fixed.points).all(axis=1) & np.isfinite(moving.points).all(axis=1)
            moved, known = true_map(fixed, moving)(fixed.points[seen])
            assert known.all()
            assert np.abs(moved - moving.points[seen]).max() < 0.01


@pytest.mark.parametrize("seed", range(3))
def test_even_the_deepest_breath_does_not_fold(seed):
    """At 70 mm of the diaphragm the Jacobian inside the lungs stays positive."""
    _, scans = patient_scans(seed, replace(WHOLE, kinds=("breath",), deep=1.0, deep_mm=(70.0, 70.0)))
    lungs = scans[0].lungs
    points = grid_of(lungs).points(np.argwhere(to_array(lungs) > 0)[:, ::-1])
    assert abs(scans[1].motion.depth) == pytest.approx(70.0)
    assert scans[1].motion.jacobian(points).min() > 0.02


def test_kinds():
    """Each kind is what it says: still does not move, breath has no lesion, the mean motion is what was drawn."""
    still = patient_scans(1, replace(WHOLE, kinds=("still",)))[1]
    both = np.isfinite(still[0].points) & np.isfinite(still[1].points)  # masks differ by a voxel here and there
    assert both.sum() > 300
    assert np.array_equal(still[0].points[both], still[1].points[both])
    settings = replace(WHOLE, motion_mm=(10.0, 10.0), deep=0.0, noise_hu=(1.0, 1.0), lesions=(0.3, 0.3))
    dense = {}
    for kind in ("breath", "pair"):
        scans = patient_scans(1, replace(settings, kinds=(kind,)))[1]
        assert np.nanmean(np.linalg.norm(scans[1].points - scans[0].points, axis=1)) == pytest.approx(10.0, abs=0.2)
        shares = [np.mean(to_array(s.image)[to_array(s.lungs) > 0] > -650) for s in scans]
        dense[kind] = max(shares)
    assert dense["pair"] > dense["breath"] + 0.1


def test_crops_single_lungs_and_rough_masks():
    """Cropping cuts the lungs at the scan's end, one lung leaves one side, rough masks err a little."""
    whole = patient_scans(3, WHOLE)[1][0]
    cropped = patient_scans(3, replace(WHOLE, cropped=1.0, crop_mm=60.0))[1][0]
    assert np.prod(cropped.image.GetSize()) < np.prod(whole.image.GetSize())
    volume = {name: (to_array(s.lungs) > 0).sum() for name, s in (("whole", whole), ("cropped", cropped))}
    assert volume["cropped"] < volume["whole"]
    assert np.isnan(cropped.points).any()
    rough = patient_scans(3, replace(WHOLE, one_lung=1.0, rough_masks=1.0))[1]
    sides = [np.unique(to_array(scan.lungs)).tolist() for scan in rough]
    assert len(sides[0]) == 2
    assert sides[0] == sides[1]
    a, b = to_array(rough[0].lungs) > 0, to_array(whole.lungs) == sides[0][1]
    assert 0.8 < 2 * (a & b).sum() / (a.sum() + b.sum()) < 0.999


def test_samples_from_processes_are_the_same():
    """The same seed gives the same sample, here and in a process of its own, in the order of the seeds."""
    settings = replace(COARSE, pixel_mm=(8.0, 9.0), slice_mm=(8.0, 9.0))
    here = list(generate_samples([4, 2], 9.0, (40, 32, 40), settings))
    assert [s["subject"] for s in here] == ["phantom-4", "phantom-2"]
    there = list(generate_samples([4, 2], 9.0, (40, 32, 40), settings, workers=1))
    for one, other in zip(here, there, strict=True):
        assert one["pair"] == other["pair"]
        for key in ("fixed", "moving", "fixed_mask", "displacement", "truth"):
            assert one[key].shape[1:] == (40, 32, 40)
            assert torch.allclose(one[key].float(), other[key].float(), atol=0.01)
    assert here[0]["fixed"].dtype == torch.float32
    assert not torch.equal(here[0]["fixed"], here[1]["fixed"])


def test_either_scan_is_fixed():
    """A patient's baseline is now the fixed and now the moving scan, and one that is still never needs any motion."""
    settings = replace(WHOLE, pixel_mm=(9.0, 9.0), slice_mm=(9.0, 9.0), visits=4, kinds=("still",))
    samples = list(generate_samples([0], 9.0, (32, 24, 32), settings))
    baseline_first = [s["pair"].partition(":")[2].startswith("0-") for s in samples]
    assert len(samples) == 4
    assert set(baseline_first) == {True, False}
    assert max(s["displacement"].abs().max() for s in samples) < 0.5


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "numbers of 1 or more"),
        ({"kinds": ("sleeping",)}, "no phantom of the kind 'sleeping'"),
        ({"spacing": 20.0}, "voxels of 20 mm"),
        ({"size": (4, 4, 4)}, "4 x 4 x 4 voxels"),
        ({"colour": "red"}, "no option colour; its options are: count"),
    ],
)
def test_impossible_options(tmp_path, options, message):
    """Options that cannot be are refused before anything is made."""
    with pytest.raises(BadInput, match=message):
        prepare("phantoms", tmp_path / "root", **options)
    assert not list(tmp_path.rglob("phantom-*"))


def test_contrast_medium_brightens_blood_alone():
    """The same patient with contrast medium: the heart by as much as was asked for, hardly anything else."""
    still = replace(WHOLE, kinds=("still",), noise_hu=(0.0, 0.0))
    (plain, _), (bright, _) = (
        patient_scans(4, replace(still, contrast=share, contrast_hu=(200.0, 200.0)))[1] for share in (0.0, 1.0)
    )
    assert grid_of(plain.image) == grid_of(bright.image)
    before, after = (to_array(scan.image, np.float32) for scan in (plain, bright))
    more = after - before
    heart = np.abs(more - 200.0) < 5.0
    assert 200.0 < heart.sum() * np.prod(plain.image.GetSpacing()) / 1000.0 < 2000.0
    assert np.abs(before[heart] - 42.0).mean() < 20.0
    assert np.mean(np.abs(more) < 20.0) > 0.85
