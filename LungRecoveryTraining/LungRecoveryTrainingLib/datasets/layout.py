"""What every layout of a data set has in common, and what most of them check."""

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import SimpleITK as sitk

from LungRecoveryLib.anatomy.lungs import segment_lungs
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid
from LungRecoveryLib.image_files import MINIMUM_VOXELS, format_of
from LungRecoveryLib.images import read_scan, write_image
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.timepoints import about

from .manifest import Row
from .processes import in_processes

_SHOWN = 5


@dataclass(frozen=True)
class Layout:
    """A data set as it lies on disk.

    `download` says in plain words what to get, where, and under which licence. `collect(root, output, **options)`
    checks counts, sizes and geometry and gives the rows; what it has to convert goes into the folder `output`, where a
    second call finds it again. It raises BadInput naming what is missing. A layout that `generates` makes its data in
    `root`, which need not exist.
    """

    name: str
    title: str
    download: str
    collect: Callable[..., list[Row]]
    generates: bool = False

    @property
    def options(self) -> dict[str, inspect.Parameter]:
        """The options of `collect` by name, with their types and defaults."""
        parameters = inspect.signature(self.collect).parameters
        return {name: p for name, p in parameters.items() if name not in ("root", "output", "progress")}

    def check_root(self, root: Path) -> None:
        """Raise BadInput, which says what to download, where the data set's folder is not there."""
        if not self.generates and not root.is_dir():
            raise BadInput(f"{root}: is no folder; {self.download}")

    def rows(self, root: Path, output: Path, progress: Progress = no_progress, **options) -> list[Row]:
        """The rows of the data set in a folder. Raises BadInput for an unknown option and as `collect` does."""
        unknown = [name for name in options if name not in self.options]
        if unknown:
            known = ", ".join(self.options) or "none"
            raise BadInput(f"{self.name} has no option {', '.join(unknown)}; its options are: {known}")
        self.check_root(root)
        return self.collect(root, output, progress=progress, **options)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents. Raises BadInput where that is impossible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadInput(f"{folder}: cannot be made ({error.strerror}); give a writable folder") from error


def listed(names: Sequence[object]) -> str:
    """Names for a message: the first few, and how many more there are."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + rest


def check_present(root: Path, names: Sequence[str], download: str) -> None:
    """Raise BadInput naming those of `names` (paths below `root`) that are missing."""
    missing = [name for name in names if not (root / name).exists()]
    if missing:
        raise BadInput(f"{root}: {len(missing)} of {len(names)} files are missing: {listed(missing)}; {download}")


def header(path: Path) -> Grid:
    """The grid of a volume, from its header alone. Raises BadInput where it is no 3D volume with plausible voxels."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
    except RuntimeError as error:
        raise BadInput(f"{path}: cannot be read as an image; download it again") from error
    size, spacing = reader.GetSize(), reader.GetSpacing()
    if len(size) != 3 or min(size) < MINIMUM_VOXELS:
        shown = " x ".join(str(n) for n in size)
        raise BadInput(f"{path}: is no volume, its size is {shown}; download it again or take it out")
    if min(spacing) < 0.05 or max(spacing) > 20:
        shown = " x ".join(f"{s:g}" for s in spacing)
        raise BadInput(f"{path}: its voxels of {shown} mm are not plausible; download it again or take it out")
    return Grid(size, spacing, reader.GetOrigin(), reader.GetDirection())


def is_image(path: Path) -> bool:
    """Whether a file's name ends like that of a volume."""
    return path.is_file() and format_of(path) in ("NIfTI", "NRRD", "MetaImage") and not path.name.startswith(".")


def stem(path: Path) -> str:
    """A file's name without its ending, .nii.gz included."""
    return path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else path.stem


def with_masks(rows: Sequence[Row], output: Path, workers: int, progress: Progress = no_progress) -> list[Row]:
    """The rows with a lung mask each: those that have none are segmented into the folder `output`/masks.

    A mask that lies there already is kept. `workers` processes of one thread each. Raises BadInput naming the row.
    """
    folder = output / "masks"
    made = [replace(row, mask=row.mask or folder / f"{row.subject}-{row.timepoint:g}.nii.gz") for row in rows]
    tasks = [(new, new.mask) for new, row in zip(made, rows, strict=True) if row.mask is None and not new.mask.exists()]
    if tasks:
        folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(in_processes(_segment, tasks, workers), 1):
        progress("lungs", number / len(tasks), name)
    return made


def _segment(task: tuple[Row, Path]) -> str:
    row, path = task
    with about(row.name):
        write_image(segment_lungs(read_scan(row.image).image), path)
    return row.name
