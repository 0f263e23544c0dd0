"""Slices show the patient the way radiologists expect, whatever axes and voxels the scan has."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from LungRecoveryLib.grids import Grid, grid_of, to_array, to_image
from LungRecoveryLib.report.slices import checkerboard, lung_box, place_of_change, planes_through, position

CENTRE = np.array([10.0, -30.0, -920.0])
# A spot to the patient's right (-L), in front (-P) and towards the head (+S) of the centre.
SPOT = CENTRE + np.array([-50.0, -40.0, 60.0])
HALF = np.array([120.0, 90.0, 110.0])
BOX = (CENTRE - HALF, CENTRE + HALF)

AXES = {
    "LPS": np.eye(3),
    "flipped in x and y": np.diag([-1.0, -1.0, 1.0]),
    "feet first": np.diag([-1.0, 1.0, -1.0]),
    "left-handed": np.diag([1.0, 1.0, -1.0]),
    "coronal acquisition": np.array([[1.0, 0, 0], [0, 0, 1.0], [0, -1.0, 0]]),
    "oblique": Rotation.from_euler("xyz", [9, -6, 14], degrees=True).as_matrix(),
}


def blob(grid: Grid, point: np.ndarray, radius: float = 14.0) -> sitk.Image:
    """A bright ball (1000) at an LPS point on a dark ground (0)."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1).reshape(-1, 3)
    inside = np.linalg.norm(grid.points(index) - point, axis=1) < radius
    return to_image(
        np.ascontiguousarray(1000.0 * inside.reshape(grid.size).transpose(2, 1, 0)).astype(np.float32), grid
    )


def centre_of_light(picture: np.ndarray) -> tuple[float, float]:
    """Column and row of the bright spot, as fractions of the picture's width and height."""
    rows, columns = np.indices(picture.shape)
    weight = picture.sum()
    return (columns * picture).sum() / weight / picture.shape[1], (rows * picture).sum() / weight / picture.shape[0]


@pytest.mark.parametrize("name", AXES)
def test_a_spot_right_in_front_and_high_lies_where_a_radiologist_looks_for_it(name, grid_maker):
    image = blob(grid_maker(AXES[name], spacing=(3.0, 3.0, 4.0)), SPOT)
    axial, coronal, sagittal = planes_through(SPOT, BOX)
    for plane, (column, row) in ((axial, (0.5 - 50 / 240, 0.5 - 40 / 180)), (coronal, (0.5 - 50 / 240, 0.5 - 60 / 220)),
                                 (sagittal, (0.5 - 40 / 180, 0.5 - 60 / 220))):  # fmt: skip
        found = centre_of_light(plane.cut(image, 0.0))
        assert found == pytest.approx((column, row), abs=0.01), plane.name
    assert [p.sides for p in (axial, coronal, sagittal)] == ["RLAP", "RLSI", "APSI"]


@pytest.mark.parametrize("name", AXES)
def test_the_picture_does_not_depend_on_the_axes_of_the_grid(name, grid_maker):
    def cut(axes: np.ndarray) -> list[np.ndarray]:
        grid = grid_maker(axes, spacing=(2.5, 2.5, 2.5))
        smooth = sitk.SmoothingRecursiveGaussian(blob(grid, SPOT, 24.0), 8.0)
        return [plane.cut(smooth, 0.0) for plane in planes_through(SPOT, BOX)]

    for here, expected in zip(cut(AXES[name]), cut(np.eye(3)), strict=True):
        assert here.shape == expected.shape
        assert np.abs(here - expected).max() < 0.03 * expected.max()


def test_positions_are_named_by_the_side_they_lie_on():
    point = np.array([-12.34, 56.78, -920.0])
    assert [position(point, axis) for axis in range(3)] == ["R 12.3 mm", "P 56.8 mm", "I 920.0 mm"]
    assert [position(-point, axis) for axis in range(3)] == ["L 12.3 mm", "A 56.8 mm", "S 920.0 mm"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.floats(-60, 60), min_size=3, max_size=3))
def test_every_plane_goes_through_its_point(offset):
    point = CENTRE + np.array(offset)
    for plane in planes_through(point, BOX):
        column, row = plane.pixel(point)
        assert plane.grid.points(np.array([[column, row, 0.0]]))[0] == pytest.approx(point, abs=1e-6)
        assert plane.grid.indices(point[None])[0][2] == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("name", ["LPS", "feet first", "oblique"])
def test_the_box_holds_the_lung_and_its_margin(name, grid_maker):
    ball = sitk.Cast(blob(grid_maker(AXES[name]), SPOT, 30.0) > 0, sitk.sitkUInt8)
    low, high = lung_box(ball, margin_mm=12.0)
    assert low == pytest.approx(SPOT - 42.0, abs=4.5)
    assert high == pytest.approx(SPOT + 42.0, abs=4.5)


def test_an_empty_mask_has_no_box(grid_maker):
    with pytest.raises(ValueError, match="empty"):
        lung_box(sitk.Image((5, 5, 5), sitk.sitkUInt8))


@pytest.mark.parametrize("name", ["LPS", "feet first", "oblique"])
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_slices_go_through_the_largest_change_and_not_through_a_single_wild_voxel(name, sign, grid_maker):
    grid = grid_maker(AXES[name])
    lung = sitk.Cast(blob(grid, CENTRE, 95.0) > 0, sitk.sitkUInt8)
    change = to_array(blob(grid, SPOT, 20.0), np.float32) * sign * 0.3
    noisy = np.unravel_index(np.ravel_multi_index(tuple(n // 2 for n in change.shape), change.shape), change.shape)
    change[noisy] = 3000.0
    found = place_of_change([to_image(change, grid)], lung)
    assert np.linalg.norm(found - SPOT) < 12.0


def test_changes_outside_the_lung_and_undefined_ones_do_not_count(grid_maker):
    grid = grid_maker()
    lung = sitk.Cast(blob(grid, CENTRE, 70.0) > 0, sitk.sitkUInt8)
    outside = to_array(blob(grid, CENTRE + np.array([110.0, 0, 0]), 20.0), np.float32)
    inside = to_array(blob(grid, CENTRE + np.array([0, 0, 30.0]), 15.0), np.float32) * 0.1
    change = outside + inside
    change[0, 0, 0] = np.nan
    found = place_of_change([to_image(change, grid)], lung)
    assert np.linalg.norm(found - (CENTRE + np.array([0, 0, 30.0]))) < 12.0


def test_without_a_map_the_slices_lie_deep_in_the_lung(grid_maker):
    lung = sitk.Cast(blob(grid_maker(), SPOT, 50.0) > 0, sitk.sitkUInt8)
    assert np.linalg.norm(place_of_change([], lung) - SPOT) < 8.0


def test_a_mask_thinner_than_the_search_grid_still_gives_a_place():
    mask = sitk.Image((9, 9, 9), sitk.sitkUInt8)
    mask[4, 4, 4] = 1
    assert place_of_change([], mask) == pytest.approx(grid_of(mask).points(np.array([[4, 4, 4]]))[0])


def test_a_checkerboard_alternates():
    board = checkerboard((40, 40), 10)
    assert board[0, 0]
    assert not board[0, 10]
    assert not board[10, 0]
    assert board[10, 10]
    assert board.mean() == 0.5
