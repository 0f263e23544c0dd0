"""One pair of brains, from files to a folder: what `lungrecovery register --task brain` runs."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import SimpleITK as sitk
import torch

from LungRecoveryLib import RESEARCH_USE_ONLY, grids, images
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.evaluate import label_overlap, named_labels
from LungRecoveryLib.files import atomic_directory, atomic_write_json
from LungRecoveryLib.image_files import single_volume
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.registration.brain import SPACING_MM, BrainRegistration, register_brains
from LungRecoveryLib.resources import BRAIN_WEIGHTS
from LungRecoveryLib.results import plain, versions


@dataclass(frozen=True)
class BrainOptions:
    """How two brains are registered; see the options of `lungrecovery register`."""

    preset: str = "standard"
    weights: str = BRAIN_WEIGHTS
    spacing_mm: float = SPACING_MM
    device: str = "auto"
    threads: int | None = None
    seed: int = 0


def register_brain_pair(
    fixed: Path,
    moving: Path,
    output: Path,
    masks: tuple[Path | None, Path | None] = (None, None),
    labels: tuple[Path | None, Path | None] = (None, None),
    options: BrainOptions | None = None,
    overwrite: bool = False,
    progress: Progress = no_progress,
) -> dict[str, Any]:
    """Register a brain onto another and leave transform.h5, inverse_transform.h5, jacobian.nii.gz, warped.nii.gz and
    registration.json; with label maps of both also labels_warped.nii.gz and overlay.png.

    `masks` and `labels` are those of the fixed and the moving brain. Returns what registration.json holds. Raises
    BadInput for inputs that cannot be used.
    """
    options = options or BrainOptions()
    if (labels[0] is None) != (labels[1] is None):
        raise BadInput("labels of one brain only: give both --fixed-labels and --moving-labels")
    inputs = [path for path in (fixed, moving, *masks, *labels) if path is not None]
    with atomic_directory(output, overwrite, inputs) as folder:
        progress("read", 0.0)
        brains = [_read(path) for path in (fixed, moving)]
        laid = [
            None if path is None else images.read_mask(path, brain) for path, brain in zip(masks, brains, strict=True)
        ]
        maps = [None if path is None else _read_labels(path) for path in labels]
        found = register_brains(
            *brains,
            *laid,
            preset=options.preset,
            weights=options.weights,
            device=options.device,
            seed=options.seed,
            threads=options.threads,
            spacing_mm=options.spacing_mm,
            progress=part(progress, 0.05, 0.9),
        )
        content = _summary(found)
        progress("write", 0.92)
        _write(found, folder)
        if maps[0] is not None:
            content["labels"] = _labels(found, brains, maps, folder)
            content["notes"] = [*found.notes, *named_labels(content["labels"]["after"])]
        atomic_write_json(folder / "registration.json", json.loads(json.dumps(plain(content))))
    progress("done", 1.0)
    return content


def _read(path: Path) -> sitk.Image:
    image = images.read_image(path)
    return sitk.Cast(single_volume(image, str(path)), sitk.sitkFloat32)


def _read_labels(path: Path) -> sitk.Image:
    image = single_volume(images.read_image(path), str(path))
    return image if "float" not in image.GetPixelIDTypeAsString() else sitk.Cast(sitk.Round(image), sitk.sitkInt32)


def _labels(found: BrainRegistration, brains: list, maps: list, folder: Path) -> dict[str, Any]:
    """Overlap before and after, the labels carried over, and the picture of both."""
    from LungRecoveryLib.report.overlay import draw_overlay

    before, after = label_overlap(*maps), label_overlap(*maps, found.transform)
    warped = grids.resample_mask(maps[1], maps[0], found.transform)
    images.write_image(warped, folder / "labels_warped.nii.gz")
    laid = [grids.resample_mask(labels, brains[0]) for labels in (maps[0], maps[1], warped)]
    moving = grids.resample(brains[1], brains[0], outside=0.0)
    draw_overlay(
        brains[0], moving, found.warped, laid, (before["mean_dice"], after["mean_dice"]), folder / "overlay.png"
    )
    return {"before": before, "after": after}


def _summary(found: BrainRegistration) -> dict[str, Any]:
    names = (
        "folding_percent", "sd_log_jacobian", "similarity_before", "similarity_after", "inverse_mean_mm",
        "inverse_p95_mm", "aligned", "seconds", "settings", "device", "weights_sha256", "notes",
    )  # fmt: skip
    return {
        "notice": RESEARCH_USE_ONLY,
        "task": "brain",
        **{name: getattr(found, name) for name in names},
        "versions": versions() | {"torch": torch.__version__},
    }


def _write(found: BrainRegistration, folder: Path) -> None:
    images.write_transform(found.transform, folder / "transform.h5")
    images.write_transform(found.inverse_transform, folder / "inverse_transform.h5")
    images.write_image(found.jacobian, folder / "jacobian.nii.gz")
    images.write_image(found.warped, folder / "warped.nii.gz")
