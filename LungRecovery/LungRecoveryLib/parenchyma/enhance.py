"""The enhanced image: how much denser than healthy parenchyma each voxel of the lung is, tubes taken out.

And what it shows that the plain CT hides: lesions of 20 HU under noise of 25 HU, drawn from means that are as wide as
the noise requires and as narrow as the lesion's contrast allows.
"""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..anatomy.tubes import without_bundles
from ..grids import Grid, crop_to_mask, grid_of, resample, resample_mask, to_array, to_image, window
from .baseline import Baseline
from .tissue import Tissue, distance_mm, plane_along, smoothed

TUBES_HU = 0.0
_FILL_MM = (1.5, 3.0, 6.0)
_RIM_MM = 1.5  # beside tubes, blurred by the scanner
_SURFACE_MM = 3.0  # of the lung's blurred surface, which is not parenchyma alone
# Contrasts (HU above the baseline) that are looked for in turn, each drawn at half its height; the SD in mm of the mean
# that does so, and the smallest piece in ml. The last mean is as wide as the noise requires.
_VISIBLE = ((240.0, 0.9, 0.1), (90.0, 1.3, 0.15))
SUBTLE_HU = 20.0
_SUBTLE_MM, _SUBTLE_ML = (2.5, 4.0), 1.0
# SDs of the healthy parenchyma's local means; fewer are enough where a subtle lesion is more than that, since it has
# to be large, too.
_CERTAIN, _SUBTLE_CERTAIN = 5.0, 3.0
_REACH = 1.5  # widths of the narrower mean
_THICK = 2  # voxels from the edge to the middle of what is no vessel that was missed
_SHEET_MM = 6.0  # from the edge to the middle of what is no fissure in a mean
_KEPT = 2.5  # SDs of the noise by which a voxel may differ from the mean around it
_MAD_TO_SD = 1.4826


@dataclass(frozen=True)
class Excess:
    """HU above the baseline on a tissue's grid, (z, y, x) float32, 0 outside the lungs.

    `raw` has the tubes replaced by the parenchyma around them; `known` (bool) is parenchyma alone: no tube, no blurred
    rim of one, not the lung's surface.
    """

    raw: np.ndarray
    known: np.ndarray


def excess_of(tissue: Tissue, baseline: Baseline) -> Excess:
    """How much denser than the baseline the parenchyma is, tubes filled from around."""
    above = tissue.hu - baseline.at(plane_along(tissue.grid, 1)) - baseline.rise(tissue.depth)
    known = tissue.inside & (tissue.from_tubes >= _RIM_MM) & (tissue.depth >= _SURFACE_MM)
    filled = np.where(tissue.inside, above, 0.0).astype(np.float32)
    missing = tissue.inside & (tissue.from_tubes < _RIM_MM)
    for width in _FILL_MM:
        around = smoothed(above, known, tissue.sigma(width))
        usable = missing & np.isfinite(around)
        filled[usable] = around[usable]
        missing &= ~usable
    filled[missing] = TUBES_HU
    return Excess(filled, known)


def native_excess(ct: sitk.Image, lungs: sitk.Image, tissue: Tissue, excess: Excess, baseline: Baseline) -> sitk.Image:
    """HU above the baseline on the scan's own voxels, int16: tubes filled from around them, 0 outside the lungs.

    `tissue` and `excess` are those of the scan. Nothing is cut: means of dense lesions are read here.
    """
    grid = grid_of(ct)
    result = np.zeros(grid.shape, np.int16)
    box = crop_to_mask(lungs, 0.0)
    cut = window(grid, box)
    replaced = tissue.inside & (tissue.from_tubes < _RIM_MM)
    fill = to_array(resample(to_image(excess.raw, tissue.grid), box, outside=0.0), np.float32)
    tubes = to_array(resample_mask(to_image(replaced, tissue.grid), box)) != 0
    inside = sitk.GetArrayViewFromImage(lungs)[cut] != 0
    rise = to_array(resample(to_image(baseline.rise(tissue.depth), tissue.grid), box))
    above = sitk.GetArrayViewFromImage(ct)[cut] - baseline.at(plane_along(box, 1)) - rise
    result[cut] = np.where(inside, np.rint(np.where(tubes, fill, above)), 0).astype(np.int16)
    return to_image(result, grid)


def enhanced_image(excess: sitk.Image, baseline: Baseline) -> sitk.Image:
    """The enhanced image: the excess cut to the baseline's range, int16."""
    low, high = baseline.clip
    return sitk.Clamp(excess, sitk.sitkInt16, round(low), round(high))


