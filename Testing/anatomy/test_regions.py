"""Regions are exact on simple shapes, in mm and in the patient's frame, on any grid."""

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st

from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT
from LungRecoveryLib.anatomy.regions import (
    ALL_REGION_NAMES,
    ATOM_REGIONS,
    LOBE_REGIONS,
    REGION_NAMES,
    RIND_MM,
    atom_code,
    atom_table,
    lung_atoms,
    region_masks,
)
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, grid_of, to_array, to_image

IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0)


def rotation(degrees_x: float, degrees_z: float) -> tuple[float, ...]:
    """Direction cosines turned about the patient's L and S axes."""
    a, b = np.radians([degrees_x, degrees_z])
    about_x = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
    about_z = np.array([[np.cos(b), -np.sin(b), 0], [np.sin(b), np.cos(b), 0], [0, 0, 1]])
    return tuple((about_z @ about_x).ravel().tolist())


def two_boxes() -> sitk.Image:
    """Two boxes of 40 x 60 x 90 voxels of 1 mm, right and left."""
    labels = np.zeros((100, 70, 110), np.uint8)
    labels[5:95, 5:65, 5:45] = RIGHT
    labels[5:95, 5:65, 65:105] = LEFT
    return to_image(labels, Grid(labels.shape[::-1], (1.0, 1.0, 1.0), (0.0, 0.0, -920.0), IDENTITY))


def two_ellipsoids(direction=IDENTITY, spacing=(2.0, 2.0, 2.0), middle=(0.0, 0.0, 0.0)) -> sitk.Image:
    """Two ellipsoids of radii 40, 50 and 80 mm, 90 mm apart, on a grid of any direction."""
    size = tuple(round(240 / s) for s in spacing)
    axes = np.array(direction).reshape(3, 3)
    origin = np.array(middle) - axes @ ((np.array(size) - 1) / 2 * np.array(spacing))
    grid = Grid(size, spacing, tuple(origin.tolist()), direction)
    points = grid.points(np.indices(grid.shape)[::-1].reshape(3, -1).T) - np.array(middle)
    labels = np.zeros(len(points), np.uint8)
    for side, x in ((RIGHT, -45.0), (LEFT, 45.0)):
        labels[(((points - (x, 0, 0)) / (40, 50, 80)) ** 2).sum(axis=1) <= 1] = side
    return to_image(labels.reshape(grid.shape), grid)


def test_boxes_are_divided_exactly():
    """Thirds are 30 mm high, halves hold half the voxels, the rind is 15 voxels deep on every face."""
    masks = region_masks(lung_atoms(two_boxes()))
    assert list(masks) == list(REGION_NAMES)
    for side in ("right", "left"):
        assert masks[side].sum() == 40 * 60 * 90
        for third, low in (("lower", 5), ("middle", 35), ("upper", 65)):
            levels = np.flatnonzero(masks[f"{side}_{third}"].any(axis=(1, 2)))
            assert (levels[0], levels[-1]) == (low, low + 29)
        ventral, dorsal = masks[f"{side}_ventral"], masks[f"{side}_dorsal"]
        assert ventral.sum() == dorsal.sum() == masks[side].sum() / 2
        assert np.argwhere(ventral)[:, 1].max() < np.argwhere(dorsal)[:, 1].min()
    assert masks["core"].sum() == 2 * 10 * 30 * 60
    assert np.array_equal(masks["rind"] | masks["core"], masks["lungs"])


def test_every_atom_lies_in_one_region_of_each_kind():
    """Codes 1 to 24 as published: side, third, half and shell, each exactly once; 24 more for each rank of lobe."""
    assert set(range(1, 25)) <= set(ATOM_REGIONS) <= set(range(1, 97))
    assert atom_table() == ATOM_REGIONS
    assert ATOM_REGIONS[atom_code(1, 2, 1, 0)] == ["lungs", "left", "left_lower", "left_dorsal", "rind"]
    assert atom_code(1, 2, 1, 0) == 1 + 12 + 8 + 2
    assert ATOM_REGIONS[atom_code(1, 2, 1, 0, 3)] == [*ATOM_REGIONS[23], "left_lobe_lower"]
    assert len({tuple(regions) for regions in ATOM_REGIONS.values()}) == len(ATOM_REGIONS) == 12 * 4 + 12 * 3
    plain = {region for code in range(1, 25) for region in ATOM_REGIONS[code]}
    assert plain == set(REGION_NAMES)
    assert {region for regions in ATOM_REGIONS.values() for region in regions} == set(ALL_REGION_NAMES)


