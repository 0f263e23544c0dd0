"""Lung without air: a network that knows chests says where the lungs go on behind consolidation and collapse.

Consolidated lung on the chest wall, the diaphragm or the mediastinum looks like the tissue beside it, so no threshold
and no closing finds its surface. The network sees the CT in two windows and the aerated lung at 5 mm, and was trained
on chests of which parts were painted as dense as muscle (`lungrecovery-train fit --config lung_completion`). It only
ever adds dense tissue that lies on the lung; where it does not know the aerated lung of a scan it is not asked. It has
seen synthetic chests alone and takes some muscle of real ones for lung: it is there on request, not by default.
"""

import numpy as np
import torch
from scipy import ndimage

from ..grids import isotropic_grid, resample, to_array, to_image
from .working import Working, ball, bounding_box, components, dilate

NETWORK = "lung_completion"
_MARGIN_MM = 45.0
_SURE, _LIKELY = 0.9, 0.5  # a healthy diaphragm's and heart's surface is unsure; what is sure may grow
_KNOWN = 0.9  # of the aerated lung's voxels that the network must call lung
_LEAST_ML = 2.0
_OPENING = 2  # voxels: what is thinner than twice that is the surface's own uncertainty
_BONE_HU = 200.0


def channels(hu: torch.Tensor, air: torch.Tensor) -> torch.Tensor:
    """What the network sees, (n, 3, z, y, x): the CT in the windows of lung and of soft tissue, and the aerated lung.

    `hu` (n, z, y, x) in HU, `air` (n, z, y, x) from 0 to 1; axes along the patient's S, P and L directions.
    """
    lung_window = (hu.clamp(-1000.0, 200.0) + 400.0) / 600.0
    tissue_window = (hu.clamp(-150.0, 250.0) - 50.0) / 200.0
    return torch.stack([lung_window, tissue_window, air], dim=1)


def dense_lung(work: Working, air: np.ndarray, lungs: np.ndarray) -> np.ndarray:
    """Dense tissue that belongs to the lungs though `lungs` does not hold it, (z, y, x) bool on the working grid.

    `air` (z, y, x) bool is the aerated lung without airways, `lungs` (z, y, x) bool the lungs as found so far.
    """
    result = np.zeros(air.shape, bool)
    window = bounding_box(air, int(np.ceil(_MARGIN_MM / work.spacing)))
    part = work.part(window)
    likely = _probability(part, air[window])
    inner = ndimage.binary_erosion(air[window], ball(2))
    if not inner.any() or (likely[inner] > _LIKELY).mean() < _KNOWN:
        return result
    missed = ~lungs[window] & part.field & (part.hu < _BONE_HU)
    core = ndimage.binary_opening(missed & (likely > _SURE), ball(_OPENING))
    added = missed & (likely > _LIKELY) & dilate(core, _OPENING)
    labels, sizes = components(added)
    touching = np.zeros(len(sizes), bool)
    touching[np.unique(labels[ndimage.binary_dilation(lungs[window])])] = True
    result[window] = (touching & (sizes * work.voxel_ml >= _LEAST_ML))[labels]
    return result


def _probability(part: Working, air: np.ndarray) -> np.ndarray:
    """How likely every voxel is lung, (z, y, x) float32 on the part's grid."""
    from ..registration.weights import load_weights

    weights = load_weights(NETWORK)
    grid = isotropic_grid(part.grid, weights.spacing_mm)
    hu, aerated = (
        torch.from_numpy(to_array(resample(to_image(image.astype(np.float32), part.grid), grid)))[None]
        for image in (part.hu, air)
    )
    with torch.no_grad():
        likely = weights.network(channels(hu, (aerated > 0.5).float()))[0].sigmoid().numpy()
    return to_array(resample(to_image(likely, grid), part.grid, outside=0.0), np.float32)
