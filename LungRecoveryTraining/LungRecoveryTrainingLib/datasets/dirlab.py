"""DIR-Lab's lung benchmarks: 4DCT (ten cases, breathing phases) and COPDgene (ten cases, inhaled and exhaled).

The images are raw: 16-bit integers, little-endian, x fastest, HU + 1024 (-2000 outside the scan), without a header.
Sizes and spacings are those published with them: 4DCT by Castillo et al. (Phys. Med. Biol. 54, 2009, 1849) and
Castillo et al. (Phys. Med. Biol. 55, 2010, 305), COPDgene by Castillo et al. (Phys. Med. Biol. 58, 2013, 2861).
"""

from pathlib import Path

import numpy as np

from LungRecoveryLib import hounsfield
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.images import write_image
from LungRecoveryLib.landmarks import dirlab_grid, read_points
from LungRecoveryLib.progress import Progress, no_progress

from .layout import Layout, header, listed, with_masks
from .manifest import SPLITS, Row

CASES = range(1, 11)
OFFSET = 1024
_COPDGENE = {
    1: (121, 0.625),
    2: (102, 0.645),
    3: (126, 0.652),
    4: (126, 0.590),
    5: (131, 0.647),
    6: (119, 0.633),
    7: (112, 0.625),
    8: (115, 0.586),
    9: (116, 0.664),
    10: (135, 0.742),
}
_WHERE = (
    "https://med.emory.edu/departments/radiation-oncology/research-laboratories/deformable-image-registration/"
    "downloads-and-reference-data/"
)
_DOWNLOAD_4DCT = (
    f"request the 4DCT packets at {_WHERE}4dct.html (for research, to be cited) and unpack them, so that ROOT holds "
    "Case1Pack ... Case10Pack (Case8Deploy) with Images/*.img, ExtremePhases/*.txt and Sampled4D/*.txt"
)
_DOWNLOAD_COPDGENE = (
    f"request the COPDgene packets at {_WHERE}copdgene.html (for research, to be cited) and unpack them, so that ROOT "
    "holds copd1 ... copd10 with copdN_iBHCT.img, copdN_eBHCT.img, copdN_300_iBH_xyz_r1.txt, copdN_300_eBH_xyz_r1.txt"
)