def test_known_lobes_are_regions_beside_the_others():
    """Each lobe's mask is the lobe; what is labelled as a lobe of the other lung, or not at all, belongs to none."""
    lungs = two_boxes()
    labels = to_array(lungs)
    lobes = np.where(labels == RIGHT, 3, np.where(labels == LEFT, 5, 0)).astype(np.uint8)
    lobes[50:][labels[50:] == RIGHT] = 1
    lobes[5:10][labels[5:10] == RIGHT] = 0
    lobes[90:][labels[90:] == LEFT] = 2
    masks = region_masks(lung_atoms(lungs, to_image(lobes, grid_of(lungs))))
    assert list(masks) == [*REGION_NAMES, "right_lobe_upper", "right_lobe_lower", "left_lobe_lower"]
    for label in (1, 3, 5):
        assert np.array_equal(masks[LOBE_REGIONS[label]], lobes == label)
    plain = region_masks(lung_atoms(lungs))
    assert all(np.array_equal(masks[region], plain[region]) for region in REGION_NAMES)


@settings(max_examples=8, deadline=None)
@given(
    tilt=st.floats(-35, 35),
    turn=st.floats(-180, 180),
    spacing=st.sampled_from([(2.0, 2.0, 2.0), (1.6, 1.6, 4.0), (3.0, 2.0, 2.5)]),
    middle=st.tuples(*[st.floats(-1000, 1000)] * 3),
)
def test_any_grid_gives_the_same_volumes(tilt, turn, spacing, middle):
    """Region volumes of ellipsoids match the closed forms on turned, anisotropic and far-off grids."""
    lungs = two_ellipsoids(rotation(tilt, turn), spacing, middle)
    millilitre = grid_of(lungs).voxel_ml
    volumes = {name: mask.sum() * millilitre for name, mask in region_masks(lung_atoms(lungs)).items()}
    whole = 4 / 3 * np.pi * 4 * 5 * 8
    cap = 7 / 27  # the share of an ellipsoid above two thirds of its height
    for side in ("right", "left"):
        assert volumes[side] == pytest.approx(whole, rel=0.02)
        assert volumes[f"{side}_upper"] == pytest.approx(cap * whole, rel=0.09)
        assert volumes[f"{side}_lower"] == pytest.approx(cap * whole, rel=0.09)
        assert volumes[f"{side}_ventral"] == pytest.approx(whole / 2, rel=0.03)
        assert volumes[f"{side}_dorsal"] == pytest.approx(whole / 2, rel=0.03)


def test_upper_is_cranial_and_dorsal_is_posterior():
    """On a grid with every axis reversed upper stays at larger z and dorsal at larger y of the patient."""
    reversed_axes = (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0, 0.0, 0.0, -1.0)
    lungs = two_ellipsoids(reversed_axes)
    grid, masks = grid_of(lungs), region_masks(lung_atoms(lungs))
    centre = {name: grid.points(np.argwhere(mask)[:, ::-1]).mean(axis=0) for name, mask in masks.items()}
    for side in ("right", "left"):
        assert centre[f"{side}_upper"][2] > centre[f"{side}_middle"][2] > centre[f"{side}_lower"][2]
        assert centre[f"{side}_dorsal"][1] > centre[f"{side}_ventral"][1]


def test_the_rind_is_measured_in_millimetres_for_each_lung():
    """Rind depth is RIND_MM along coarse and fine axes alike; a touching neighbour counts as outside."""
    labels = np.zeros((30, 60, 120), np.uint8)
    labels[2:28, 5:55, 10:60] = RIGHT
    labels[2:28, 5:55, 60:110] = LEFT
    grid = Grid(labels.shape[::-1], (1.0, 1.5, 4.0), (0.0, 0.0, 0.0), IDENTITY)
    core = region_masks(lung_atoms(to_image(labels, grid)))["core"]
    depth = RIND_MM / np.array([4.0, 1.5, 1.0])
    for (first, last), x0 in (((10, 59), 10), ((60, 109), 60)):
        part = np.argwhere(core[:, :, first : last + 1]) + np.array([0, 0, x0])
        low, high = part.min(axis=0), part.max(axis=0)
        assert np.all(np.abs(low - np.array([2, 5, first]) - depth) <= 1)
        assert np.all(np.abs(np.array([27, 54, last]) - high - depth) <= 1)


def test_the_border_of_the_scan_is_no_pleura():
    """Where a crop cuts through the lung the rind does not follow the cut."""
    labels = np.full((60, 60, 60), RIGHT, np.uint8)
    labels[:, :, :5] = 0
    grid = Grid((60, 60, 60), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0), IDENTITY)
    core = region_masks(lung_atoms(to_image(labels, grid)))["core"]
    assert core[:, :, 20:].all()
    assert not core[:, :, :19].any()


def test_one_lung_has_no_regions_of_the_other():
    """Regions without voxels are left out."""
    lungs = two_boxes()
    labels = to_array(lungs)
    labels[labels == LEFT] = 0
    masks = region_masks(lung_atoms(to_image(labels, grid_of(lungs))))
    assert "right" in masks
    assert not any(name.startswith("left") for name in masks)


def test_no_lung_is_refused():
    """An empty mask cannot be divided."""
    empty = to_image(np.zeros((5, 5, 5), np.uint8), Grid((5, 5, 5), (1.0,) * 3, (0.0,) * 3, IDENTITY))
    with pytest.raises(BadInput, match="no lung"):
        lung_atoms(empty)
