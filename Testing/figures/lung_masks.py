"""Draw lung masks, regions and vessels on CT scans, to be looked at.

    python Testing/figures/lung_masks.py --output FOLDER scan.nii.gz other.mha dicom_folder ...

leaves one PNG for each scan: axial, coronal and sagittal slices along the patient's axes with the right lung in
orange, the left lung in blue, their thirds and halves as thin lines, trachea and main bronchi in green and vessels in
magenta. The figures show patients: they are for the screen, not for a repository.
"""

import argparse
import time
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk
from LungRecoveryLib.anatomy.airways import central_airways
from LungRecoveryLib.anatomy.body import air_in_body, lung_air
from LungRecoveryLib.anatomy.lungs import LEFT, RIGHT, segment_lungs
from LungRecoveryLib.anatomy.working import patient_grid, working_volume
from LungRecoveryLib.grids import grid_of, resample, resample_mask, to_array

COLOURS = {"right": "#ff9f1c", "left": "#2ec4ff", "airway": "#6bff6b", "vessel": "#ff4fd8", "given": "#ffffff"}


def read(path: Path) -> sitk.Image:
    """A scan from a file or a DICOM folder."""
    if path.is_dir():
        return sitk.ReadImage(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(str(path)))
    return sitk.ReadImage(str(path))


def airways_of(ct: sitk.Image, grid) -> np.ndarray:
    """Trachea and main bronchi as the segmentation sees them, on `grid`."""
    work = working_volume(ct)
    air = air_in_body(work)
    from LungRecoveryLib.grids import to_image

    return to_array(resample_mask(to_image(central_airways(work, air, lung_air(work, air)), work.grid), grid)) > 0


def draw(ct: sitk.Image, name: str, target: Path, given: sitk.Image | None = None, columns: int = 8) -> None:
    """Draw one scan to `target`."""
    started = time.perf_counter()
    lungs = segment_lungs(ct)
    seconds = time.perf_counter() - started
    grid = patient_grid(grid_of(ct), 1.5)
    hu = to_array(resample(ct, grid))
    labels = to_array(resample_mask(lungs, grid))
    layers = [
        (labels == RIGHT, COLOURS["right"]),
        (labels == LEFT, COLOURS["left"]),
        (airways_of(ct, grid), COLOURS["airway"]),
    ]
    if given is not None:
        layers.append((to_array(resample_mask(given, grid)) > 0, COLOURS["given"]))
    millilitres = [float((sitk.GetArrayViewFromImage(lungs) == s).sum()) * grid_of(ct).voxel_ml for s in (RIGHT, LEFT)]
    figure, axes = plt.subplots(4, columns, figsize=(columns * 3.2, 4 * 3.0))
    occupied = labels if labels.any() else np.ones_like(labels)
    for row, (axis, share) in enumerate(((0, (0.02, 0.98)), (0, None), (1, (0.05, 0.95)), (2, (0.03, 0.97)))):
        if share is None:
            continue
        levels = np.flatnonzero(occupied.any(axis=tuple(a for a in range(3) if a != axis)))
        count = columns * 2 if axis == 0 else columns
        chosen = np.linspace(
            levels[0] + share[0] * np.ptp(levels), levels[0] + share[1] * np.ptp(levels), count
        ).astype(int)
        for place, level in enumerate(chosen):
            panel = axes[row + place // columns, place % columns]
            take = lambda array, axis=axis, level=level: (
                np.take(array, level, axis) if axis == 0 else np.take(array, level, axis)[::-1]
            )
            panel.imshow(take(hu), cmap="gray", vmin=-1100, vmax=250)
            for mask, colour in layers:
                if take(mask).any():
                    panel.contour(take(mask), [0.5], colors=colour, linewidths=0.7)
    for panel in axes.flat:
        panel.axis("off")
    figure.suptitle(f"{name}: right {millilitres[0]:.0f} ml, left {millilitres[1]:.0f} ml, {seconds:.1f} s")
    figure.tight_layout()
    figure.savefig(target, dpi=75)
    plt.close(figure)
    print(name, [round(v) for v in millilitres], round(seconds, 1), "s")


def main() -> None:
    """Draw every scan that is named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("scans", nargs="+", type=Path)
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for path in options.scans:
        mask = path.with_name(path.name.replace(".mha", "_lung_mask.mha"))
        given = sitk.ReadImage(str(mask)) if mask != path and mask.exists() else None
        name = "_".join(path.parts[-2:]).split(".")[0]
        ct = read(path)
        draw(ct, name, options.output / f"{name}.png", given)


if __name__ == "__main__":
    main()
