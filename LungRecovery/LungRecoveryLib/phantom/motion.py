"""How the patient moves between two scans: breathing with sliding at the chest wall, posture, and the table.

Everything is closed form, so that the true displacement, its inverse and its Jacobian are exact. Points are (N, 3)
arrays or tuples of three equally shaped arrays in the PATIENT frame: LPS axes, mm, origin at the middle of the chest.

The thorax has a chart (xi, eta, z): x = a(z) xi, y = c(z) + b(z) eta. A fixed bean-shaped outline in the (xi, eta)
plane is the inner surface of the chest wall at every height. Breathing changes a and b (the rib cage widens)
and moves z: by one law inside the outline (lungs, mediastinum, abdomen: driven by the diaphragm) and by another, nearly
resting one outside (chest wall, spine). Inside, uneven ventilation first moves xi, eta and z (see :mod:`.ventilation`).
Both laws keep the outline in place, so the lungs slide along the wall without gap or overlap. The Jacobian of such a
map is a'(z') b'(z') / (a(z) b(z)) * dz'/dz, times the ventilation's determinant.
"""

from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np

from .ventilation import Ventilation, random_waves

Coordinates = tuple[np.ndarray, np.ndarray, np.ndarray]


@dataclass(frozen=True)
class Thorax:
    """The thoracic cavity's shape as functions of height z (mm); widths are half widths in mm."""

    width: float = 122.0
    depth: float = 84.0
    shoulder: float = 96.0
    taper: float = 26.0
    narrowing: float = 0.58
    spine: float = 43.0

    # The front of the spine lies at eta = SPINE_ETA at every height and does not move with the rib cage.
    SPINE_ETA = 0.60

    def half_axes(self, z: np.ndarray, widen: tuple[float, float] = (0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
        """The half axes a(z) and b(z) in mm; `widen` is the relative expansion of the rib cage (lateral, AP)."""
        rise = _step((z - self.shoulder) / self.taper)
        shape = 1.0 - self.narrowing * rise
        # The upper ribs move less than the lower ones.
        share = 1.0 - 0.6 * rise
        return self.width * shape * (1.0 + widen[0] * share), self.depth * shape * (1.0 + widen[1] * share)

    def spine_front(self, z: np.ndarray) -> np.ndarray:
        """The y of the front of the spine: a gentle kyphosis."""
        return self.spine - 7.0 * (z / 120.0) ** 2

    def to_chart(self, x, y, z, widen=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
        """The chart coordinates (xi, eta) of points."""
        a, b = self.half_axes(z, widen)
        return x / a, (y - self.spine_front(z)) / b + self.SPINE_ETA

    def from_chart(self, xi, eta, z, widen=(0.0, 0.0)) -> tuple[np.ndarray, np.ndarray]:
        """The x and y of chart coordinates."""
        a, b = self.half_axes(z, widen)
        return a * xi, self.spine_front(z) + b * (eta - self.SPINE_ETA)

    def wall_level(self, xi: np.ndarray, eta: np.ndarray) -> np.ndarray:
        """Below 0 inside the chest wall's inner surface: a rounded outline with a notch for the spine (no unit)."""
        outline = envelope_level(xi, eta)
        notch = 0.20 * (1.0 - np.sqrt((xi / 0.235) ** 2 + ((eta - 1.0) / 0.42) ** 2))
        # A smooth maximum: the corners beside the spine are round.
        return 0.5 * (outline + notch + np.sqrt((outline - notch) ** 2 + 0.004))


def envelope_level(xi: np.ndarray, eta: np.ndarray) -> np.ndarray:
    """The outline of the chest without the notch for the spine; below 0 inside (no unit)."""
    p = 2.4
    return (np.abs(xi) ** p + np.abs(eta) ** p) ** (1.0 / p) - 1.0


@dataclass(frozen=True)
class Motion:
    """The map from the baseline to one visit: breathing, then posture, then the table.

    `depth` is how far the diaphragm rises (mm; negative: a deeper breath); `widen` the relative change of the rib
    cage's half axes; `pattern` the coefficients by which the diaphragm's motion varies over its surface; `curve` from 0
    (the motion falls evenly from the base to the apex) to 1 (it falls steeply above the base); `bumps` rows (xi, eta,
    z, radius, height, amplitude) of locally different expansion; `waves` the rows of the uneven ventilation, see
    :class:`.ventilation.Ventilation`; `wall` the rise of the front ribs (mm); `posture` rows (axis moved, axis a, axis
    b, wave a, wave b, phase, amplitude) of volume-preserving shears; `rotation` degrees about x, y, z; `shift` mm;
    `bottom` the height (mm) below which the abdomen moves as one block under the middle of the domes; at the back and
    the sides, along the sulcus, that begins up to `sulcus` mm deeper.
    """

    thorax: Thorax = field(default_factory=Thorax)
    depth: float = 0.0
    widen: tuple[float, float] = (0.0, 0.0)
    pattern: tuple[float, ...] = (0.0, 0.0, 0.0)
    bumps: tuple[tuple[float, ...], ...] = ()
    wall: float = 0.0
    posture: tuple[tuple[float, ...], ...] = ()
    rotation: tuple[float, float, float] = (0.0, 0.0, 0.0)
    shift: tuple[float, float, float] = (0.0, 0.0, 0.0)
    bottom: float = -72.0
    waves: tuple[tuple[float, ...], ...] = ()
    curve: float = 0.0
    sulcus: float = 0.0

    # The lung is stretched between these heights; how softly the stretch begins and ends (mm).
    TOP, SOFT = 112.0, 14.0
    # The curve gives way where it would squeeze the base by more than this in expiration, stretch it in inspiration.
    MOST_SQUEEZED, MOST_STRETCHED = 0.54, 0.65

    def scaled(self, factor: float) -> "Motion":
        """The same motion with `factor` times the breathing; posture and table are kept."""
        bumps = tuple((*b[:5], b[5] * factor) for b in self.bumps)
        waves = tuple((*w[:5], w[5] * factor) for w in self.waves)
        widen = (self.widen[0] * factor, self.widen[1] * factor)
        return replace(self, depth=self.depth * factor, widen=widen, bumps=bumps, waves=waves, wall=self.wall * factor)

    @property
    def is_identity(self) -> bool:
        """Whether nothing moves at all."""
        return self == Motion(thorax=self.thorax, bottom=self.bottom, curve=self.curve, sulcus=self.sulcus)

    @cached_property
    def ventilation(self) -> Ventilation:
        """The uneven ventilation, which acts on the baseline before everything else."""
        return Ventilation(self.waves, (self.thorax.width, self.thorax.depth))

    def forward(self, points: np.ndarray) -> np.ndarray:
        """Where baseline points (N, 3) lie at the visit."""
        x, y, z = np.asarray(points, np.float64).T
        return np.stack(self.forward_coordinates((x, y, z))[0], axis=-1)

    def inverse(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 3) of the visit lay at the baseline."""
        x, y, z = np.asarray(points, np.float64).T
        return np.stack(self.inverse_coordinates((x, y, z))[0], axis=-1)

    def jacobian(self, points: np.ndarray) -> np.ndarray:
        """The Jacobian determinant of `forward` at baseline points (N, 3); (N,)."""
        x, y, z = np.asarray(points, np.float64).T
        return self.forward_coordinates((x, y, z))[1]

    def forward_coordinates(self, coordinates: Coordinates) -> tuple[Coordinates, np.ndarray]:
        """The visit's coordinates of baseline coordinates, and the Jacobian determinant there."""
        x, y, z = coordinates
        if self.is_identity:  # without rounding errors
            return coordinates, np.ones_like(x)
        xi, eta = self.thorax.to_chart(x, y, z)
        inside = self.thorax.wall_level(xi, eta) < 0
        (xi, eta, aired), ventilated = self._ventilate(self.ventilation.forward, (xi, eta, z), inside)
        lift, slope = self._lift(self._law(xi, eta, inside), aired)
        moved = aired + lift
        jacobian = self._area_ratio(z, moved) * ventilated * (1.0 + slope)
        x, y = self.thorax.from_chart(xi, eta, moved, self.widen)
        return self._to_table(self._shear((x, y, moved), +1)), jacobian

    def inverse_coordinates(self, coordinates: Coordinates) -> tuple[Coordinates, np.ndarray, np.ndarray]:
        """The baseline's coordinates of a visit's coordinates, the Jacobian of the forward map there, and whether the
        point lies inside the chest wall (where the lungs' motion holds)."""
        x, y, moved = self._shear(self._from_table(coordinates), -1)
        xi, eta = self.thorax.to_chart(x, y, moved, self.widen)
        inside = self.thorax.wall_level(xi, eta) < 0
        z = moved.copy()
        slope = 0.0
        law = self._law(xi, eta, inside)
        for _ in range(12):  # Newton's method: mostly five steps
            lift, slope = self._lift(law, z)
            error = z + lift - moved
            z = z - error / (1.0 + slope)
            if np.abs(error).max(initial=0.0) < 2e-4:
                break
        (xi, eta, z), ventilated = self._ventilate(self.ventilation.inverse, (xi, eta, z), inside)
        jacobian = self._area_ratio(z, moved) * ventilated * (1.0 + slope)
        x, y = self.thorax.from_chart(xi, eta, z)
        return (x, y, z), jacobian, inside

    def _area_ratio(self, z: np.ndarray, moved: np.ndarray) -> np.ndarray:
        """How much the cross-section that goes with the tissue changes when it moves from z to `moved`."""
        a, b = self.thorax.half_axes(z)
        a_moved, b_moved = self.thorax.half_axes(moved, self.widen)
        return (a_moved * b_moved) / (a * b)

    def _ventilate(self, ventilate, chart: Coordinates, inside: np.ndarray) -> tuple[Coordinates, np.ndarray]:
        """Apply one direction of the ventilation to what lies inside the chest wall; the chart and the determinant."""
        determinant = np.ones_like(chart[2])
        if not self.waves or not inside.any():
            return chart, determinant
        moved = tuple(c.copy() for c in chart)
        within, determinant[inside] = ventilate(tuple(c[inside] for c in chart))
        for c, value in zip(moved, within, strict=True):
            c[inside] = value
        return moved, determinant

    @cached_property
    def _bend(self) -> float:
        """The curve that the breath's depth allows."""
        if self.depth == 0.0 or self.curve == 0.0:
            return 0.0
        most = self.MOST_SQUEEZED if self.depth > 0 else self.MOST_STRETCHED
        return float(np.clip(most * (self.TOP - self.bottom) / abs(self.depth) - 1.0, 0.0, self.curve))

    def _law(self, xi, eta, inside) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """What the rise of the tissue at chart coordinates depends on but for its height: the rise (mm) of the base,
        the height (mm) where the stretch ends, and the weight (mm) of each bump."""
        across, front, side = self.pattern
        heart = -0.28 / (1.0 + ((xi - 0.12) / 0.35) ** 2 + ((eta + 0.35) / 0.5) ** 2) ** 2
        inner = self.depth * (0.92 + (0.22 + front) * eta + across * (xi * xi - 0.4) + side * xi + heart)
        share = np.where(inside, inner, self.wall * (0.5 - 0.5 * eta))
        rim = ((eta + 0.15) * (1 / 0.7)) ** 2 + ((xi * xi - 0.2) * (1 / 0.45)) ** 2
        bottom = self.bottom - self.sulcus * rim / (1.0 + rim)
        weights = []
        for bump_xi, bump_eta, _, radius, _, amplitude in self.bumps:
            weight = 1.0 + ((xi - bump_xi) ** 2 + (eta - bump_eta) ** 2) / radius**2
            weights.append(np.where(inside, amplitude / (weight * weight), 0.0))
        return share, bottom, weights

    def _lift(self, law, z) -> tuple[np.ndarray, np.ndarray]:
        """The rise of the tissue at height z (mm) by a law of :meth:`_law`, and its derivative along z."""
        share, bottom, weights = law
        low, low_slope = _ramp((self.TOP - z) / self.SOFT)
        high, high_slope = _ramp((bottom - z) / self.SOFT)
        reach = 1.0 / (self.TOP - bottom)
        profile, slope = (low - high) * (self.SOFT * reach), (high_slope - low_slope) * reach
        # The motion grows towards the base.
        slope = slope * (1.0 + self._bend * (2.0 * profile - 1.0))
        profile = profile + self._bend * profile * (profile - 1.0)
        lift, slope = share * profile, share * slope
        for weight, (_, _, bump_z, _, height, _) in zip(weights, self.bumps, strict=True):
            t = (z - bump_z) / height
            root = np.sqrt(1.0 + t * t)
            lift = lift + weight * (t / root - 1.0)
            slope = slope + weight / (height * root**3)
        return lift, slope

    def _shear(self, coordinates: Coordinates, sign: int) -> Coordinates:
        """Apply the posture's shears in order, or undo them in the reverse order (`sign` -1)."""
        moved = list(coordinates)
        for axis, first, second, wave_a, wave_b, phase, amplitude in self.posture[::sign]:
            wave = np.sin(moved[int(first)] * wave_a + moved[int(second)] * wave_b + phase)
            moved[int(axis)] = moved[int(axis)] + (sign * amplitude) * wave
        return tuple(moved)

    @property
    def rotation_matrix(self) -> np.ndarray:
        """(3, 3) rotation of the patient on the table."""
        x, y, z = np.radians(self.rotation)
        rx = np.array([[1, 0, 0], [0, np.cos(x), -np.sin(x)], [0, np.sin(x), np.cos(x)]])
        ry = np.array([[np.cos(y), 0, np.sin(y)], [0, 1, 0], [-np.sin(y), 0, np.cos(y)]])
        rz = np.array([[np.cos(z), -np.sin(z), 0], [np.sin(z), np.cos(z), 0], [0, 0, 1]])
        return rz @ ry @ rx

    def table_coordinates(self, coordinates: Coordinates) -> Coordinates:
        """The table's coordinates of a visit's coordinates; the patient lies still on the table."""
        return self._from_table(coordinates)

    def _to_table(self, coordinates: Coordinates) -> Coordinates:
        return _affine(coordinates, self.rotation_matrix, self.shift)

    def _from_table(self, coordinates: Coordinates) -> Coordinates:
        inverse = self.rotation_matrix.T
        return _affine(coordinates, inverse, tuple(-inverse @ np.array(self.shift)))


def _affine(coordinates: Coordinates, matrix: np.ndarray, shift: tuple[float, float, float]) -> Coordinates:
    # Plain Python numbers keep float32 arrays float32.
    x, y, z = coordinates
    m = matrix.tolist()
    return tuple(m[i][0] * x + m[i][1] * y + m[i][2] * z + float(shift[i]) for i in range(3))


def _step(t: np.ndarray) -> np.ndarray:
    """A smooth step from 0 to 1 without costly functions."""
    return 0.5 + 0.5 * t / np.sqrt(1.0 + t * t)


def _ramp(t: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A smooth ramp, 0 for negative t and t for positive t, and its derivative."""
    root = np.sqrt(t * t + 1.0)
    return 0.5 * (t + root), 0.5 + 0.5 * t / root


# Root mean square (mm) of the uneven ventilation's moves along x, y, z for a breath of 50 mm.
UNEVEN = np.array([5.5, 5.5, 5.5])


def random_motion(
    rng: np.random.Generator,
    thorax: Thorax,
    depth: float,
    table_mm: float = 6.0,
    table_degrees: float = 1.0,
    heterogeneity: float = 1.0,
    bottom: float = -72.0,
    posture_mm: float = 1.0,
) -> Motion:
    """A plausible motion: the diaphragm rises by `depth` mm, the table differs by about `table_mm` and `table_degrees`.

    `heterogeneity` scales how unevenly the lung's parts expand, `posture_mm` how much the patient lies differently.
    """
    # A stream of its own, so that it leaves what is drawn from `rng` afterwards as it was.
    uneven = rng.spawn(1)[0]
    relative = depth / 50.0
    pattern = tuple((rng.uniform(-1, 1, 3) * (0.10, 0.06, 0.05)).tolist())
    bumps = []
    for _ in range(6):
        place = (rng.uniform(-0.75, 0.75), rng.uniform(-0.6, 0.6), rng.uniform(-70, 90))
        amplitude = heterogeneity * rng.uniform(-1, 1) * (0.4 + 3.2 * abs(relative))
        bumps.append((*place, rng.uniform(0.25, 0.45), rng.uniform(25, 40), amplitude))
    posture = []
    for axis, first, second in ((0, 1, 2), (1, 0, 2), (2, 0, 1), (0, 2, 1), (1, 2, 0)):
        waves = 2 * np.pi / rng.uniform(140, 320, 2) * rng.choice((-1, 1), 2)
        posture.append((axis, first, second, *waves.tolist(), rng.uniform(0, 6.3), posture_mm * rng.uniform(0.3, 2.0)))
    return Motion(
        thorax=thorax,
        depth=depth,
        widen=(-0.030 * relative * rng.uniform(0.6, 1.3), -0.055 * relative * rng.uniform(0.6, 1.3)),
        pattern=pattern,
        bumps=tuple(bumps),
        wall=-8.0 * relative * rng.uniform(0.6, 1.2),
        posture=tuple(posture),
        waves=random_waves(
            uneven,
            tuple(
                heterogeneity
                * uneven.uniform(0.85, 1.15, 3)
                * (0.2 + UNEVEN * abs(relative) * (0.6 + 0.4 * abs(relative)))
            ),
        ),
        curve=float(uneven.uniform(0.6, 0.85)),
        sulcus=float(uneven.uniform(25.0, 45.0)),
        rotation=tuple((rng.normal(0, 1, 3).clip(-2, 2) * table_degrees).tolist()),
        bottom=bottom,
        shift=tuple((rng.normal(0, 1, 3).clip(-1.8, 1.8) * table_mm * np.array([0.8, 0.5, 1.2])).tolist()),
    )
