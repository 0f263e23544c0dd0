"""What lies inside the chest: heart, great vessels, and the lungs between them, the wall and the diaphragm."""

import numpy as np

from .build import Build
from .lattice import Point, Space, as_distance, raised, smooth_max, smooth_min

RIGHT_UPPER, RIGHT_MIDDLE, RIGHT_LOWER, LEFT_UPPER, LEFT_LOWER = 1, 2, 3, 4, 5


def great_vessels(build: Build) -> dict[str, tuple[list[Point], float]]:
    """Centre lines and radii (mm) of the chest's great vessels and of the oesophagus, by name."""

    def before_spine(z: float, x: float, gap: float) -> Point:
        return x, float(build.thorax.spine_front(np.array(z))) - gap, z

    ascending = [(8, -26, 0), (-10, -28, 30), (-10, -22, 52), (2, -10, 68), (14, 8, 70), (23, 24, 58)]
    descending = [
        before_spine(30, 25, 8),
        before_spine(0, 24, 9),
        before_spine(-60, 18, 11),
        before_spine(-140, 8, 12),
        before_spine(-210, 6, 10),
    ]
    oesophagus = [before_spine(170, 4, 9), before_spine(60, 6, 9), before_spine(0, 4, 12), before_spine(-80, 10, 14)]
    vessels = {
        "ascending aorta and arch": ([*ascending, descending[0]], 13.0),
        "descending aorta": (descending, 11.0),
        "superior vena cava": ([(-26, -18, 96), (-25, -20, 60), (-24, -16, 16)], 8.5),
        "inferior vena cava": ([(-22, -4, -10), (-22, 6, -60), (-18, 16, -120), (-16, 16, -210)], 10.5),
        "pulmonary trunk": ([(16, -36, 8), (17, -22, 34), (14, -10, 38)], 12.5),
        "right pulmonary artery": ([(14, -10, 38), (-8, -2, 32), (-26, 8, 26)], 8.5),
        "left pulmonary artery": ([(14, -10, 38), (32, 8, 36)], 9.0),
        "left subclavian artery": ([(12, 6, 70), (16, 8, 110), (24, 4, 170)], 4.2),
        "brachiocephalic trunk": ([(2, -8, 68), (-10, -4, 100), (-22, -4, 170)], 5.0),
        "left carotid artery": ([(8, 0, 70), (8, 0, 110), (16, -8, 170)], 3.8),
        "left brachiocephalic vein": ([(-26, -18, 96), (-4, -24, 88), (22, -20, 108), (44, -16, 120)], 6.0),
        "oesophagus": (oesophagus, 6.0),
    }
    return {name: (raised(points, build.expired), radius) for name, (points, radius) in vessels.items()}


def heart(space: Space) -> np.ndarray:
    """Distance to the heart: ventricles, right atrium and left atrium."""
    ventricles = space.ellipsoid(space.build.heart, space.build.heart_radii)
    right_atrium = space.ellipsoid((-2.0, -22.0, space.raised(-2.0)), (34.0, 32.0, 40.0))
    left_atrium = space.ellipsoid((2.0, 6.0, space.raised(2.0)), (30.0, 18.0, 22.0))
    return smooth_min(smooth_min(ventricles, right_atrium, 8.0), left_atrium, 6.0)


def trunks(space: Space) -> np.ndarray:
    """Distance to the great vessels and the oesophagus."""
    result = np.full(space.x.shape, 1e3, np.float32)
    for points, radius in great_vessels(space.build).values():
        result = np.minimum(result, space.tube(points, radius))
    return result


def lungs(space: Space, heart_distance: np.ndarray, trunk_distance: np.ndarray) -> np.ndarray:
    """Distance to both lungs: what the chest wall, the mediastinum, the diaphragm and the apices leave."""
    eta = space.eta
    # The mediastinum is widest before the spine and thin where the lungs meet behind the sternum.
    half_width = 8.0 + 12.0 * np.exp(-(((eta - 0.22) / 0.42) ** 2)) - 3.5 / (1.0 + np.exp((eta + 0.5) / 0.08))
    middle = np.abs(space.x - 2.0) - half_width
    medial = smooth_min(smooth_min(middle, heart_distance - 3.5, 6.0), trunk_distance - 2.0, 4.0)
    side = np.where(space.x < 0, -1.0, 1.0).astype(np.float32)
    cap = ((space.x - side * 42.0) / 40.0) ** 2 + ((space.y - space.spine + 18.0) / 66.0) ** 2
    apex = as_distance(space.z - (space.build.apex - 24.0 * cap))
    result = smooth_max(space.wall + 1.2, -medial, 5.0)
    result = smooth_max(result, -space.under_dome, 2.5)
    return smooth_max(result, apex, 6.0)


def lobe_of(x: np.ndarray, y: np.ndarray, z: np.ndarray, expired: float) -> tuple[np.ndarray, np.ndarray]:
    """The lobe (1 to 5) of points inside the lungs, and the distance in mm to the nearest fissure.

    `expired` is how far (mm) the diaphragm stands above full inspiration at the baseline.
    """
    z = z - 0.45 * expired
    wave = 5.0 * np.sin(x / 26.0) + 3.0 * np.sin(y / 31.0 + 1.0)
    oblique = (z - 58.0 - 0.82 * (y - 60.0) - wave) / 1.30
    horizontal = z - 14.0 - 0.06 * y - 0.6 * wave
    right = x < 0
    lower = oblique < 0
    lobe = np.where(
        right,
        np.where(lower, RIGHT_LOWER, np.where(horizontal < 0, RIGHT_MIDDLE, RIGHT_UPPER)),
        np.where(lower, LEFT_LOWER, LEFT_UPPER),
    ).astype(np.uint8)
    distance = np.abs(oblique)
    minor = np.where(right & ~lower, np.abs(horizontal), 1e3)
    return lobe, np.minimum(distance, minor)
