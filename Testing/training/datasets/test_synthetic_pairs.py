"""Synthetic pairs on disk: their displacement, landmarks, lungs and density agree with the images that were drawn."""

from dataclasses import replace

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.images import read_image, write_image
from LungRecoveryTrainingLib.datasets import synthetic
from LungRecoveryTrainingLib.datasets.manifest import read_manifest, write_manifest
from LungRecoveryTrainingLib.datasets.samples import make_sample

# Two lungs of a child's size on an oblique grid that starts far away and has coarse slices.
ANGLE = 0.3
DIRECTION = (np.cos(ANGLE), -np.sin(ANGLE), 0, np.sin(ANGLE), np.cos(ANGLE), 0, 0, 0, 1)
GRID = Grid((60, 44, 40), (3.0, 3.2, 4.0), (-80.0, 40.0, -920.0), tuple(float(n) for n in DIRECTION))


def chest() -> tuple[sitk.Image, sitk.Image]:
    """A smooth CT in HU with two lungs, and their labels (1 and 2)."""
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in GRID.size), indexing="ij")
    x, y, z = (a.T for a in (x, y, z))
    labels = np.zeros(GRID.shape, np.uint8)
    for label, centre in ((1, -0.45), (2, 0.45)):
        labels[((x - centre) / 0.34) ** 2 + (y / 0.6) ** 2 + (z / 0.75) ** 2 < 1] = label
    hu = np.where(x**2 + y**2 < 0.95, 40.0, -1000.0)
    pattern = np.sin(9 * x) * np.cos(7 * y) + np.sin(8 * z + 3 * x)
    hu = np.where(labels > 0, -800 + 60 * pattern, hu)
    return grids.to_image(hu.astype(np.int16), GRID), grids.to_image(labels, GRID)


def clean(**motion) -> synthetic.PairSettings:
    """Settings without anything that changes the follow-up's density."""
    settings = synthetic.settings_for(breathing_mm=25.0)
    changes = dict(lesion_probability=0.0, mass=(0.0, 0.0), breathing_probability=1.0) | motion
    motion = replace(settings.motion, **changes)
    return replace(settings, motion=motion, noise_hu=(0.0, 0.0), blur_mm=(0.0, 0.0), thick=0.0)


@pytest.fixture(scope="module")
def pair() -> synthetic.SyntheticPair:
    return synthetic.make_pair(*chest(), seed=3, settings=clean())


def test_the_displacement_lays_the_follow_up_on_the_scan(pair):
    field = sitk.Cast(pair.displacement, sitk.sitkVectorFloat64)
    warped = grids.resample(pair.followup, pair.scan, sitk.DisplacementFieldTransform(field))
    # Away from the lungs' surface, where 840 HU of contrast turn a hundredth of a voxel into noise.
    inner = grids.to_array(sitk.BinaryErode(pair.scan_lungs > 0, (2, 2, 2))) > 0
    error = np.abs(grids.to_array(warped, float) - grids.to_array(pair.scan, float))[inner]
    still = grids.to_array(grids.resample(pair.followup, pair.scan), float)
    before = np.abs(still - grids.to_array(pair.scan, float))[inner]
    assert error.mean() < 6
    assert before.mean() > 8 * error.mean()


def test_landmarks_and_lungs_follow_the_displacement(pair):
    assert len(pair.scan_points) > 20
    field = grids.to_array(pair.displacement)
    moved = pair.scan_points + grids.sample(field, grids.grid_of(pair.scan), pair.scan_points)
    assert np.abs(moved - pair.followup_points).max() < 0.05
    distance = np.linalg.norm(pair.followup_points - pair.scan_points, axis=1)
    assert 5 < distance.max() < 80
    inside = grids.sample(grids.to_array(pair.followup_lungs > 0, float), grids.grid_of(pair.followup), moved)
    assert (inside > 0.5).all()
    field = sitk.Cast(pair.displacement, sitk.sitkVectorFloat64)
    laid = grids.resample_mask(pair.followup_lungs, pair.scan, sitk.DisplacementFieldTransform(field))
    labels = grids.to_array(pair.scan_lungs)
    assert (grids.to_array(laid) == labels)[labels > 0].mean() > 0.9


def test_the_follow_up_holds_the_lungs_whole_and_has_its_own_place(pair):
    lungs = grids.to_array(pair.followup_lungs) > 0
    for axis in range(3):
        along = np.flatnonzero(lungs.any(axis=tuple(a for a in range(3) if a != axis)))
        assert along[0] > 0
        assert along[-1] < lungs.shape[axis] - 1
    assert np.allclose(pair.followup.GetDirection(), DIRECTION)
    assert pair.scan.GetPixelID() == pair.followup.GetPixelID() == sitk.sitkInt16
    assert grids.to_array(pair.followup).min() >= -1024


def test_mass_is_kept_by_the_density_and_not_without_it():
    ct, lungs = chest()
    # Without soft tissue around, which half-filled voxels of the lungs' border would weigh.
    ct = sitk.Clamp(ct, sitk.sitkInt16, -900, -700)
    weights = {}
    for mass in (0.0, 1.0):
        pair = synthetic.make_pair(ct, lungs, seed=3, settings=clean(mass=(mass, mass), scale=1.2))
        totals = []
        for image, lungs in ((pair.scan, pair.scan_lungs), (pair.followup, pair.followup_lungs)):
            density = grids.to_array(image, float) + 1000
            totals.append(density[grids.to_array(lungs) > 0].sum() * grids.grid_of(image).voxel_ml)
        weights[mass] = abs(totals[1] / totals[0] - 1)
    assert weights[1.0] < 0.02
    assert weights[0.0] > 0.04


