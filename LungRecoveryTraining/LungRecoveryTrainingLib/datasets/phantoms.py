"""The project's own phantom as a data set: written to disk with manifest, or made on the fly as samples."""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_directory, atomic_write_json, remove_unfinished
from LungRecoveryLib.images import write_image
from LungRecoveryLib.progress import Progress, no_progress

from .cache import compact, expand
from .chests import HELD_OUT, KINDS, ChestScan, PhantomSettings, patient_scans, true_map
from .layout import Layout, make_folder
from .manifest import Row
from .processes import in_processes
from .samples import TEXTS, Sample, sample_of
from .splits import split_by_patient

# Lungs are aligned as registration aligns them.
ALIGN_MM = 1.5
DAYS = 30
# Displacements are kept to this part of a millimetre, so that they compress.
STEP_MM = 1 / 256
SCHEMA = "lungrecovery-training-phantom-1"


def generate_samples(
    seeds: Iterable[int],
    spacing_mm: float = 3.0,
    size: tuple[int, int, int] | None = None,
    settings: PhantomSettings | None = None,
    workers: int = 0,
) -> Iterator[Sample]:
    """Samples of synthetic patients, `settings.visits` for each seed, in the order of the seeds.

    `size` is (z, y, x). With `workers` they are made in so many processes, see :func:`.processes.in_processes`, a few
    patients ahead of what is taken, so that memory stays bounded. The same seed, settings, spacing and size give the
    same samples, whatever the workers.
    """
    make = partial(patient_samples, spacing_mm=spacing_mm, size=size, settings=settings or PhantomSettings())
    for samples in in_processes(partial(_packed, make), seeds, workers):
        for sample in samples:
            yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def patient_samples(
    seed: int, spacing_mm: float, size: tuple[int, int, int] | None, settings: PhantomSettings
) -> list[Sample]:
    """The samples of one synthetic patient: the baseline with each visit, either of them the fixed one."""
    _, scans = patient_scans(seed, settings)
    flips = np.random.default_rng([seed, 20_704]).random(len(scans)) < 0.5
    samples = []
    for number in range(1, len(scans)):
        first, second = (number, 0) if flips[number] else (0, number)
        fixed, moving = scans[first], scans[second]
        known = true_map(fixed, moving)
        sample = sample_of(fixed.as_scan(), moving.as_scan(), known, spacing_mm, size, align_mm=ALIGN_MM)
        subject = f"phantom-{seed}"
        samples.append(sample | {"subject": subject, "pair": f"{subject}:{first}-{second}"})
    return samples


def _packed(make: Callable[[int], list[Sample]], seed: int) -> list[dict]:
    """Samples as arrays: they pass between processes without shared memory, which containers are short of."""
    return [{k: v if k in TEXTS else v.numpy() for k, v in compact(sample).items()} for sample in make(seed)]


# ------------------------------------------------------------------------------------------------------------- on disk


