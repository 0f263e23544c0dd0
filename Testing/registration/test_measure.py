"""The maps and figures of merit of a known deformation, against ITK's resampling and geometry with known answers."""

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from scipy import ndimage
from scipy.spatial.transform import Rotation

from LungRecoveryLib import grids
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.registration import losses, measure
from LungRecoveryLib.registration.align import affine
from LungRecoveryLib.registration.velocity import Deformation, Velocity

STRAIGHT = (1.0, 0, 0, 0, 1, 0, 0, 0, 1)
TURNED = tuple(Rotation.from_euler("xyz", [9, -6, 15], degrees=True).as_matrix().ravel())
BOX = Grid((44, 36, 50), (1.5, 1.5, 1.5), (-20.0, 30.0, -920.0), TURNED)
CPU = torch.device("cpu")


def deformation_of(matrix=None, shift=(0.0, 0.0, 0.0), strength=0.0, box: Grid = BOX) -> Deformation:
    rest = Velocity.zeros(box.shape, 8.0, 24.0, CPU)
    noise = torch.randn(rest.coefficients.shape, generator=torch.Generator().manual_seed(3))
    alignment = affine(np.eye(3) if matrix is None else matrix, box.centre, np.array(shift))
    return Deformation(alignment, Velocity(strength * noise, rest.axes), box)


def smooth_scan(grid: Grid, dtype=np.float32) -> sitk.Image:
    noise = np.random.default_rng(2).normal(size=grid.shape)
    smooth = ndimage.gaussian_filter(noise, 2.5)
    return grids.to_image((110 * smooth / smooth.std() - 600).astype(dtype), grid)


def ball(grid: Grid, radius_mm: float, label: int = 1) -> sitk.Image:
    z, y, x = np.mgrid[: grid.size[2], : grid.size[1], : grid.size[0]].reshape(3, -1)
    distance = np.linalg.norm(grid.points(np.stack([x, y, z], axis=1)) - grid.centre, axis=1)
    return grids.to_image((label * (distance <= radius_mm)).astype(np.uint8).reshape(grid.shape), grid)


def reference(deformation: Deformation, image: sitk.Image, grid: Grid, nearest: bool) -> np.ndarray:
    """ITK's resampling through the full field of the deformation."""
    field, _ = deformation.on(grid)
    through = grids.field_to_transform(field, grid)
    outside = 0 if nearest else grids.AIR_HU
    return grids.to_array(grids.resample(image, grid, through, "nearest" if nearest else "linear", outside), float)


@pytest.fixture(scope="module")
def case():
    matrix = Rotation.from_euler("z", 6, degrees=True).as_matrix() @ np.diag([1.05, 0.95, 1.1])
    deformation = deformation_of(matrix, (4.0, -7.0, 12.0), 3.0)
    # The follow-up lies elsewhere, its axes are others, and its lungs come on a grid of their own.
    moving = Grid((60, 50, 30), (1.3, 1.6, 2.4), tuple(BOX.origin + np.array([-6.0, -10.0, 12.0])), STRAIGHT)
    lungs = Grid((40, 40, 44), (2.0, 2.0, 2.0), tuple(BOX.origin + np.array([-8.0, -12.0, 10.0])), STRAIGHT)
    return deformation, smooth_scan(moving), ball(lungs, 24.0, 2)


def maps_of(case, grid: Grid = BOX) -> measure.Maps:
    deformation, moving, lungs = case
    return measure.make_maps(deformation, grid, moving, lungs, np.ones(grid.shape, bool))


def test_the_follow_up_lies_where_itk_would_lay_it(case):
    deformation, moving, lungs = case
    maps = maps_of(case)
    expected = reference(deformation, moving, BOX, nearest=False)
    assert np.abs(maps.warped - expected).mean() < 0.05
    assert (np.abs(maps.warped - expected) > 1).mean() < 1e-3  # voxels at the very end of the scan
    assert (maps.lungs != reference(deformation, lungs, BOX, nearest=True)).mean() < 1e-3
    assert set(np.unique(maps.lungs)) == {0, 2}


def test_fields_are_those_of_the_deformation(case):
    maps = maps_of(case)
    field, jacobian = case[0].on(BOX)
    np.testing.assert_array_equal(maps.displacement, field)
    np.testing.assert_array_equal(maps.jacobian, jacobian)


