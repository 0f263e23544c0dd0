"""Pairs of scans of synthetic abdomens and chests as samples, with and without contrast medium, for the rigid network.

To train on, the scans lie alike: what moves them apart is drawn anew for every batch by the augmentation, with known
truth. To validate on, they lie apart by a motion of their own. Images are (HU + 1000) / 1000; the masks are the organ
with its surroundings (the liver, both lungs), or the body, since a user may have no mask.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch

from LungRecoveryLib import grids
from LungRecoveryLib.distances import distance_to
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.phantom.abdomen import make_abdomen
from LungRecoveryLib.registration.motion6 import matrix_4x4

from .cache import expand
from .chests import PhantomSettings, patient_scans
from .processes import in_processes
from .samples import TEXTS, Sample

# The share of pairs whose mask is the whole body, and how far (mm) around the organ the mask of the others reaches.
_WHOLE_BODY, _AROUND_MM = 0.3, 12.0
_LOWEST, _HIGHEST = 0.0, 1.6
# What is drawn of an abdomen, x, y, z: as much as the augmentation can turn into the field.
_EXTENT_MM = (400.0, 300.0, 384.0)
# Abdomens are drawn in voxels so many times finer and averaged, as real ones are that come on a coarse grid.
_FINER = 2
# Chests are held still: two scans of one breath, by scanners of any kind, half of them with contrast medium.
_CHESTS = replace(
    PhantomSettings(),
    kinds=("still",),
    lesions=(0.0, 0.1),
    pixel_mm=(2.0, 4.0),
    slice_mm=(2.0, 5.0),
    cropped=0.0,
    one_lung=0.0,
    rough_masks=0.0,
    contrast=0.5,
    visits=1,
)
# The longest motion of pairs that lie apart.
_DEGREES, _SHIFT_MM = 30.0, 50.0


@dataclass(eq=False)
class _Trunk:
    """A scan in HU, its organ (non-zero), and the rigid map from the body's own frame to where the scan shows it."""

    image: sitk.Image
    organ: sitk.Image
    from_body: sitk.Euler3DTransform


def trunk_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], workers: int = 0, apart: bool = False
) -> Iterator[Sample]:
    """One sample for each seed, in their order, of abdomens for even seeds and of chests for odd ones: `size` (z, y, x)
    voxels of `spacing_mm` about the organ.

    `apart`: the scans lie apart by a random rotation and translation, which is the sample's displacement. The same
    seeds and settings give the same samples, whatever the workers.
    """
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size), apart), seeds, workers):
        yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def _packed(spacing_mm: float, size: tuple[int, int, int], apart: bool, seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    rng = np.random.default_rng([seed, 9_204])
    motion = _random_motion(rng) if apart else ((0.0, 0.0, 0.0), (0.0, 0.0, 0.0))
    kind, draw = ("chest", _chests) if seed % 2 else ("abdomen", _abdomens)
    scans = draw(seed, spacing_mm, motion)
    fixed, moving = scans if rng.random() < 0.5 else scans[::-1]
    grid = _about(fixed.organ, spacing_mm, size)
    whole = rng.random() < _WHOLE_BODY
    masks = [_mask(scan, grid, whole) for scan in (fixed, moving)]
    images = [_image(scan.image, grid) for scan in (fixed, moving)]
    return {
        "fixed": images[0].astype(np.float16),
        "moving": images[1].astype(np.float16),
        "fixed_mask": masks[0],
        "moving_mask": masks[1],
        "displacement": _displacement(fixed, moving, grid).astype(np.float16),
        "truth": masks[0],
        "subject": f"{kind}-{seed}",
        "pair": f"{kind}-{seed}",
    }


def _random_motion(rng: np.random.Generator) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Degrees about, and mm along, x, y and z: of any direction, and of any length up to the longest."""
    drawn = []
    for longest in (_DEGREES, _SHIFT_MM):
        direction = rng.standard_normal(3)
        drawn.append(tuple((direction / np.linalg.norm(direction) * rng.uniform(0, longest)).tolist()))
    return drawn[0], drawn[1]


def _abdomens(seed: int, spacing_mm: float, motion) -> list[_Trunk]:
    """The venous and the arterial phase of an abdomen."""
    finer_mm = spacing_mm / _FINER
    extent = tuple(int(np.ceil(mm / finer_mm)) for mm in _EXTENT_MM)
    scans = make_abdomen(seed, extent, (finer_mm,) * 3, *motion, noise_hu=6.0)
    return [_Trunk(scan.ct, scan.liver, scan.from_body) for scan in scans]


def _chests(seed: int, _: float, motion) -> list[_Trunk]:
    """Two scans of a chest in one breath, the second one's geometry moved."""
    degrees, mm = motion
    moved = sitk.Euler3DTransform()
    moved.SetRotation(*np.radians(degrees).tolist())
    moved.SetTranslation(mm)
    scans = patient_scans(seed, _CHESTS)[1]
    return [
        _Trunk(_placed(scan.image, from_body), _placed(scan.lungs, from_body), from_body)
        for scan, from_body in zip(scans, (sitk.Euler3DTransform(), moved), strict=True)
    ]


def _placed(image: sitk.Image, motion: sitk.Euler3DTransform) -> sitk.Image:
    """The image where a rigid motion takes it, its voxels untouched."""
    image = sitk.Image(image)
    rotation = np.array(motion.GetMatrix()).reshape(3, 3)
    image.SetOrigin(motion.TransformPoint(image.GetOrigin()))
    image.SetDirection((rotation @ np.array(image.GetDirection()).reshape(3, 3)).ravel().tolist())
    return image


def _displacement(fixed: _Trunk, moving: _Trunk, grid: Grid) -> np.ndarray:
    """Where the tissue of a grid's voxels lies in the moving scan, less the voxels: (3, z, y, x) in voxels."""
    matrix = matrix_4x4(moving.from_body) @ np.linalg.inv(matrix_4x4(fixed.from_body))
    points = grid.points(np.indices(grid.shape).reshape(3, -1)[::-1].T)
    change = points @ (matrix[:3, :3] - np.eye(3)).T + matrix[:3, 3]
    return change.T.reshape(3, *grid.shape) / grid.spacing[0]


def _about(organ: sitk.Image, spacing_mm: float, size: tuple[int, int, int]) -> Grid:
    box = grids.crop_to_mask(organ, 0.0)
    return Grid(
        size[::-1],
        (spacing_mm,) * 3,
        tuple((box.centre - (np.array(size[::-1]) - 1) / 2 * spacing_mm).tolist()),
        (1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0),
    )


def _image(ct: sitk.Image, grid: Grid) -> np.ndarray:
    hu = grids.to_array(grids.resample(ct, grid), np.float32)
    return np.clip((hu[None] + 1000.0) / 1000.0, _LOWEST, _HIGHEST)


def _mask(scan: _Trunk, grid: Grid, whole: bool) -> np.ndarray:
    if whole:
        inside = _image(scan.image, grid)[0] > 0.5
    else:
        organ = grids.to_array(grids.resample_mask(scan.organ, grid)) != 0
        inside = distance_to(organ) * grid.spacing[0] <= _AROUND_MM
    return inside[None].astype(np.uint8)
