"""One pair: prepare -> align -> refine -> transforms, maps and figures of merit."""

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .. import grids
from ..errors import BadInput, OutOfMemory
from ..grids import Grid
from ..progress import Progress, no_progress, part
from . import refine as refinement
from .align import align_lungs
from .prepare import prepare
from .refine import Level
from .velocity import Deformation

_COARSE = (Level(4, 4, 40, 0.3, 3.0), Level(4, 2, 40, 0.2, 3.0))
PRESETS: dict[str, tuple[Level, ...]] = {
    "fast": (*_COARSE, Level(2, 4, 40, 0.15, 0.5)),
    "standard": (*_COARSE, Level(2, 4, 50, 0.15, 1.0), Level(1, 4, 20, 0.15, 1.0)),
    "accurate": (*_COARSE, Level(2, 4, 80, 0.15, 1.0), Level(1, 4, 50, 0.15, 1.0)),
}


@dataclass(eq=False)
class Registration:
    """A follow-up (moving) registered onto a baseline (fixed). Images are on `grid`, the working grid."""

    transform: sitk.Transform  # baseline point -> follow-up point, LPS mm
    inverse_transform: sitk.Transform
    grid: Grid
    warped: sitk.Image  # the follow-up on the grid, HU
    displacement: sitk.Image  # phi(p) - p, LPS mm, float32 vectors
    jacobian: sitk.Image  # det(grad phi), affine part included
    fixed_lungs: sitk.Image  # labels 1 right, 2 left
    warped_lungs: sitk.Image  # the follow-up's lungs on the grid
    inside: sitk.Image  # 1 where phi(p) lies in the follow-up's field of view
    folding_percent: float  # share of lung voxels with J <= 0
    similarity_before: float  # mean squared LNCC in the lungs as the scans lie in the scanner, 0 to 1
    similarity_after: float
    inverse_mean_mm: float
    inverse_p95_mm: float
    lung_dice: float
    seconds: dict[str, float]
    settings: dict
    device: str
    notes: list[str] = field(default_factory=list)


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_lungs: sitk.Image | None = None,
    moving_lungs: sitk.Image | None = None,
    preset: str = "standard",
    device: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    spacing_mm: float = 1.5,
    native_maps: bool = False,
    progress: Progress = no_progress,
) -> Registration:
    """Register a moving scan onto a fixed one by their lungs.

    Parameters: scans in HU; lung masks on any grid (non-zero: lung), segmented where None; `preset` one of PRESETS;
    `device` auto, cpu or cuda[:n]; `spacing_mm` of the isotropic working grid in the fixed scan's axes, on which the
    maps lie, unless `native_maps` asks for the fixed scan's own grid.

    Raises BadInput for an unknown preset or device and for lungs that do not overlap after alignment, OutOfMemory when
    not even the CPU at half resolution has enough.
    """
    if preset not in PRESETS:
        raise BadInput(f"There is no preset {preset!r}: use one of {', '.join(PRESETS)}.")
    seconds: dict[str, float] = {}
    notes: list[str] = []
    torch.manual_seed(seed)
    with _threads(threads):
        with _timed(seconds, "lungs"):
            fixed_lungs = _lungs(fixed, fixed_lungs, part(progress, 0.0, 0.05))
            moving_lungs = _lungs(moving, moving_lungs, part(progress, 0.05, 0.1))
        deformation, used = _deformation(
            fixed, moving, fixed_lungs, moving_lungs, preset, device, spacing_mm, seconds, notes, progress
        )
        progress("maps", 0.9)
        with _timed(seconds, "maps"):
            grid = grids.grid_of(fixed) if native_maps else grids.isotropic_grid(grids.grid_of(fixed), spacing_mm)
            result = _measure(deformation, grid, fixed, moving, fixed_lungs, moving_lungs)
    settings = {
        "preset": preset,
        "levels": [vars(level) for level in PRESETS[preset]],
        "spacing_mm": spacing_mm,
        "seed": seed,
        "native_maps": native_maps,
    }
    progress("maps", 1.0)
    return replace(result, seconds=seconds, settings=settings, device=used, notes=notes)


