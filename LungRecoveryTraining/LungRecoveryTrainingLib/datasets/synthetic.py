"""Pairs with known deformation made of any CTs, on disk: `lungrecovery-train prepare synthetic --pairs N`.

The scan of each pair is a real one (with lesions drawn in, or not), cropped to its lungs; its follow-up is drawn at
full resolution through a motion of :mod:`LungRecoveryTrainingLib.synthetic`, with its density, lesions, noise, kernel
and slices. The displacement, lungs and landmarks of the follow-up are therefore known.
"""

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, atomic_write_json, remove_unfinished
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.images import read_mask, read_scan, write_image
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.registration import flow
from LungRecoveryLib.timepoints import about
from LungRecoveryTrainingLib import deformations
from LungRecoveryTrainingLib.appearance import compressed
from LungRecoveryTrainingLib.draws import Draws
from LungRecoveryTrainingLib.lesions import Lesions, random_lesions, threshold
from LungRecoveryTrainingLib.synthetic import Motion, Synthesis, random_motion

from . import folder
from .layout import Layout, make_folder
from .manifest import Row
from .processes import in_processes

SCHEMA = "lungrecovery-synthetic-pair-1"
# The motion is drawn on voxels of this size and integrated on nodes as far apart, so that its inverse is exact.
_WORKING_MM = 3.0
_MARGIN_MM = 20.0
_SLAB = 16
# A cell of this size gives at most one landmark: its densest place well inside the lungs.
_LANDMARK_CELL_MM = 14.0
_LANDMARKS = 300
_AIR = grids.AIR_HU / 1000 + 1
# Displacements are kept to this part of a millimetre: what follows compresses to nothing.
_STEP_MM = 1 / 256


@dataclass(frozen=True)
class PairSettings:
    """How synthetic pairs on disk are drawn; ranges are drawn from evenly.

    `motion`: what moves and how the lesions change; the scans are not aligned. `noise_hu`: standard deviation of the
    follow-up's noise; `blur_mm`: of its kernel; `thick`: the share of follow-ups whose slices are 2 or 3 times thicker,
    up to `slice_mm`. `spacing`: cubic voxels in mm to which both are resampled at last, None keeps the scan's.
    """

    motion: Synthesis
    noise_hu: tuple[float, float] = (5.0, 30.0)
    blur_mm: tuple[float, float] = (0.0, 1.2)
    thick: float = 0.4
    slice_mm: float = 5.0
    spacing: float | None = None


@dataclass(eq=False)
class SyntheticPair:
    """A scan and its follow-up, int16 HU; `lungs` label maps; `displacement` phi(p) - p in LPS mm on the scan's grid,
    a vector image; `points` (K, 3) LPS mm, the same places in both."""

    scan: sitk.Image
    scan_lungs: sitk.Image
    scan_points: np.ndarray
    followup: sitk.Image
    followup_lungs: sitk.Image
    followup_points: np.ndarray
    displacement: sitk.Image


def settings_for(breathing_mm: float = 60.0, spacing: float | None = None) -> PairSettings:
    """The settings with breaths of up to so many mm, all of it left for alignment and registration to find."""
    motion = Synthesis(
        spacing_mm=_WORKING_MM, aligned=False, breathing_mm=breathing_mm, rotation_degrees=5.0, translation_mm=15.0,
        scale=1.02, inflation=1.0,
    )  # fmt: skip
    return PairSettings(motion, spacing=spacing)


def make_pair(ct: sitk.Image, lungs: sitk.Image, seed: int, settings: PairSettings) -> SyntheticPair:
    """A pair from a CT in HU and its lungs (labels on any grid); the same seed gives the same voxels.

    Raises BadInput where the mask is empty.
    """
    ct, lungs = _cropped(ct, lungs)
    made = _Making(ct, lungs, settings, Draws(1, torch.device("cpu"), torch.Generator().manual_seed(seed)))
    scan = grids.to_image(made.baseline(), grids.grid_of(ct))
    points = _landmarks(grids.to_array(scan), lungs)
    followup, followup_lungs = made.followup()
    if settings.spacing is not None:
        scan, lungs = _coarser(scan, lungs, settings.spacing)
        followup, followup_lungs = _coarser(followup, followup_lungs, settings.spacing)
    followup = _scanned(followup, settings, np.random.default_rng([seed, 20_705]))
    return SyntheticPair(
        scan=_as_hu(scan),
        scan_lungs=lungs,
        scan_points=points,
        followup=_as_hu(followup),
        followup_lungs=grids.resample_mask(followup_lungs, followup),
        followup_points=made.moved(points),
        displacement=made.displacement(grids.grid_of(scan)),
    )


