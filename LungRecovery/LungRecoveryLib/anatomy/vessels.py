"""Pulmonary vessels: the bright tubes in a lung, told from ground glass, consolidation and nodules by their shape.

A tube is curved across in two directions and straight along the third, so of the eigenvalues of the Hessian of the
smoothed CT (|l1| <= |l2| <= |l3|) the two larger are strongly negative and the first is not (Sato 1998, Frangi 1998).
A plateau such as ground glass has curvature in one direction only, at its edge; a nodule has it in all three.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..distances import distance_to
from ..grids import (
    AIR_HU,
    Grid,
    crop,
    crop_to_mask,
    grid_of,
    isotropic_grid,
    resample,
    resample_mask,
    to_array,
    to_image,
)
from ..nearby import sums_nearby
from .scale import on_scale
from .tubes import curvatures, parenchyma, tube_spacing, without_border
from .working import ball, bounding_box, components, dilate

_FINEST_MM = 1.2
_SCALES_MM = (1.2, 1.8, 2.7, 4.0, 5.5)  # standard deviations: tubes of about 2 to 15 mm diameter
_SEED = 45.0  # HU of scale-normalised second curvature: a tube of contrast A and matching width gives A / 4
_GROW = 18.0
_SEED_BLOB = 0.45  # l1 / l2
_GROW_BLOB = 0.7
_CONTRAST_HU = 50.0  # above the parenchyma nearby
_LEAST_LENGTH_MM = 9.0
_FINE_MM = 2.0
_WIDE_MM = 4.0
_WIDE_BLOB = 0.3
_HILUM_MM = 35.0
_LEAST_HILUM_MM3 = 200.0
_HILAR_GENERATION, _NEAR_BRONCHI_MM = 4, 45.0  # bronchi up to that generation run in the hilum, and vessels near them
_ABNORMAL_HU = -700.0
_WINDOW_MM = 4.0
_LESION_SHARE = 0.55
_LESION_ML = 0.1
_BLOOD_HU = -300.0  # with its partial volume
_GLASS_WINDOW_MM = 3.0
_GLASS_SHARE = 0.45
_LESION_CONTRAST_HU = 50.0
_RIM_MM = 1.6  # the blurred wall of a tube that is drawn at half its height
_RIM_HU = 40.0
_BLOOD_CONTRAST_HU = (300.0, 900.0)  # of a vessel's middle above the parenchyma: the thinnest seen, and whole blood
_LESION_BLOOD_HU = (150.0, 900.0)  # the same above a lesion
_WALL_MM = 1.6  # an airway's wall is no vessel unless it is as bright as one
_WALL_HU = -150.0
_SPECK_ML = 0.03  # noise
_DENSE_HU = -300.0
_THICK_MM = 8.0
# A vessel ends at this share of the step from the parenchyma to its middle, and what holds less blood than the second
# share of a voxel is none: blur lowers the middle of a thin vessel, so that its own share would widen it.
_EDGE_SHARE, _LEAST_BLOOD = 0.4, 0.25
_LUMEN_MM = 2.2  # from the core of the vessel
_PLAIN_BLOOD_HU = 40.0
_LESION_GROW_SHARE = 0.25  # of the step from a lesion to blood, from which on a thin tube in it is followed
_SOLID_WINDOW_MM = 3.0
_SOLID_SHARE = 0.3
_OUTSIDE_SHARE = 0.2  # of a vessel's core that lies outside lesions, at least
_SLAB = 32


@dataclass(frozen=True)
class Cores:
    """Where the vessels run on a working `grid`: their cores (z, y, x) bool, the HU of the parenchyma nearby, the
    HU of the scan, and the HU of the lesion around, where there is one (NaN elsewhere)."""

    grid: Grid
    core: np.ndarray
    base: np.ndarray
    hu: np.ndarray
    lesion: np.ndarray


def segment_vessels(ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None = None) -> sitk.Image:
    """The vessels inside the lungs, arteries and veins together, uint8 0/1 on the grid of `ct`.

    `ct` is in HU, `lungs` a label map of the lungs (non-zero inside) on the same grid, `airways` the lumen of the
    airways as :func:`.airways.segment_airways` finds it, whose walls are then left out. Lesions that are not tubular
    (ground glass, consolidation, nodules) stay out, vessels that run through them are taken. A vessel ends where the
    CT crosses about half the step from the parenchyma to the vessel's own middle, or a quarter of that to plain blood
    where the vessel is too thin to be as bright.
    """
    ct = on_scale(ct, lungs, airways)
    cores = find_cores(ct, lungs, airways)
    if cores is None:
        return to_image(np.zeros(grid_of(ct).shape, np.uint8), grid_of(ct))
    vessels = to_array(draw_lumen(ct, lungs, cores))
    labels, sizes = components(vessels > 0, np.ones((3, 3, 3), bool))
    vessels[(sizes * grid_of(ct).voxel_ml < _SPECK_ML)[labels]] = 0
    if airways is not None:
        vessels[_walls(ct, airways)] = 0
    return to_image(vessels, ct)


def vessels_with_rim(ct: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """The vessels with every voxel around them that their blur brightens, uint8 0/1 on the grid of `ct`.

    For measures of the parenchyma, which must not hold any blood; the arguments are those of
    :func:`segment_vessels`.
    """
    cores = find_cores(ct, lungs)
    if cores is None:
        return to_image(np.zeros(grid_of(ct).shape, np.uint8), grid_of(ct))
    return draw_with_rim(ct, lungs, cores)


def find_cores(ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image | None = None) -> Cores | None:
    """Where the vessels run, the arguments as those of :func:`segment_vessels`; None where there is no lung."""
    grid = grid_of(ct)
    if not sitk.GetArrayViewFromImage(lungs).any():
        return None
    window = crop_to_mask(lungs, 2 * max(_SCALES_MM))
    spacing = tube_spacing(grid, _FINEST_MM)
    work = isotropic_grid(window, spacing)
    labels = to_array(resample_mask(lungs, work))
    hu = to_array(resample(ct, work), np.float32)
    base = parenchyma(hu, labels > 0, spacing)
    bronchi = None if airways is None else to_array(resample_mask(airways, work))
    core, lesion = _tubes(hu, base, labels, bronchi, spacing)
    return Cores(work, core, base, hu, lesion)


def _walls(ct: sitk.Image, airways: sitk.Image) -> np.ndarray:
    """The walls of the airways, (z, y, x) bool: what lies on a lumen and is darker than a vessel beside it."""
    lumen = sitk.GetArrayViewFromImage(airways) > 0
    walls = lumen.copy()
    if lumen.any():
        window = bounding_box(lumen, 4)
        distance = distance_to(lumen[window], ct.GetSpacing()[::-1])
        walls[window] |= (distance <= _WALL_MM) & (sitk.GetArrayViewFromImage(ct)[window] < _WALL_HU)
    return walls


def _tubes(
    hu: np.ndarray, base: np.ndarray, lungs: np.ndarray, bronchi: np.ndarray | None, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """The vessels' cores on the working grid, (z, y, x) bool, grown from clear tubes into fainter ones, and the HU
    (z, y, x) of the lesions, NaN where there is none."""
    # Beyond the surface the lung is continued at its own level, or the chest wall would look like the wall of a tube.
    inside = lungs > 0
    # So would the blurred pleura itself, a voxel deep.
    contrast = np.where(ndimage.binary_erosion(inside), hu - base, 0.0).astype(np.float32)
    candidates = without_border(inside & (contrast > _CONTRAST_HU))
    at = np.flatnonzero(candidates)
    seed, grow, fine, wide, fine_grow = (np.zeros(at.size, bool) for _ in range(5))
    for scale in _SCALES_MM:
        l1, l2 = curvatures(contrast, at, scale, spacing)
        tube = -l2
        blob = np.clip(-l1, 0, None) / np.maximum(tube, 1e-3)
        seed |= (tube > _SEED) & (blob < _SEED_BLOB)
        grow |= (tube > _GROW) & (blob < _GROW_BLOB)
        if scale <= _FINE_MM:
            fine |= (tube > _SEED) & (blob < _SEED_BLOB)
            fine_grow |= (tube > _GROW) & (blob < _GROW_BLOB)
        elif scale >= _WIDE_MM:
            wide |= (tube > 2 * _SEED) & (blob < _WIDE_BLOB)
    wide_tubes = np.zeros(hu.shape, bool)
    wide_tubes.flat[at] = wide
    hila = _hila(wide_tubes, lungs, bronchi, spacing)
    lesion, own = _lesions(hu, base, inside, hila, spacing)
    # Inside a lesion only a thin tube that stands out from the lesion itself is a vessel.
    clear = ~lesion.flat[at] | (fine & (hu.flat[at] > own.flat[at] + _LESION_CONTRAST_HU))
    # It grows into fainter ones, apart from consolidation, whose lobules look like tubes.
    faint = lesion.flat[at] & fine_grow & ~_solid_nearby(hu, inside, spacing).flat[at]
    faint &= hu.flat[at] > own.flat[at] + _LESION_GROW_SHARE * (_PLAIN_BLOOD_HU - own.flat[at])
    seeds, area = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    seeds.flat[at], area.flat[at] = seed & clear, ((grow | seed) & clear) | faint
    labels, _ = components(area, np.ones((3, 3, 3), bool))
    keep = np.zeros(labels.max() + 1, bool)
    keep[np.unique(labels[seeds])] = True
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        diagonal = np.linalg.norm([s.stop - s.start for s in box]) * spacing
        keep[label] &= diagonal >= _LEAST_LENGTH_MM
    core = keep[labels] & (labels > 0)
    # Branching points are round, not tubular: they close between their branches.
    core |= ndimage.binary_closing(core, ball(1), iterations=2) & candidates & ~lesion
    # Away from the hila no vessel is as thick as a consolidation.
    solid = ndimage.binary_opening(inside & (hu > _DENSE_HU), ball(round(_THICK_MM / 2 / spacing))) & ~hila
    core &= ~dilate(solid, 1.0)
    # A vessel comes into a lesion from outside; what is left of a consolidation does not.
    labels, sizes = components(core, np.ones((3, 3, 3), bool))
    outside = np.bincount(labels[~lesion], minlength=sizes.size)
    core &= (outside >= _OUTSIDE_SHARE * sizes)[labels]
    return core, np.where(lesion & ~hila, own, np.nan).astype(np.float32)


def _lesions(
    hu: np.ndarray, base: np.ndarray, inside: np.ndarray, hila: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the lung is dense over more than a vessel's width, (z, y, x) bool, and the mean HU of dense lung nearby.

    Within a Gaussian window a vessel fills a small share of the lung, ground glass and consolidation most of it. At
    the hila, where the great vessels crowd, the window is twice as wide.
    """
    dense = inside & (hu > np.maximum(_ABNORMAL_HU, base + 2 * _CONTRAST_HU))
    share = _local_mean(dense, inside, _WINDOW_MM / spacing)
    if hila.any():
        share = np.where(hila, _local_mean(dense, inside, 2 * _WINDOW_MM / spacing), share)
    core = dense & (share > _LESION_SHARE)
    # Ground glass away from anything as dense as blood cannot be the blurred wall of a vessel: a narrower window does.
    glass = dense & ~ndimage.binary_dilation(hu > _BLOOD_HU, ball(1))
    core |= glass & (_local_mean(glass, inside, _GLASS_WINDOW_MM / spacing) > _GLASS_SHARE)
    labels, sizes = components(core)
    core = (sizes * spacing**3 / 1000 >= _LESION_ML)[labels]
    own = _local_mean(hu, dense, _WINDOW_MM / spacing)
    # The share falls towards a lesion's edge: what lies within the window's width of its core is still lesion.
    near = dilate(core, (_WINDOW_MM + _RIM_MM) / spacing)
    near |= dilate(core & hila, (2 * _WINDOW_MM + _RIM_MM) / spacing)
    return near & inside, own


