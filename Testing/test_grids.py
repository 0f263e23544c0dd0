"""Geometry: voxels, points, crops, resampling and transforms agree on oblique, uneven, flipped and far-off grids."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid


@st.composite
def any_grid(draw, smallest: int = 4, largest: int = 12) -> Grid:
    """A grid of any rotation, with flips, spacings from 0.4 to 6 mm and origins as far off as a table can be."""
    size = tuple(draw(st.integers(smallest, largest)) for _ in range(3))
    spacing = tuple(draw(st.floats(0.4, 6.0)) for _ in range(3))
    origin = (draw(st.floats(-500, 500)), draw(st.floats(-500, 500)), draw(st.sampled_from([-920.0, 0.0, 1500.0])))
    rotation = sitk.Euler3DTransform((0, 0, 0), *(draw(st.floats(-3.1, 3.1)) for _ in range(3)))
    flips = np.diag([draw(st.sampled_from([-1.0, 1.0])) for _ in range(3)])
    # Rounded, since ITK cannot invert a matrix that holds an angle of 1e-309 degrees.
    direction = np.round(np.array(rotation.GetMatrix()).reshape(3, 3), 12) @ flips
    return Grid(size, spacing, origin, tuple(direction.ravel().tolist()))


def blank(grid: Grid) -> sitk.Image:
    return grids.place(sitk.Image(grid.size, sitk.sitkFloat32), grid)


def linear_image(grid: Grid, gradient=(1.5, -2.0, 0.5), constant: float = 7.0) -> sitk.Image:
    """An image whose value at a point p (LPS mm) is gradient . p + constant."""
    index = np.stack(np.meshgrid(*(np.arange(n) for n in grid.size), indexing="ij"), -1).reshape(-1, 3)
    values = grid.points(index) @ np.array(gradient) + constant
    return grids.to_image(values.reshape(grid.size).transpose(2, 1, 0).astype(np.float32), grid)


TURNED = tuple(sitk.Euler3DTransform((0, 0, 0), 0.3, -0.5, 0.8).GetMatrix())
OBLIQUE = Grid((21, 18, 15), (1.1, 0.9, 2.5), (-100.0, 60.0, -920.0), TURNED)
FLIPPED = Grid((21, 18, 15), (1.1, 0.9, 2.5), (-100.0, 60.0, -920.0), (-1, 0, 0, 0, 0, 1, 0, -1, 0))


# ------------------------------------------------------------------------------------------------- voxels and points


@settings(max_examples=40, deadline=None)
@given(any_grid(), st.integers(0, 10_000))
def test_points_are_those_of_itk_and_come_back_as_indices(grid, seed):
    image = blank(grid)
    indices = np.random.default_rng(seed).uniform(-3, 15, (10, 3))
    points = grid.points(indices)
    expected = [image.TransformContinuousIndexToPhysicalPoint(i) for i in indices.tolist()]
    np.testing.assert_allclose(points, expected, atol=1e-8)
    np.testing.assert_allclose(grid.indices(points), indices, atol=1e-8)
    assert grids.grid_of(image) == grid
    assert grid.shape == sitk.GetArrayViewFromImage(image).shape
    assert grid.voxel_ml == pytest.approx(np.prod(image.GetSpacing()) / 1000)


@given(any_grid())
@settings(max_examples=20, deadline=None)
def test_a_grid_contains_its_voxels_to_their_outer_faces(grid):
    last = np.array(grid.size) - 0.51
    assert grid.contains(grid.points(np.array([[-0.49] * 3, last, (last - 0.49) / 2]))).all()
    outside = np.array([[-0.51, 0, 0], [0, grid.size[1] - 0.49, 0], [0, 0, -3]])
    assert not grid.contains(grid.points(outside)).any()


def test_the_same_grid_is_told_from_another():
    image = blank(OBLIQUE)
    assert grids.same_grid(image, OBLIQUE)
    for change in ({"origin": (-100.0, 60.0, -919.9)}, {"spacing": (1.1, 0.9, 2.51)}, {"size": (21, 18, 14)}):
        other = Grid(**{"size": OBLIQUE.size, "spacing": OBLIQUE.spacing, "origin": OBLIQUE.origin} | change,
                     direction=OBLIQUE.direction)  # fmt: skip
        assert not grids.same_grid(OBLIQUE, other)
        assert grids.same_grid(OBLIQUE, other, tolerance_mm=0.2) == ("origin" in change or "spacing" in change)


@settings(max_examples=30, deadline=None)
@given(any_grid(), st.floats(0.5, 5.0))
def test_an_isotropic_grid_covers_the_same_box_about_the_same_centre(grid, spacing):
    cubes = grids.isotropic_grid(grid, spacing)
    assert cubes.spacing == (spacing,) * 3
    assert cubes.direction == grid.direction
    np.testing.assert_allclose(cubes.centre, grid.centre, atol=1e-6)
    extent, before = (np.array(g.size) * np.array(g.spacing) for g in (cubes, grid))
    assert (extent >= before - 1e-4).all()
    assert (extent < before + spacing + 1e-4).all()


def test_the_isotropic_grid_of_one_with_that_spacing_is_that_grid():
    grid = Grid((20, 30, 40), (1.5,) * 3, (-100.0, 60.0, -920.0), OBLIQUE.direction)
    assert grids.same_grid(grids.isotropic_grid(grid, 1.5), grid, 1e-9)


# ------------------------------------------------------------------------------------------------------------- crops


@settings(max_examples=30, deadline=None)
@given(any_grid(), st.integers(0, 1000))
def test_a_crop_keeps_the_places_of_its_voxels(grid, seed):
    random = np.random.default_rng(seed)
    start = random.integers(-2, 3, 3)
    part = grids.crop(grid, tuple(start), (3, 2, 4))
    index = random.integers(0, 2, (5, 3))
    np.testing.assert_allclose(part.points(index), grid.points(index + start), atol=1e-9)


@pytest.mark.parametrize("grid", [OBLIQUE, FLIPPED])
def test_a_crop_to_a_mask_holds_it_with_its_margin_and_ends_at_the_border(grid):
    array = np.zeros(grid.shape, np.uint8)
    array[5:9, 8:10, 3:15] = 1
    mask = grids.to_image(array, grid)
    tight = grids.crop_to_mask(mask, 0)
    assert tight.size == (12, 2, 4)
    cut = grids.resample_mask(mask, tight)
    assert sitk.GetArrayFromImage(cut).all()
    wide = grids.crop_to_mask(mask, 3.0)  # 3, 4 and 2 voxels
    assert wide.size == (18, 10, 8)
    assert grids.same_grid(grids.crop_to_mask(mask, 1000.0), grid)
    with pytest.raises(ValueError, match="empty"):
        grids.crop_to_mask(mask * 0, 0)


# ------------------------------------------------------------------------------------------------ arrays and images


@pytest.mark.parametrize("grid", [OBLIQUE, FLIPPED])
def test_arrays_and_images_are_the_same_numbers(grid):
    random = np.random.default_rng(0)
    array = random.normal(size=grid.shape).astype(np.float32)
    image = grids.to_image(array, grid)
    assert grids.grid_of(image) == grid
    assert image[3, 4, 5] == array[5, 4, 3]
    np.testing.assert_array_equal(grids.to_array(image), array)
    field = random.normal(size=(3, *grid.shape)).astype(np.float32)
    vectors = grids.to_image(field, grid)
    assert vectors[3, 4, 5] == pytest.approx(tuple(field[:, 5, 4, 3]))
    np.testing.assert_array_equal(grids.to_array(vectors), field)
    assert grids.to_image(array > 0, image).GetPixelID() == sitk.sitkUInt8
    assert grids.to_array(image, np.float64).dtype == np.float64
    with pytest.raises(ValueError, match="does not fit"):
        grids.to_image(array[1:], grid)


# ------------------------------------------------------------------------------------------------------- resampling


@settings(max_examples=25, deadline=None)
@given(any_grid(8, 14), any_grid(4, 6))
def test_linear_resampling_between_any_two_grids_is_exact_on_linear_images(source, wanted):
    # The wanted grid is laid into the middle of the source, small enough to lie inside it.
    scale = (
        0.4
        * min(np.array(source.size) * np.array(source.spacing))
        / np.linalg.norm(np.array(wanted.size) * np.array(wanted.spacing))
    )
    spacing = tuple(s * min(scale, 1.0) for s in wanted.spacing)
    middle = np.array(source.centre) - wanted.axes @ ((np.array(wanted.size) - 1) / 2 * np.array(spacing))
    wanted = Grid(wanted.size, spacing, tuple(middle.tolist()), wanted.direction)
    out = grids.to_array(grids.resample(linear_image(source), wanted))
    np.testing.assert_allclose(out, grids.to_array(linear_image(wanted)), atol=0.02)


def test_a_coarser_grid_gets_averages_and_no_aliases():
    fine = Grid((40, 40, 40), (1.0,) * 3, (-100.0, 60.0, -920.0), OBLIQUE.direction)
    checkers = np.indices(fine.shape).sum(0) % 2 * 100.0
    coarse = grids.resample(grids.to_image(checkers.astype(np.float32), fine), grids.isotropic_grid(fine, 2.0))
    np.testing.assert_allclose(grids.to_array(coarse), 50.0, atol=1e-3)
    linear = grids.to_array(grids.resample(linear_image(fine), grids.isotropic_grid(fine, 2.0)))
    np.testing.assert_allclose(linear, grids.to_array(linear_image(grids.isotropic_grid(fine, 2.0))), atol=0.01)


def test_whole_numbers_are_rounded_so_that_resampling_shifts_no_hu():
    grid = Grid((20, 20, 20), (1.0, 1.0, 1.0), (0, 0, 0), (1, 0, 0, 0, 1, 0, 0, 0, 1))
    hu = np.random.default_rng(1).integers(-1000, 100, grid.shape).astype(np.int16)
    moved = grids.crop(grid, (3, 3, 3), (12, 12, 12))
    moved = Grid(
        moved.size,
        moved.spacing,
        tuple(o + d for o, d in zip(moved.origin, (0.3, 0.4, 0.1), strict=True)),
        moved.direction,
    )
    exact = grids.to_array(grids.resample(grids.to_image(hu.astype(np.float32), grid), moved))
    whole = grids.resample(grids.to_image(hu, grid), moved)
    assert whole.GetPixelID() == sitk.sitkInt16
    assert np.abs(grids.to_array(whole, float) - exact).max() <= 0.501
    assert abs((grids.to_array(whole, float) - exact).mean()) < 0.05


@given(any_grid(smallest=6), st.integers(0, 1000))
@settings(max_examples=25, deadline=None)
def test_the_window_of_a_crop_holds_its_voxels(grid, seed):
    array = np.random.default_rng(seed).normal(size=grid.shape).astype(np.float32)
    part = grids.crop(grid, (1, 2, 0), (3, 2, 4))
    expected = grids.to_array(grids.resample(grids.to_image(array, grid), part, interpolation="nearest"))
    np.testing.assert_array_equal(array[grids.window(grid, part)], expected)


def test_outside_is_air_for_images_and_nothing_for_masks():
    beside = grids.crop(OBLIQUE, (30, 0, 0), (4, 4, 4))
    assert (grids.to_array(grids.resample(linear_image(OBLIQUE), beside)) == -1024).all()
    mask = sitk.Cast(blank(OBLIQUE), sitk.sitkUInt8) + 3
    assert (grids.to_array(grids.resample_mask(mask, beside)) == 0).all()
    half = grids.to_array(grids.resample_mask(mask, grids.crop(OBLIQUE, (-2, 0, 0), (4, 4, 4))))
    assert (half[:, :, :2] == 0).all()
    assert (half[:, :, 2:] == 3).all()


def test_resampling_takes_the_transform_from_the_grid_to_the_image():
    """The baseline's grid, through phi, gets the follow-up's values: out(p) = image(phi(p))."""
    followup = linear_image(OBLIQUE)
    inner = grids.crop(OBLIQUE, (6, 6, 5), (5, 5, 5))
    phi = sitk.TranslationTransform(3, (1.0, -0.5, 2.0))
    out = grids.to_array(grids.resample(followup, inner, phi))
    expected = grids.to_array(linear_image(inner)) + np.dot((1.5, -2.0, 0.5), (1.0, -0.5, 2.0))
    np.testing.assert_allclose(out, expected, atol=0.01)


# ------------------------------------------------------------------------------------------- fields and transforms


@settings(max_examples=20, deadline=None)
@given(any_grid(5, 9), st.integers(0, 1000))
def test_a_field_becomes_a_transform_and_comes_back(grid, seed):
    field = np.random.default_rng(seed).normal(0, 3, (3, *grid.shape)).astype(np.float32)
    transform = grids.field_to_transform(field, grid)
    np.testing.assert_allclose(grids.transform_to_field(transform, grid), field, atol=1e-3)
    x, y, z = np.array(grid.size) // 2
    point = grid.points(np.array([[x, y, z]]))
    moved = grids.transform_points(transform, point)
    np.testing.assert_allclose(moved - point, field[:, z, y, x][None], atol=1e-3)


@pytest.mark.parametrize("grid", [OBLIQUE, FLIPPED])
def test_a_field_is_in_patient_millimetres_whatever_the_axes(grid):
    field = np.zeros((3, *grid.shape), np.float32)
    field[2] = 5.0  # 5 mm towards the head everywhere
    transform = grids.field_to_transform(field, grid)
    np.testing.assert_allclose(np.subtract(transform.TransformPoint(grid.centre.tolist()), grid.centre), (0, 0, 5))
    far = grid.points(np.array([[100.0, 0, 0]]))
    np.testing.assert_allclose(grids.transform_points(transform, far), far)  # the identity outside


def test_the_field_of_an_affine_transform_is_its_displacement():
    affine = sitk.Euler3DTransform((0, 0, -900), 0.1, -0.2, 0.05, (3, 4, 5))
    field = grids.transform_to_field(affine, OBLIQUE)
    assert field.dtype == np.float32
    index = np.array([[2, 3, 4], [20, 17, 14]])
    points = OBLIQUE.points(index)
    expected = grids.transform_points(affine, points) - points
    np.testing.assert_allclose(field[:, index[:, 2], index[:, 1], index[:, 0]].T, expected, atol=1e-3)
    assert grids.transform_points(affine, np.zeros((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("grid", [OBLIQUE, FLIPPED])
def test_sampling_at_points_is_linear_in_patient_space(grid):
    random = np.random.default_rng(0)
    points = grid.points(random.uniform(1, 13, (30, 3)))
    image = linear_image(grid)
    array = grids.to_array(image)
    expected = points @ np.array((1.5, -2.0, 0.5)) + 7.0
    np.testing.assert_allclose(grids.sample(array, grid, points), expected, atol=0.01)
    both = grids.sample(np.stack([array, -array]), grid, points)
    np.testing.assert_allclose(both, np.stack([expected, -expected], 1), atol=0.01)
    outside = grid.points(np.array([[-5.0, 0, 0]]))
    assert grids.sample(array, grid, outside, outside=-1024.0) == pytest.approx(-1024.0)
