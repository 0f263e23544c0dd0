"""The organs of a synthetic abdomen: where they lie, what they are like in the arterial and in the venous phase.

Organs are distance maps on a coarse lattice in the body frame: LPS axes, mm, the origin in the middle of the upper
abdomen. Distances are below zero inside. Vessels are tubes, painted as sharp as any grid allows.
"""

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter

from .lattice import smooth_max, smooth_min
from .tree import Segments, bend, grow, join, polyline

SPACING = 5.0
LOW, HIGH = np.array([-200.0, -150.0, -190.0]), np.array([200.0, 150.0, 190.0])
SHAPE = tuple(int(n) for n in ((HIGH - LOW) / SPACING + 1.5)[::-1])
LABELS = {"liver": 1, "spleen": 2, "right_kidney": 3, "left_kidney": 4, "vessels": 5, "spine": 6}
FAT = -98.0


@dataclass(frozen=True)
class Organ:
    """A distance map (z, y, x) on the lattice, its HU in the arterial and the venous phase, and its label (0: none)."""

    distance: np.ndarray
    arterial: float
    venous: float
    label: int = 0


@dataclass(frozen=True)
class Vessels:
    """Tubes with their HU in the arterial and the venous phase."""

    tubes: Segments
    arterial: float
    venous: float


@dataclass(frozen=True)
class Abdomen:
    """A patient: the skin's distance map, organs in the order in which they are drawn, the bowel in each phase, and
    vessels. `bowel` moves between the phases, as it does; nothing else changes its shape."""

    skin: np.ndarray
    organs: tuple[Organ, ...]
    bowel: tuple[tuple[Organ, ...], tuple[Organ, ...]]
    vessels: tuple[Vessels, ...]


class _Space:
    """The lattice's coordinates, bent a little so that no patient's organs are smooth ellipsoids, and sizes."""

    def __init__(self, rng: np.random.Generator):
        axes = [np.arange(n, dtype=np.float32) * np.float32(SPACING) for n in SHAPE]
        z, y, x = np.meshgrid(*axes, indexing="ij")
        self.x, self.y, self.z = x + np.float32(LOW[0]), y + np.float32(LOW[1]), z + np.float32(LOW[2])
        self.plain = self.x, self.y, self.z
        bends = [6.0 * _smooth_noise(rng, 7.0) + 2.0 * _smooth_noise(rng, 3.2) for _ in range(3)]
        self.bent = tuple(c + b for c, b in zip(self.plain, bends, strict=True))

    def ellipsoid(self, centre, radii, bent: bool = True) -> np.ndarray:
        """Approximate distance to an ellipsoid."""
        t = [(c - m) / r for c, m, r in zip(self.bent if bent else self.plain, centre, radii, strict=True)]
        root = np.sqrt(sum(part * part for part in t))
        steep = np.sqrt(sum((part / r) ** 2 for part, r in zip(t, radii, strict=True)))
        return (root - 1.0) * root / np.maximum(steep, 1e-4)


def _smooth_noise(rng: np.random.Generator, sigma: float) -> np.ndarray:
    noise = gaussian_filter(rng.standard_normal(SHAPE, dtype=np.float32), sigma, truncate=3.0)
    return noise / noise.std()