def _cropped(ct: sitk.Image, lungs: sitk.Image) -> tuple[sitk.Image, sitk.Image]:
    """The scan and its lungs on the part of its grid around the lungs."""
    lungs = grids.resample_mask(lungs, ct)
    if not (sitk.GetArrayViewFromImage(lungs) != 0).any():
        raise BadInput("the mask of its lungs is empty; give one that marks the lungs")
    grid = grids.crop_to_mask(lungs, _MARGIN_MM)
    return grids.resample(ct, grid), grids.resample_mask(lungs, grid)


def _coarser(density: sitk.Image, lungs: sitk.Image, spacing: float) -> tuple[sitk.Image, sitk.Image]:
    """Both with cubic voxels of `spacing` mm."""
    grid = grids.isotropic_grid(grids.grid_of(density), spacing)
    return grids.resample(density, grid, outside=_AIR), grids.resample_mask(lungs, grid)


class _Making:
    """Draws a pair slab by slab: positions are voxels of a working grid along the scan's axes, float32 tensors."""

    def __init__(self, ct: sitk.Image, lungs: sitk.Image, settings: PairSettings, draws: Draws):
        self.grid = grids.grid_of(ct)
        # Over that of air, so that beyond the scan there is air.
        self.over_air = torch.from_numpy((grids.to_array(ct, np.float32) - np.float32(grids.AIR_HU)) / 1000)[None, None]
        self.labels = torch.from_numpy(grids.to_array(lungs, np.float32))[None, None]
        self.working = grids.isotropic_grid(grids.crop_to_mask(lungs, 2 * _WORKING_MM), _WORKING_MM)
        mask = torch.from_numpy(grids.to_array(grids.resample_mask(lungs, self.working), np.float32))
        mask = (mask > 0).float()[None, None]
        self.motion: Motion = random_motion(mask, settings.motion, draws, step=1.0)
        self.lesions: Lesions = random_lesions(draws, mask)
        ill = draws.chance(settings.motion.lesion_probability)
        self.stages = [
            threshold(draws.uniform(*settings.motion.lesion_share) * (ill & ~draws.chance(settings.motion.healed)))
            for _ in range(2)
        ]
        self.mass = draws.uniform(*settings.motion.mass)
        self.mask = mask

    def baseline(self) -> np.ndarray:
        """The scan with the lesions of its date, (HU + 1000) / 1000, (z, y, x) float32."""
        slabs = []
        for first, last, positions in self._slabs(self.grid):
            density, inside = self.over_air[:, :, first:last] + _AIR, self.labels[:, :, first:last] > 0
            slabs.append(torch.where(inside, self._ill(density, positions, 0), density)[0, 0])
        return torch.cat(slabs).numpy()

    def followup(self) -> tuple[sitk.Image, sitk.Image]:
        """The follow-up, (HU + 1000) / 1000, float32, and its lungs' labels, uint8, where the lungs have gone to."""
        grid = self._followup_grid()
        density, labels = np.empty(grid.shape, np.float32), np.empty(grid.shape, np.uint8)
        for first, last, positions in self._slabs(grid):
            origins = self.motion.back(positions)
            voxels = self._to_voxels(origins)
            inside = deformations.nearest_voxel(self.labels, voxels)
            drawn = flow.warp(self.over_air, voxels, padding="zeros") + _AIR
            thinned = compressed(self._ill(drawn, origins, 1), self.motion.jacobian_of_back(positions) ** self.mass)
            density[first:last] = torch.where(inside > 0, thinned, drawn)[0, 0].numpy()
            labels[first:last] = inside[0, 0].numpy().astype(np.uint8)
        return grids.to_image(density, grid), grids.to_image(labels, grid)

    def _followup_grid(self) -> Grid:
        """The scan's grid, grown or cut to where the lungs go."""
        positions = flow.voxel_coordinates(self.working.shape)[None]
        moved = self.motion(positions)[:, :, self.mask[0, 0] > 0][0].T.double().numpy()
        index = self.grid.indices(self.working.points(moved))
        margin = np.ceil(_MARGIN_MM / np.array(self.grid.spacing))
        start = np.floor(index.min(axis=0) - margin).astype(int)
        stop = np.ceil(index.max(axis=0) + margin).astype(int)
        return grids.crop(self.grid, tuple(start.tolist()), tuple((stop - start + 1).tolist()))

    def displacement(self, grid: Grid) -> sitk.Image:
        """phi(p) - p on a grid along the scan's axes, LPS mm."""
        field = np.empty((3, *grid.shape), np.float32)
        to_mm = torch.from_numpy(self.working.index_to_point).float()
        for first, last, positions in self._slabs(grid):
            voxels = (self._exact(positions) - positions)[0]
            field[:, first:last] = torch.einsum("ij,jzyx->izyx", to_mm, voxels).numpy()
        return grids.to_image(np.round(field / _STEP_MM) * np.float32(_STEP_MM), grid)

    def moved(self, points: np.ndarray) -> np.ndarray:
        """Where points (N, 3) of the scan lie in the follow-up, LPS mm."""
        positions = torch.from_numpy(self.working.indices(points)).float().T[None, :, :, None, None]
        return self.working.points(self._exact(positions)[0, :, :, 0, 0].T.double().numpy())

    def _exact(self, positions: torch.Tensor) -> torch.Tensor:
        """phi as the inverse of the very map that draws the follow-up: what interpolation leaves is taken away."""
        moved = self.motion(positions)
        for _ in range(2):
            moved = moved + positions - self.motion.back(moved)
        return moved

    def _ill(self, density: torch.Tensor, positions: torch.Tensor, stage: int) -> torch.Tensor:
        """Density of tissue at positions with the lesions of a stage."""
        level = flow.warp(self.lesions.level, positions)
        return replace(self.lesions, level=level).drawn(density, self.stages[stage])

    def _to_voxels(self, positions: torch.Tensor) -> torch.Tensor:
        """Voxels of the scan: the grids share their axes."""
        scale, start = self._between(self.grid)
        return (positions - start) / scale

    def _between(self, grid: Grid) -> tuple[torch.Tensor, torch.Tensor]:
        """Scale and start (3, 1, 1, 1): voxel i of a grid along the same axes is at scale i + start."""
        scale = np.array(grid.spacing) / _WORKING_MM
        start = self.working.indices(np.array([grid.origin]))[0]
        return tuple(torch.from_numpy(a).float()[:, None, None, None] for a in (scale, start))

    def _slabs(self, grid: Grid) -> Iterator[tuple[int, int, torch.Tensor]]:
        """The first slice, the one after the last, and the positions (1, 3, z, y, x) of the slabs of a grid."""
        scale, start = self._between(grid)
        for first in range(0, grid.shape[0], _SLAB):
            last = min(first + _SLAB, grid.shape[0])
            voxels = flow.voxel_coordinates((last - first, *grid.shape[1:]))
            voxels[2] += first
            yield first, last, (voxels * scale + start)[None]


