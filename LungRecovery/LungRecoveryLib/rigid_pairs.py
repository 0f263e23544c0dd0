"""One rigid pair, from files to a folder: what `lungrecovery rigid` runs."""

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import RESEARCH_USE_ONLY, grids, images
from LungRecoveryLib.anatomy.organ import DEFAULT_MM, OrganPart, organ_part
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, atomic_write_json, atomic_write_text
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.registration import motion6
from LungRecoveryLib.registration.rigid import DEFAULT_METRIC, SPACING_MM, Rigid, register_rigid
from LungRecoveryLib.report.overlay import draw_overlay
from LungRecoveryLib.resources import NO_NETWORK, RIGID_WEIGHTS
from LungRecoveryLib.results import versions
from LungRecoveryLib.system import limited_threads
from LungRecoveryLib.timepoints import about

SHORT = ("crop", "skip")
_WINDOW = (-160.0, 240.0)  # of abdominal soft tissue, HU


@dataclass(frozen=True)
class RigidOptions:
    """How two scans are registered rigidly; see the options of `lungrecovery rigid`. Not `optimised`: the network's
    start is the result."""

    weights: str = RIGID_WEIGHTS
    optimised: bool = True
    metric: str = DEFAULT_METRIC
    roi_mm: float = DEFAULT_MM
    roi_slices: int | None = None
    short: str = "crop"
    affine: bool = False
    spacing_mm: float = SPACING_MM
    threads: int | None = None
    seed: int = 0
    allow_different_patients: bool = False


class Skipped(Exception):
    """A scan is too short and the options say that such a case is left out; the text says why."""


