"""The tubes of a patient: airways, arteries and veins from the trunks to about 1 mm, and their branching points."""

from dataclasses import dataclass

import numpy as np

from .body import Anatomy
from .chest import great_vessels, lobe_of
from .lattice import LOW, SPACING, raised
from .tree import Segments, accompany, bend, grow, join, polyline

# Terminal branches in each litre of lung, and terminals that one last airway supplies.
TERMINALS_PER_LITRE = 950
TERMINALS_PER_AIRWAY = 9

ARTERY_RADIUS, ARTERY_EXPONENT = 0.68, 3.2
VEIN_RADIUS, VEIN_EXPONENT = 0.66, 3.2
AIRWAY_RADIUS, AIRWAY_EXPONENT = 0.52, 2.15


@dataclass
class Tubes:
    """All tubes at the baseline (patient frame, mm): `lumen` and `airway` (with its wall), `arteries`, `veins`, and
    `landmarks` (N, 3), branching points well inside the lungs."""

    lumen: Segments
    airway: Segments
    arteries: Segments
    veins: Segments
    landmarks: np.ndarray


# Where the lobar bronchi begin: x, height above the carina and depth in front of the spine, per lobe 1 to 5.
_LOBAR = {
    1: [(-25.0, 20.0, 27.0), (-40.0, 17.0, 36.0), (-47.0, 16.0, 44.0)],
    2: [(-25.0, 20.0, 27.0), (-31.0, 18.0, 12.0), (-34.0, 14.0, 0.0), (-44.0, 0.0, -8.0)],
    3: [(-25.0, 20.0, 27.0), (-31.0, 18.0, 12.0), (-34.0, 18.0, 0.0), (-42.0, 28.0, -14.0)],
    4: [(30.0, 22.0, 20.0), (42.0, 18.0, 20.0), (50.0, 10.0, 24.0)],
    5: [(30.0, 22.0, 20.0), (42.0, 24.0, 10.0), (46.0, 30.0, -8.0)],
}
_CARINA = (-2.0, 20.0, 42.0)


def grow_trees(anatomy: Anatomy, rng: np.random.Generator) -> Tubes:
    """Grow the trees of all five lobes."""
    x, y, z = anatomy.coordinates
    inner = np.flatnonzero(anatomy.depth > 3.5)
    places = np.stack([c.ravel()[inner] for c in (x, y, z)], axis=1).astype(np.float64)
    expired = anatomy.build.expired
    lobe, fissure = lobe_of(*places.T, expired)
    lumen, outer, arteries, veins = _trunks(anatomy)
    candidates = []
    for number, stem in _LOBAR.items():
        stem = raised(stem, expired)
        up = raised([(0.0, 0.0, 0.0)], expired)[0][2]
        own = places[(lobe == number) & (fissure > 3.0)]
        count = int(len(own) * SPACING**3 * 1e-6 * TERMINALS_PER_LITRE)
        root = np.array(stem[-1])
        cloud = _scatter(own, count, rng)
        bronchi, parents = grow(root, cloud, rng, ARTERY_RADIUS, ARTERY_EXPONENT)
        radius = AIRWAY_RADIUS * (bronchi.order / TERMINALS_PER_AIRWAY) ** (1 / AIRWAY_EXPONENT)
        aired = bronchi.order >= TERMINALS_PER_AIRWAY
        gap = np.where(aired, radius + wall_of(radius) + 0.9 * bronchi.radius, 0.0)
        artery = accompany(bronchi, parents, gap, rng.normal(0, 1, 3))
        artery.start[parents < 0] = root + np.array([0.0, -7.0, 3.0])
        candidates.append(_branchings(artery, parents))
        bronchi.radius = radius
        bronchi = bronchi.select(aired)
        airways = join([bend(bronchi, rng), polyline(stem, float(radius.max()))])
        lumen.append(airways)
        wider = Segments(airways.start, airways.end, airways.radius + wall_of(airways.radius), airways.order)
        outer.append(wider)
        feeder = [(-24.0, 6.0, 27.0 + up) if number <= 3 else (34.0, 8.0, 36.0 + up), artery.start[parents < 0][0]]
        arteries += [bend(artery, rng, sway=0.0), polyline(feeder, float(artery.radius.max()))]
        cloud = _scatter(own, count, rng)
        gate = root + np.array([0.0, -14.0, -9.0])
        vein, _ = grow(gate, cloud, rng, VEIN_RADIUS, VEIN_EXPONENT)
        drain = [gate, (-20.0 if number <= 3 else 26.0, 4.0, up + (6.0 if number in (1, 4) else -6.0))]
        veins += [bend(vein, rng), polyline(drain, min(7.0, float(vein.radius.max())))]
    landmarks = _well_inside(np.concatenate(candidates), anatomy)
    return Tubes(join(lumen), join(outer), join(arteries), join(veins), landmarks)