def _scanned(image: sitk.Image, settings: PairSettings, rng: np.random.Generator) -> sitk.Image:
    """A density image with noise, kernel and slices drawn anew."""
    noise = rng.normal(0, rng.uniform(*settings.noise_hu) / 1000, image.GetSize()[::-1]).astype(np.float32)
    image = grids.to_image(grids.to_array(image) + noise, image)
    sigma = rng.uniform(*settings.blur_mm)
    if sigma > 0.25 * min(image.GetSpacing()):  # narrower kernels do not reach the next voxel
        image = sitk.DiscreteGaussian(image, [sigma**2] * 3, maximumKernelWidth=16)
    factor = int(rng.integers(2, 4))
    if rng.random() < settings.thick and factor * image.GetSpacing()[2] <= settings.slice_mm:
        image = sitk.BinShrink(image, [1, 1, factor])
    return image


def _as_hu(density: sitk.Image) -> sitk.Image:
    """int16 HU of (HU + 1000) / 1000."""
    hu = np.clip(np.rint(1000 * (grids.to_array(density) - 1)), grids.AIR_HU, np.iinfo(np.int16).max)
    return grids.to_image(hu.astype(np.int16), density)


def _landmarks(density: np.ndarray, lungs: sitk.Image) -> np.ndarray:
    """Vessels and the like: the densest voxel of each cell of the lungs, away from their border, (K, 3) LPS mm."""
    grid = grids.grid_of(lungs)
    depth = sitk.SignedMaurerDistanceMap(lungs > 0, insideIsPositive=True, squaredDistance=False, useImageSpacing=True)
    voxels = np.argwhere(grids.to_array(depth) > 4.0)
    if not len(voxels):
        return np.empty((0, 3))
    points = grid.points(voxels[:, ::-1])
    cells = np.floor((points - points.min(axis=0)) / _LANDMARK_CELL_MM).astype(np.int64)
    values = density[tuple(voxels.T)]
    order = np.lexsort((-values, *cells.T))
    first = np.r_[True, (np.diff(cells[order], axis=0) != 0).any(axis=1)]
    chosen = order[first]
    chosen = chosen[np.linspace(0, len(chosen) - 1, min(len(chosen), _LANDMARKS)).round().astype(int)]
    return points[chosen]


