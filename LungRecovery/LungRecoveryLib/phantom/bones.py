"""The skeleton of the chest: ribs and their cartilage, sternum, spine, scapulae and clavicles."""

import numpy as np

from .lattice import Space

# Distance between ribs, and between vertebrae (mm).
STEP = 24.0


def bones(space: Space) -> np.ndarray:
    """Distance to all bones."""
    parts = (_ribs(space), _sternum(space), _spine(space), _scapulae(space), _clavicles(space))
    return np.minimum.reduce(parts)


def cartilage(space: Space) -> np.ndarray:
    """Distance to the cartilage that joins the ribs to the sternum."""
    bands = _bands(space, 6.0, 5.8, 3.8) * 4.4
    return np.maximum(bands, np.maximum((0.83 - space.front) * 150.0, np.abs(space.z - 10.0) - 75.0))


def discs(space: Space) -> np.ndarray:
    """Distance to the discs between the vertebral bodies."""
    return np.maximum(_column(space), _from_disc(space) - 3.0)


def canal(space: Space) -> np.ndarray:
    """Distance to the spinal canal."""
    return np.sqrt(space.x**2 + (space.y - space.spine - 39.5) ** 2) - 8.5


def _rib_number(space: Space) -> np.ndarray:
    """A number that is whole on every rib; the ribs fall towards the front."""
    return (space.z + 96.0 * space.front**1.1 + space.build.rib_phase) / STEP


def _bands(space: Space, half_height: float, middle: float, half_thickness: float) -> np.ndarray:
    """Below 0 in the bands of elliptical section that run around the chest as the ribs do (no unit)."""
    number = _rib_number(space)
    along = (number - np.rint(number)) * STEP * 0.82
    return np.sqrt((along / half_height) ** 2 + ((space.envelope - middle) / half_thickness) ** 2) - 1.0


def _ribs(space: Space) -> np.ndarray:
    ribs = np.maximum(_bands(space, 5.6, 5.6, 3.3) * 4.0, (space.front - 0.84) * 150.0)
    height = np.rint(_rib_number(space)) * STEP - space.build.rib_phase
    return np.maximum(ribs, np.maximum(14.0 - np.abs(space.x), np.abs(height + 2.0) - 130.0))


def _sternum(space: Space) -> np.ndarray:
    plate = np.maximum(np.abs(space.x) - 16.0, np.abs(space.envelope - 6.5) - 4.5)
    return np.maximum(np.maximum(plate, np.abs(space.z - 22.0) - 56.0), space.eta)


def _column(space: Space) -> np.ndarray:
    """Distance to the column of vertebral bodies and discs."""
    back = space.y - space.spine
    return (np.sqrt((space.x / 18.0) ** 2 + ((back - 17.0) / 15.0) ** 2) - 1.0) * 15.5


def _from_disc(space: Space) -> np.ndarray:
    """Vertical distance to the middle of the nearest disc."""
    level = (space.z + space.build.rib_phase + 0.5 * STEP) / STEP
    return np.abs(level - np.rint(level)) * STEP


def _spine(space: Space) -> np.ndarray:
    x, back, disc, hollow = space.x, space.y - space.spine, _from_disc(space), canal(space)
    body = np.maximum(_column(space), 3.0 - disc)
    arch = np.maximum(hollow - 5.0, -hollow)
    middle = 0.5 * STEP - disc  # the processes stand at the middle of each vertebra
    across = np.maximum(np.maximum(np.abs(x) - 33.0, np.abs(back - 44.0 - 0.25 * np.abs(x)) - 4.5), middle - 6.0)
    spinous = np.maximum(np.maximum(np.abs(x) - 3.4, np.abs(back - 61.0) - 14.0), middle - 8.0)
    return np.minimum.reduce((body, arch, np.maximum(across, -hollow), spinous))


def _scapulae(space: Space) -> np.ndarray:
    z = space.z
    plate = np.maximum(np.abs(space.envelope - 21.0 - 2.0 * np.sin(z / 14.0)) - 1.7, np.abs(z - 66.0) - 48.0)
    blade = np.abs(space.eta - 0.45) - 0.34 - (z - 66.0) * 0.002
    return np.maximum(plate, np.maximum(blade * 60.0, (0.45 - np.abs(space.xi)) * 60.0))


def _clavicles(space: Space) -> np.ndarray:
    sides = [[(s * 16, -52, 88), (s * 60, -52, 104), (s * 110, -30, 128), (s * 150, -16, 150)] for s in (-1, 1)]
    return np.minimum(*(space.tube(points, 5.5) for points in sides))
