"""Synthetic abdomens and brains on disk: pairs with their truth."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import RESEARCH_USE_ONLY, __version__
from ..files import atomic_directory, atomic_write_json
from ..images import write_image, write_transform
from ..progress import Progress, no_progress
from .abdomen import LABELS as ABDOMEN_LABELS
from .abdomen import make_abdomen
from .brain import LABELS as BRAIN_LABELS
from .brain import make_brains

ORGANS = ("abdomen", "brain")
_TURN_DEGREES, _SHIFT_MM = 15.0, 25.0


def write_organ_pair(
    kind: str, seed: int, spacing_mm: float, folder: Path, overwrite: bool = False, progress: Progress = no_progress
) -> dict:
    """Write a pair into a new folder, whole or not at all; returns what phantom.json says.

    ``abdomen``: venous.nii.gz and arterial.nii.gz with the liver and all labels of each and the true transform from the
    venous to the arterial scan, a turn of up to 15 degrees and a shift of up to 25 mm along each axis. ``brain``:
    brain_a.nii.gz and brain_b.nii.gz with labels.
    """
    with atomic_directory(folder, overwrite) as made:
        write = _write_abdomen if kind == "abdomen" else _write_brains
        about = {
            "schema": "lungrecovery-phantom-pair-1",
            "notice": f"A synthetic pair. {RESEARCH_USE_ONLY}",
            "version": __version__,
            "kind": kind,
            "seed": seed,
            **write(seed, spacing_mm, made, progress),
        }
        atomic_write_json(made / "phantom.json", about)
    progress("written", 1.0)
    return about


def _write_abdomen(seed: int, spacing_mm: float, folder: Path, progress: Progress) -> dict:
    rng = np.random.default_rng([seed, 31])
    rotation, translation = rng.uniform(-_TURN_DEGREES, _TURN_DEGREES, 3), rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3)
    size = tuple(round(mm / spacing_mm) for mm in (348.0, 264.0, 270.0))
    scans = make_abdomen(seed, size, (spacing_mm,) * 3, tuple(rotation), tuple(translation), progress=progress)
    for scan in scans:
        write_image(scan.ct, folder / f"{scan.phase}.nii.gz")
        write_image(scan.liver, folder / f"{scan.phase}_liver.nii.gz")
        write_image(scan.labels, folder / f"{scan.phase}_labels.nii.gz")
    write_transform(scans[1].from_body, folder / "truth.tfm")
    return {"labels": ABDOMEN_LABELS, "rotation_degrees": rotation.tolist(), "translation_mm": translation.tolist()}


def _write_brains(seed: int, spacing_mm: float, folder: Path, progress: Progress) -> dict:
    progress("brains", 0.1)
    for name, brain in zip("ab", make_brains(seed, spacing_mm), strict=True):
        write_image(sitk.Cast(brain.image, sitk.sitkFloat32), folder / f"brain_{name}.nii.gz")
        write_image(brain.labels, folder / f"brain_{name}_labels.nii.gz")
    return {"labels": {name: number for number, name in enumerate(BRAIN_LABELS, 1)}}