# ------------------------------------------------------------------------------------------------------------- on disk


def collect(
    root: Path,
    output: Path,
    pairs: int = 20,
    seed: int = 0,
    breathing: float = 60.0,
    spacing: float | None = None,
    val: float = 0.1,
    test: float = 0.1,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """Make `pairs` pairs in `output`/synthetic, those that it lacks, from the CTs in `root` in turn; rows of all.

    `root` is laid out as for ``folder``; scans without a mask are segmented. Pair i has the seed `seed` + i, a breath
    of up to `breathing` mm, and is in the split of its scan's patient (shares `val` and `test`). `spacing` (mm) makes
    the voxels cubic and the files smaller; without it the pairs have their scans' voxels. Raises BadInput for options
    that cannot be and for a folder with pairs of other options.
    """
    if pairs < 1:
        raise BadInput(f"{pairs} pairs cannot be made; give a number of 1 or more")
    if not 0 <= breathing <= 100:
        raise BadInput(f"a breath of {breathing:g} mm cannot be; choose 0 to 100 mm")
    if spacing is not None and not 0.5 <= spacing <= 10:
        raise BadInput(f"voxels of {spacing:g} mm cannot be made; choose 0.5 to 10 mm")
    scans = folder.collect(root, output, val, test, seed, True, workers, part(progress, 0.0, 0.2))
    settings = settings_for(breathing, spacing)
    tasks = []
    for number in range(pairs):
        row = scans[number % len(scans)]
        place = output / "synthetic" / f"{row.subject}-{row.timepoint:g}-{seed + number:06d}"
        tasks.append((place, row, seed + number, settings))
    make_folder(output / "synthetic")
    missing = [task for task in tasks if not _is_made(*task)]
    for number, name in enumerate(in_processes(_write_pair, missing, workers), 1):
        progress("pairs", 0.2 + 0.8 * number / len(missing), name)
    return [row for place, source, _, _ in tasks for row in _rows(place, source.split)]


def _about(row: Row, seed: int, settings: PairSettings) -> dict:
    """What tells a pair apart, as it comes back from JSON."""
    source = f"{row.subject} {row.timepoint:g}"
    return json.loads(json.dumps({"schema": SCHEMA, "source": source, "seed": seed, "settings": asdict(settings)}))


def _is_made(place: Path, row: Row, seed: int, settings: PairSettings) -> bool:
    """Whether a pair is there. Raises BadInput where something else is."""
    remove_unfinished(place)
    if not place.exists():
        return False
    try:
        found = json.loads((place / "pair.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{place}: is no synthetic pair; give an output of its own for the pairs") from error
    if found != _about(row, seed, settings):
        raise BadInput(f"{place}: was made with other options; give the same again, or another output")
    return True


def _write_pair(task: tuple[Path, Row, int, PairSettings]) -> str:
    """Write one pair, whole or not at all; returns the folder's name."""
    place, row, seed, settings = task
    with about(row.name):
        ct = read_scan(row.image).image
        pair = make_pair(ct, read_mask(row.mask, ct), seed, settings)
    with atomic_directory(place) as unfinished:
        baseline, followup = (_files(unfinished, number) for number in (0, 1))
        write_image(pair.scan, baseline["image"])
        write_image(pair.scan_lungs, baseline["mask"])
        write_image(pair.followup, followup["image"])
        write_image(pair.followup_lungs, followup["mask"])
        write_image(pair.displacement, followup["displacement"])
        for files, points in ((baseline, pair.scan_points), (followup, pair.followup_points)):
            np.savetxt(files["landmarks"], points, "%.4f", ",", header="x,y,z", comments="")
        atomic_write_json(unfinished / "pair.json", _about(row, seed, settings))
    return place.name


def _files(place: Path, number: int) -> dict[str, Path]:
    name = ("baseline", "followup")[number]
    endings = {"image": ".nii.gz", "mask": "-lungs.nii.gz", "landmarks": "-landmarks.csv"}
    if number:
        endings["displacement"] = "-displacement.nii.gz"
    return {column: place / f"{name}{ending}" for column, ending in endings.items()}


def _rows(place: Path, split: str) -> list[Row]:
    rows = []
    for number in (0, 1):
        files = _files(place, number)
        if len(files["landmarks"].read_text(encoding="utf-8").splitlines()) < 2:
            files.pop("landmarks")
        rows.append(Row(place.name, float(number), split=split, **files))
    return rows


LAYOUT = Layout(
    "synthetic",
    "Pairs with known deformation made of any CTs",
    folder.LAYOUT.download,
    collect,
)