def test_inside_ends_where_the_scan_ends(case):
    moving = case[1]
    maps = maps_of(case)
    z, y, x = np.mgrid[: BOX.size[2], : BOX.size[1], : BOX.size[0]].reshape(3, -1)
    points = BOX.points(np.stack([x, y, z], axis=1)) + maps.displacement.reshape(3, -1).T
    expected = grids.grid_of(moving).contains(points).reshape(BOX.shape)
    assert 0.2 < expected.mean() < 0.99
    assert (maps.inside != expected).mean() < 1e-4
    assert (maps.warped[~maps.inside] == grids.AIR_HU).all()


def test_whole_numbers_are_rounded_and_keep_their_type():
    scan = smooth_scan(BOX)
    maps = [
        measure.make_maps(deformation_of(shift=(0.6, 0.3, 0.5)), BOX, image, ball(BOX, 20.0), np.ones(BOX.shape, bool))
        for image in (scan, sitk.Cast(sitk.Round(scan), sitk.sitkInt16))
    ]
    assert maps[1].warped.dtype == np.int16
    difference = (maps[1].warped - maps[0].warped)[maps[0].inside]
    assert np.abs(difference).max() <= 1.0
    assert abs(difference.mean()) < 0.02


def test_a_finer_follow_up_is_averaged_before_it_is_sampled():
    fine = Grid((88, 72, 100), (0.75, 0.75, 0.75), BOX.origin, TURNED)
    noise = np.random.default_rng(0).normal(-800, 80, fine.shape).astype(np.float32)
    maps = measure.make_maps(
        deformation_of(), BOX, grids.to_image(noise, fine), ball(BOX, 20.0), np.ones(BOX.shape, bool)
    )
    assert maps.warped[maps.inside].std() < 35  # a block of eight: 80 / sqrt(8) = 28


def test_padding_is_outside_the_field_but_a_bulla_is_not():
    grid = Grid((20, 20, 20), (1.5, 1.5, 1.5), (0, 0, 0), STRAIGHT)
    values = np.full(grid.shape, -800, np.int16)
    values[:, :, :5] = -1024
    values[9:13, 9:13, 11:15] = -1024
    still = deformation_of(box=grid)
    lung = np.ones(grid.shape, bool)
    inside = measure.make_maps(still, grid, grids.to_image(values, grid), ball(grid, 10.0), lung).inside
    assert not inside[:, :, :5].any()
    assert inside[:, :, 5:].all()


def test_similarity_is_the_mean_over_the_lung_whatever_the_slabs():
    scan = smooth_scan(BOX)
    other = grids.to_array(scan) + np.random.default_rng(5).normal(0, 150, BOX.shape).astype(np.float32)
    lung = grids.to_array(ball(BOX, 24.0)) != 0
    found = measure.similarities(scan, scan, other, BOX, lung, CPU)
    weights = torch.from_numpy(lung.astype(np.float32))
    target, warped = (torch.from_numpy((hu + 1000) / 1000) for hu in (grids.to_array(scan), other))
    whole = losses.Lncc(target, weights)
    assert found == pytest.approx([1 - float(whole(image)) for image in (target, warped)], abs=2e-4)
    assert found[1] < found[0] - 0.2


def test_folds_are_the_share_with_j_not_above_zero():
    assert measure.folding_percent(np.array([0.0, -1.0, np.nan, 0.5, 1.2])) == pytest.approx(60.0)
    assert measure.folding_percent(np.array([1e-3, 2.0])) == 0.0


def test_an_inverse_that_misses_by_a_known_vector():
    there = sitk.TranslationTransform(3, (5.0, 0.0, 0.0))
    back = sitk.TranslationTransform(3, (-5.0, 0.3, 0.4))
    miss = measure.inverse_consistency(there, back, BOX, grids.to_array(ball(BOX, 20.0)) != 0)
    np.testing.assert_allclose(miss, 0.5, atol=1e-9)
    assert 3000 <= len(miss) < 6000


def test_the_forward_transform_is_applied_first():
    scale = sitk.AffineTransform(3)
    scale.Scale(2.0)
    scale.Translate((7.0, -3.0, 1.0))
    miss = measure.inverse_consistency(scale, scale.GetInverse(), BOX, np.ones(BOX.shape, bool), count=100)
    assert miss.max() < 1e-9
