"""Trees fill their space, obey their radius law and are painted with the right amount of tissue at any voxel size."""

import numpy as np
import pytest

from LungRecoveryLib.phantom.frames import make_grid
from LungRecoveryLib.phantom.tree import bend, grow, paint, polyline


@pytest.fixture
def tree():
    rng = np.random.default_rng(0)
    cloud = rng.uniform(-30, 30, (400, 3))
    return *grow(np.array([0.0, 0.0, 40.0]), cloud, rng, 0.6, 3.0), cloud


def test_every_terminal_is_supplied(tree):
    """There is one terminal branch for each point, close to it, and every branch starts where its parent ends."""
    segments, parents, cloud = tree
    terminal = segments.order == 1
    assert terminal.sum() == len(cloud)
    nearest = np.linalg.norm(segments.end[terminal][:, None] - cloud[None], axis=2).min(axis=0)
    assert np.quantile(nearest, 0.95) < 8.0
    inner = parents >= 0
    assert np.array_equal(segments.start[inner], segments.end[parents[inner]])


def test_radii_follow_the_law(tree):
    """A branch's radius is terminal_radius * n ** (1/exponent) for the n terminals that it feeds."""
    segments, parents, _ = tree
    assert np.allclose(segments.radius, 0.6 * segments.order ** (1 / 3))
    fed = np.bincount(parents[parents >= 0], segments.order[parents >= 0], len(segments))
    inner = segments.order > 1
    assert np.array_equal(fed[inner], segments.order[inner])


def test_bending_keeps_the_joints(tree):
    """Cut into curved pieces, a tree still runs through all its joints."""
    segments, _, _ = tree
    pieces = bend(segments, np.random.default_rng(1))
    ends = {tuple(np.round(p, 6)) for p in pieces.end}
    assert all(tuple(np.round(p, 6)) in ends for p in segments.end)
    assert np.linalg.norm(pieces.end - pieces.start, axis=1).max() < 7.0


@pytest.mark.parametrize("radius", [0.5, 1.0, 3.0])
@pytest.mark.parametrize("spacing", [(1.75, 1.75, 1.75), (1.0, 1.0, 1.5)])
def test_painted_volume_is_right(radius, spacing):
    """The painted volume is the cylinder's, also where it is thinner than a voxel and runs across the grid."""
    size = tuple(int(70 / s) for s in spacing)
    oblique = (0.8, -0.6, 0.0, 0.6, 0.8, 0.0, 0.0, 0.0, 1.0)
    grid = make_grid(size, spacing, oblique, (10.0, -5.0, 3.0))
    ends = [(10 - 14.0, -5 - 11.0, 3 - 16.0), (10 + 14.0, -5 + 11.0, 3 + 16.0)]
    length = float(np.linalg.norm(np.subtract(*ends)))
    voxel = float(np.prod(spacing))
    share = paint(polyline(ends, radius), grid, 0.35 * voxel ** (1 / 3))
    expected = np.pi * radius**2 * (length + 4 / 3 * radius)
    assert share.max() <= 1.0
    assert share.sum() * voxel == pytest.approx(expected, rel=0.08)


def test_tubes_beyond_the_grid_are_left_out():
    """A tube that crosses the border is painted up to it; one outside leaves nothing."""
    grid = make_grid((20, 20, 20), (2.0, 2.0, 2.0))
    crossing = paint(polyline([(0, 0, 0), (100, 0, 0)], 3.0), grid, 0.7)
    assert crossing[10, 10, 12:].min() > 0.9
    assert paint(polyline([(100, 100, 0), (120, 100, 0)], 3.0), grid, 0.7).max() == 0.0