def collect(
    root: Path,
    output: Path,
    count: int = 20,
    seed: int = 0,
    size: Sequence[int] | None = None,
    spacing: float | None = None,
    kinds: Sequence[str] = (),
    visits: int = 2,
    val: float = 0.1,
    test: float = 0.1,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """Make `count` synthetic patients in `root`, those that it lacks, and give the rows of all.

    Patient i has the seed `seed` + i, `visits` follow-ups, and one of `kinds` (all kinds by default). `size` (x, y, z)
    voxels and `spacing` in mm fix the grid, which otherwise differs from scan to scan. Patients for validation and
    testing (the shares `val` and `test`) come from other generator settings than those for training: see
    :data:`.chests.HELD_OUT`. Raises BadInput for options that cannot be and for a folder made with others.
    """
    if count < 1 or visits < 1:
        raise BadInput(f"{count} patients with {visits} follow-ups cannot be made; give numbers of 1 or more")
    names = {f"phantom-{seed + i:06d}": seed + i for i in range(count)}
    splits = split_by_patient(names, val, test)
    fixed = _grid_options(size, spacing, kinds) | {"visits": visits}
    settings = {"train": replace(PhantomSettings(), **fixed), "val": replace(HELD_OUT, **fixed)}
    settings["test"] = settings["val"]
    make_folder(root)
    missing = []
    for name in names:
        remove_unfinished(root / name)
        if (root / name).exists():
            _check_made(root / name, names[name], settings[splits[name]])
        else:
            missing.append((root / name, names[name], settings[splits[name]]))
    for number, name in enumerate(in_processes(_write_patient, missing, workers), 1):
        progress("phantoms", number / len(missing), name)
    return [row for name in names for row in _rows(root / name, visits, splits[name])]


def _grid_options(size: Sequence[int] | None, spacing: float | None, kinds: Sequence[str]) -> dict:
    options: dict = {}
    if size is not None:
        if len(size) != 3 or min(size) < 16:
            raise BadInput(f"a size of {' x '.join(map(str, size))} voxels cannot be; give three numbers from 16 on")
        options["size"] = tuple(int(n) for n in size)
    if spacing is not None:
        if not 0.5 <= spacing <= 10.0:
            raise BadInput(f"voxels of {spacing:g} mm cannot be made; choose 0.5 to 10 mm")
        options |= {"pixel_mm": (spacing, spacing), "slice_mm": (spacing, spacing)}
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        raise BadInput(f"there is no phantom of the kind {unknown[0]!r}; choose from {', '.join(KINDS)}")
    if kinds:
        options["kinds"] = tuple(kinds)
    return options


def _about(seed: int, settings: PhantomSettings) -> dict:
    """What tells a patient apart, as it comes back from JSON."""
    return json.loads(json.dumps({"schema": SCHEMA, "seed": seed, "settings": asdict(settings)}))


def _check_made(folder: Path, seed: int, settings: PhantomSettings) -> None:
    try:
        about = json.loads((folder / "phantom.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadInput(f"{folder}: is no synthetic patient; give a root of its own for the phantoms") from error
    about.pop("kind", None)
    if about != _about(seed, settings):
        raise BadInput(f"{folder}: was made with other options; give the same again, or another root")


def _write_patient(task: tuple[Path, int, PhantomSettings]) -> str:
    """Write one patient, whole or not at all; returns the folder's name."""
    folder, seed, settings = task
    kind, scans = patient_scans(seed, settings)
    seen = np.isfinite(np.stack([scan.points for scan in scans])).all(axis=(0, 2))
    with atomic_directory(folder) as unfinished:
        for number, scan in enumerate(scans):
            files = _files(unfinished, number)
            write_image(scan.image, files["image"])
            write_image(scan.lungs, files["mask"])
            np.savetxt(files["landmarks"], scan.points[seen], "%.4f", ",", header="x,y,z", comments="")
            if number:
                write_image(_displacement(scans[0], scan), files["displacement"])
        atomic_write_json(unfinished / "phantom.json", {**_about(seed, settings), "kind": kind})
    return folder.name


def _files(folder: Path, number: int) -> dict[str, Path]:
    name = f"day-{DAYS * number:03d}"
    endings = {"image": ".nii.gz", "mask": "-lungs.nii.gz", "landmarks": "-landmarks.csv"}
    if number:
        endings["displacement"] = "-displacement.nii.gz"
    return {column: folder / f"{name}{ending}" for column, ending in endings.items()}


def _displacement(baseline: ChestScan, visit: ChestScan):
    """The true displacement as a vector image on the baseline's grid, LPS mm, made slice by slice."""
    grid = grids.grid_of(baseline.image)
    field = np.empty((3, *grid.shape), np.float32)
    y, x = np.indices(grid.shape[1:]).reshape(2, -1)
    for z in range(grid.size[2]):
        points = grid.points(np.stack([x, y, np.full_like(x, z)], axis=1))
        field[:, z] = (visit.motion.forward(points) - points).T.reshape(3, *grid.shape[1:])
    return grids.to_image(np.rint(field / STEP_MM) * np.float32(STEP_MM), grid)


def _rows(folder: Path, visits: int, split: str) -> list[Row]:
    rows = []
    for number in range(visits + 1):
        files = _files(folder, number)
        if not _has_points(files["landmarks"]):
            files.pop("landmarks")
        rows.append(Row(folder.name, float(DAYS * number), split=split, **files))
    return rows


def _has_points(path: Path) -> bool:
    return len(path.read_text(encoding="utf-8").splitlines()) > 1


LAYOUT = Layout(
    "phantoms",
    "Synthetic chests with known motion",
    "nothing is downloaded: the patients are made here, one to two seconds of one core for each scan at 3 mm",
    collect,
    generates=True,
)