def test_lesions_noise_and_slices_change_what_is_seen_and_not_where_it_is(pair):
    settings = replace(clean(lesion_probability=1.0, healed=0.0), noise_hu=(20.0, 20.0), thick=1.0, slice_mm=20.0)
    other = synthetic.make_pair(*chest(), seed=3, settings=settings)
    lungs = grids.to_array(pair.scan_lungs) > 0
    change = grids.to_array(other.scan, float) - grids.to_array(pair.scan, float)
    assert not change[~lungs].any()
    assert change[lungs].min() >= -1
    assert 0.005 < (change[lungs] > 20).mean() < 0.5
    assert other.followup.GetSpacing()[2] in (8.0, 12.0)
    assert np.array_equal(grids.to_array(other.displacement), grids.to_array(pair.displacement))
    noise = grids.to_array(other.followup, float)[grids.to_array(other.followup_lungs) == 0]
    assert noise[noise > -200].std() > 5


def test_the_seed_decides():
    pairs = [synthetic.make_pair(*chest(), seed=seed, settings=synthetic.settings_for(20.0, 5.0)) for seed in (1, 1, 2)]
    arrays = [grids.to_array(p.followup) for p in pairs]
    assert np.array_equal(arrays[0], arrays[1])
    assert arrays[0].shape != arrays[2].shape or not np.array_equal(arrays[0], arrays[2])
    assert pairs[0].scan.GetSpacing() == (5.0, 5.0, 5.0)


def test_an_empty_mask_is_refused():
    ct, lungs = chest()
    with pytest.raises(BadInput, match="mask of its lungs is empty"):
        synthetic.make_pair(ct, lungs * 0, 0, clean())


# ------------------------------------------------------------------------------------------------------------- on disk


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Two patients with a scan and its lungs each."""
    folder = tmp_path_factory.mktemp("cts")
    ct, lungs = chest()
    for patient in ("a", "b"):
        (folder / patient).mkdir()
        write_image(ct, folder / patient / "scan.nii.gz")
        write_image(lungs, folder / patient / "scan-lungs.nii.gz")
    return folder


@pytest.fixture(scope="module")
def rows(root, tmp_path_factory):
    return synthetic.LAYOUT.rows(root, tmp_path_factory.mktemp("pairs"), pairs=3, breathing=20.0, spacing=4.0)


def test_pairs_on_disk_make_a_manifest_and_samples_whose_truth_holds(rows):
    folder = rows[0].image.parents[2]
    manifest = read_manifest(write_manifest(rows, folder / "manifest.csv").path)
    pairs = manifest.pairs("train")
    assert len(pairs) == 3
    assert len({fixed.subject for fixed, _ in pairs}) == 3
    sample = make_sample(*pairs[0], spacing_mm=4.0)
    known = sample["truth"][0] > 0
    assert known.sum() > 0.9 * sample["fixed_mask"].sum()
    there = sample["fixed_points"].long()
    x, y, z = there.T
    inside = known[z, y, x]
    shift = sample["moving_points"] - sample["fixed_points"]
    difference = (sample["displacement"][:, z, y, x].T - shift)[inside]
    assert inside.sum() > 10
    assert difference.norm(dim=1).mean() < 0.3


def test_what_is_there_is_kept_and_other_options_are_refused(root, rows):
    output = rows[0].image.parents[2]
    before = rows[0].image.stat().st_mtime_ns
    again = synthetic.LAYOUT.rows(root, output, pairs=4, breathing=20.0, spacing=4.0)
    assert again[: len(rows)] == rows
    assert len(again) == 8
    assert rows[0].image.stat().st_mtime_ns == before
    assert read_image(again[-1].displacement).GetNumberOfComponentsPerPixel() == 3
    with pytest.raises(BadInput, match="made with other options"):
        synthetic.LAYOUT.rows(root, output, pairs=1, breathing=30.0, spacing=4.0)


def test_pairs_stay_in_the_split_of_their_patient(root, tmp_path):
    ct, lungs = chest()
    patients = tmp_path / "cts"
    for patient in "abcd":
        (patients / patient).mkdir(parents=True)
        write_image(ct, patients / patient / "scan.nii.gz")
        write_image(lungs, patients / patient / "scan-lungs.nii.gz")
    rows = synthetic.LAYOUT.rows(patients, tmp_path / "out", pairs=8, val=0.25, test=0.25, spacing=8.0)
    splits = {}
    for row in rows:
        splits.setdefault(row.subject[0], set()).add(row.split)
    assert all(len(found) == 1 for found in splits.values())
    assert set.union(*splits.values()) == {"train", "val", "test"}


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [("pairs", 0, "1 or more"), ("breathing", 500.0, "0 to 100 mm"), ("spacing", 0.01, "0.5 to 10 mm")],
)
def test_options_that_cannot_be_are_refused(root, tmp_path, option, value, message):
    with pytest.raises(BadInput, match=message):
        synthetic.LAYOUT.rows(root, tmp_path, **{option: value})