def wall_of(radius: np.ndarray) -> np.ndarray:
    """The thickness of an airway's wall (mm) at a lumen radius."""
    return np.clip(0.18 + 0.13 * radius, 0.25, 1.4)


def _trunks(anatomy: Anatomy) -> tuple[list[Segments], list[Segments], list[Segments], list[Segments]]:
    """Trachea and main bronchi (lumen, with wall) and the great vessels."""
    top = (0.0, float(anatomy.build.thorax.spine_front(np.array(170.0))) - 17.0, 190.0)
    expired = anatomy.build.expired
    lumen = [
        polyline(raised([top, (0.0, 14.0, 90.0), _CARINA], expired), 8.3),
        polyline(raised([_CARINA, _LOBAR[1][0]], expired), 6.6),
        polyline(raised([_CARINA, (14.0, 23.0, 30.0), _LOBAR[4][0]], expired), 5.8),
    ]
    outer = [Segments(s.start, s.end, s.radius + 1.4, s.order) for s in lumen]
    vessels = great_vessels(anatomy.build)
    pulmonary = ("pulmonary trunk", "right pulmonary artery", "left pulmonary artery")
    arteries = [polyline(*vessels[name]) for name in pulmonary]
    veins = [polyline(raised([(-22.0, 0.0, 0.0), (26.0, 4.0, 0.0)], expired), 6.0)]
    return lumen, outer, arteries, veins


def _scatter(places: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """`count` points, spread as evenly as chance allows over lattice points (N, 3)."""
    chosen = places[rng.choice(len(places), min(2 * count, len(places)), replace=False)]
    chosen = chosen + rng.uniform(-0.5, 0.5, chosen.shape) * SPACING
    # Of two points in one cell only the first is kept, so that no cell is crowded.
    cell = np.floor((chosen - LOW) / 9.0).astype(int)
    _, first = np.unique(cell @ np.array([1, 1000, 1000_000]), return_index=True)
    first = np.sort(first)
    rest = np.setdiff1d(np.arange(len(chosen)), first)
    return chosen[np.concatenate([first, rest])[:count]]


def _branchings(tree: Segments, parents: np.ndarray) -> np.ndarray:
    """Rows (x, y, z, radius) of the ends at which a branch of 1 mm radius or more divides."""
    children = np.bincount(parents[parents >= 0], minlength=len(tree))
    smallest = np.full(len(tree), np.inf)
    np.minimum.at(smallest, parents[parents >= 0], tree.radius[parents >= 0])
    keep = (children == 2) & (tree.radius >= 1.0) & (smallest > 0.5 * tree.radius)
    return np.concatenate([tree.end[keep], tree.radius[keep, None]], axis=1)


def _well_inside(candidates: np.ndarray, anatomy: Anatomy, count: int = 200, depth_mm: float = 9.0) -> np.ndarray:
    """Up to `count` of the candidates that lie at least `depth_mm` from the pleura, spread over the lungs."""
    points = candidates[anatomy.at(anatomy.depth, candidates[:, :3]) >= depth_mm, :3]
    if len(points) <= count:
        return points
    chosen = [0]
    nearest = np.full(len(points), np.inf)
    for _ in range(count - 1):
        nearest = np.minimum(nearest, np.linalg.norm(points - points[chosen[-1]], axis=1))
        chosen.append(int(nearest.argmax()))
    return points[np.sort(chosen)]
