"""The generations of an airway tree: how often it has branched since the trachea."""

import numpy as np
from scipy.spatial import cKDTree
from skimage.graph import MCP_Geometric
from skimage.morphology import skeletonize

from ..distances import distance_to
from ..grids import Grid, crop_to_window
from .working import bounding_box

TRACHEA = 1
_MOST = 12
_SPUR_MM = 5.0  # ends of the skeleton that leave the lumen by less are no branches
_SPUR_RADII = 2.0
_SAME_VOXELS = 3.0


def generations(lumen: np.ndarray, trunk: np.ndarray, grid: Grid) -> np.ndarray:
    """Labels (z, y, x) uint8 of the lumen's voxels: 1 the trachea, one more after every branching, 0 outside.

    `lumen` (z, y, x) bool is one tree on cubic voxels of `grid`, `trunk` (z, y, x) bool its central part. The
    skeleton is walked from its highest point (LPS) in the trunk outwards; ends that hardly leave the lumen they spring
    from do not count as branches.
    """
    labels = np.zeros(lumen.shape, np.uint8)
    if lumen.any():
        box = bounding_box(lumen, 1)
        labels[box] = _generations(lumen[box], trunk[box], crop_to_window(grid, box))
    return labels


def _generations(lumen: np.ndarray, trunk: np.ndarray, grid: Grid) -> np.ndarray:
    """:func:`generations` within the box that holds the lumen."""
    labels = np.zeros(lumen.shape, np.uint8)
    skeleton = skeletonize(lumen)
    points = np.argwhere(skeleton)
    central = np.argwhere(skeleton & trunk)
    if len(central) == 0:
        labels[lumen] = TRACHEA
        return labels
    root = tuple(central[np.argmax(grid.points(central[:, ::-1])[:, 2])])
    parent, order = _walk(skeleton, points, root)
    radius = distance_to(~np.pad(lumen, 1))[1:-1, 1:-1, 1:-1][skeleton]
    least = _SPUR_MM / grid.spacing[0] + _SPUR_RADII * radius
    generation = _count(parent, order, least, radius + _SAME_VOXELS)
    on_tree = generation > 0
    _, nearest = cKDTree(points[on_tree]).query(np.argwhere(lumen))
    labels[lumen] = np.minimum(generation[on_tree], _MOST)[nearest]
    return labels


def _walk(skeleton: np.ndarray, points: np.ndarray, root: tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """Parents of the skeleton's points on the way to the root (-1: none), and their order from the root outwards."""
    costs, traceback = (m := MCP_Geometric(np.where(skeleton, 1.0, -1.0))).find_costs([root])
    index = np.full(skeleton.shape, -1, np.int32)
    index[tuple(points.T)] = np.arange(len(points))
    steps = np.array(m.offsets)[traceback[tuple(points.T)]]
    distance = costs[tuple(points.T)]
    parent = index[tuple((points - steps).T)]
    parent[(distance == 0) | ~np.isfinite(distance)] = -1
    return parent, np.argsort(distance)[: int(np.isfinite(distance).sum())]


def _count(parent: np.ndarray, order: np.ndarray, least: np.ndarray, apart: np.ndarray) -> np.ndarray:
    """The generation of every point of the skeleton, 0 for points that do not hang on the root.

    `least` is how far, in voxels, the tree must go on beyond the point at which a branch leaves to count as one;
    within `apart` voxels of a branching another is the same: a skeleton divides three ways in two steps.
    """
    reach = np.zeros(len(parent))
    for point in order[::-1]:
        if parent[point] >= 0:
            reach[parent[point]] = max(reach[parent[point]], reach[point] + 1.0)
    grown = (parent >= 0) & (reach >= least[parent])
    branches = np.bincount(parent[grown], minlength=len(parent))
    generation, since = np.zeros(len(parent), int), np.full(len(parent), np.inf)
    for point in order:
        above = parent[point]
        if above < 0:
            generation[point] = TRACHEA
            continue
        divides = branches[above] > 1 and since[above] >= apart[above]
        generation[point] = generation[above] + divides
        since[point] = 0.0 if divides else since[above] + 1.0
    return generation