def register_rigid_pair(
    fixed: Path,
    moving: Path,
    output: Path,
    fixed_mask: Path | None = None,
    moving_mask: Path | None = None,
    initial: Path | None = None,
    options: RigidOptions | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Register two scans of one body by rotation and translation, and leave the folder of `write_rigid`; with masks
    of both also overlay.png.

    The masks hold the organ that counts; only its part from the top down is used. Returns what `rigid.json` holds.
    Raises BadInput for inputs that cannot be used, Skipped for a scan that is too short where short ones are skipped.
    """
    options = options or RigidOptions()
    if options.short not in SHORT:
        raise BadInput(f"--short {options.short}: use one of {', '.join(SHORT)}")
    if not options.optimised and (initial is not None or options.weights == NO_NETWORK):
        raise BadInput("the network's start alone needs a network: give no --initial, and --weights other than none")
    inputs = [path for path in (fixed, moving, fixed_mask, moving_mask, initial) if path is not None]
    with limited_threads(options.threads), atomic_directory(output, overwrite, inputs) as folder:
        scans = images.read_scans(
            [fixed, moving], None, options.allow_different_patients, progress=part(progress, 0.0, 0.2)
        )
        parts = {
            name: _part(path, scan, options)
            for name, path, scan in zip(("fixed", "moving"), (fixed_mask, moving_mask), scans, strict=True)
        }
        start = time.perf_counter()
        found = register_rigid(
            scans[0].image,
            scans[1].image,
            *(None if p is None else p.mask for p in parts.values()),
            metric=options.metric,
            initial=None if initial is None else read_linear(initial),
            affine=options.affine,
            spacing_mm=options.spacing_mm,
            seed=options.seed,
            same_patient=not options.allow_different_patients,
            weights=options.weights,
            optimised=options.optimised,
            progress=part(progress, 0.2, 0.9),
        )
        seconds = time.perf_counter() - start
        content = _summary(found, options, parts, seconds)
        content["warnings"] = [w for scan in scans for w in scan.warnings] + found.notes
        progress("write", 0.92)
        write_rigid(found, scans[0].image, scans[1].image, content, folder)
        if all(parts.values()):
            _draw(found, [scan.image for scan in scans], [p.mask for p in parts.values()], folder / "overlay.png")
    progress("done", 1.0)
    return content


def _part(path: Path | None, scan: images.Scan, options: RigidOptions) -> OrganPart | None:
    if path is None:
        return None
    with about(str(path)):
        found = organ_part(images.read_mask(path, scan.image), options.roi_mm, options.roi_slices)
    if found.short and options.short == "skip":
        raise Skipped(f"{scan.name}: skipped, {found.described()}")
    return found


def read_linear(path: Path) -> sitk.Transform:
    """A rigid or affine ITK transform, or the 4x4 matrix of a text file in LPS mm, from fixed to moving points.

    Raises BadInput for anything else.
    """
    if not Path(path).is_file():
        raise BadInput(f"{path}: does not exist; give a linear ITK transform or a 4x4 matrix in a text file")
    try:
        if Path(path).suffix == ".txt":
            matrix = np.loadtxt(path)
            if matrix.shape != (4, 4) or not np.isfinite(matrix).all():
                raise ValueError("not 4x4")
            transform = sitk.AffineTransform(3)
            transform.SetMatrix(matrix[:3, :3].ravel().tolist())
            transform.SetTranslation(matrix[:3, 3].tolist())
            return transform
        return sitk.ReadTransform(str(path))
    except (RuntimeError, ValueError):
        raise BadInput(f"{path}: cannot be read; give a linear ITK transform or a 4x4 matrix in a text file") from None


def _draw(found: Rigid, scans: list[sitk.Image], organs: list[sitk.Image], path: Path) -> None:
    """The organ's outlines before and after, on the fixed scan's grid."""
    grid = grids.grid_of(scans[0])
    moving, warped = (grids.resample(scans[1], grid, t) for t in (sitk.Transform(), found.transform))
    laid = [organs[0], *(grids.resample_mask(organs[1], grid, t) for t in (sitk.Transform(), found.transform))]
    one, before, after = (sitk.GetArrayViewFromImage(mask) != 0 for mask in laid)
    dice = [2.0 * (one & other).sum() / max(one.sum() + other.sum(), 1) for other in (before, after)]
    draw_overlay(scans[0], moving, warped, laid, tuple(dice), path, _WINDOW)


def _summary(found: Rigid, options: RigidOptions, parts: dict[str, OrganPart | None], seconds: float) -> dict[str, Any]:
    matrix = motion6.matrix_4x4(found.transform)
    content: dict[str, Any] = {
        "notice": RESEARCH_USE_ONLY,
        **motion6.parameters(found.transform),
        "matrix_lps": matrix.tolist(),
        "matrix_ras": motion6.in_ras(matrix).tolist(),
        "determinant": float(np.linalg.det(matrix[:3, :3])),
        "metric": {"name": found.metric, "before": found.before, "after": found.after},
        "start": found.start,
        "agreement": found.agreement,
        "overlap": found.overlap,
        "organ_dice": found.organ_dice,
        "organ": {
            name: None if p is None else {"slices": p.slices, "mm": p.mm, "wanted_mm": p.wanted_mm, "short": p.short}
            for name, p in parts.items()
        },
        "log": [
            f"{name}: the whole body" if p is None else f"{name}: {p.described()}" for name, p in parts.items()
        ],
        "settings": asdict(options),
        "seconds": round(seconds, 3),
        "versions": versions(),
    }  # fmt: skip
    if found.affine is not None:
        content["affine_lps"] = motion6.matrix_4x4(found.affine).tolist()
    return content


def write_rigid(found: Rigid, fixed: sitk.Image, moving: sitk.Image, content: dict[str, Any], folder: Path) -> None:
    """Write transform.tfm, matrix_lps.txt, matrix_ras.txt, warped.nii.gz (on the fixed grid) and rigid.json."""
    images.write_transform(found.transform, folder / "transform.tfm")
    for frame in ("lps", "ras"):
        atomic_write_text(folder / f"matrix_{frame}.txt", motion6.text(np.array(content[f"matrix_{frame}"])))
    images.write_image(grids.resample(moving, grids.grid_of(fixed), found.transform), folder / "warped.nii.gz")
    atomic_write_json(folder / "rigid.json", json.loads(json.dumps(content)))
