"""Soft tissue: the chest wall's muscles and fat, the mediastinum, and the organs below the diaphragm."""

import numpy as np

from .bones import canal, cartilage, discs
from .lattice import Space, smooth_max

# HU without contrast medium.
FAT, MUSCLE, BLOOD, SKIN = -98.0, 52.0, 42.0, 15.0
LIVER, SPLEEN, FLUID, CARTILAGE, DISC, CORD = 58.0, 48.0, 8.0, 105.0, 85.0, 25.0


def soft_tissue(space: Space, central: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Distances to the skin, to everything denser than fat and to the gas in the belly, and the dense tissue's HU.

    `central` is the distance to the heart and the great vessels.
    """
    muscle, fat = _chest_wall(space)
    skin = space.envelope - (10.0 + muscle + fat)
    belly = np.maximum(space.wall + 3.0, space.under_dome + 3.0)
    stomach, gas = _stomach(space)
    organs = {
        LIVER: _liver(space),
        SPLEEN: np.minimum(_spleen_and_kidneys(space), _bowel(space, gas)),
        FLUID: stomach,
    }
    diaphragm = np.maximum(np.abs(space.under_dome + 1.6) - 1.6, space.wall)
    parts = {
        MUSCLE: np.minimum(_muscles(space, muscle), diaphragm),
        BLOOD: np.minimum(central, _nodes(space)),
        **{hu: np.maximum(distance, belly) for hu, distance in organs.items()},
        DISC: discs(space),
        CORD: canal(space),
        CARTILAGE: cartilage(space),
    }
    soft = np.full(space.x.shape, 1e3, np.float32)
    soft_hu = np.full(space.x.shape, MUSCLE, np.float32)
    for hu, distance in parts.items():
        closer = distance < soft
        soft_hu[closer] = hu
        soft[closer] = distance[closer]
    return skin, soft, gas, soft_hu


def _chest_wall(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """The thickness (mm) of the muscles over the ribs and of the fat under the skin."""
    angle = np.degrees(np.arctan2(space.eta, np.abs(space.xi)))  # -90 at the sternum, 0 at the side, 90 at the back
    upper = 1.0 / (1.0 + np.exp(-(space.z - 25.0) / 14.0))

    def around(middle: float, width: float) -> np.ndarray:
        return np.exp(-(((angle - middle) / width) ** 2))

    pectoral, serratus = 11.0 * around(-50, 20) * upper, 6.0 * around(5, 28)
    latissimus, erector = 15.0 * around(33, 20) * (0.3 + 0.7 * upper), 15.0 * around(74, 24)
    muscle = space.build.muscle / 8.0 * (4.0 + pectoral + serratus + latissimus + erector)
    # Where the rib cage narrows, the shoulders begin: the arms are raised.
    narrowed = space.build.thorax.width - space.a
    muscle = muscle + 0.80 * narrowed * (0.30 + around(0, 50))
    fat = space.build.fat * (0.8 + 0.9 * around(-62, 26) + 0.4 * around(20, 30)) + 0.10 * narrowed
    return muscle.astype(np.float32), fat.astype(np.float32)


def _muscles(space: Space, thickness: np.ndarray) -> np.ndarray:
    """Distance to the muscles from the ribs' inner side outwards."""
    x, y, z, depth = space.x, space.y, space.z, space.envelope
    muscles = np.maximum(depth - (10.0 + thickness), 0.2 - space.wall)
    # Fat between the layers: here thick, there missing.
    patches = np.sin(z / 23.0 + 2.0 * space.xi) + np.sin(x / 31.0 + z / 47.0) + 0.6 * np.sin(y / 19.0)
    plane = np.abs(depth - 10.0 - (0.45 + 0.08 * patches) * thickness) - np.clip(0.9 * patches, -1.0, 1.6)
    return np.maximum(muscles, np.where(thickness > 8.0, -plane, -9.0))


def _nodes(space: Space) -> np.ndarray:
    """Lymph nodes below the carina and beside the trachea."""
    below = space.ellipsoid((0.0, 10.0, space.raised(24.0)), (13.0, 12.0, 15.0))
    return np.minimum(below, space.ellipsoid((-14.0, 4.0, space.raised(58.0)), (7.0, 9.0, 16.0)))


def _liver(space: Space) -> np.ndarray:
    body = space.ellipsoid((-46.0, -12.0, space.build.dome[0] - 43.0), (86.0, 92.0, 74.0))
    return smooth_max(body, space.x - 40.0, 8.0)


def _spleen_and_kidneys(space: Space) -> np.ndarray:
    kidneys = [space.ellipsoid((s * 58.0, 44.0, -168.0), (26.0, 24.0, 48.0)) for s in (-1, 1)]
    return np.minimum(
        space.ellipsoid((82.0, 44.0, space.build.dome[1] - 42.0), (26.0, 34.0, 40.0)), np.minimum(*kidneys)
    )


def _stomach(space: Space) -> tuple[np.ndarray, np.ndarray]:
    """Distances to the stomach and to the gas in it and in the colon, which collects at the front."""
    left_dome = space.build.dome[1]
    stomach = space.ellipsoid((62.0, -24.0, left_dome - 40.0), (42.0, 52.0, 36.0))
    bubble = np.maximum(stomach + 5.0, space.y + 58.0 - 16.0 * space.build.gas)
    left_colon = space.ellipsoid((84.0, -18.0, left_dome - 88.0), (18.0, 30.0, 16.0)) + 4.0
    right_colon = space.ellipsoid((-70.0, -60.0, -150.0), (22.0, 16.0, 14.0))
    return stomach, np.minimum.reduce((bubble, left_colon, right_colon))


def _bowel(space: Space, gas: np.ndarray) -> np.ndarray:
    """Distance to the bowel: its loops, and a wall around its gas."""
    loops = np.sin(space.x / 11.0) + np.sin(space.y / 12.0 + 1.0) + np.sin(space.z / 13.0)
    loops = np.maximum((np.abs(loops) - 1.1) * 9.0, space.z - space.build.dome[1] + 66.0)
    return np.minimum(gas - 4.0, loops)
