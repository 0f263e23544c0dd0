"""STOIC2021: 2000 chest CTs of as many patients with suspected COVID-19, one each."""

import csv
from pathlib import Path

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, check_present, header, listed, with_masks
from .manifest import Row
from .splits import split_by_patient

REFERENCE = Path("metadata") / "reference.csv"
COLUMNS = ("PatientID", "probCOVID", "probSevere")
PUBLISHED = 2000
_DOWNLOAD = (
    "download the public training set of STOIC2021 (CC BY-NC 4.0) from the Registry of Open Data on AWS: "
    "aws s3 sync s3://stoic2021-training/ ROOT --no-sign-request, which makes ROOT/metadata/reference.csv and "
    "ROOT/data/mha/"
)


def collect(
    root: Path,
    output: Path,
    val: float = 0.1,
    test: float = 0.1,
    seed: int = 0,
    positive: bool = False,
    partial: bool = False,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """One row a patient of `metadata/reference.csv`, whose scan is `data/mha/PatientID.mha`.

    `positive` keeps those with a positive RT-PCR only; `partial` takes a download of fewer than all scans; `masks`
    segments the lungs into `output`. As nobody has a follow-up, the scans make pairs by `prepare synthetic` only.
    """
    patients = _patients(root / REFERENCE)
    if len(patients) != PUBLISHED and not partial:
        raise BadInput(f"{root / REFERENCE}: lists {len(patients)} patients, not {PUBLISHED}; {_DOWNLOAD}")
    names = {patient: f"data/mha/{patient}.mha" for patient, covid in patients.items() if covid or not positive}
    if partial:
        names = {patient: name for patient, name in names.items() if (root / name).is_file()}
        if not names:
            raise BadInput(f"{root / 'data' / 'mha'}: holds no scan of {REFERENCE}; {_DOWNLOAD}")
    check_present(root, list(names.values()), _DOWNLOAD)
    splits = split_by_patient(names, val, test, seed)
    rows = []
    for number, (patient, name) in enumerate(names.items(), 1):
        header(root / name)
        rows.append(Row(patient, 0.0, root / name, split=splits[patient]))
        progress("headers", number / len(names), name)
    return with_masks(rows, output, workers, progress) if masks else rows


def _patients(path: Path) -> dict[str, bool]:
    """The patients of reference.csv and whether each has COVID-19."""
    if not path.is_file():
        raise BadInput(f"{path}: is missing; {_DOWNLOAD}")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        absent = [column for column in COLUMNS if column not in (reader.fieldnames or ())]
        if absent:
            raise BadInput(f"{path}: has no column {listed(absent)}; {_DOWNLOAD}")
        try:
            return {row["PatientID"].strip(): float(row["probCOVID"]) > 0.5 for row in reader}
        except (TypeError, ValueError) as error:
            raise BadInput(f"{path}: has a row without a number for probCOVID; {_DOWNLOAD}") from error


LAYOUT = Layout("stoic", "STOIC2021: chest CT in COVID-19", _DOWNLOAD, collect)
