"""Draw what `lungrecovery enhance` makes of scans, as in Resources/docs/parenchyma.md.

    python Testing/figures/parenchyma_picture.py figure.png scan.nii.gz@0.4 scan.nii.gz@0.6 other.mha@0.5 ...

A row for each scan, at a share of its lungs' height from below: lung window, the window of the parenchyma, the enhanced
image, and what stands out. Scans of patients belong into no repository unless their licence allows it.
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.anatomy.lungs import segment_lungs
from LungRecoveryLib.anatomy.working import patient_grid
from LungRecoveryLib.grids import crop_to_mask, resample, resample_mask, to_array
from LungRecoveryLib.parenchyma.scan import assess

SPACING_MM, MARGIN_MM = 0.8, 8.0
LUNG_WINDOW = (-1350.0, 150.0)
COLOURS = {1: (0.84, 0.16, 0.16), 2: (1.0, 0.8, 0.1)}
TITLES = ("lung window", "window of the parenchyma", "enhanced", "red: visible, yellow: only after enhancement")


def row(path: Path, height: float) -> list[tuple[np.ndarray, tuple[float, float]]]:
    """The four pictures of a scan's slice, grey (y, x) with their range or coloured (y, x, 3)."""
    ct = sitk.ReadImage(str(path))
    lungs = segment_lungs(ct)
    found = assess(ct, lungs)
    grid = patient_grid(crop_to_mask(lungs, MARGIN_MM), SPACING_MM)
    labels = to_array(resample_mask(lungs, grid))
    levels = np.flatnonzero(labels.any(axis=(1, 2)))
    level = round(levels[0] + height * (levels[-1] - levels[0]))
    hu, enhanced = (to_array(resample(image, grid), np.float32)[level] for image in (ct, found.enhanced))
    lesions = to_array(resample_mask(found.lesions, grid))[level]
    middle, width = found.baseline.window
    low, high = LUNG_WINDOW
    painted = np.repeat(np.clip((hu - low) / (high - low), 0, 1)[..., None], 3, axis=2)
    for kind, colour in COLOURS.items():
        painted[lesions == kind] = 0.3 * painted[lesions == kind] + 0.7 * np.array(colour)
    parenchyma = (middle - width / 2, middle + width / 2)
    return [(hu, LUNG_WINDOW), (hu, parenchyma), (enhanced, (-100.0, 300.0)), (painted, (0.0, 1.0))]


def main() -> None:
    """Draw the rows that are named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("figure", type=Path)
    parser.add_argument("rows", nargs="+", metavar="SCAN@SHARE")
    options = parser.parse_args()
    rows = [row(Path(path), float(height)) for path, height in (text.rsplit("@", 1) for text in options.rows)]
    ratios = [pictures[0][0].shape[0] / pictures[0][0].shape[1] for pictures in rows]
    size = (11.0, 0.3 + 2.72 * sum(ratios))
    figure, axes = plt.subplots(len(rows), 4, figsize=size, squeeze=False, height_ratios=ratios)
    for line, pictures in zip(axes, rows, strict=True):
        for panel, (picture, (low, high)) in zip(line, pictures, strict=True):
            panel.imshow(picture, cmap="gray", vmin=low, vmax=high)
            panel.axis("off")
    for panel, title in zip(axes[0], TITLES, strict=True):
        panel.set_title(title, fontsize=8)
    figure.tight_layout(pad=0.3)
    figure.savefig(options.figure, dpi=110)


if __name__ == "__main__":
    main()
