"""The patient's anatomy at the baseline: smooth distance maps of body, bones, organs, lungs and lobes.

Everything lives in the patient frame (LPS axes, mm, origin at the middle of the chest). Distances are below zero
inside a structure; they are kept on a coarse lattice, interpolated linearly, and turned into sharp borders where an
image is made.
"""

from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from scipy.ndimage import distance_transform_edt, map_coordinates

from .motion import Thorax, envelope_level

RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER, LEFT_UPPER, LEFT_LOWER = 1, 2, 3, 4, 5
LOBES = ("right upper", "right middle", "right lower", "left upper", "left lower")

FAT, MUSCLE, BLOOD, SKIN = -98.0, 52.0, 42.0, 15.0
LIVER, SPLEEN, FLUID, CARTILAGE, DISC = 58.0, 48.0, 8.0, 105.0, 85.0

SPACING = 3.0
LOW = np.array([-180.0, -150.0, -210.0])
HIGH = np.array([180.0, 150.0, 210.0])


@dataclass(frozen=True)
class Build:
    """What differs between patients; lengths in mm."""

    thorax: Thorax
    dome: tuple[float, float]
    dome_drop: float
    heart: tuple[float, float, float]
    heart_radii: tuple[float, float, float]
    fat: float
    muscle: float
    rib_phase: float
    apex: float
    gas: float
    expired: float = 0.0

    @classmethod
    def random(cls, rng: np.random.Generator, expired: float = 0.0) -> "Build":
        """A patient of ordinary build whose diaphragm stands `expired` mm above full inspiration at the baseline."""
        u = rng.uniform
        smaller = 1.0 - 0.0006 * expired
        thorax = Thorax(width=u(116, 124) * smaller, depth=u(80, 87) * smaller, shoulder=u(92, 99), spine=u(41, 45))
        dome = u(-58, -48) + expired
        return cls(
            thorax=thorax,
            dome=(dome, dome - u(8, 16)),
            dome_drop=u(56, 70),
            heart=(u(18, 25), u(-42, -34), u(-28, -20) + 0.35 * expired),
            heart_radii=(u(46, 54), u(38, 44), u(46, 52)),
            fat=u(4, 13),
            muscle=u(6, 10),
            rib_phase=u(0, 24),
            apex=u(117, 122),
            gas=u(0.6, 1.0),
            expired=expired,
        )


@dataclass
class Anatomy:
    """Distance maps `data` (channels as in CHANNELS, z, y, x) on a lattice that starts at LOW with SPACING.

    `depth` (z, y, x) is the distance to the pleura inside the lungs, `coordinates` the lattice's x, y, z (z, y, x).
    """

    build: Build
    data: np.ndarray
    depth: np.ndarray
    coordinates: tuple[np.ndarray, np.ndarray, np.ndarray] = field(repr=False)

    CHANNELS = ("skin", "soft", "bone", "gas", "lung", "soft_hu")

    def channel(self, name: str) -> np.ndarray:
        """One map (z, y, x)."""
        return self.data[self.CHANNELS.index(name)]

    def at(self, lattice: np.ndarray, points: np.ndarray) -> np.ndarray:
        """Linear interpolation of a map (z, y, x) at points (N, 3)."""
        index = ((np.asarray(points) - LOW) / SPACING)[:, ::-1].T
        return map_coordinates(lattice, index, order=1, mode="nearest")