def collect_4dct(
    root: Path,
    output: Path,
    phases: str = "extreme",
    split: str = "test",
    partial: bool = False,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """Rows of 4DCT; the baseline is T00 (end of inhalation), time points are the phases' numbers.

    `phases`: ``extreme``, T00 and T50 with their 300 landmarks, or ``exhalation``, T00 to T50 with the 75 landmarks
    that all six have. The images are converted into `output`/dirlab-4dct. `partial` takes the cases that are there.
    """
    if phases not in ("extreme", "exhalation"):
        raise BadInput(f"there are no phases {phases!r}; choose extreme or exhalation")
    numbers = (0, 50) if phases == "extreme" else range(0, 60, 10)
    kind = "_300_T{}_xyz.txt _dirLab300_T{}_xyz.txt" if phases == "extreme" else "_4D-75_T{}.txt"
    cases = {}
    for case in CASES:
        images = {n: [f"case{case}_T{n:02d}{end}.img" for end in ("_s", "-s", "-ssm", "")] for n in numbers}
        points = {n: [f"case{case}{name.format(f'{n:02d}')}" for name in kind.split()] for n in numbers}
        cases[f"case{case}"] = (dirlab_grid(case), images, points)
    return _collect(root, output / "dirlab-4dct", cases, _DOWNLOAD_4DCT, split, partial, masks, workers, progress)


def collect_copdgene(
    root: Path,
    output: Path,
    split: str = "test",
    partial: bool = False,
    masks: bool = True,
    workers: int = 0,
    progress: Progress = no_progress,
) -> list[Row]:
    """Rows of COPDgene; the baseline is the inhaled scan (time point 0), the exhaled one is time point 1.

    Both have 300 landmarks. The images are converted into `output`/dirlab-copdgene. `partial` takes the cases that are
    there.
    """
    cases = {}
    for case in CASES:
        names = {0: "iBH", 1: "eBH"}
        images = {n: [f"copd{case}_{breath}CT.img"] for n, breath in names.items()}
        points = {n: [f"copd{case}_300_{breath}_xyz_r1.txt"] for n, breath in names.items()}
        cases[f"copd{case}"] = (copdgene_grid(case), images, points)
    folder = output / "dirlab-copdgene"
    return _collect(root, folder, cases, _DOWNLOAD_COPDGENE, split, partial, masks, workers, progress)


def copdgene_grid(case: int) -> Grid:
    """The published grid of a COPDgene case (1 to 10), its origin in the first voxel; KeyError for another."""
    slices, pixel = _COPDGENE[case]
    return Grid((512, 512, slices), (pixel, pixel, 2.5), (0.0, 0.0, 0.0), dirlab_grid(1).direction)


def _collect(root, folder: Path, cases, download: str, split, partial, masks, workers, progress) -> list[Row]:
    if split not in SPLITS:
        raise BadInput(f"there is no split {split!r}; choose one of {', '.join(SPLITS)}")
    files = _files(root)
    wanted = {name: case for name, case in cases.items() if not partial or _find(files, case[1][0]) is not None}
    _check_present(root, files, wanted or cases, download)
    rows = []
    for number, (name, (grid, images, points)) in enumerate(wanted.items(), 1):
        for timepoint in images:
            image = _converted(_find(files, images[timepoint]), grid, folder / f"{name}-{timepoint:02d}.mha", download)
            landmarks = _find(files, points[timepoint])
            read_points(landmarks, grid)  # says what is wrong with them
            rows.append(Row(name, float(timepoint), image, landmarks=landmarks, split=split))
        progress("images", 0.5 * number / len(wanted), name)
    return with_masks(rows, folder, workers, progress) if masks else rows


def _files(root: Path) -> dict[str, Path]:
    """The images and landmarks anywhere below a folder, by their names in lower case."""
    return {path.name.lower(): path for path in sorted(root.rglob("*")) if path.suffix.lower() in (".img", ".txt")}


def _find(files: dict[str, Path], names: list[str]) -> Path | None:
    """The first file that has one of the names, which vary from packet to packet."""
    return next((files[name.lower()] for name in names if name.lower() in files), None)


def _check_present(root: Path, files: dict[str, Path], cases: dict, download: str) -> None:
    missing = []
    for _, images, points in cases.values():
        missing += [names[0] for names in (*images.values(), *points.values()) if _find(files, names) is None]
    if missing:
        raise BadInput(f"{root}: {len(missing)} files are missing: {listed(missing)}; {download}")


def _converted(raw: Path, grid: Grid, target: Path, download: str) -> Path:
    """The raw image as int16 HU with its geometry; one that was converted before is kept."""
    if target.is_file() and header(target).size == grid.size:
        return target
    expected = 2 * int(np.prod(grid.size))
    if raw.stat().st_size != expected:
        size = " x ".join(str(n) for n in grid.size)
        raise BadInput(f"{raw}: has {raw.stat().st_size} bytes, not {expected} for {size} voxels; {download}")
    stored = np.fromfile(raw, "<i2").reshape(grid.shape)
    hu = np.maximum(stored.astype(np.int32) - OFFSET, hounsfield.LOWEST_HU)
    hounsfield.check_values(hu, str(raw))
    target.parent.mkdir(parents=True, exist_ok=True)
    write_image(to_image(np.minimum(hu, hounsfield.HIGHEST_HU).astype(np.int16), grid), target)
    return target


LAYOUT_4DCT = Layout("dirlab-4dct", "DIR-Lab 4DCT: ten cases with landmarks", _DOWNLOAD_4DCT, collect_4dct)
LAYOUT_COPDGENE = Layout(
    "dirlab-copdgene", "DIR-Lab COPDgene: ten cases with landmarks", _DOWNLOAD_COPDGENE, collect_copdgene
)
