"""Draw lung masks, regions and vessels on CT scans, to be looked at.

    python Testing/figures/lung_masks.py --output FOLDER scan.nii.gz other.mha dicom_folder ...

leaves two PNGs for each scan, with slices along the patient's axes. NAME_lungs.png: the right lung in orange, the left
lung in blue, trachea and main bronchi in green, and in white a mask NAME_lung_mask that lies beside the scan.
NAME_regions.png: thirds as tints, dorsal halves darker, the core outlined, vessels in magenta. The figures show
patients: they are for the screen, not for a repository.
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.anatomy.body import air_in_body, lung_air
from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, segment_lungs
from LungRecoveryLib.anatomy.regions import lung_atoms, region_masks
from LungRecoveryLib.anatomy.trachea import central_airways
from LungRecoveryLib.anatomy.vessels import vessels_with_rim
from LungRecoveryLib.anatomy.working import patient_grid, working_volume
from LungRecoveryLib.grids import Grid, grid_of, resample, resample_mask, to_array, to_image

SPACING_MM = 1.5
COLUMNS = 8
THIRDS = {"upper": (0.0, 0.45, 0.70), "middle": (0.90, 0.62, 0.0), "lower": (0.84, 0.37, 0.0)}  # Okabe and Ito


def read(path: Path) -> sitk.Image:
    """A scan from a file or a DICOM folder."""
    if path.is_dir():
        return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    return sitk.ReadImage(str(path))


def airways_of(ct: sitk.Image, grid: Grid) -> np.ndarray:
    """Trachea and main bronchi as the segmentation sees them, on `grid`."""
    work = working_volume(ct)
    air = air_in_body(work)
    return to_array(resample_mask(to_image(central_airways(work, air, lung_air(work, air)), work.grid), grid)) > 0


def slices(labels: np.ndarray) -> list[tuple[int, int]]:
    """(axis, level) of the panels: two rows of axial slices, one of coronal and one of sagittal ones."""
    chosen = []
    for axis, count in ((0, 2 * COLUMNS), (1, COLUMNS), (2, COLUMNS)):
        levels = np.flatnonzero(labels.any(axis=tuple(a for a in range(3) if a != axis)))
        chosen += [(axis, int(level)) for level in np.linspace(levels[0] + 1, levels[-1] - 1, count)]
    return chosen


def cut(array: np.ndarray, axis: int, level: int) -> np.ndarray:
    """A slice, with the patient's head up in coronal and sagittal ones."""
    section = np.take(array, level, axis)
    return section if axis == 0 else section[::-1]


def sheet(hu: np.ndarray, labels: np.ndarray, title: str, target: Path, paint) -> None:
    """Write a sheet of slices; `paint(panel, axis, level)` draws on each."""
    figure, axes = plt.subplots(4, COLUMNS, figsize=(COLUMNS * 3.2, 12.0))
    for panel, (axis, level) in zip(axes.flat, slices(labels), strict=True):
        panel.imshow(cut(hu, axis, level), cmap="gray", vmin=-1100, vmax=250)
        paint(panel, axis, level)
        panel.axis("off")
    figure.suptitle(title + "  Research use only; not for diagnosis")
    figure.tight_layout()
    figure.savefig(target, dpi=75)
    plt.close(figure)


def outline(panel, mask: np.ndarray, colour: str) -> None:
    """The contour of a mask, if there is any in this slice."""
    if mask.any():
        panel.contour(mask, [0.5], colors=colour, linewidths=0.7)


def draw(path: Path, output: Path) -> None:
    """Segment one scan and write its two sheets."""
    ct = read(path)
    name = "_".join(path.parts[-2:]).split(".")[0]
    beside = path.with_name(path.name.replace(".", "_lung_mask.", 1))
    started = time.perf_counter()
    lungs = segment_lungs(ct)
    seconds = time.perf_counter() - started
    vessels, atoms = vessels_with_rim(ct, lungs), lung_atoms(lungs)
    grid = patient_grid(grid_of(ct), SPACING_MM)
    hu, labels = to_array(resample(ct, grid)), to_array(resample_mask(lungs, grid))
    layers = [(labels == RIGHT, "#ff9f1c"), (labels == LEFT, "#2ec4ff"), (airways_of(ct, grid), "#6bff6b")]
    if beside != path and beside.exists():
        layers.append((to_array(resample_mask(sitk.ReadImage(str(beside)), grid)) > 0, "#ffffff"))
    native = sitk.GetArrayViewFromImage(lungs)
    volumes = [round(float((native == side).sum()) * grid_of(ct).voxel_ml) for side in (RIGHT, LEFT)]
    title = f"{name}: right {volumes[0]} ml, left {volumes[1]} ml, {seconds:.1f} s."

    def lung_sheet(panel, axis, level):
        for mask, colour in layers:
            outline(panel, cut(mask, axis, level), colour)

    tint = np.zeros((*grid.shape, 4), np.float32)
    masks = region_masks(resample_mask(atoms, grid))
    for region, mask in masks.items():
        third = region.split("_")[-1]
        if third in THIRDS:
            tint[mask] = (*THIRDS[third], 0.35)
    for region in ("right_dorsal", "left_dorsal"):
        if region in masks:
            tint[masks[region], :3] *= 0.55
    core = masks.get("core", np.zeros(grid.shape, bool))
    vessel = to_array(resample_mask(vessels, grid)) > 0

    def region_sheet(panel, axis, level):
        panel.imshow(cut(tint, axis, level), interpolation="nearest")
        outline(panel, cut(core, axis, level), "#ffffff")
        panel.contourf(cut(vessel, axis, level), [0.5, 1.5], colors="#ff4fd8", alpha=0.8)

    sheet(hu, labels, title, output / f"{name}_lungs.png", lung_sheet)
    sheet(hu, labels, title, output / f"{name}_regions.png", region_sheet)
    print(title)


def main() -> None:
    """Draw every scan that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.scans:
        draw(path, options.output)


if __name__ == "__main__":
    main()
