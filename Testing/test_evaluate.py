"""Landmark and label errors are those of the definitions, and DIR-Lab's published figures come out."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.evaluate import (
    error_statistics,
    label_overlap,
    named_labels,
    read_landmarks,
    target_registration_error,
)
from LungRecoveryLib.grids import Grid, grid_of, to_image

# Mean and SD before registration of the 300 landmarks, T00 to T50, as published with the data.
DIRLAB_INITIAL_MM = {
    1: (3.89, 2.78), 2: (4.34, 3.90), 3: (6.94, 4.05), 4: (9.83, 4.86), 5: (7.48, 5.51),
    6: (10.89, 6.97), 7: (11.03, 7.43), 8: (14.99, 9.01), 9: (7.92, 3.98), 10: (7.30, 6.35),
}  # fmt: skip
OBLIQUE = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
GRID = Grid((40, 36, 30), (1.0, 1.5, 2.5), (-20.0, 10.0, -920.0), OBLIQUE)


def ball(grid, centre, radius):
    """A ball of `radius` mm around an LPS point, as a bool array (z, y, x) on a grid."""
    indices = np.moveaxis(np.indices(grid.shape)[::-1], 0, -1).reshape(-1, 3)
    return (np.linalg.norm(grid.points(indices) - centre, axis=1) <= radius).reshape(grid.shape)


def test_the_transform_takes_fixed_points_to_moving_points():
    fixed = np.array([[0.0, 0.0, 0.0], [10.0, -5.0, -900.0]])
    shift = sitk.TranslationTransform(3, (3.0, 0.0, 4.0))
    moving = fixed + np.array([3.0, 0.0, 4.0])
    figures = target_registration_error(shift, fixed, moving)
    assert figures["mean_mm"] == pytest.approx(0.0)
    assert figures["initial"]["mean_mm"] == pytest.approx(5.0)
    assert target_registration_error(shift.GetInverse(), fixed, moving)["mean_mm"] == pytest.approx(10)


def test_the_snapped_error_is_measured_from_the_moving_voxel_that_is_nearest():
    moving = GRID.points(np.array([[10.0, 10.0, 10.0], [5.0, 5.0, 5.0]]))
    off = GRID.points(np.array([[10.4, 9.6, 10.4], [5.6, 5.0, 5.0]]))  # rounds to the right voxel; to its neighbour
    figures = target_registration_error(None, off, moving, GRID)
    assert figures["mean_mm"] == pytest.approx((np.hypot(np.hypot(0.4, 0.6), 1.0) + 0.6) / 2)
    assert figures["snapped"]["mean_mm"] == pytest.approx((0.0 + 1.0) / 2)
    assert target_registration_error(None, off, moving)["snapped"] is None


def test_statistics_are_those_of_the_definitions():
    figures = error_statistics(np.array([0.5, 0.5, 1.0, 1.5, 2.5, 6.0]))
    assert figures["count"] == 6
    assert figures["mean_mm"] == pytest.approx(2.0)
    assert figures["sd_mm"] == pytest.approx(np.sqrt(22.0 / 5))
    assert figures["median_mm"] == pytest.approx(1.25)
    assert figures["p95_mm"] == pytest.approx(5.125)
    assert figures["max_mm"] == 6.0
    assert figures["below_1_mm_percent"] == pytest.approx(100 / 3)
    assert figures["below_2_mm_percent"] == pytest.approx(400 / 6)
    assert figures["below_3_mm_percent"] == pytest.approx(500 / 6)
    assert error_statistics(np.array([1.0]))["sd_mm"] is None


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(*[st.floats(-0.49, 0.49)] * 3), min_size=1, max_size=20))
def test_less_than_half_a_voxel_off_is_no_snapped_error(offsets):
    voxels = np.arange(3 * len(offsets)).reshape(-1, 3) % 25
    figures = target_registration_error(None, GRID.points(voxels + np.array(offsets)), GRID.points(voxels), GRID)
    assert figures["snapped"]["max_mm"] == pytest.approx(0.0, abs=1e-9)
    assert figures["max_mm"] <= np.linalg.norm(0.5 * np.array(GRID.spacing))


def test_points_that_do_not_match_are_refused():
    with pytest.raises(BadInput, match="2 landmarks"):
        target_registration_error(None, np.zeros((2, 3)), np.zeros((3, 3)))
    with pytest.raises(BadInput, match="no landmark"):
        target_registration_error(None, np.zeros((0, 3)), np.zeros((0, 3)))


def test_labels_carried_by_the_true_shift_agree_and_without_it_are_off_by_it():
    shift = GRID.axes @ np.array([4.0, 0.0, 0.0])
    one, other = GRID.centre, GRID.centre + GRID.axes @ np.array([0.0, 18.0, 0.0])
    fixed = np.where(ball(GRID, one, 9.0), 1, 0) + np.where(ball(GRID, other, 6.0), 7, 0)
    moving = np.where(ball(GRID, one + shift, 9.0), 1, 0) + np.where(ball(GRID, other + shift, 6.0), 7, 0)
    images = [to_image(array.astype(np.uint8), GRID) for array in (fixed, moving)]
    carried = label_overlap(*images, sitk.TranslationTransform(3, shift.tolist()))
    assert list(carried["labels"]) == ["1", "7"]
    assert carried["mean_dice"] == pytest.approx(1.0)
    assert carried["mean_hd95_mm"] == pytest.approx(0.0)
    assert carried["labels"]["1"]["fixed_ml"] == pytest.approx(4 / 3 * np.pi * 0.9**3, rel=0.05)
    apart = label_overlap(*images)
    assert 3.0 < apart["labels"]["1"]["hd95_mm"] <= 4.0  # 4 mm along the shift, less at the sides
    overlap = 1 - 1.5 * (4 / 18) + 0.5 * (4 / 18) ** 3  # of two balls, by their distance over their diameter
    assert apart["labels"]["1"]["dice"] == pytest.approx(overlap, abs=0.02)


def test_hd95_is_that_of_all_pairs_of_boundary_voxels():
    rng = np.random.default_rng(3)
    a, b = (ball(GRID, GRID.centre + rng.normal(0, 3, 3), r) for r in (8.0, 11.0))

    def boundary(mask):
        padded = np.pad(mask, 1)
        inner = np.all([np.roll(padded, s, axis) for axis in range(3) for s in (-1, 1)], axis=0)[1:-1, 1:-1, 1:-1]
        return GRID.points(np.argwhere(mask & ~inner)[:, ::-1])

    distances = np.linalg.norm(boundary(a)[:, None] - boundary(b)[None], axis=2)
    expected = max(np.percentile(distances.min(axis=1), 95), np.percentile(distances.min(axis=0), 95))
    found = label_overlap(*(to_image(m.astype(np.uint8), GRID) for m in (a, b)))["labels"]["1"]
    assert found["hd95_mm"] == pytest.approx(expected, abs=1e-4)
    assert found["dice"] == pytest.approx(2 * (a & b).sum() / (a.sum() + b.sum()))


def test_a_label_that_one_map_lacks_is_named_and_not_scored():
    common = np.where(ball(GRID, GRID.centre, 8.0), 2, 0)
    corner = ball(GRID, GRID.points(np.zeros((1, 3)))[0], 8.0)
    images = [to_image(np.where(corner, label, common).astype(np.int16), GRID) for label in (3, 9)]
    figures = label_overlap(*images)
    assert {label: f["dice"] for label, f in figures["labels"].items()} == {"2": 1.0}
    assert figures["mean_dice"] == 1.0
    assert (figures["only_fixed"], figures["only_moving"]) == (["3"], ["9"])
    assert named_labels(figures) == [
        "labels that only the fixed map has are not scored: 3",
        "labels that only the moving map has are not scored: 9",
    ]


def test_a_label_that_is_carried_out_of_the_image_is_not_found():
    labels = to_image(np.where(ball(GRID, GRID.centre, 8.0), 2, 0).astype(np.int16), GRID)
    figures = label_overlap(labels, labels, sitk.TranslationTransform(3, (500.0, 0.0, 0.0)))
    assert (figures["labels"]["2"]["dice"], figures["labels"]["2"]["hd95_mm"]) == (0.0, None)


def test_maps_without_labels_or_with_fractions_are_refused():
    empty = to_image(np.zeros(GRID.shape, np.uint8), GRID)
    with pytest.raises(BadInput, match="neither label map"):
        label_overlap(empty, empty)
    ones = [to_image(np.full(GRID.shape, label, np.uint8), GRID) for label in (1, 2)]
    with pytest.raises(BadInput, match="no label in common"):
        label_overlap(*ones)
    with pytest.raises(BadInput, match="fixed label map holds fractions"):
        label_overlap(to_image(np.full(GRID.shape, 0.5, np.float32), GRID), empty)
    whole = to_image(ball(GRID, GRID.centre, 8.0).astype(np.float32), GRID)
    assert label_overlap(whole, whole)["mean_dice"] == 1.0


@pytest.mark.realdata
@pytest.mark.parametrize("case", DIRLAB_INITIAL_MM)
def test_the_published_errors_before_registration_come_out(real_data, case):
    folder = real_data / "dirlab-4dct-landmarks" / f"Case{case}Pack" / "ExtremePhases"
    pairs = read_landmarks(*(folder / f"Case{case}_300_{phase}_xyz.txt" for phase in ("T00", "T50")))
    figures = target_registration_error(None, pairs.fixed, pairs.moving, pairs.moving_grid)
    assert figures["count"] == 300
    assert (figures["mean_mm"], figures["sd_mm"]) == pytest.approx(DIRLAB_INITIAL_MM[case], abs=0.0051)
    assert figures["snapped"]["mean_mm"] == pytest.approx(figures["mean_mm"])


@pytest.mark.realdata
def test_the_real_pairs_masks_aligned_by_their_centres_overlap(real_data):
    folder = real_data / "lung-followup-pair"
    masks = [sitk.ReadImage(str(folder / f"{n}_lung_mask.mha")) for n in ("baseline", "followup")]
    centres = [grid_of(m).points(np.argwhere(sitk.GetArrayViewFromImage(m))[:, ::-1]).mean(axis=0) for m in masks]
    apart = label_overlap(*masks)
    aligned = label_overlap(*masks, sitk.TranslationTransform(3, (centres[1] - centres[0]).tolist()))
    assert apart["mean_dice"] < 0.85 < 0.9 < aligned["mean_dice"]
    assert aligned["mean_hd95_mm"] < 10 < apart["mean_hd95_mm"]
