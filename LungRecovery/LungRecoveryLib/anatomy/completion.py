"""Lung without air: a network that knows chests finds collapsed lobes and large masses.

A lobe without air on the chest wall, the diaphragm or the mediastinum looks like the tissue beside it, so no threshold
and no closing finds its surface. The network sees the CT in two windows, the aerated lung and that of the other side,
mirrored, at 4 mm, and was trained on chests of which parts were painted as dense as muscle (`lungrecovery-train fit
--config lung_completion_real`). It has seen synthetic chests, plain shapes and a single real chest, and takes some
muscle, fat and fluid of others for lung. So it is heard near the pleura of consolidated lung (see :mod:`.pleura`), and
elsewhere only of pieces that lie within the ribs and on the lung, of which it is sure, and which are neither fat nor as
thin as fluid. Contrast medium tells more of what is no lung.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from scipy import ndimage
from scipy.special import expit

from ..nearby import sums_nearby
from .working import Working, ball, bounding_box, close, components, dilate

NETWORK = "lung_completion"
_MARGIN_MM = 45.0
_SEEN_MM = 1.5  # SD of the smoothing before the network's grid: less is too noisy for it, more hides borders
_SURE, _LIKELY = 0.9, 0.5  # what is sure may grow
_KNOWN = 0.9  # of the aerated lung's voxels that the network must call lung
_OPENING = 1  # voxels: what is thinner than twice that is the surface's own uncertainty
_BONE_HU, _BONE_ML = 180.0, 1.0
_INTERCOSTAL_MM = 22.0  # a ball of this radius does not pass between two ribs
_FAT_HU, _AIR_HU, _BESIDE_AIR = (-180.0, -30.0), -300.0, 3  # lung that borders on air is as dark as fat there
_DARKENED = 2  # voxels beside air that it makes darker
_GROW_MM = 12.0
# Blood with contrast medium; voxels that no bone is thick, and those of a large vessel; more than any bone holds.
_CONTRAST_HU, _THICKER_THAN_BONE, _VESSEL, _HEART_ML = (110.0, 280.0), 3, 2, 200.0
_BESIDE_PLANE, _MOST_BESIDE = 3.0, 0.1  # voxels to either side; share of the aerated lung that may lie there
_DENSE_HU, _FLUID_SIGMA_MM, _UNENHANCED_HU = (-50.0, 180.0), 5.0, 22.0  # fluid, in their local mean
_LEAST_ML, _LEAST_CONTACT, _MEAN_SURE, _FLUID_HU = 2.0, 0.15, 0.93, 10.0
# What is larger, touches less of the lung and is less likely than this, as the heart's apex; around the main bronchi.
_DOUBTFUL_ML, _DOUBTFUL_CONTACT, _DOUBTFUL_MEAN, _HILUM_MM = 10.0, 0.38, 0.89, 18.0


def channels(hu: torch.Tensor, air: torch.Tensor) -> torch.Tensor:
    """What the network sees, (n, 4, z, y, x): the CT in the windows of lung and of soft tissue, the aerated lung, and
    the aerated lung of the other side, mirrored.

    `hu` (n, z, y, x) in HU, `air` (n, z, y, x) from 0 to 1; axes along the patient's S, P and L directions.
    """
    lung_window = (hu.clamp(-1000.0, 200.0) + 400.0) / 600.0
    tissue_window = (hu.clamp(-150.0, 250.0) - 50.0) / 200.0
    return torch.stack([lung_window, tissue_window, air, _mirrored(air, hu)], dim=1)


def _mirrored(air: torch.Tensor, hu: torch.Tensor) -> torch.Tensor:
    """`air` (n, z, y, x) mirrored left to right in the plane in which the body of `hu` (n, z, y, x) is most like its
    mirror image, 0 where that lies outside. All 0 where the plane cuts a lung in two, as it does where the field shows
    but one: what it mirrors onto the heart there is the lung itself."""
    size = hu.shape[-1]
    body = ((hu + 200.0) / 600.0).clamp(0.0, 1.0)  # bone counts most
    spectrum = torch.fft.rfft(body, 2 * size)
    likeness = torch.fft.irfft((spectrum * spectrum).sum((1, 2)), 2 * size)  # of x with (sum of both places) - x
    here = torch.arange(size, device=hu.device)
    there = likeness.argmax(dim=1, keepdim=True) - here
    inside = (there >= 0) & (there < size)
    index = there.clamp(0, size - 1)[:, None, None].expand_as(air)
    across = air.sum((1, 2))
    apart = (across * ((there - here).abs() <= 2 * _BESIDE_PLANE)).sum(1) < _MOST_BESIDE * across.sum(1)
    return air.gather(-1, index) * inside[:, None, None] * apart[:, None, None, None]


def likely_lung(work: Working, air: np.ndarray) -> np.ndarray | None:
    """How likely the network calls every voxel lung, (z, y, x) float32 on the working grid; None where it does not know
    its way about, since it does not even call the aerated lung so.

    `air` (z, y, x) bool is the aerated lung without airways.
    """
    window = _window(work, air)
    part = work.part(window)
    said = _probability(part, air[window])
    inner = ndimage.binary_erosion(air[window], ball(2))
    if not inner.any() or (said[inner] > _LIKELY).mean() < _KNOWN:
        return None
    likely = np.zeros(air.shape, np.float32)
    likely[window] = np.where(_told_apart_by_contrast(part), 0.0, said)
    return likely


def dense_lung(work: Working, air: np.ndarray, lungs: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """Airless lobes, masses and smaller pieces that belong to the lungs though `lungs` does not hold them, (z, y, x)
    bool on the working grid.

    `air` (z, y, x) bool is the aerated lung without airways, `lungs` (z, y, x) bool the lungs as they are seen,
    `likely` from `likely_lung`.
    """
    result = np.zeros(air.shape, bool)
    window = _window(work, air)
    part, found, likely = work.part(window), lungs[window], likely[window].copy()
    likely[found | ~part.field | (part.hu > _BONE_HU)] = 0.0
    likely[_fat(part, found)] = 0.0
    likely[_fluid(part, likely > _LIKELY, _FLUID_HU)] = 0.0
    core = ndimage.binary_opening(likely > _SURE, ball(_OPENING))
    if core.sum() * work.voxel_ml < _LEAST_ML / 2:
        return result
    within = (likely > _LIKELY) & dilate(core, _OPENING) & ~_rib_cage(part)
    labels, sizes = components(within)
    for label in np.flatnonzero(sizes * work.voxel_ml > _LEAST_ML):
        piece = labels == label
        if _is_lung(piece, likely, found):
            grown = ndimage.binary_propagation(piece, mask=(likely > _LIKELY) & dilate(piece, _GROW_MM / work.spacing))
            result[window] |= piece | ndimage.binary_opening(grown, ball(_OPENING))
    # What they enclose is lung, as the core of a tumour that takes up no contrast medium and looks like fluid.
    return ndimage.binary_fill_holes(result | lungs) & ~lungs


def doubtful(work: Working, added: np.ndarray, lungs: np.ndarray, airway: np.ndarray, likely: np.ndarray) -> np.ndarray:
    """The pieces of what was `added` to the `lungs` as they are seen that are no lung after all, (z, y, x) bool: those
    at a hilum, whose vessels are as dense, and larger ones that are neither likely nor lie broadly on the lung.

    `airway` (z, y, x) bool are trachea and main bronchi, `likely` is from `likely_lung`; all on the working grid.
    """
    result = np.zeros(added.shape, bool)
    if not added.any():
        return result
    window = bounding_box(added, 2)
    inside, hilum = added[window], dilate(airway, _HILUM_MM / work.spacing)[window]
    labels, _ = components(ndimage.binary_opening(inside))
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        near = tuple(slice(max(s.start - 2, 0), s.stop + 2) for s in box)
        piece = labels[near] == label
        around = ndimage.binary_dilation(piece) & ~piece
        contact, mean = lungs[window][near][around].mean(), likely[window][near][piece].mean()
        large = np.count_nonzero(piece) * work.voxel_ml > _DOUBTFUL_ML
        unlikely = large and contact < _DOUBTFUL_CONTACT and mean < _DOUBTFUL_MEAN
        if unlikely or hilum[near][piece].mean() > 0.5:
            result[window][near] |= inside[near] & ndimage.binary_dilation(piece, iterations=2)
    return result


def _window(work: Working, air: np.ndarray) -> tuple[slice, ...]:
    """Where lung without air can lie."""
    return bounding_box(air, int(np.ceil(_MARGIN_MM / work.spacing)))


def _told_apart_by_contrast(part: Working) -> np.ndarray:
    """What contrast medium tells from lung, (z, y, x) bool: large vessels, which are bright, and an effusion, which
    takes none up. Nothing where heart and vessels are not as bright as only contrast medium makes them."""
    bright = (part.hu > _CONTRAST_HU[0]) & (part.hu < _CONTRAST_HU[1])
    _, sizes = components(ndimage.binary_opening(bright, ball(_THICKER_THAN_BONE)))
    if sizes.max(initial=0) * part.voxel_ml < _HEART_ML:
        return np.zeros_like(bright)
    return _fluid(part, part.field, _UNENHANCED_HU) | dilate(ndimage.binary_opening(bright, ball(_VESSEL)), _VESSEL)


def _fluid(part: Working, among: np.ndarray, limit_hu: float) -> np.ndarray:
    """What of some voxels is dense, but below a limit in the mean of those around, (z, y, x) bool each. Those beside
    air do not count in the mean, since they are as dark in any tissue."""
    dense = among & (part.hu > _DENSE_HU[0]) & (part.hu < _DENSE_HU[1])
    beside_air = ndimage.binary_dilation(part.hu < _AIR_HU, iterations=_DARKENED)
    total, weight = sums_nearby(part.hu, dense & ~beside_air, _FLUID_SIGMA_MM / part.spacing)
    return dense & (total < limit_hu * weight)


def _fat(part: Working, lungs: np.ndarray) -> np.ndarray:
    """Fat, (z, y, x) bool."""
    near_air = ndimage.binary_dilation(lungs | (part.hu < _AIR_HU), iterations=_BESIDE_AIR)
    return ndimage.binary_opening((part.hu > _FAT_HU[0]) & (part.hu < _FAT_HU[1]) & ~near_air)


def _rib_cage(part: Working) -> np.ndarray:
    """The bones with the gaps between them, (z, y, x) bool: what lies outside hangs together with no lung."""
    labels, sizes = components(part.hu > _BONE_HU)
    return close((sizes * part.voxel_ml > _BONE_ML)[labels], _INTERCOSTAL_MM / part.spacing)


def _is_lung(piece: np.ndarray, likely: np.ndarray, lungs: np.ndarray) -> bool:
    """Whether a piece lies broadly on the lung and is surely lung in the network's eyes."""
    around = ndimage.binary_dilation(piece) & ~piece
    return bool(lungs[around].mean() > _LEAST_CONTACT and likely[piece].mean() > _MEAN_SURE)


