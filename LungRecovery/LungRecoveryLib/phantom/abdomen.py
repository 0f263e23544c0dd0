"""Synthetic abdominal CT in two contrast phases with a known rigid motion between them."""

from dataclasses import dataclass

import numpy as np
import SimpleITK as sitk
import torch
import torch.nn.functional as F

from ..grids import Grid, to_image
from ..progress import Progress, no_progress
from .abdomen_organs import FAT, LABELS, LOW, SPACING, Abdomen, build_abdomen
from .acquisition import Scanner, acquire
from .frames import IDENTITY, make_grid
from .soft import SKIN
from .tree import Segments, paint

__all__ = ["LABELS", "PHASES", "AbdomenScan", "make_abdomen"]

PHASES = ("arterial", "venous")
_SCANNER = Scanner("soft", blur_mm=0.7, slice_mm=1.5, noise_hu=12.0)
_VESSEL_SHARE = 0.5


@dataclass(eq=False)
class AbdomenScan:
    """A scan of the patient: `ct` int16 HU, `labels` uint8 as in LABELS on its grid, and `from_body`, the rigid map
    from the body frame (that of the venous phase) to where the scan shows the body, LPS mm."""

    phase: str
    ct: sitk.Image
    labels: sitk.Image
    from_body: sitk.Euler3DTransform

    @property
    def liver(self) -> sitk.Image:
        """The liver alone, 0/1."""
        return self.labels == LABELS["liver"]


def make_abdomen(
    seed: int,
    size: tuple[int, int, int] = (232, 176, 180),
    spacing: tuple[float, float, float] = (1.5, 1.5, 1.5),
    rotation_degrees: tuple[float, float, float] = (0.0, 0.0, 0.0),
    translation_mm: tuple[float, float, float] = (0.0, 0.0, 0.0),
    noise_hu: float = 12.0,
    direction: tuple[float, ...] = IDENTITY,
    progress: Progress = no_progress,
) -> tuple[AbdomenScan, AbdomenScan]:
    """A patient's venous scan, in which the body rests, and the arterial one, moved as a whole.

    `size` voxels of `spacing` mm (x, y, z); the angles are about LPS x, y and z through the body's middle, the
    translation in LPS mm. Voxels are drawn where the body has moved to, so the truth is exact; the bowel alone differs
    between the phases. The transform from the venous scan (fixed) to the arterial one (moving) is `from_body` of the
    latter. The same seed and settings give the same scans.
    """
    rng = np.random.default_rng([seed, 41_513])
    patient = build_abdomen(rng)
    grid = make_grid(size, spacing, direction)
    moved = sitk.Euler3DTransform()
    moved.SetRotation(*np.radians(rotation_degrees).tolist())
    moved.SetTranslation(tuple(float(t) for t in translation_mm))
    scans = []
    for number, (phase, motion) in enumerate((("venous", sitk.Euler3DTransform()), ("arterial", moved))):
        progress(phase, number / 2)
        scanner = Scanner(_SCANNER.kernel, _SCANNER.blur_mm, slice_mm=_SCANNER.slice_mm, noise_hu=noise_hu)
        hu, labels = _drawn(patient, phase, motion, grid)
        ct = acquire(hu, grid, scanner, np.random.default_rng([seed, number, 7]))
        scans.append(AbdomenScan(phase, to_image(ct, grid), to_image(labels, grid), motion))
    progress("done", 1.0)
    return scans[0], scans[1]


def _drawn(patient: Abdomen, phase: str, motion: sitk.Euler3DTransform, grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """The ideal image (z, y, x) float32 in HU, and the labels of its voxels."""
    arterial = phase == "arterial"
    organs = [*patient.organs, *patient.bowel[PHASES.index(phase)]]
    # The bowel lies behind everything that has a label.
    organs.sort(key=lambda organ: bool(organ.label))
    data = torch.from_numpy(np.stack([patient.skin, *(o.distance for o in organs)]).astype(np.float32))[None]
    matrix = np.array(motion.GetMatrix()).reshape(3, 3)
    offset = np.array(motion.TransformPoint((0.0, 0.0, 0.0)))
    hu, labels = np.empty(grid.shape, np.float32), np.zeros(grid.shape, np.uint8)
    voxel = float(np.prod(grid.spacing)) ** (1 / 3)
    for k in range(grid.shape[0]):
        points = _body_points(grid, k, matrix, offset)
        near, values = _near(data, points, voxel)
        skin = np.clip(0.5 - values[0] / voxel, 0.0, 1.0)
        slice_hu = np.full(grid.shape[1:], FAT, np.float32)
        for number, distance in zip(near[1:], values[1:], strict=True):
            organ, share = organs[number - 1], np.clip(0.5 - distance / voxel, 0.0, 1.0)
            slice_hu += share * ((organ.arterial if arterial else organ.venous) - slice_hu)
            if organ.label:
                labels[k][share > 0.5] = organ.label
        slice_hu += np.clip(2.5 + values[0] / voxel, 0.0, 1.0) * (SKIN - slice_hu)
        hu[k] = -1000.0 + skin * (slice_hu + 1000.0)
    for vessels in patient.vessels:
        share = paint(_moved(vessels.tubes, matrix, offset), grid, 0.35 * voxel)
        hu += share * ((vessels.arterial if arterial else vessels.venous) - hu)
        labels[(share > _VESSEL_SHARE) & (labels != LABELS["liver"])] = LABELS["vessels"]
    return hu, labels


def _body_points(grid: Grid, k: int, matrix: np.ndarray, offset: np.ndarray) -> np.ndarray:
    """The body frame's coordinates x, y, z of a slice's voxels: (3, y, x)."""
    step = matrix.T @ grid.index_to_point
    first = matrix.T @ (np.array(grid.origin) - offset) + step[:, 2] * k
    i, j = np.arange(grid.size[0]), np.arange(grid.size[1])[:, None]
    return np.stack([first[c] + step[c, 0] * i + step[c, 1] * j for c in range(3)]).astype(np.float32)


def _near(data: torch.Tensor, points: np.ndarray, voxel: float) -> tuple[np.ndarray, np.ndarray]:
    """The maps of (1, c, z, y, x) on the lattice, the first one always, that come near points (3, y, x): their numbers
    and their values (n, y, x) there, by linear interpolation."""
    index = [(points[i] - np.float32(LOW[i])) / np.float32(SPACING) for i in range(3)]
    ends = [(c.min(), c.max()) for c in index]
    box = tuple(
        slice(int(np.clip(a, 0, n - 2)), int(np.clip(b, 0, n - 2)) + 2)
        for (a, b), n in zip(ends[::-1], data.shape[2:], strict=True)
    )
    part = data[0, :, *box]
    seen = part.amin((1, 2, 3)) < voxel
    seen[0] = True
    unit = [(c - s.start) * (2.0 / (s.stop - s.start - 1)) - 1.0 for c, s in zip(index, box[::-1], strict=True)]
    where = torch.from_numpy(np.stack(unit, axis=-1).astype(np.float32))[None, None]
    values = F.grid_sample(part[seen][None], where, padding_mode="border", align_corners=True)[0, :, 0]
    return np.flatnonzero(seen.numpy()), values.numpy()


def _moved(tubes: Segments, matrix: np.ndarray, offset: np.ndarray) -> Segments:
    return Segments(tubes.start @ matrix.T + offset, tubes.end @ matrix.T + offset, tubes.radius, tubes.order)
