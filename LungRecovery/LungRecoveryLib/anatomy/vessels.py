"""Pulmonary vessels: the bright tubes in a lung, told from ground glass, consolidation and nodules by their shape.

A tube is curved across in two directions and straight along the third, so of the eigenvalues of the Hessian of the
smoothed CT (|l1| <= |l2| <= |l3|) the two larger are strongly negative and the first is not (Sato 1998, Frangi 1998).
A plateau such as ground glass has curvature in one direction only, at its edge; a nodule has it in all three.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import Grid, crop, crop_to_mask, grid_of, isotropic_grid, resample, resample_mask, to_array, to_image
from .working import ball, bounding_box, components, dilate

_SPACING_MM = (1.2, 1.5)
_SCALES_MM = (1.2, 1.8, 2.7, 4.0, 5.5)  # standard deviations: tubes of about 2 to 15 mm diameter
_SEED = 45.0  # HU of scale-normalised second curvature: a tube of contrast A and matching width gives A / 4
_GROW = 18.0
_SEED_BLOB = 0.45  # l1 / l2
_GROW_BLOB = 0.7
_CONTRAST_HU = 50.0  # above the parenchyma nearby
_PARENCHYMA_SPREAD_HU = 120.0  # healthy lung is not denser than the scan's median by more
_PARENCHYMA_HU = (-750.0, -500.0)
_LEAST_LENGTH_MM = 9.0
_FINE_MM = 2.0
_WIDE_MM = 4.0
_WIDE_BLOB = 0.3
_HILUM_MM = 35.0
_LEAST_HILUM_MM3 = 200.0
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


def segment_vessels(ct: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """The vessels inside the lungs with their partial-volume rim, uint8 0/1 on the grid of `ct`.

    `ct` is in HU, `lungs` a label map of the lungs (non-zero inside) on the same grid. Lesions that are not tubular
    (ground glass, consolidation, nodules) stay out, vessels that run through them are taken. Walls of larger
    airways are tubes too and may be taken with the vessels they accompany.
    """
    grid = grid_of(ct)
    if not sitk.GetArrayViewFromImage(lungs).any():
        return to_image(np.zeros(grid.shape, np.uint8), grid)
    window = crop_to_mask(lungs, 2 * max(_SCALES_MM))
    spacing = float(np.clip(np.median(grid.spacing), *_SPACING_MM))
    work = isotropic_grid(window, spacing)
    labels = to_array(resample_mask(lungs, work))
    hu = to_array(resample(ct, work), np.float32)
    base = _parenchyma(hu, labels > 0, spacing)
    core = _tubes(hu, base, labels, spacing)
    return _native(ct, lungs, work, core, base)


def _parenchyma(hu: np.ndarray, inside: np.ndarray, spacing: float) -> np.ndarray:
    """The mean HU of the healthy lung within about a centimetre, also beyond the lung's surface and in lesions."""
    typical = float(np.median(hu[inside]))
    aerated = inside & (hu < np.clip(typical + _PARENCHYMA_SPREAD_HU, *_PARENCHYMA_HU))
    weight = ndimage.gaussian_filter(aerated.astype(np.float32), 7.0 / spacing, truncate=2.5) + 1e-3
    total = ndimage.gaussian_filter(np.where(aerated, hu, 0).astype(np.float32), 7.0 / spacing, truncate=2.5)
    return (total + 1e-3 * min(typical, _PARENCHYMA_HU[1])) / weight


def _tubes(hu: np.ndarray, base: np.ndarray, lungs: np.ndarray, spacing: float) -> np.ndarray:
    """The vessels' cores on the working grid, (z, y, x) bool, grown from clear tubes into fainter ones."""
    # Beyond the surface the lung is continued at its own level, or the chest wall would look like the wall of a tube.
    inside = lungs > 0
    # So would the blurred pleura itself, a voxel deep.
    contrast = np.where(ndimage.binary_erosion(inside), hu - base, 0.0).astype(np.float32)
    candidates = inside & (contrast > _CONTRAST_HU)
    candidates[[0, -1]] = candidates[:, [0, -1]] = candidates[:, :, [0, -1]] = False
    at = np.flatnonzero(candidates)
    seed, grow, fine, wide = (np.zeros(at.size, bool) for _ in range(4))
    for scale in _SCALES_MM:
        l1, l2 = _curvatures(contrast, at, scale, spacing)
        tube = -l2
        blob = np.clip(-l1, 0, None) / np.maximum(tube, 1e-3)
        seed |= (tube > _SEED) & (blob < _SEED_BLOB)
        grow |= (tube > _GROW) & (blob < _GROW_BLOB)
        if scale <= _FINE_MM:
            fine |= (tube > _SEED) & (blob < _SEED_BLOB)
        elif scale >= _WIDE_MM:
            wide |= (tube > 2 * _SEED) & (blob < _WIDE_BLOB)
    wide_tubes = np.zeros(hu.shape, bool)
    wide_tubes.flat[at] = wide
    lesion, own = _lesions(hu, base, inside, _hila(wide_tubes, lungs, spacing), spacing)
    # Inside a lesion only a thin tube that stands out from the lesion itself is a vessel.
    clear = ~lesion.flat[at] | (fine & (hu.flat[at] > own.flat[at] + _LESION_CONTRAST_HU))
    seeds, area = np.zeros(hu.shape, bool), np.zeros(hu.shape, bool)
    seeds.flat[at], area.flat[at] = seed & clear, (grow | seed) & clear
    labels, _ = components(area, np.ones((3, 3, 3), bool))
    keep = np.zeros(labels.max() + 1, bool)
    keep[np.unique(labels[seeds])] = True
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        diagonal = np.linalg.norm([s.stop - s.start for s in box]) * spacing
        keep[label] &= diagonal >= _LEAST_LENGTH_MM
    core = keep[labels] & (labels > 0)
    # Branching points are round, not tubular: they close between their branches.
    return core | (ndimage.binary_closing(core, ball(1), iterations=2) & candidates & ~lesion)


