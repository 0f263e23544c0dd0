"""One patient of a cohort, as a task on any worker: analysed, or found finished before."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

from LungRecoveryLib import __version__
from LungRecoveryLib.cohort.manifest import Patient
from LungRecoveryLib.errors import LungRecoveryError
from LungRecoveryLib.files import atomic_directory, atomic_write_json, remove_unfinished
from LungRecoveryLib.results import StudyResult
from LungRecoveryLib.system import peak_memory_mb

RECORD = "patient.json"
SCHEMA = "lungrecovery-cohort-patient-1"
_MEASURES = ("jacobian", "jacobian_normalized", "tissue_recovery", "class")


def analyse_patient(patient: Patient, settings: dict[str, Any], output: str) -> dict[str, Any]:
    """Analyse a patient into `output/patients/<folder>`; returns the record, which lies there too.

    Where that folder was made from the same inputs and settings, it is only read. An error that another try would not
    cure becomes a record of the failure; every other one is raised, for the scheduler to try again.
    """
    from LungRecoveryLib.job import job_from
    from LungRecoveryLib.study import analyze_into
    from LungRecoveryLib.timepoints import input_paths

    target = Path(output) / "patients" / patient.folder
    start = time.perf_counter()
    base = {"patient": patient.name, "group": patient.group, "folder": patient.folder}
    try:
        content = {**settings, "timepoints": list(patient.timepoints), "output": str(target), "overwrite": True}
        job = job_from({**content, "device": own_device(settings.get("device", "auto"))}, patient.name)
        key = content_key(patient, settings)
        done = finished(target, key)
        if done is not None:
            return {**done, **base, "resumed": True}
        remove_unfinished(target)
        with atomic_directory(target, True, input_paths(job)) as folder:
            result = analyze_into(folder, job)
            record = {"schema": SCHEMA, "key": key, **base, **_measured(result)}
            record |= {"seconds": round(time.perf_counter() - start, 2), "peak_mb": round(peak_memory_mb())}
            record["disk_mb"] = round(sum(f.stat().st_size for f in folder.rglob("*") if f.is_file()) / 1e6, 1)
            atomic_write_json(folder / RECORD, record)
    except LungRecoveryError as error:
        return {**base, **failure(error.exit_code, str(error)), "seconds": round(time.perf_counter() - start, 2)}
    return {**record, "resumed": False}


def failure(code: int, message: str) -> dict[str, Any]:
    """What the record of a patient says whose analysis failed."""
    return {"status": "failed", "code": code, "message": message, "timepoints": [], "resumed": False}


def finished(target: Path, key: str) -> dict[str, Any] | None:
    """The record of a patient that was finished before with the same key; None where there is none."""
    try:
        record = json.loads((target / RECORD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and record.get("key") == key else None


def content_key(patient: Patient, settings: dict[str, Any]) -> str:
    """A hash of what makes a patient's results: the bytes of the inputs, the settings but threads, the version."""
    settings = {name: value for name, value in settings.items() if name not in ("threads", "device")}
    digest = hashlib.sha256(json.dumps([__version__, settings], sort_keys=True).encode("utf-8"))
    for timepoint in patient.timepoints:
        for name, value in sorted(timepoint.items()):
            digest.update(f"|{name}|".encode())
            if name in ("path", "lungs", "landmarks"):
                _add_files(digest, Path(value))
            else:
                digest.update(str(value).encode("utf-8"))
    return digest.hexdigest()


def _add_files(digest: "hashlib._Hash", path: Path) -> None:
    """Add the bytes of a file, or of all files in a folder by name; what is missing shows when it is read."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path] if path.is_file() else []
    for file in files:
        digest.update(file.name.encode("utf-8", "surrogateescape"))
        with file.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)


def own_device(device: str) -> str:
    """The device of this worker: where `auto` finds several GPUs, the workers of a machine take one each."""
    if device != "auto":
        return device
    import torch

    count = torch.cuda.device_count()
    if count < 2:
        return device
    from distributed import get_worker

    name = str(get_worker().name)
    return f"cuda:{(int(name) if name.isdigit() else os.getpid()) % count}"


def _measured(result: StudyResult) -> dict[str, Any]:
    """What the cohort's table and report need of a study."""
    last = result.timepoints[-1]
    failed = [t for t in result.timepoints if not t.reliable]
    timepoints = [
        {
            "label": t.label,
            "days": t.days,
            "reliable": t.reliable,
            "verdict": t.quality["verdict"] if t.quality else None,
            "reasons": t.quality["reasons"] if t.quality else [],
            "volume_ml": t.density["lungs"]["volume_ml"],
            "mean_hu": t.density["lungs"]["mean_hu"],
            "abnormal_percent": t.density["lungs"]["abnormal_percent"],
            **{name: t.scores["lungs"][name] for name in _MEASURES},
        }
        for t in result.timepoints
    ]
    return {
        "status": "unreliable" if failed else "done",
        "code": 6 if failed else 0,
        "message": "; ".join(reason for t in failed for reason in t.quality["reasons"]),
        "timepoints": timepoints,
        "last": last.label,
    }
