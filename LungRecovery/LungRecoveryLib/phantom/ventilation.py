"""Uneven ventilation: the lung's parts expand, shrink and turn differently from their neighbours.

The map acts in the thorax's chart (xi, eta, z), on what lies inside the chest wall, and is a sequence of moves along
one axis each: c' = c + f(xi, eta, z), where f is a window times a sum of plane waves. Waves along a move's own axis
expand and shrink the tissue, waves across it turn it (swirls). Moves along xi and eta die out at the chest wall, so
that the lungs keep its shape; moves along z slide along it. As f's derivative along its own axis stays above -1, every
move is a diffeomorphism with a one-dimensional inverse (Newton's method), and the determinant in the chart is the
product of the moves' 1 + df/dc.
"""

from functools import cache

import numpy as np

Chart = tuple[np.ndarray, np.ndarray, np.ndarray]
Wave = tuple[float, ...]

# The steepest that a move may change along its own axis, so that it can never fold whatever its waves are.
STEEPEST = 0.65
# The amplitude of the wave along the axis, as a share of the others' root mean square.
ALONG = 0.4
# Where the windows end: just inside the chest wall and just before the spine, at any height within the chest.
_RIM, _SPINE, _SOFT, _SPINE_SOFT = 0.97, 1.2, 0.45, 2.5
_NOTCH = (0.235, 0.42)
_MIDDLE, _HEIGHT = -20.0, 125.0


class Ventilation:
    """The map of `waves`, rows (axis, kx, ky, kz, phase, amplitude) with wave numbers in rad/mm and amplitudes in mm.

    `half` (mm) are the half widths by which lengths along xi and eta are counted. Amplitudes are lowered together where
    the waves of an axis could add up to a slope beyond STEEPEST.
    """

    def __init__(self, waves: tuple[Wave, ...], half: tuple[float, float]):
        unit = (*half, 1.0)
        self._moves: list[tuple[int, list[Wave]]] = []
        for axis in range(3):
            rows = [
                (*(row[1 + i] * unit[i] for i in range(3)), row[4], row[5] / unit[axis])
                for row in waves
                if int(row[0]) == axis and row[5] != 0.0
            ]
            if rows:
                steep = sum(abs(row[4]) * (abs(row[axis]) + _steepest_window(axis)) for row in rows)
                factor = min(1.0, STEEPEST / steep)
                self._moves.append((axis, [(*row[:4], row[4] * factor) for row in rows]))

    def forward(self, chart: Chart) -> tuple[Chart, np.ndarray | float]:
        """Where points (xi, eta, z) go, and the determinant of the map there."""
        point, determinant = list(chart), 1.0
        for axis, rows in self._moves:
            step, slope = _move(axis, rows, point)
            point[axis] = point[axis] + step
            determinant = determinant * (1.0 + slope)
        return tuple(point), determinant

    def inverse(self, chart: Chart) -> tuple[Chart, np.ndarray | float]:
        """Where moved points (xi, eta, z) came from, and the determinant of the forward map there."""
        point, determinant = list(chart), 1.0
        for axis, rows in reversed(self._moves):
            moved = point[axis]
            tolerance = 2e-4 if axis == 2 else 2e-6
            for _ in range(12):
                step, slope = _move(axis, rows, point)
                error = point[axis] + step - moved
                point[axis] = point[axis] - error / (1.0 + slope)
                if np.abs(error).max(initial=0.0) < tolerance:
                    break
            determinant = determinant * (1.0 + slope)
        return tuple(point), determinant


def _move(axis: int, rows: list[Wave], point: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """The move along an axis at points, and its derivative along that axis."""
    value, slope = 0.0, 0.0
    for kx, ky, kz, phase, amplitude in rows:
        angle = kx * point[0] + ky * point[1] + (kz * point[2] + phase)
        value = value + amplitude * np.sin(angle)
        own = (kx, ky, kz)[axis] * amplitude
        slope = slope + own * np.cos(angle)
    window, window_slope = _height_window(point[2]) if axis == 2 else _wall_window(axis, point)
    return window * value, window_slope * value + window * slope


def _height_window(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """1 in the middle of the chest, falling to 0 in neck and abdomen, and its derivative along z."""
    t = (z - _MIDDLE) * (1.0 / _HEIGHT)
    t2 = t * t
    t7 = t2 * t2 * t2 * t
    window = 1.0 / (1.0 + t7 * t)
    return window, (-8.0 / _HEIGHT) * t7 * window * window


def _wall_window(axis: int, point: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """0 at the chest wall, near 1 deep in the chest, and its derivative along xi (axis 0) or eta (axis 1)."""
    xi, eta, z = point
    back = eta - 1.0
    rim = np.maximum(_RIM - xi * xi - eta * eta, 0.0)
    notch = np.maximum((xi * (1 / _NOTCH[0])) ** 2 + (back * (1 / _NOTCH[1])) ** 2 - _SPINE, 0.0)
    outer, outer_slope = _rise(rim, _SOFT)
    inner, inner_slope = _rise(notch, _SPINE_SOFT)
    rim_slope = -2.0 * (xi, eta)[axis]
    notch_slope = (2.0 / _NOTCH[axis] ** 2) * (xi, back)[axis]
    height = _height_window(z)[0]
    return height * outer * inner, height * (outer_slope * rim_slope * inner + outer * inner_slope * notch_slope)


def _rise(t: np.ndarray, soft: float) -> tuple[np.ndarray, np.ndarray]:
    """A smooth rise from 0 at t = 0 to 1, half way at `soft`, and its derivative."""
    square = t * t
    under = 1.0 / (square + soft * soft)
    return square * under, (2.0 * soft * soft) * t * under * under


@cache
def _steepest_window(axis: int) -> float:
    """The largest slope of an axis' window along that axis, per unit of the chart."""
    if axis == 2:
        return float(np.abs(_height_window(np.linspace(-400.0, 400.0, 4001))[1]).max())
    eta, xi = np.meshgrid(np.linspace(-1, 1, 401), np.linspace(-1, 1, 401), indexing="ij")
    return float(np.abs(_wall_window(axis, [xi, eta, np.full_like(xi, _MIDDLE)])[1]).max())


def random_waves(
    rng: np.random.Generator, amplitude_mm: tuple[float, float, float], count: int = 3
) -> tuple[Wave, ...]:
    """Waves for :class:`Ventilation`: `count` for each axis, 110 to 230 mm long, mostly across the axis they move.

    `amplitude_mm` is the root mean square of the moves along x, y and z in mm, before the windows.
    """
    waves = []
    for axis in range(3):
        share = rng.uniform(0.6, 1.0, count)
        share *= np.sqrt(2.0) * amplitude_mm[axis] / np.linalg.norm(share)
        for amplitude in share:
            direction = rng.normal(0, 1, 3) * np.where(np.arange(3) == axis, 0.6, 1.0)
            direction *= 2 * np.pi / rng.uniform(110, 230) / np.linalg.norm(direction)
            waves.append((axis, *direction.tolist(), rng.uniform(0, 2 * np.pi), float(amplitude)))
        direction = rng.normal(0, 1, 3) * np.where(np.arange(3) == axis, 3.0, 1.0)
        direction *= 2 * np.pi / rng.uniform(80, 110) / np.linalg.norm(direction)
        waves.append((axis, *direction.tolist(), rng.uniform(0, 2 * np.pi), float(ALONG * amplitude_mm[axis])))
    return tuple(waves)