def _lungs(scan: sitk.Image, lungs: sitk.Image | None, progress: Progress) -> sitk.Image:
    if lungs is not None:
        return lungs
    from ..anatomy.lungs import segment_lungs

    return segment_lungs(scan, progress)


def _deformation(fixed, moving, fixed_lungs, moving_lungs, preset, device, spacing_mm, seconds, notes, progress):
    """The deformation and the device it was made on, with less resolution, then on the CPU, when memory runs out."""
    levels = PRESETS[preset]
    half = tuple(level for level in levels if level.scale > 1) or levels
    chosen = choose_device(device)
    attempts = [(chosen, levels)]
    if chosen.type == "cuda":
        attempts += [(chosen, half), (torch.device("cpu"), levels)]
    attempts += [(torch.device("cpu"), half)]
    for attempt, (where, what) in enumerate(attempts):
        try:
            return _align_and_refine(
                fixed, moving, fixed_lungs, moving_lungs, what, where, spacing_mm, seconds, progress
            ), str(where)
        except (torch.cuda.OutOfMemoryError, MemoryError) as error:
            if attempt == len(attempts) - 1:
                raise OutOfMemory(
                    "Registration does not fit into memory: close other programs or use a machine with more."
                ) from error
            following = attempts[attempt + 1]
            resolution = "half resolution" if following[1] is half else "full resolution"
            notes.append(f"Memory ran out on {where}; continued at {resolution} on {following[0]}.")
            if where.type == "cuda":
                torch.cuda.empty_cache()
    raise AssertionError("unreachable")


def _align_and_refine(fixed, moving, fixed_lungs, moving_lungs, levels, device, spacing_mm, seconds, progress):
    with _timed(seconds, "prepare"):
        progress("prepare", 0.1)
        pair = prepare(fixed, moving, fixed_lungs, moving_lungs, spacing_mm, device)
    with _timed(seconds, "align"):
        alignment = align_lungs(pair, lambda f: progress("align", 0.12 + 0.08 * f))
    with _timed(seconds, "refine"):
        velocity = refinement.refine(pair, alignment, levels, None, lambda f: progress("refine", 0.2 + 0.7 * f))
    return Deformation(alignment, replace(velocity, coefficients=velocity.coefficients.cpu()), pair.fixed_box)


def _measure(deformation, grid, fixed, moving, fixed_lungs, moving_lungs) -> Registration:
    transform, inverse = deformation.transform(), deformation.inverse_transform()
    labels = grids.resample_mask(fixed_lungs, grid)
    warped_lungs = grids.resample_mask(moving_lungs, grid, transform)
    lung = sitk.GetArrayViewFromImage(labels) != 0
    other = sitk.GetArrayViewFromImage(warped_lungs) != 0
    if not (lung & other).any():
        raise BadInput("The lungs of the two scans do not overlap: give scans, or masks, of the same lung.")
    displacement, jacobian = deformation.on(grid)
    inside = grids.resample_mask(_everywhere(moving), grid, transform)
    warped = grids.resample(moving, grid, transform)
    before, after = _similarities(fixed, moving, labels, inside, warped)
    inverse_error = inverse_consistency(transform, inverse, grid, lung)
    return Registration(
        transform=transform,
        inverse_transform=inverse,
        grid=grid,
        warped=warped,
        displacement=grids.to_image(displacement, grid),
        jacobian=grids.to_image(jacobian, grid),
        fixed_lungs=labels,
        warped_lungs=warped_lungs,
        inside=inside,
        folding_percent=float(100.0 * (jacobian[lung] <= 0).mean()),
        similarity_before=before,
        similarity_after=after,
        inverse_mean_mm=float(inverse_error.mean()),
        inverse_p95_mm=float(np.percentile(inverse_error, 95)),
        lung_dice=float(2.0 * (lung & other).sum() / (lung.sum() + other.sum())),
        seconds={},
        settings={},
        device="",
    )


