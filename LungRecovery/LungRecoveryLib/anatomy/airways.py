"""The airways: trachea, main bronchi and what of the bronchial tree the scan resolves, by generation.

The central tree comes from :mod:`.trachea`. Within the lungs a bronchus is a dark tube in a brighter wall: curved
upwards across in two directions and straight along the third (the Hessian's eigenvalues, Sato 1998), darker than the
parenchyma nearby, and joined to the central tree. Growth over tubes alone cannot leak into the lung as growth over
thresholds does; what joins the tree all the same and is no tube (emphysema) is cut off by its thickness.
"""

import numpy as np
import SimpleITK as sitk
from scipy import ndimage

from ..grids import Grid, crop_to_mask, grid_of, isotropic_grid, resample, resample_mask, to_array, to_image
from .body import air_in_body
from .generations import generations
from .scale import on_scale
from .trachea import central_airways
from .tubes import curvatures, parenchyma, tube_spacing, without_border
from .working import Working, ball, components, dilate, working_volume

_FINEST_MM = 1.0
_SCALES_MM = (1.0, 1.5, 2.2, 3.2)
_CURVATURE = 30.0  # HU of scale-normalised second curvature
_STRAIGHT = 0.6  # |l1| / l2
_DARKER_HU = 25.0  # than the parenchyma nearby
_SURELY_AIR_HU = -930.0
_NOISE_VOXELS = 0.6
_JUNCTION_HU, _JUNCTION_AIR_HU, _JUNCTION_VOXELS = 60.0, -900.0, 2
_BRIGHT_HU = -400.0  # nothing brighter shines into the curvature
_LUMEN_HU = -500.0  # between air and soft tissue
_AIR_HU = -1000.0
_WALL_HU = (-850.0, 0.0)
_AIR_SHARE = 0.4  # of the step from wall to air at which the lumen ends; thin walls are blurred by more than half
_LEAK_RADIUS_MM = 5.0  # no bronchus beyond the central tree is wider
_MARGIN_MM = 6.0


def segment_airways(ct: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """The lumen of the airways by generation, uint8 on the grid of `ct`; empty where the scan shows no trachea.

    `ct` is in HU, `lungs` a label map of the lungs (non-zero inside, without trachea and main bronchi) on its grid.
    Labels: 1 the trachea, 2 the main bronchi, then one more for every branching. Bronchi with a lumen of about 1.5
    voxels and more are found; finer ones are not told from the parenchyma.
    """
    grid = grid_of(ct)
    if not sitk.GetArrayViewFromImage(lungs).any():
        return to_image(np.zeros(grid.shape, np.uint8), grid)
    volume = working_volume(ct)
    central = _central(volume, lungs)
    if not central.any():
        return to_image(np.zeros(grid.shape, np.uint8), grid)
    airway = resample_mask(to_image(central, volume.grid), grid)
    work = _window(lungs, airway)
    hu = to_array(resample(on_scale(ct, lungs, airway), work), np.float32)
    inside = to_array(resample_mask(lungs, work)) > 0
    trunk = to_array(resample(to_image(central.astype(np.float32), volume.grid), work, outside=0.0)) > 0.3
    lumen = _tree(hu, inside, trunk, work.spacing[0])
    labels = generations(lumen, trunk, work)
    return resample_mask(to_image(labels, work), grid)


def _central(work: Working, lungs: sitk.Image) -> np.ndarray:
    """Trachea and main bronchi with their walls on the working grid."""
    air = air_in_body(work)
    return central_airways(work, air, air & (to_array(resample_mask(lungs, work.grid)) > 0))


def _window(lungs: sitk.Image, central: sitk.Image) -> Grid:
    """The cubic grid in the scan's axes around lungs and central airways."""
    grid = grid_of(lungs)
    both = (sitk.GetArrayViewFromImage(lungs) != 0) | (sitk.GetArrayViewFromImage(central) != 0)
    return isotropic_grid(crop_to_mask(to_image(both, grid), _MARGIN_MM), tube_spacing(grid, _FINEST_MM))


def _tree(hu: np.ndarray, inside: np.ndarray, trunk: np.ndarray, spacing: float) -> np.ndarray:
    """The lumen, (z, y, x) bool: dark tubes that hang on the trunk, grown to the middle of their walls."""
    seed = trunk & (hu < _LUMEN_HU)
    base = parenchyma(hu, inside, spacing)
    smooth = ndimage.gaussian_filter(hu, _NOISE_VOXELS)
    allowed = without_border(inside | dilate(trunk, 3.0))
    dark = smooth < np.maximum(base - _DARKER_HU, _SURELY_AIR_HU)
    # The middle of a narrow lumen in a thick wall is dark only before it is smoothed.
    dark |= hu < np.minimum(base - _DARKER_HU, _JUNCTION_AIR_HU)
    at = np.flatnonzero(allowed & dark)
    image = np.clip(hu, _AIR_HU - 24.0, _BRIGHT_HU)
    tube = np.zeros(at.size, bool)
    for scale in _SCALES_MM:
        along, across = curvatures(image, at, scale, spacing)
        tube |= (across > _CURVATURE) & (np.abs(along) < _STRAIGHT * across)
    core = seed.copy()
    core.flat[at[tube]] = True
    # Where a bronchus divides it is round, not tubular: air there joins the branches to each other.
    air = allowed & (smooth < np.minimum(base - _JUNCTION_HU, _JUNCTION_AIR_HU))
    core |= air & ndimage.binary_dilation(core, iterations=_JUNCTION_VOXELS)
    core = _joined(core, seed)
    core &= ~_leaks(core, trunk, spacing)
    core = _joined(core, seed)
    wall = np.clip(ndimage.maximum_filter(hu, 3), *_WALL_HU)
    edge = np.minimum(_AIR_SHARE * _AIR_HU + (1 - _AIR_SHARE) * wall, _LUMEN_HU)
    return core | (ndimage.binary_dilation(core) & (hu < edge))


def _joined(mask: np.ndarray, seed: np.ndarray) -> np.ndarray:
    """The pieces of a mask that hold some of the seed."""
    labels, sizes = components(mask, np.ones((3, 3, 3), bool))
    keep = np.zeros(len(sizes), bool)
    keep[np.unique(labels[seed & mask])] = True
    keep[0] = False
    return keep[labels]


def _leaks(core: np.ndarray, trunk: np.ndarray, spacing: float) -> np.ndarray:
    """What is too thick for a bronchus and lies apart from the trunk."""
    distal = core & ~dilate(trunk, 10.0 / spacing)
    thick = ndimage.binary_opening(distal, ball(max(2, round(_LEAK_RADIUS_MM / spacing))))
    return dilate(thick, 2.0) & distal