def _solid_nearby(hu: np.ndarray, inside: np.ndarray, spacing: float) -> np.ndarray:
    """Where much of the lung around is as dense as consolidation or a thick vessel, (z, y, x) bool."""
    return _local_mean(hu > _DENSE_HU, inside, _SOLID_WINDOW_MM / spacing) > _SOLID_SHARE


def _local_mean(values: np.ndarray, of: np.ndarray, sigma: float) -> np.ndarray:
    """The mean of `values` over the voxels `of` within a Gaussian window of `sigma` voxels; less where few are near."""
    total, number = sums_nearby(values, of, sigma)
    return total / np.maximum(number, 0.05)


def _hila(wide: np.ndarray, lungs: np.ndarray, bronchi: np.ndarray | None, spacing: float) -> np.ndarray:
    """The parts of the lungs within _HILUM_MM of their hila, (z, y, x) bool.

    A hilum is the middle of the lung's widest tubes that lie near its first bronchi; of all wide tubes, which lesions
    look like as well, where no bronchi are known.
    """
    least = _LEAST_HILUM_MM3 / spacing**3
    result = np.zeros(lungs.shape, bool)
    for side in np.unique(lungs[lungs > 0]):
        lung = lungs == side
        points, first = np.argwhere(wide & lung), _first_bronchi(bronchi, lung)
        if len(first) >= least:
            near = points[np.linalg.norm(points - np.median(first, axis=0), axis=1) * spacing <= _NEAR_BRONCHI_MM]
            points = near if len(near) >= least else first
        if len(points) >= least:
            axes = np.ogrid[tuple(slice(n) for n in lungs.shape)]
            squared = sum((a - c) ** 2 for a, c in zip(axes, np.median(points, axis=0), strict=True))
            result |= (squared * spacing**2 <= _HILUM_MM**2) & lung
    return result