def _everywhere(scan: sitk.Image) -> sitk.Image:
    """A mask of a scan's whole field of view."""
    mask = sitk.Image(scan.GetSize(), sitk.sitkUInt8) + 1
    mask.CopyInformation(scan)
    return mask


def _similarities(fixed, moving, lungs, inside, warped) -> tuple[float, float]:
    """Mean squared LNCC in the lungs that both scans see, as the scans lie in the scanner and after registration."""
    box = grids.crop_to_mask(lungs, margin_mm=5.0)
    seen = grids.to_array(grids.resample_mask(lungs, box)) * grids.to_array(grids.resample_mask(inside, box)) != 0
    target = grids.to_array(grids.resample(fixed, box), np.float32)
    before = grids.to_array(grids.resample(moving, box), np.float32)
    after = grids.to_array(grids.resample(warped, box), np.float32)
    return refinement.similarity_of(target, before, seen), refinement.similarity_of(target, after, seen)


def inverse_consistency(transform, inverse, grid: Grid, mask: np.ndarray, count: int = 8000) -> np.ndarray:
    """|inverse(transform(p)) - p| in mm at up to `count` evenly taken voxels of a mask (z, y, x)."""
    inside = np.argwhere(mask)[:, ::-1]
    points = grid.points(inside[:: max(1, len(inside) // count)])
    back = grids.transform_points(inverse, grids.transform_points(transform, points))
    return np.linalg.norm(back - points, axis=1)


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda or cuda:n. Raises BadInput where there is no such device."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise BadInput(f"There is no device {name!r}: use auto, cpu or cuda:n.") from error
    if device.type not in ("cpu", "cuda"):
        raise BadInput(f"There is no device {name!r}: use auto, cpu or cuda:n.")
    if device.type == "cuda" and (not torch.cuda.is_available() or (device.index or 0) >= torch.cuda.device_count()):
        raise BadInput(f"The device {name!r} is not on this machine: use auto or cpu.")
    return device


@contextmanager
def _threads(count: int | None):
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def _timed(seconds: dict[str, float], stage: str):
    start = time.perf_counter()
    yield
    seconds[stage] = round(time.perf_counter() - start, 3)


def write_registration(registration: Registration, folder: Path) -> None:
    """Write transform.h5, inverse_transform.h5, jacobian.nii.gz, warped.nii.gz and registration.json into a folder."""
    from ..images import write_image, write_transform

    folder = Path(folder)
    write_transform(registration.transform, folder / "transform.h5")
    write_transform(registration.inverse_transform, folder / "inverse_transform.h5")
    write_image(registration.jacobian, folder / "jacobian.nii.gz")
    write_image(registration.warped, folder / "warped.nii.gz")
    (folder / "registration.json").write_text(json.dumps(summary(registration), indent=2) + "\n", encoding="utf-8")


def summary(registration: Registration) -> dict:
    """What registration.json says of a registration: figures of merit, settings, seconds, versions."""
    from .. import RESEARCH_USE_ONLY, __version__

    return {
        "notice": RESEARCH_USE_ONLY,
        "folding_percent": registration.folding_percent,
        "similarity_before": registration.similarity_before,
        "similarity_after": registration.similarity_after,
        "lung_dice": registration.lung_dice,
        "inverse_mean_mm": registration.inverse_mean_mm,
        "inverse_p95_mm": registration.inverse_p95_mm,
        "seconds": registration.seconds,
        "settings": registration.settings,
        "device": registration.device,
        "notes": registration.notes,
        "versions": {
            "lungrecovery": __version__,
            "torch": torch.__version__,
            "SimpleITK": sitk.Version_VersionString(),
        },
        "weights_sha256": None,
    }