def _lesions(
    hu: np.ndarray, base: np.ndarray, inside: np.ndarray, hila: np.ndarray, spacing: float
) -> tuple[np.ndarray, np.ndarray]:
    """Where the lung is dense over more than a vessel's width, (z, y, x) bool, and the mean HU of dense lung nearby.

    Within a Gaussian window a vessel fills a small share of the lung, ground glass and consolidation most of it. At
    the hila, where the great vessels crowd, the window is twice as wide.
    """
    dense = inside & (hu > np.maximum(_ABNORMAL_HU, base + 2 * _CONTRAST_HU))
    share = _local_mean(dense.astype(np.float32), inside, _WINDOW_MM / spacing)
    if hila.any():
        share = np.where(hila, _local_mean(dense.astype(np.float32), inside, 2 * _WINDOW_MM / spacing), share)
    core = dense & (share > _LESION_SHARE)
    # Ground glass away from anything as dense as blood cannot be the blurred wall of a vessel: a narrower window does.
    glass = dense & ~ndimage.binary_dilation(hu > _BLOOD_HU, ball(1))
    core |= glass & (_local_mean(glass.astype(np.float32), inside, _GLASS_WINDOW_MM / spacing) > _GLASS_SHARE)
    labels, sizes = components(core)
    core = (sizes * spacing**3 / 1000 >= _LESION_ML)[labels]
    own = _local_mean(np.where(dense, hu, 0.0).astype(np.float32), dense, _WINDOW_MM / spacing)
    # The share falls towards a lesion's edge: what lies within the window's width of its core is still lesion.
    near = dilate(core, (_WINDOW_MM + _RIM_MM) / spacing)
    near |= dilate(core & hila, (2 * _WINDOW_MM + _RIM_MM) / spacing)
    return near & inside, own


def _local_mean(values: np.ndarray, inside: np.ndarray, sigma: float) -> np.ndarray:
    """The mean of `values` (0 outside) over the voxels `inside` within a Gaussian window of `sigma` voxels."""
    weight = ndimage.gaussian_filter(inside.astype(np.float32), sigma, truncate=2.5)
    return ndimage.gaussian_filter(values, sigma, truncate=2.5) / np.maximum(weight, 0.05)


def _hila(wide: np.ndarray, lungs: np.ndarray, spacing: float) -> np.ndarray:
    """The parts of the lungs within _HILUM_MM of the middle of their widest tubes, (z, y, x) bool."""
    result = np.zeros(lungs.shape, bool)
    for side in np.unique(lungs[wide]):
        points = np.argwhere(wide & (lungs == side))
        if len(points) * spacing**3 < _LEAST_HILUM_MM3:
            continue
        axes = np.ogrid[tuple(slice(n) for n in lungs.shape)]
        squared = sum((a - c) ** 2 for a, c in zip(axes, np.median(points, axis=0), strict=True))
        result |= (squared * spacing**2 <= _HILUM_MM**2) & (lungs == side)
    return result


def _curvatures(image: np.ndarray, at: np.ndarray, scale: float, spacing: float) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues l1 and l2 (|l1| <= |l2| <= |l3|) of the scale-normalised Hessian at flat indices `at`, in HU."""
    smooth = ndimage.gaussian_filter(image, scale / spacing, truncate=3.0).ravel()
    strides = np.array(image.strides) // image.itemsize
    here = smooth[at]
    hessian = np.empty((at.size, 3, 3), np.float32)
    for i, a in enumerate(strides):
        hessian[:, i, i] = smooth[at + a] + smooth[at - a] - 2 * here
        for j, b in enumerate(strides[:i]):
            mixed = smooth[at + a + b] + smooth[at - a - b] - smooth[at + a - b] - smooth[at - a + b]
            hessian[:, i, j] = hessian[:, j, i] = mixed / 4
    values = np.linalg.eigvalsh(hessian) * (scale / spacing) ** 2
    order = np.argsort(np.abs(values), axis=1)
    l1, l2, _ = np.take_along_axis(values, order, axis=1).T
    return l1, l2


def _native(ct: sitk.Image, lungs: sitk.Image, work: Grid, core: np.ndarray, base: np.ndarray) -> sitk.Image:
    """The vessels on the scan's own voxels: what is brighter than the parenchyma in and around the cores."""
    grid = grid_of(ct)
    result = np.zeros(grid.shape, np.uint8)
    distance = ndimage.distance_transform_edt(~core, sampling=work.spacing[::-1]).astype(np.float32)
    distance, base = to_image(distance, work), to_image(base.astype(np.float32), work)
    labels = sitk.GetArrayViewFromImage(lungs)
    window = bounding_box(labels > 0)
    step = 32
    for start in range(window[0].start, window[0].stop, step):
        part = (slice(start, min(start + step, window[0].stop)), *window[1:])
        first = tuple(s.start for s in part)[::-1]
        size = tuple(s.stop - s.start for s in part)[::-1]
        slab = crop(grid, first, size)
        hu = sitk.GetArrayFromImage(sitk.RegionOfInterest(ct, size, first))
        near = to_array(resample(distance, slab, outside=100.0)) <= _RIM_MM
        bright = hu > to_array(resample(base, slab, outside=0.0)) + _RIM_HU
        result[part] = near & bright & (labels[part] > 0)
    return to_image(result, grid)