def build_abdomen(rng: np.random.Generator) -> Abdomen:
    """A patient drawn at random: build, organs, vessels and a few liver lesions."""
    space, u = _Space(rng), rng.uniform
    a, b, fat, wall = u(135, 165), u(98, 118), u(12, 32), u(9, 13)
    waist = np.float32(1.0) - np.float32(u(0.0, 0.08)) * np.clip(-space.z / 150.0, 0, 1)
    radius = np.sqrt((space.x / (a * waist)) ** 2 + (space.y / (b * waist)) ** 2)
    inner = (radius - 1.0) * b  # of the abdominal wall
    spine_y = u(52, 62) - 8.0 * np.cos(space.z / 90.0)
    dome = _dome(space, u(70, 92), inner)
    liver, portal_entry, cava_top = _liver(space, rng, inner, dome)
    organs = [
        Organ(inner - wall, 58, 66),
        Organ(np.maximum(inner, -inner - 200.0), FAT, FAT),
        *_back_muscles(space, spine_y, u(0.85, 1.15)),
        Organ(smooth_max(-dome, inner + 3.0, 4.0), -860, -860),
        Organ(np.maximum(space.ellipsoid((u(5, 25), -35, u(115, 135)), (62, 50, 45)), inner + 8.0), 210, 150),
        *_stomach(space, rng, dome, inner),
        *_spleen_and_kidneys(space, rng, dome, inner),
        *liver,
        *_bones(space, rng, spine_y, inner, wall),
    ]
    bowel = _bowel(space, rng, inner, [organ.distance for organ in organs if organ.label], spine_y)
    return Abdomen(inner - wall - fat, tuple(organs), bowel, _vessels(rng, liver[0].distance, portal_entry, cava_top))


def _dome(space: _Space, top: float, inner: np.ndarray) -> np.ndarray:
    """Signed height (mm) above the diaphragm: below it negative."""
    right = top - 75.0 * (((space.x + 62.0) / 85.0) ** 2 + ((space.y + 5.0) / 100.0) ** 2)
    left = top - 14.0 - 75.0 * (((space.x - 65.0) / 80.0) ** 2 + ((space.y + 5.0) / 100.0) ** 2)
    height = np.maximum(np.maximum(right, left), -60.0 - 0.3 * inner)
    return (space.z - height).astype(np.float32)


def _liver(space: _Space, rng, inner, dome) -> tuple[list[Organ], np.ndarray, np.ndarray]:
    """The liver with lesions and gall bladder; where the portal vein enters and where the veins leave it."""
    u = rng.uniform
    centre = np.array([u(-72, -62), u(-8, 4), u(12, 26)])
    right = space.ellipsoid(centre, (u(78, 90), u(80, 92), u(78, 92)))
    left = space.ellipsoid(centre + np.array([u(62, 78), -34, u(14, 24)]), (u(58, 78), u(34, 44), u(30, 40)))
    liver = smooth_min(right, left, 18.0)
    x, y, z = space.bent
    # The visceral face looks down, back and to the left.
    face = (0.45 * (x - centre[0]) + 0.35 * (y - centre[1]) - 0.82 * (z - centre[2])) - u(26, 38)
    liver = smooth_max(smooth_max(liver, face, 14.0), smooth_max(dome + 4.0, inner + 3.0, 4.0), 4.0)
    organs = [Organ(liver, u(62, 80), u(100, 122), LABELS["liver"])]
    inside = np.argwhere(liver < -14.0)
    for _ in range(rng.integers(1, 6)):
        place = LOW + SPACING * inside[rng.integers(len(inside))][::-1]
        size = u(5, 16)
        kind = rng.integers(3)  # a cyst, a hypervascular lesion, a metastasis
        hu = ((8, 10), (u(110, 140), u(88, 104)), (u(45, 62), u(58, 76)))[kind]
        organs.append(
            Organ(np.maximum(space.ellipsoid(place, size * u(0.8, 1.2, 3)), liver + 2.0), *hu, LABELS["liver"])
        )
    organs.append(Organ(space.ellipsoid(centre + np.array([18, -46, -58]), (15, 17, 27)), 10, 11))
    return organs, centre + np.array([38, 8, -12]), centre + np.array([52, 30, 52])


def _spleen_and_kidneys(space: _Space, rng, dome, inner) -> list[Organ]:
    u = rng.uniform
    spleen = space.ellipsoid((u(88, 100), u(28, 42), u(-2, 14)), (u(26, 36), u(36, 48), u(42, 56)))
    spleen = smooth_max(spleen, smooth_max(dome + 4.0, inner + 3.0, 4.0), 4.0)
    organs = [Organ(spleen, u(110, 140), u(112, 128), LABELS["spleen"])]
    for side, name in ((-1, "right_kidney"), (1, "left_kidney")):
        centre = np.array([side * u(60, 72), u(42, 52), u(-72, -50) + 8 * side])
        size = u(0.9, 1.12)
        kidney = space.ellipsoid(centre, size * np.array([28, 26, 54]))
        label = LABELS[name]
        organs += [
            Organ(kidney, u(170, 210), u(185, 205), label),
            Organ(kidney + 8.0, u(80, 110), u(175, 195), label),
            Organ(space.ellipsoid(centre - (side * 14, 3, 0), size * np.array([14, 10, 28])), -40, -30, label),
        ]
    return organs


