"""OASIS as Neurite published it: 414 T1 brains in one space, with FreeSurfer labels."""

from pathlib import Path

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import same_grid
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, check_present, header
from .manifest import Row
from .splits import split_by_patient

LABELS = (4, 35)
_DOWNLOAD = (
    "download neurite-oasis.v1.0.tar (OASIS data use agreement) from "
    "https://github.com/adalca/medical-datasets/blob/master/neurite-oasis.md and unpack it, so that ROOT holds "
    "subjects.txt and a folder OASIS_OAS1_*_MR1 for each of 414 subjects with aligned_norm.nii.gz, aligned_seg4.nii.gz "
    "and aligned_seg35.nii.gz"
)


def collect(
    root: Path,
    output: Path,
    val: float = 0.05,
    test: float = 0.1,
    seed: int = 0,
    labels: int = 35,
    partial: bool = False,
    progress: Progress = no_progress,
) -> list[Row]:
    """One row a subject: aligned_norm, its brain (aligned_seg4) as mask, and `labels` (4 or 35) structures.

    Pairs are any two subjects (mode ``subjects``); train with anatomy ``brain`` and without alignment. `partial` takes
    fewer subjects than subjects.txt lists.
    """
    if labels not in LABELS:
        raise BadInput(f"there is no segmentation with {labels} labels; choose 4 or 35")
    subjects = _subjects(root, partial)
    names = ("aligned_norm.nii.gz", "aligned_seg4.nii.gz", "aligned_seg35.nii.gz")
    check_present(root, [f"{subject}/{name}" for subject in subjects for name in names], _DOWNLOAD)
    splits = split_by_patient(subjects, val, test, seed)
    reference = header(root / subjects[0] / names[0])
    rows = []
    for number, subject in enumerate(subjects, 1):
        files = {name: root / subject / name for name in names}
        for path in files.values():
            if not same_grid(header(path), reference, 0.01):
                raise BadInput(f"{path}: does not lie on the grid of {subjects[0]}; download the data set again")
        labelled = files[f"aligned_seg{labels}.nii.gz"]
        rows.append(Row(subject, 0.0, files[names[0]], files[names[1]], labelled, split=splits[subject]))
        progress("headers", number / len(subjects), subject)
    return rows


def _subjects(root: Path, partial: bool) -> list[str]:
    path = root / "subjects.txt"
    if partial or not path.is_file():
        found = sorted(folder.name for folder in root.glob("OASIS_OAS1_*_MR1") if folder.is_dir())
        if not found:
            raise BadInput(f"{root}: has no folder OASIS_OAS1_*_MR1; {_DOWNLOAD}")
        if not partial:
            raise BadInput(f"{path}: is missing, so nobody can tell whether the subjects are all there; {_DOWNLOAD}")
        return found
    subjects = path.read_text(encoding="utf-8").split()
    if not subjects:
        raise BadInput(f"{path}: names no subject; {_DOWNLOAD}")
    return subjects


LAYOUT = Layout("oasis", "OASIS by Neurite: brains with labels", _DOWNLOAD, collect)