def find_lesions(tissue: Tissue, excess: Excess, baseline: Baseline) -> np.ndarray:
    """What stands out from the baseline, (z, y, x) uint8 on the tissue's grid: 1 plainly visible, 2 subtle, 0 neither.

    Dense lesions are drawn first, at half their contrast, with a narrow mean. What they cover is left out of the wider
    means that find fainter ones, so that no lesion casts a halo. The faintest are drawn at half of SUBTLE_HU where a
    mean twice as wide is beyond doubt, and where they are thicker than a fissure. All of them have to stand out from
    what healthy parenchyma itself varies by, which is much where small vessels blur into it.
    """
    result = np.zeros(tissue.hu.shape, np.uint8)
    known = excess.known.copy()
    noise = _MAD_TO_SD * baseline.mad_hu
    for contrast, width, least in _VISIBLE:
        mean = _local_mean(tissue, excess.raw, known, width, noise)
        limit = max(contrast / 2, _CERTAIN * _healthy_spread(mean, known))
        dense = _pieces(_thick(tissue.inside & (mean > limit) & (result == 0)), tissue.grid, least)
        found = without_bundles(dense, tissue.from_tubes >= _RIM_MM, tissue.grid)
        result[found] = 1
        known &= ~ndimage.binary_dilation(found)
    result[_subtle(tissue, excess, baseline, known, tissue.inside & (result == 0))] = 2
    return result


def _subtle(tissue: Tissue, excess: Excess, baseline: Baseline, known: np.ndarray, free: np.ndarray) -> np.ndarray:
    """The faintest lesions among what is `free`, (z, y, x) bool; `known` is parenchyma without visible lesions."""
    width = subtle_width(tissue, baseline)
    narrow = _local_mean(tissue, excess.raw, known, width, _MAD_TO_SD * baseline.mad_hu)
    wide = smoothed(narrow, known, tissue.sigma(width * np.sqrt(3.0)))  # twice as wide in all
    spread = _healthy_spread(wide, known)
    certain = _SUBTLE_CERTAIN if _SUBTLE_CERTAIN * spread < SUBTLE_HU else _CERTAIN
    seeds = free & (wide > max(SUBTLE_HU / 2, certain * spread))
    # The wide mean falls to half at a lesion's edge: seeds end about a width inside of it.
    near = distance_mm(~seeds, tissue.grid) <= _REACH * width
    return _pieces(_without_sheets(free & near & (narrow > SUBTLE_HU / 2), tissue.grid), tissue.grid, _SUBTLE_ML, seeds)


def _without_sheets(mask: np.ndarray, grid: Grid) -> np.ndarray:
    """The mask without thin sheets: a fissure is as faint in a mean as a subtle lesion, but never as thick."""
    core = distance_mm(mask, grid) >= _SHEET_MM
    return mask & (distance_mm(~core, grid) <= _SHEET_MM)


def subtle_width(tissue: Tissue, baseline: Baseline) -> float:
    """The SD in mm of the mean that brings the noise of single voxels down to a sixth of a subtle lesion's contrast."""
    noise = _MAD_TO_SD * baseline.mad_hu
    voxels = (noise / (SUBTLE_HU / 6)) ** 2  # that the mean has to hold, were their noise independent
    volume = voxels * tissue.grid.voxel_ml * 1000.0
    return float(np.clip(volume ** (1 / 3) / (2 * np.sqrt(np.pi)), *_SUBTLE_MM))


def _local_mean(tissue: Tissue, values: np.ndarray, known: np.ndarray, width_mm: float, noise: float) -> np.ndarray:
    """The mean within a Gaussian window of the known voxels that differ from it by no more than noise does: what is
    left of small vessels does not count."""
    mean = smoothed(values, known, tissue.sigma(width_mm))
    with np.errstate(invalid="ignore"):
        alike = known & (np.abs(values - mean) <= _KEPT * noise)
    return np.where(known, smoothed(values, alike, tissue.sigma(width_mm)), mean)


def _healthy_spread(mean: np.ndarray, known: np.ndarray) -> float:
    """The SD of local means in healthy parenchyma, read below their mode, where no lesion lies."""
    values = mean[known]
    values = values[np.isfinite(values)]
    below = -values[values < 0]
    return _MAD_TO_SD * float(np.median(below)) if below.size else 0.0


def _thick(mask: np.ndarray) -> np.ndarray:
    """The mask without what is thinner than _THICK voxels from edge to middle."""
    cross = ndimage.generate_binary_structure(3, 1)
    core = ndimage.binary_opening(mask, ndimage.iterate_structure(cross, _THICK))
    return ndimage.binary_dilation(core, cross, iterations=_THICK, mask=mask)


def _pieces(mask: np.ndarray, grid: Grid, least_ml: float, seeds: np.ndarray | None = None) -> np.ndarray:
    """The connected pieces of at least so many ml; with seeds, those that hold one."""
    labels, count = ndimage.label(mask)
    keep = np.bincount(labels.ravel(), minlength=count + 1) * grid.voxel_ml >= least_ml
    if seeds is not None:
        keep &= np.bincount(labels[seeds], minlength=count + 1) > 0
    keep[0] = False
    return keep[labels]
