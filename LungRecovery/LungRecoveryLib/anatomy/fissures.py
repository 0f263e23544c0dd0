"""A fissure as a surface: where the plates of a CT line up to a sheet that no vessel crosses.

A fissure is a bright plate thinner than a voxel: of the Hessian's eigenvalues one is strongly negative, the two others
are small. It is looked for as a height over a plane that roughly follows it: of all smooth height maps the one along
which plates are brightest and vessels fewest (semi-global matching, Hirschmueller 2008). A second look starts from the
smooth surface through what the first look saw; of several starts the one counts whose surface is seen best. How far the
result can be trusted is measured, not assumed: on every piece of the surface the CT must be brighter than on both sides
of it.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import Grid, grid_of, resample, resample_mask, to_array, to_image
from .tubes import eigenvalues, without_border

_SPACING_MM = 1.5
_MARGIN_MM = 6.0
_SMOOTH_VOXELS = 1.0  # before the plates are looked for
_PLATE_HU = 20.0  # curvature of a clear plate
_VESSEL_HU = 350.0  # above the lung: brighter is cut, so that vessels do not outshine plates
_SURFACE_VOXELS = 2  # of the lung left out: its own surface looks like a plate
_CROWD_MM, _CROWD_SHARE = 3.0, 0.10
_PLAIN, _VESSEL, _CROWD, _OUTSIDE = 1.0, 0.5, 0.7, 0.95  # what a voxel without a plate costs
_FAR, _FIRST_MM, _SECOND_MM, _MOST = 0.3, 45.0, 12.0, 4.0  # what distance from the expected surface costs
_STEPS = ((1, 0.3), (2, 0.9))  # (voxels up or down from column to column, cost)
_SMOOTH_COLUMNS = 2.0
_SIDE_VOXELS = 2  # on either side of a fissure, where the lung is dark again
_PATCH = 9
_VISIBLE_HU = 8.0
# Disease moves a fissure: where too little of it is seen, it is looked for higher and lower by such shares of the lung.
_CLEAR, _STARTS = 0.7, (0.0, 0.15, -0.15)
_LEAST_SEEN = 60  # columns for a smooth surface to be laid through


@dataclass(frozen=True)
class Course:
    """Roughly how a fissure runs: the LPS `normal` of its plane, towards the upper of the two lobes, and the share of
    the lung (or of the part that it divides) that lies `below` it."""

    normal: tuple[float, float, float]
    below: float


@dataclass(frozen=True)
class Sheet:
    """A found fissure: `height` (v, u) in voxels along the third axis of `grid` (u, v, normal), the share of it inside
    the lung that is `visible` in the CT (0 to 1)."""

    grid: Grid
    height: np.ndarray
    visible: float

    def above(self, where: Grid) -> np.ndarray:
        """How far in mm the voxel centres of a grid lie above the surface (below: negative), (z, y, x) float32."""
        steps = np.arange(self.grid.size[2], dtype=np.float32)[:, None, None]
        distance = (steps - self.height[None].astype(np.float32)) * np.float32(self.grid.spacing[2])
        return to_array(resample(to_image(distance, self.grid), where, outside=0.0))


def find_sheet(ct: sitk.Image, lung: sitk.Image, vessels: sitk.Image, course: Course) -> Sheet:
    """The surface along a course that most likely is the fissure; :attr:`Sheet.visible` says whether it is one.

    `ct` in HU, `lung` (0/1, some voxel 1: the lung or the part of it that the fissure divides) and `vessels` (0/1) on
    one grid.
    """
    inside = sitk.GetArrayViewFromImage(lung) > 0
    grid = _along(course.normal, grid_of(lung), inside)
    within = to_array(resample_mask(lung, grid)) > 0
    blood = to_array(resample(sitk.Cast(vessels, sitk.sitkFloat32), grid, outside=0.0))
    hu = to_array(resample(ct, grid), np.float32)
    usual = float(np.median(hu[within]))
    hu = np.where(within, np.clip(hu, -1000.0, usual + _VESSEL_HU), usual).astype(np.float32)
    core = without_border(ndimage.binary_erosion(within, iterations=_SURFACE_VOXELS))
    cost = _cost(_plates(hu, core), core, blood)
    best = None
    for shift in _STARTS:
        level = np.searchsorted(np.cumsum(within.sum(axis=(1, 2))), (course.below + shift) * within.sum())
        sheet = Sheet(grid, *_from(float(level), cost, hu, core))
        if best is None or sheet.visible > best.visible:
            best = sheet
        if best.visible >= _CLEAR:
            break
    return best


def _from(level: float, cost: np.ndarray, hu: np.ndarray, core: np.ndarray) -> tuple[np.ndarray, float]:
    """The surface (v, u) that is looked for about a level of the first axis, in voxels, and its visible share."""
    expected = np.full(hu.shape[1:], level)
    height = _surface(cost, expected, _FIRST_MM / _SPACING_MM)
    seen = _seen(hu, core, height)
    if np.count_nonzero(seen) >= _LEAST_SEEN:
        height = _surface(cost, _smooth_through(height, seen, expected), _SECOND_MM / _SPACING_MM)
        seen = _seen(hu, core, height)
    return height, float(np.count_nonzero(seen) / max(np.count_nonzero(_at(core, height)), 1))


def _along(normal: tuple[float, float, float], lungs: Grid, inside: np.ndarray) -> Grid:
    """The cubic grid around a mask whose third axis is the normal and whose first lies across the patient."""
    third = np.array(normal) / np.linalg.norm(normal)
    first = np.array([1.0, 0.0, 0.0]) - third[0] * third
    first /= np.linalg.norm(first)
    axes = np.stack([first, np.cross(third, first), third], axis=1)
    surface = np.argwhere(inside & ~ndimage.binary_erosion(inside))
    along = lungs.points(surface[:, ::-1]) @ axes
    low, high = along.min(axis=0) - _MARGIN_MM, along.max(axis=0) + _MARGIN_MM
    size = np.ceil((high - low) / _SPACING_MM).astype(int) + 1
    origin = axes @ low
    return Grid(tuple(size.tolist()), (_SPACING_MM,) * 3, tuple(origin.tolist()), tuple(axes.ravel().tolist()))


def _plates(hu: np.ndarray, core: np.ndarray) -> np.ndarray:
    """How much of a bright plate across the first axis every voxel is, (n, v, u) float32 in HU of curvature.

    The plate's normal is the eigenvector of the most negative eigenvalue; its component along the axis comes from the
    eigenvalues of the minor (Denton et al. 2022), so that no eigenvector is computed.
    """
    at = np.flatnonzero(core)
    smooth = ndimage.gaussian_filter(hu, _SMOOTH_VOXELS, truncate=3.0).ravel()
    strides = np.array(hu.strides) // hu.itemsize
    here = smooth[at]
    second = np.array([smooth[at + a] + smooth[at - a] - 2 * here for a in strides], np.float64)
    mixed = np.array(
        [
            (smooth[at + a + b] + smooth[at - a - b] - smooth[at + a - b] - smooth[at - a + b]) / 4
            for a, b in zip(strides, np.roll(strides, -1), strict=True)
        ],
        np.float64,
    )
    first, middle, last = eigenvalues(second, mixed) * _SMOOTH_VOXELS**2
    second, mixed = second * _SMOOTH_VOXELS**2, mixed * _SMOOTH_VOXELS**2
    plate = np.clip(-last - np.maximum(np.abs(first), np.abs(middle)), 0.0, None)
    minor = (last - second[1]) * (last - second[2]) - mixed[1] ** 2
    aligned = np.clip(minor / np.maximum((last - first) * (last - middle), 1e-6), 0.0, 1.0)
    plates = np.zeros(hu.shape, np.float32)
    plates.flat[at] = plate * aligned**2
    return plates


def _cost(plates: np.ndarray, core: np.ndarray, blood: np.ndarray) -> np.ndarray:
    """What the surface pays for every voxel that it runs through: nothing on a plate, most where vessels crowd."""
    sigma = _CROWD_MM / _SPACING_MM
    crowd = np.minimum(ndimage.gaussian_filter(blood, sigma, truncate=2.5) / _CROWD_SHARE, 1.0)
    inside = _PLAIN - np.minimum(plates / _PLATE_HU, 1.5 * _PLAIN) + _VESSEL * blood + _CROWD * crowd
    return np.where(core, inside, _OUTSIDE).astype(np.float32)


def _surface(cost: np.ndarray, expected: np.ndarray, within: float) -> np.ndarray:
    """The height (v, u) of the cheapest smooth surface near the expected height (v, u), all in voxels."""
    away = (np.arange(cost.shape[0], dtype=np.float32)[:, None, None] - expected[None]) / within
    total = _matched(cost + (_FAR * np.minimum(away**2, _MOST)).astype(np.float32))
    height = total.argmin(axis=0)
    gain = np.clip(_PLAIN - np.take_along_axis(cost, height[None], axis=0)[0], 0.0, None) + 0.02
    weight = ndimage.gaussian_filter(gain, _SMOOTH_COLUMNS)
    return ndimage.gaussian_filter(height * gain, _SMOOTH_COLUMNS) / weight


def _matched(cost: np.ndarray) -> np.ndarray:
    """Costs (n, v, u) added up along the cheapest paths that reach each voxel from four sides of the plane."""
    total = np.zeros_like(cost)
    for axis in (1, 2):
        columns, sums = np.moveaxis(cost, axis, 0), np.moveaxis(total, axis, 0)
        for order in (range(len(columns)), range(len(columns) - 1, -1, -1)):
            path = np.zeros_like(columns[0])
            for i in order:
                best = path.copy()
                for step, price in _STEPS:
                    np.minimum(best[step:], path[:-step] + price, out=best[step:])
                    np.minimum(best[:-step], path[step:] + price, out=best[:-step])
                path = columns[i] + best - path.min(axis=0)
                sums[i] += path
    return total


def _smooth_through(height: np.ndarray, seen: np.ndarray, expected: np.ndarray) -> np.ndarray:
    """The surface of second order through the heights that were seen; far from them it goes back to a plane."""
    v, u = (c / max(height.shape) - 0.5 for c in np.mgrid[: height.shape[0], : height.shape[1]])
    terms = np.stack([np.ones_like(u), u, v, u * u, u * v, v * v], axis=-1)
    known, wanted = terms[seen], height[seen] - expected[seen]
    weight = np.ones(len(wanted))
    for _ in range(5):  # a vessel's wall that was taken for a plate must not bend the surface
        weighted = known * weight[:, None]
        ridge = np.diag([0.0, 0.02, 0.02, 0.1, 0.1, 0.1]) * weight.sum() * 0.02
        solution = np.linalg.solve(known.T @ weighted + ridge, weighted.T @ wanted)
        weight = 1.0 / (1.0 + ((known @ solution - wanted) / 3.0) ** 2)
    return expected + terms @ solution


def _at(volume: np.ndarray, height: np.ndarray, offset: float = 0.0) -> np.ndarray:
    """A volume's values (v, u) at a height above its first axis, or beside it; interpolated unless they are bool."""
    v, u = np.mgrid[: height.shape[0], : height.shape[1]]
    linear = volume.dtype != bool
    return ndimage.map_coordinates(volume, [height + offset, v, u], order=int(linear), mode="nearest")


def _seen(hu: np.ndarray, core: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Where the surface is visible, (v, u) bool: inside the lung, and brighter than the lung on both sides of it.

    The median over a patch decides: vessels that touch the surface are few and do not make a plate.
    """
    crossed = _at(core, height)
    sides = 0.5 * (_at(hu, height, _SIDE_VOXELS) + _at(hu, height, -_SIDE_VOXELS))
    contrast = np.where(crossed, _at(hu, height) - sides, 0.0).astype(np.float32)
    return crossed & (ndimage.median_filter(contrast, _PATCH) > _VISIBLE_HU)
