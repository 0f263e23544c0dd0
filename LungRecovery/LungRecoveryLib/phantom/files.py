"""A synthetic patient on disk."""

import json
from pathlib import Path

import numpy as np

from .. import RESEARCH_USE_ONLY, __version__
from ..files import atomic_directory, atomic_write_json
from ..images import write_image
from ..progress import Progress, no_progress
from .patient import Patient, Visit

MASKS = ("lungs", "lobes", "airways", "vessels", "lesions", "abnormal")


def write_patient(patient: Patient, folder: Path, overwrite: bool = False, progress: Progress = no_progress) -> None:
    """Write a patient into a new folder, whole or not at all.

    The scans lie in the folder itself (``day-000.nii.gz``, ``day-030.nii.gz``, ...), what is true of each beside it in
    a folder of the same name: the label maps, ``displacement.nii.gz`` and ``jacobian.nii.gz`` (on the baseline's
    grid) and ``landmarks.csv`` (LPS mm, baseline and this visit); ``truth.json`` holds volumes and scores.
    ``phantom.json`` says what the folder is and lists the scans; by it the folder is known as one that may be replaced.
    Raises BadInput when the folder exists and `overwrite` is not set, is no folder of results, or cannot be written.
    """
    with atomic_directory(Path(folder), overwrite) as directory:
        for number, visit in enumerate(patient.visits):
            name = _name(visit)
            progress(name, number / len(patient.visits), "writing")
            write_image(visit.ct, directory / f"{name}.nii.gz")
            _write_truth(visit, patient.visits[0], directory / name)
        text = json.dumps(patient.truth(), indent=2, allow_nan=False)
        (directory / "truth.json").write_text(text + "\n", encoding="utf-8")
        atomic_write_json(directory / "phantom.json", _about(patient))
    progress("written", 1.0)


def _name(visit: Visit) -> str:
    return f"day-{visit.days:03g}"


def _about(patient: Patient) -> dict:
    """What the folder holds, as plain values."""
    return {
        "schema": "lungrecovery-phantom-1",
        "notice": f"A synthetic patient. {RESEARCH_USE_ONLY}",
        "version": __version__,
        "kind": patient.kind,
        "seed": patient.seed,
        "scans": [{"path": f"{_name(v)}.nii.gz", "label": v.label, "days": v.days} for v in patient.visits],
    }


def _write_truth(visit: Visit, baseline: Visit, folder: Path) -> None:
    folder.mkdir()
    for name in (*MASKS, "displacement", "jacobian"):
        write_image(getattr(visit, name), folder / f"{name}.nii.gz")
    header = "baseline_x,baseline_y,baseline_z,followup_x,followup_y,followup_z"
    rows = np.concatenate([baseline.landmarks, visit.landmarks], axis=1)
    np.savetxt(folder / "landmarks.csv", rows, fmt="%.4f", delimiter=",", header=header, comments="")