def _probability(part: Working, air: np.ndarray) -> np.ndarray:
    """How likely every voxel is lung, (z, y, x) float32 on the part's grid: the mean of what the network says of the
    chest on a grid of its own spacing, and of the mirror image on the grid between that one's voxels."""
    from ..registration.weights import load_weights

    weights = load_weights(NETWORK)
    step = weights.spacing_mm / part.spacing
    smoothed = partial(ndimage.gaussian_filter, sigma=_SEEN_MM / part.spacing)
    hu, aerated = smoothed(part.hu), smoothed(air.astype(np.float32))
    said = np.zeros(air.shape, np.float32)
    for start, along_x in ((0.0, 1), (step / 2, -1)):
        size = [int((n - 1 - start) // step) + 1 for n in air.shape]
        seen = (_sampled(image, step, start, size)[..., ::along_x].copy() for image in (hu, aerated))
        logits = _logits(weights.network, *seen)[..., ::along_x]
        said += _sampled(logits, 1 / step, -start / step, air.shape) / 2
    return expit(said)


def _sampled(image: np.ndarray, step: float, start: float, size: Sequence[int]) -> np.ndarray:
    """An image (z, y, x) at `size` places along each axis, `step` voxels apart, the first at `start`."""
    return ndimage.affine_transform(image, np.full(3, step), start, tuple(size), order=1, mode="nearest")


def _logits(network: torch.nn.Module, hu: np.ndarray, aerated: np.ndarray) -> np.ndarray:
    """What the network says of a chest, (z, y, x) all, `aerated` from 0 to 1."""
    with torch.no_grad():
        return network(channels(torch.from_numpy(hu)[None], torch.from_numpy(aerated > 0.5)[None].float()))[0].numpy()