def _stomach(space: _Space, rng, dome, inner) -> list[Organ]:
    u = rng.uniform
    centre = np.array([u(48, 66), u(-44, -30), u(15, 40)])
    stomach = space.ellipsoid(centre, (u(36, 52), u(26, 40), u(34, 50)))
    stomach = smooth_max(stomach, smooth_max(dome + 4.0, inner + 4.0, 4.0), 4.0)
    gas = np.maximum(stomach + 4.0, space.y - (centre[1] - u(-6, 16)))
    return [Organ(stomach, 70, 88), Organ(stomach + 4.0, 18, 18), Organ(gas, -950, -950)]


def _back_muscles(space: _Space, spine_y, size: float) -> list[Organ]:
    x, y = space.bent[:2]
    muscles = []
    for dx, dy, rx, ry in ((34, 42, 30, 19), (38, 10, 17, 20)):  # erector spinae, psoas
        d = np.sqrt(((np.abs(x) - dx) / (rx * size)) ** 2 + ((y - spine_y - dy) / (ry * size)) ** 2) - 1.0
        muscles.append(d * min(rx, ry) * size)
    return [Organ(np.minimum(*muscles), 56, 64)]


def _bones(space: _Space, rng, spine_y, inner, wall) -> list[Organ]:
    """Vertebrae with discs, canal and processes, and the lower ribs."""
    x, y, z = space.plain
    along = np.mod(z + rng.uniform(0, 34), 34.0) - 17.0  # mm from a vertebra's middle
    ring = np.sqrt((x / 1.3) ** 2 + (y - spine_y) ** 2) - 18.0
    body = np.maximum(ring + 0.012 * (13.0 - np.abs(along)) * (13 - np.abs(along)) * 0.4, np.abs(along) - 13.0)
    arch = np.abs(np.sqrt(x**2 + (y - spine_y - 29.0) ** 2) - 12.0) - 3.5
    spinous = np.maximum(np.abs(x) - 3.5, np.maximum(np.abs(y - spine_y - 50.0) - 14.0, np.abs(along + 4.0) - 8.0))
    transverse = np.maximum(np.hypot(y - spine_y - 27.0, along) - 5.0, np.abs(x) - 36.0)
    processes = np.minimum(np.minimum(np.maximum(arch, np.abs(along) - 9.0), spinous), transverse)
    bone = np.minimum(body, processes)
    canal = np.sqrt(x**2 + (y - spine_y - 29.0) ** 2) - 8.5
    angle = np.arctan2(y, np.abs(x))
    tilt = np.mod(z + 34.0 * (1.2 - angle) + rng.uniform(0, 30), 30.0) - 15.0
    margin = -45.0 - 55.0 * (angle + 0.9) - z  # the costal margin rises towards the sternum
    ribs = np.maximum(np.maximum(np.hypot(inner - 0.5 * wall, 0.8 * tilt) - 5.5, margin), -0.6 - angle)
    label = LABELS["spine"]
    return [
        Organ(ring, 85, 88, label),
        Organ(bone, 420, 425, label),
        Organ(bone + 3.5, 165, 172, label),
        Organ(canal, 28, 30),
        Organ(ribs, 430, 430),
        Organ(ribs + 2.8, 170, 175),
    ]