def _first_bronchi(bronchi: np.ndarray | None, lung: np.ndarray) -> np.ndarray:
    """Where in a lung (z, y, x) bool the bronchi of the first generations run, (n, 3)."""
    if bronchi is None:
        return np.empty((0, 3), int)
    return np.argwhere(lung & (bronchi > 0) & (bronchi <= _HILAR_GENERATION))


def draw_with_rim(ct: sitk.Image, lungs: sitk.Image, cores: Cores) -> sitk.Image:
    """The vessels on the scan's own voxels: what is brighter than the parenchyma in and around the cores."""
    return _native(ct, lungs, cores, cores.base + _RIM_HU, _RIM_MM)


def draw_lumen(ct: sitk.Image, lungs: sitk.Image, cores: Cores) -> sitk.Image:
    """The vessels on the scan's own voxels up to about half the step from the parenchyma to their own middle, as far as
    their voxels hold blood."""
    middle = ndimage.maximum_filter(np.where(cores.core, cores.hu, AIR_HU), 3)
    in_lesion = ~np.isnan(cores.lesion)
    around = np.where(in_lesion, cores.lesion, cores.base)
    limits = (np.where(in_lesion, *ends) for ends in zip(_LESION_BLOOD_HU, _BLOOD_CONTRAST_HU, strict=True))
    step = np.maximum(_EDGE_SHARE * np.clip(middle - around, *limits), _LEAST_BLOOD * (_PLAIN_BLOOD_HU - around))
    return _native(ct, lungs, cores, around + step, _LUMEN_MM)


def _native(ct: sitk.Image, lungs: sitk.Image, cores: Cores, threshold: np.ndarray, reach_mm: float) -> sitk.Image:
    """What is brighter than a threshold (on the cores' grid) in and around the cores, on the scan's own voxels."""
    grid = grid_of(ct)
    result = np.zeros(grid.shape, np.uint8)
    distance = distance_to(cores.core, cores.grid.spacing[::-1])
    maps = to_image(distance, cores.grid), to_image(threshold.astype(np.float32), cores.grid)
    labels = sitk.GetArrayViewFromImage(lungs)
    window = bounding_box(labels > 0)
    for start in range(window[0].start, window[0].stop, _SLAB):
        part = (slice(start, min(start + _SLAB, window[0].stop)), *window[1:])
        first = tuple(s.start for s in part)[::-1]
        size = tuple(s.stop - s.start for s in part)[::-1]
        slab = crop(grid, first, size)
        hu = sitk.GetArrayFromImage(sitk.RegionOfInterest(ct, size, first))
        near = to_array(resample(maps[0], slab, outside=100.0)) <= reach_mm
        bright = hu > to_array(resample(maps[1], slab, outside=0.0))
        result[part] = near & bright & (labels[part] > 0)
    return to_image(result, grid)