def lobe_of(x: np.ndarray, y: np.ndarray, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lobe (1 to 5) of points inside the lungs, and the distance in mm to the nearest fissure."""
    wave = 5.0 * np.sin(x / 26.0) + 3.0 * np.sin(y / 31.0 + 1.0)
    oblique = (z - 58.0 - 0.82 * (y - 60.0) - wave) / 1.30
    horizontal = z - 14.0 - 0.06 * y - 0.6 * wave
    right = x < 0
    lower = oblique < 0
    lobe = np.where(right, np.where(lower, 3, np.where(horizontal < 0, 2, 1)), np.where(lower, 5, 4)).astype(np.uint8)
    distance = np.abs(oblique)
    minor = np.where(right & ~lower, np.abs(horizontal), 1e3)
    return lobe, np.minimum(distance, minor)


def build_anatomy(build: Build) -> Anatomy:
    """Lay the anatomy of a patient on the lattice."""
    axes = [np.arange(LOW[i], HIGH[i] + SPACING / 2, SPACING, dtype=np.float32) for i in range(3)]
    z, y, x = np.meshgrid(axes[2], axes[1], axes[0], indexing="ij")
    space = _Space(build, x, y, z)
    lung = space.lung()
    bone, gas = space.bone(), space.gas()
    skin, soft, soft_hu = space.soft_tissue(gas)
    data = np.stack([skin, soft, bone, gas, lung, soft_hu]).astype(np.float32)
    depth = (distance_transform_edt(lung < 0) * SPACING).astype(np.float32)
    return Anatomy(build, data, depth, (x, y, z))


def great_vessels(build: Build) -> list[tuple[list[tuple[float, float, float]], float]]:
    """Centre lines and radii (mm) of the aorta, the caval veins, the pulmonary trunk and the arch's branches."""
    s = lambda z: float(build.thorax.spine_front(np.array(z)))
    return [
        (
            [(8, -26, 0), (-10, -28, 30), (-10, -22, 52), (2, -10, 68), (14, 8, 70), (23, 24, 58), (25, s(30) - 8, 30)],
            13.0,
        ),
        (
            [
                (25, s(30) - 8, 30),
                (24, s(0) - 9, 0),
                (18, s(-60) - 11, -60),
                (8, s(-140) - 12, -140),
                (6, s(-200) - 10, -210),
            ],
            11.0,
        ),
        ([(-26, -18, 96), (-25, -20, 60), (-24, -16, 16)], 8.5),
        ([(-22, -4, -10), (-22, 6, -60), (-18, 16, -120), (-16, 16, -210)], 10.5),
        ([(16, -36, 8), (17, -22, 34), (14, -10, 38)], 12.5),
        ([(14, -10, 38), (-8, -2, 32), (-26, 8, 26)], 8.5),
        ([(14, -10, 38), (32, 8, 36)], 9.0),
        ([(12, 6, 70), (16, 8, 110), (24, 4, 170)], 4.2),
        ([(2, -8, 68), (-10, -4, 100), (-22, -4, 170)], 5.0),
        ([(8, 0, 70), (8, 0, 110), (16, -8, 170)], 3.8),
        ([(-26, -18, 96), (-4, -24, 88), (22, -20, 108), (44, -16, 120)], 6.0),
        ([(4, s(160) - 9, 170), (6, s(60) - 9, 60), (4, s(0) - 12, 0), (10, s(-80) - 14, -80)], 6.0),
    ]


class _Space:
    """The lattice with the shapes that several structures share."""

    def __init__(self, build: Build, x: np.ndarray, y: np.ndarray, z: np.ndarray):
        self.build, self.x, self.y, self.z = build, x, y, z
        heights = z[:, 0, 0].astype(np.float64)
        shape = (-1, 1, 1)
        self.spine = build.thorax.spine_front(heights).astype(np.float32).reshape(shape)
        half = build.thorax.half_axes(heights)
        self.a, self.b = (h.astype(np.float32).reshape(shape) for h in half)
        self.xi = x / self.a
        self.eta = (y - self.spine) / self.b + np.float32(Thorax.SPINE_ETA)
        self.wall = as_distance(build.thorax.wall_level(self.xi, self.eta))
        self.envelope = as_distance(envelope_level(self.xi, self.eta))
        self.dome = np.maximum(self._dome(-1), self._dome(+1))
        self.under_dome = as_distance(z - self.dome)

    def _dome(self, side: int) -> np.ndarray:
        """The height of the right (-1) or left (+1) half of the diaphragm."""
        build = self.build
        top = build.dome[0 if side < 0 else 1]
        q = ((self.x - side * 56.0) / 64.0) ** 2 + ((self.eta + 0.20) / 1.04) ** 2
        return (top - build.dome_drop * np.minimum(q, 1.8) ** 1.3 - 4.0 * self.eta).astype(np.float32)

    def ellipsoid(self, centre, radii) -> np.ndarray:
        """Approximate distance to an ellipsoid."""
        t = [(c - m) / r for c, m, r in zip((self.x, self.y, self.z), centre, radii, strict=True)]
        root = np.sqrt(t[0] ** 2 + t[1] ** 2 + t[2] ** 2)
        steep = np.sqrt((t[0] / radii[0]) ** 2 + (t[1] / radii[1]) ** 2 + (t[2] / radii[2]) ** 2)
        return (root - 1.0) * root / np.maximum(steep, 1e-4)

    def tube(self, points, radius: float) -> np.ndarray:
        """Distance to a tube through points."""
        result = np.full(self.x.shape, 1e3, np.float32)
        for start, end in pairwise(points):
            start, end = np.array(start, float), np.array(end, float)
            reach = radius + 25.0
            low, high = np.minimum(start, end) - reach, np.maximum(start, end) + reach
            low = np.maximum(np.floor((low - LOW) / SPACING).astype(int), 0)
            high = np.maximum(np.ceil((high - LOW) / SPACING).astype(int), 0)
            box = tuple(slice(low[i], high[i]) for i in (2, 1, 0))
            axis = end - start
            offset = [c[box] - start[i] for i, c in enumerate((self.x, self.y, self.z))]
            along = sum(offset[i] * axis[i] for i in range(3)) / float(axis @ axis)
            along = np.clip(along, 0, 1)
            distance = np.sqrt(sum((offset[i] - along * axis[i]) ** 2 for i in range(3)))
            result[box] = np.minimum(result[box], distance - radius)
        return result

    def heart(self) -> np.ndarray:
        """Distance to the heart with its left atrium."""
        centre, radii = self.build.heart, self.build.heart_radii
        chambers = smooth_min(
            self.ellipsoid(centre, radii), self.ellipsoid((-2.0, -22.0, -2.0), (34.0, 32.0, 40.0)), 8.0
        )
        return smooth_min(chambers, self.ellipsoid((2.0, 6.0, 2.0), (30.0, 18.0, 22.0)), 6.0)

    def lung(self) -> np.ndarray:
        """Distance to both lungs."""
        self.heart_distance = self.heart()
        column = (
            10.0 + 13.0 * np.exp(-(((self.eta - 0.22) / 0.42) ** 2)) - 4.0 / (1.0 + np.exp((self.eta + 0.5) / 0.08))
        )
        middle = np.abs(self.x - 2.0) - column
        self.trunks = np.full(self.x.shape, 1e3, np.float32)
        for points, radius in great_vessels(self.build):
            self.trunks = np.minimum(self.trunks, self.tube(points, radius))
        medial = smooth_min(smooth_min(middle, self.heart_distance - 3.5, 6.0), self.trunks - 2.0, 4.0)
        side = np.where(self.x < 0, -1.0, 1.0).astype(np.float32)
        cap = ((self.x - side * 42.0) / 40.0) ** 2 + ((self.y - self.spine + 18.0) / 66.0) ** 2
        apex = as_distance(self.z - (self.build.apex - 24.0 * cap))
        lung = smooth_max(self.wall + 1.2, -medial, 5.0)
        lung = smooth_max(lung, -self.under_dome, 2.5)
        return smooth_max(lung, apex, 6.0)

    def rib_phase(self, front: np.ndarray) -> np.ndarray:
        """A number that is whole on every rib; `front` is 0 at the spine and 1 at the sternum, ribs fall towards it."""
        return (self.z + 96.0 * front**1.1 + self.build.rib_phase) / 24.0

    def bone(self) -> np.ndarray:
        """Distance to ribs, sternum, spine, scapulae and clavicles."""
        x, y, z, e = self.x, self.y, self.z, self.envelope
        back = y - self.spine
        front = np.clip((1.0 - self.eta) / 2.0, 0.0, 1.0)
        phase = self.rib_phase(front)
        number = np.rint(phase)
        ribs = (np.sqrt(((phase - number) * 24.0 * 0.82 / 5.6) ** 2 + ((e - 5.6) / 3.3) ** 2) - 1.0) * 4.0
        ribs = np.maximum(ribs, (front - 0.84) * 150.0)
        ribs = np.maximum(
            ribs, np.maximum(14.0 - np.abs(x), np.abs(number * 24.0 - self.build.rib_phase + 2.0) - 130.0)
        )
        sternum = np.maximum(np.abs(x) - 16.0, np.abs(e - 6.5) - 4.5)
        sternum = np.maximum(np.maximum(sternum, np.abs(z - 22.0) - 56.0), self.eta)
        level = (z + self.build.rib_phase + 12.0) / 24.0
        disc = np.abs(level - np.rint(level)) * 24.0
        vertebra = (np.sqrt((x / 18.0) ** 2 + ((back - 17.0) / 15.0) ** 2) - 1.0) * 15.5
        self.disc = np.maximum(vertebra, disc - 3.0)
        vertebra = np.maximum(vertebra, 3.0 - disc)
        canal = np.sqrt(x**2 + (back - 39.5) ** 2) - 8.5
        self.canal = canal
        arch = np.maximum(canal - 5.0, -canal)
        middle = 12.0 - disc  # the processes stand at the middle of each vertebra
        across = np.maximum(np.maximum(np.abs(x) - 33.0, np.abs(back - 44.0 - 0.25 * np.abs(x)) - 4.5), middle - 6.0)
        spinous = np.maximum(np.maximum(np.abs(x) - 3.4, np.abs(back - 61.0) - 14.0), middle - 8.0)
        spine = np.minimum(np.minimum(vertebra, arch), np.minimum(np.maximum(across, -canal), spinous))
        scapula = np.maximum(np.abs(e - 21.0 - 2.0 * np.sin(z / 14.0)) - 1.7, np.abs(z - 66.0) - 48.0)
        blade = np.abs(self.eta - 0.45) - 0.34 - (z - 66.0) * 0.002
        scapula = np.maximum(scapula, np.maximum(blade * 60.0, (0.45 - np.abs(self.xi)) * 60.0))
        clavicles = [
            self.tube([(s * 16, -52, 88), (s * 60, -52, 104), (s * 110, -30, 128), (s * 150, -16, 150)], 5.5)
            for s in (-1, 1)
        ]
        bones = np.minimum(np.minimum(ribs, sternum), np.minimum(spine, scapula))
        return np.minimum(bones, np.minimum(*clavicles))

    def gas(self) -> np.ndarray:
        """Distance to the gas in the stomach and the colon; it collects at the front of a patient on the back."""
        gas = self.build.gas
        self.stomach = self.ellipsoid((62.0, -24.0, self.build.dome[1] - 40.0), (42.0, 52.0, 36.0))
        bubble = np.maximum(self.stomach + 5.0, self.y + 58.0 - 16.0 * gas)
        colon = self.ellipsoid((84.0, -18.0, self.build.dome[1] - 88.0), (18.0, 30.0, 16.0))
        return np.minimum(bubble, np.minimum(colon + 4.0, self.ellipsoid((-70.0, -60.0, -150.0), (22.0, 16.0, 14.0))))

    def soft_tissue(self, gas: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Distances to the skin and to everything denser than fat, and the HU of that denser tissue."""
        build, x, y, z, e = self.build, self.x, self.y, self.z, self.envelope
        muscle, fat = self.chest_wall()
        skin = e - (10.0 + muscle + fat)
        chest = np.maximum(e - (10.0 + muscle), 0.2 - self.wall)
        # Fat between the layers of muscle: here thick, there missing.
        patches = np.sin(z / 23.0 + 2.0 * self.xi) + np.sin(x / 31.0 + z / 47.0) + 0.6 * np.sin(y / 19.0)
        middle = 10.0 + (0.45 + 0.08 * patches) * muscle
        plane = np.abs(e - middle) - np.clip(0.9 * patches, -1.0, 1.6)
        chest = np.maximum(chest, np.where(muscle > 8.0, -plane, -9.0))
        heart = self.heart_distance
        central = np.minimum(heart, self.trunks)
        below = self.under_dome
        belly = np.maximum(self.wall + 3.0, below + 3.0)
        liver = np.maximum(belly, smooth_max(self.ellipsoid((-46.0, -12.0, -95.0), (86.0, 92.0, 74.0)), x - 40.0, 8.0))
        spleen = self.ellipsoid((82.0, 44.0, build.dome[1] - 42.0), (26.0, 34.0, 40.0))
        spleen = np.maximum(spleen, belly)
        stomach = np.maximum(self.stomach, belly)
        kidneys = [self.ellipsoid((s * 58.0, 44.0, -168.0), (26.0, 24.0, 48.0)) for s in (-1, 1)]
        kidneys = np.maximum(np.minimum(*kidneys), belly)
        loops = np.sin(x / 11.0) + np.sin(y / 12.0 + 1.0) + np.sin(z / 13.0)
        loops = np.maximum((np.abs(loops) - 1.1) * 9.0, z - build.dome[1] + 66.0)
        bowel = np.minimum(np.maximum(np.minimum(gas - 4.0, loops), belly), kidneys)
        nodes = np.minimum(
            self.ellipsoid((0.0, 10.0, 24.0), (13.0, 12.0, 15.0)), self.ellipsoid((-14.0, 4.0, 58.0), (7.0, 9.0, 16.0))
        )
        diaphragm = np.maximum(np.abs(below + 1.6) - 1.6, self.wall)
        parts = {
            MUSCLE: np.minimum(chest, diaphragm),
            BLOOD: np.minimum(central, nodes),
            LIVER: liver,
            SPLEEN: np.minimum(spleen, bowel),
            FLUID: stomach,
            DISC: self.disc,
            25.0: self.canal,
            CARTILAGE: self._cartilage(),
        }
        soft = np.full(x.shape, 1e3, np.float32)
        nearest = np.full(x.shape, MUSCLE, np.float32)
        for hu, distance in parts.items():
            closer = distance < soft
            nearest[closer] = hu
            soft[closer] = distance[closer]
        return skin, soft, nearest

    def chest_wall(self) -> tuple[np.ndarray, np.ndarray]:
        """The thickness (mm) of the muscles over the ribs and of the fat under the skin."""
        angle = np.degrees(np.arctan2(self.eta, np.abs(self.xi)))  # -90 at the sternum, 0 at the side, 90 at the back
        upper = 1.0 / (1.0 + np.exp(-(self.z - 25.0) / 14.0))

        def around(middle: float, width: float) -> np.ndarray:
            return np.exp(-(((angle - middle) / width) ** 2))

        shrink = self.build.thorax.width - self.a
        build = self.build.muscle / 8.0
        muscle = (
            4.0 + 11.0 * around(-50, 20) * upper + 6.0 * around(5, 28) + 15.0 * around(33, 20) * (0.3 + 0.7 * upper)
        )
        muscle = build * (muscle + 15.0 * around(74, 24)) + 0.80 * shrink * (0.30 + around(0, 50))
        fat = self.build.fat * (0.8 + 0.9 * around(-62, 26) + 0.4 * around(20, 30)) + 0.10 * shrink
        return muscle.astype(np.float32), fat.astype(np.float32)

    def _cartilage(self) -> np.ndarray:
        front = np.clip((1.0 - self.eta) / 2.0, 0.0, 1.0)
        phase = self.rib_phase(front)
        ring = np.sqrt(((phase - np.rint(phase)) * 24.0 * 0.82 / 6.0) ** 2 + ((self.envelope - 5.8) / 3.8) ** 2) - 1.0
        return np.maximum(ring * 4.4, np.maximum((0.83 - front) * 150.0, np.abs(self.z - 10.0) - 75.0))


def as_distance(level: np.ndarray) -> np.ndarray:
    """A first-order distance (mm) to the zero of a level function on the lattice: level / |gradient|."""
    gradient = np.gradient(level.astype(np.float32), np.float32(SPACING))
    steep = np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
    return (level / np.maximum(steep, 0.25 * float(np.median(steep)))).astype(np.float32)


def smooth_max(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The maximum of two distances with edges rounded over about `width` mm."""
    return 0.5 * (a + b + np.sqrt((a - b) ** 2 + 0.25 * width * width))


def smooth_min(a: np.ndarray, b: np.ndarray, width: float) -> np.ndarray:
    """The minimum of two distances with edges rounded over about `width` mm."""
    return -smooth_max(-a, -b, width)
