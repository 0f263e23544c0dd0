"""Branching airways, arteries and veins: growing them into the lobes and painting them on any grid.

A tree is a set of straight segments in the patient frame (LPS mm, baseline). Painting first moves the segments with
the tissue, so a visit shows them as sharp as the baseline, with exact partial volume also below a voxel's size.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import chndtr

from ..grids import Grid
from .motion import Motion


@dataclass
class Segments:
    """Straight tubes: `start` and `end` (N, 3) mm, `radius` (N,) mm, `order` (N,) terminal branches downstream."""

    start: np.ndarray
    end: np.ndarray
    radius: np.ndarray
    order: np.ndarray

    def __len__(self) -> int:
        return len(self.radius)

    def select(self, keep: np.ndarray) -> "Segments":
        """The segments for which `keep` (N,) is true."""
        return Segments(self.start[keep], self.end[keep], self.radius[keep], self.order[keep])


def join(parts: list[Segments]) -> Segments:
    """All segments in one set."""
    names = ("start", "end", "radius", "order")
    return Segments(*(np.concatenate([getattr(p, name) for p in parts]) for name in names))


def polyline(points: list[tuple[float, float, float]], radius: float) -> Segments:
    """A tube of constant radius through the points."""
    points = np.array(points, float)
    count = len(points) - 1
    return Segments(points[:-1], points[1:], np.full(count, radius), np.full(count, 10_000))


def grow(
    root: np.ndarray,
    cloud: np.ndarray,
    rng: np.random.Generator,
    terminal_radius: float,
    exponent: float,
    reach: float = 0.40,
) -> tuple[Segments, np.ndarray]:
    """Grow a tree from `root` that fills the points `cloud` (N, 3), one terminal branch for each.

    The points are split again and again, unevenly, across their longest axis and a branch grows part of the way
    (`reach`) to the middle of each half (after Tawhai et al., J Appl Physiol 2004). A branch that feeds n terminals
    has the radius ``terminal_radius * n ** (1 / exponent)`` (Murray's law has the exponent 3).

    Returns the segments and the index of each segment's parent (-1 at the root), parents before children.
    """
    cluster = np.zeros(len(cloud), int)
    tips = np.asarray(root, float)[None]
    owners = np.array([-1])
    starts, ends, counts, parents = [], [], [], []
    points, total = cloud, 0
    while len(points):
        number = len(tips)
        size = np.bincount(cluster, minlength=number)
        centre = _means(points, cluster, size)
        offset = points - centre[cluster]
        outer = offset[:, :, None] * offset[:, None, :]
        covariance = np.stack([np.bincount(cluster, outer[:, i, j], number) for i in range(3) for j in range(3)], -1)
        axis = np.linalg.eigh(covariance.reshape(-1, 3, 3))[1][:, :, 2]
        along = np.einsum("ni,ni->n", offset, axis[cluster])
        # Uneven halves: a thick branch goes on and a thin one leaves it.
        spread = np.sqrt(np.bincount(cluster, along * along, number) / size)
        cut = rng.uniform(-0.6, 0.6, number) * np.where(size > 3, spread, 0.0)
        side = (along > cut[cluster]).astype(int)
        child = cluster * 2 + side
        child_size = np.bincount(child, minlength=2 * number)
        alive = np.flatnonzero(child_size)
        middle = _means(points, child, child_size)[alive]
        parent = alive // 2
        last = child_size[alive] == 1
        length = np.where(last, 0.9, reach)[:, None]
        tip = tips[parent] + length * (middle - tips[parent])
        wobble = 0.10 * np.linalg.norm(tip - tips[parent], axis=1, keepdims=True)
        tip = tip + rng.normal(0, 1, tip.shape).clip(-2, 2) * wobble
        starts.append(tips[parent])
        ends.append(tip)
        counts.append(child_size[alive])
        parents.append(owners[parent])
        names = total + np.arange(len(alive))
        total += len(alive)
        renumber = np.full(2 * number, -1)
        grows = alive[~last]
        renumber[grows] = np.arange(len(grows))
        keep = renumber[child] >= 0
        points, cluster = points[keep], renumber[child][keep]
        tips, owners = tip[~last], names[~last]
    count = np.concatenate(counts)
    radius = terminal_radius * count ** (1.0 / exponent)
    return Segments(np.concatenate(starts), np.concatenate(ends), radius, count), np.concatenate(parents)


def _means(points: np.ndarray, label: np.ndarray, size: np.ndarray) -> np.ndarray:
    sums = np.stack([np.bincount(label, points[:, i], len(size)) for i in range(3)], axis=1)
    return sums / np.maximum(size, 1)[:, None]


def accompany(tree: Segments, parents: np.ndarray, gap: np.ndarray, direction: np.ndarray) -> Segments:
    """The tree displaced sideways by `gap` (N,) mm, each joint across its branch: what runs beside the tree."""
    along = tree.end - tree.start
    across = np.cross(along, direction)
    across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
    end = tree.end + gap[:, None] * across
    start = np.where((parents >= 0)[:, None], end[parents], tree.start)
    return Segments(start, end, tree.radius, tree.order)


def bend(tree: Segments, rng: np.random.Generator, piece_mm: float = 5.0, sway: float = 0.05) -> Segments:
    """Cut the segments into pieces no longer than `piece_mm` that swing gently to one side."""
    length = np.linalg.norm(tree.end - tree.start, axis=1)
    pieces = np.maximum(1, np.ceil(length / piece_mm)).astype(int)
    owner = np.repeat(np.arange(len(tree)), pieces)
    number = np.arange(len(owner)) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    swing = rng.normal(0, 1, tree.start.shape).clip(-2, 2) * (sway * length)[:, None]

    def at(t: np.ndarray) -> np.ndarray:
        straight = tree.start[owner] + t[:, None] * (tree.end - tree.start)[owner]
        return straight + (4 * t * (1 - t))[:, None] * swing[owner]

    share = pieces[owner]
    return Segments(at(number / share), at((number + 1) / share), tree.radius[owner], tree.order[owner])


def move(tree: Segments, motion: Motion) -> Segments:
    """The segments at a visit. A vessel keeps its volume of blood: it gets thinner as it is stretched."""
    start, end = motion.forward(tree.start), motion.forward(tree.end)
    before = np.linalg.norm(tree.end - tree.start, axis=1)
    after = np.linalg.norm(end - start, axis=1)
    stretch = np.clip(after / np.maximum(before, 1e-6), 0.5, 2.0)
    return Segments(start, end, tree.radius / np.sqrt(stretch), tree.order)


def paint(tree: Segments, grid: Grid, sigma_mm: float) -> np.ndarray:
    """The share of each voxel that lies in the tubes, (z, y, x) float32, seen through a Gaussian aperture `sigma_mm`.

    `tree` is in the grid's LPS frame.
    """
    volume = np.zeros(int(np.prod(grid.size)), np.float32)
    spacing = np.array(grid.spacing)
    start = (tree.start - np.array(grid.origin)) @ grid.axes
    end = (tree.end - np.array(grid.origin)) @ grid.axes
    reach = (tree.radius + 2.2 * sigma_mm)[:, None]
    low = np.ceil((np.minimum(start, end) - reach) / spacing).astype(int)
    high = np.floor((np.maximum(start, end) + reach) / spacing).astype(int)
    seen = np.all((high >= 0) & (low < np.array(grid.size)) & (high >= low), axis=1)
    start, end, low, high, radius = (a[seen] for a in (start, end, low, high, tree.radius))
    # Boxes of like size are painted together; each side is rounded up to an even number of voxels.
    sides = (high - low + 2) // 2 * 2
    key = (sides[:, 0] * 4096 + sides[:, 1]) * 4096 + sides[:, 2]
    order = np.argsort(key, kind="stable")
    borders = np.flatnonzero(np.diff(key[order])) + 1
    for group in np.split(order, borders):
        voxels = int(np.prod(sides[group[0]])) if len(group) else 0
        step = max(1, 400_000 // max(voxels, 1))
        for first in range(0, len(group), step):
            part = group[first : first + step]
            _paint_boxes(volume, grid, start[part], end[part], radius[part], low[part], sides[part[0]], sigma_mm)
    return volume.reshape(grid.shape)


def _paint_boxes(volume, grid, start, end, radius, low, sides, sigma_mm) -> None:
    nx, ny, nz = (int(s) for s in sides)
    count = len(start)
    index = [low[:, i, None] + np.arange(n)[None] for i, n in enumerate((nx, ny, nz))]
    shapes = ((count, 1, 1, nx), (count, 1, ny, 1), (count, nz, 1, 1))
    axis = (end - start).astype(np.float32)
    squared = np.maximum((axis * axis).sum(1), 1e-6).reshape(count, 1, 1, 1)
    offset = []
    for i in range(3):
        mm = index[i] * grid.spacing[i] - start[:, i, None]
        offset.append(mm.astype(np.float32).reshape(shapes[i]))
    along = sum(offset[i] * axis[:, i].reshape(count, 1, 1, 1) for i in range(3))
    along = np.clip(along / squared, 0.0, 1.0)
    distance = sum((offset[i] - along * axis[:, i].reshape(count, 1, 1, 1)) ** 2 for i in range(3))
    distance = np.sqrt(distance)
    width, height, depth = grid.size
    inside = ((index[0] >= 0) & (index[0] < width)).reshape(shapes[0])
    inside = inside & ((index[1] >= 0) & (index[1] < height)).reshape(shapes[1])
    inside = inside & ((index[2] >= 0) & (index[2] < depth)).reshape(shapes[2])
    near = inside & (distance < (radius + 2.2 * sigma_mm).reshape(count, 1, 1, 1))
    flat = index[0].reshape(shapes[0]) + width * (index[1].reshape(shapes[1]) + height * index[2].reshape(shapes[2]))
    which = np.nonzero(near)
    share = _disc_share(distance[which], radius[which[0]], sigma_mm)
    np.maximum.at(volume, flat[which], share)


# The table's axes: radius in sigmas, and distance from the disc's edge in sigmas.
_RADII = np.linspace(0.02, 4.0, 160)
_EDGES = np.linspace(-4.0, 3.0, 561)
_TABLE: list[np.ndarray] = []


def _disc_share(distance: np.ndarray, radius: np.ndarray, sigma_mm: float) -> np.ndarray:
    """The share of a Gaussian aperture at `distance` from a disc's centre that falls into the disc.

    It is a noncentral chi-square probability: the aperture's point lies within `radius` of the centre.
    """
    if not _TABLE:
        edge = np.maximum(_RADII[:, None] + _EDGES[None], 0.0)
        _TABLE.append(chndtr(_RADII[:, None] ** 2, 2.0, edge**2).astype(np.float32))
    table = _TABLE[0]
    # A disc wider than the table looks like its widest one near the edge.
    row = np.rint((radius / sigma_mm - _RADII[0]) / (_RADII[1] - _RADII[0])).astype(int).clip(0, len(_RADII) - 1)
    column = np.rint(((distance - radius) / sigma_mm - _EDGES[0]) / (_EDGES[1] - _EDGES[0])).astype(int)
    return table[row, column.clip(0, len(_EDGES) - 1)]