def _bowel(space: _Space, rng, inner, organs, spine_y) -> tuple[tuple[Organ, ...], tuple[Organ, ...]]:
    """Loops in the free room of the belly, in the arterial phase and, moved a little, in the venous one."""
    taken = np.minimum.reduce(organs)
    room = np.maximum(np.maximum(inner + 8.0, -taken + 6.0), np.maximum(space.y - spine_y + 40.0, space.z - 10.0))
    free = np.argwhere(room < -8.0)
    far = np.full(SHAPE, 100.0, np.float32)
    # Wall, content and gas of all loops, in either phase.
    phases = [[far, far, far], [far, far, far]]
    for _ in range(14 if len(free) else 0):
        place = LOW + SPACING * free[rng.integers(len(free))][::-1]
        size, gas = rng.uniform(11, 20) * rng.uniform(0.8, 1.5, 3), rng.uniform(-18, 18)
        for parts in phases:
            moved = place + rng.normal(0, 5.0, 3)
            loop = np.maximum(space.ellipsoid(moved, size * rng.uniform(0.9, 1.1)), room)
            level = space.y - moved[1] + gas + rng.normal(0, 4.0)
            for number, part in enumerate((loop, loop + 3.0, np.maximum(loop + 3.0, level))):
                parts[number] = np.minimum(parts[number], part)
    hu = ((85, 95), (25, 25), (-900, -900))
    arterial, venous = (tuple(Organ(d, *h) for d, h in zip(parts, hu, strict=True)) for parts in phases)
    return arterial, venous


def _vessels(rng, liver: np.ndarray, portal_entry: np.ndarray, cava_top: np.ndarray) -> tuple[Vessels, ...]:
    """Aorta and its branches, the inferior vena cava, the portal vein with its tree, and the veins of the liver."""
    u = rng.uniform
    aorta_hu, aorta, cava = (u(290, 360), u(140, 170)), u(9, 12), u(10, 13)
    heights = np.arange(200.0, -201.0, -20.0)
    down = [(8 + 3 * np.sin(h / 70), 28 - 6 * np.cos(h / 90), h) for h in heights]
    up = [(-20 - 2 * np.sin(h / 60), 24 - 6 * np.cos(h / 90), h) for h in heights if h < cava_top[2]]
    arteries = [
        polyline(down, aorta),
        polyline([(8, 20, 5), (4, 0, 6), (-20, -6, 6), tuple(portal_entry)], 3.2),
        polyline([(8, 20, 5), (30, 8, 10), (60, 22, 18), (92, 30, 26)], 3.0),
        polyline([(8, 20, -8), (6, -8, -30), (2, -20, -80), (0, -22, -120)], 3.6),
        *(polyline([(8, 24, -35), (s * 34, 34, -48), (s * 50, 42, -58)], 2.8) for s in (-1, 1)),
    ]
    portal = polyline([(2, -10, -70), (0, -2, -28), (-8, 0, -16), tuple(portal_entry)], 6.5)
    splenic = polyline([(-2, 0, -22), (30, 12, -6), (64, 26, 10), (96, 32, 22)], 4.5)
    portal_tree, hepatic_tree = (
        _tree(rng, liver, root, terminals, size) for root, terminals, size in
        ((portal_entry, 110, 1.0), (cava_top, 70, 1.15))
    )  # fmt: skip
    to_cava = polyline([tuple(cava_top), (-20, 22, cava_top[2] - 4)], 6.0)
    return (
        Vessels(join(arteries), *aorta_hu),
        Vessels(polyline(up, cava), u(75, 110), u(125, 150)),
        Vessels(join([portal, splenic, portal_tree]), u(85, 125), u(165, 195)),
        Vessels(join([hepatic_tree, to_cava]), u(58, 72), u(150, 180)),
    )


def _tree(rng, liver: np.ndarray, root: np.ndarray, terminals: int, size: float) -> Segments:
    inside = np.argwhere(liver < -5.0)
    chosen = inside[rng.choice(len(inside), terminals, replace=False)][:, ::-1]
    cloud = LOW + SPACING * (chosen + rng.uniform(-0.5, 0.5, (terminals, 3)))
    return bend(grow(root, cloud, rng, size, 2.8)[0], rng)
