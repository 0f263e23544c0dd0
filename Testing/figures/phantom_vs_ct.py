"""Draw a synthetic patient beside a real chest CT, to judge by eye whether it looks like one.

    python Testing/figures/phantom_vs_ct.py CT.nii.gz figure.png [--kind recovering] [--seed 0]

Three planes in the lung window (-1350..150 HU) and in the mediastinal window (-160..240 HU).
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.grids import grid_of, isotropic_grid, resample, to_array
from LungRecoveryLib.phantom import KINDS, make_patient

WINDOWS = {"lung window": (-1350, 150), "mediastinal window": (-160, 240)}
# Where the slices lie, as shares of the field of view: two axial ones, a coronal and a sagittal one.
PLANES = (("axial", 0.62), ("axial", 0.42), ("coronal", 0.55), ("sagittal", 0.30))


def cut(scan: np.ndarray, plane: str, share: float) -> np.ndarray:
    """One slice of a scan (z, y, x), laid out as radiologists look at it."""
    if plane == "axial":
        return scan[int(share * scan.shape[0])]
    if plane == "coronal":
        return scan[::-1, int(share * scan.shape[1])]
    return scan[::-1, :, int(share * scan.shape[2])]


def draw(scans: dict[str, np.ndarray], path: Path) -> None:
    """Write the figure: one row per scan and window."""
    rows = [(name, window) for window in WINDOWS for name in scans]
    figure, axes = plt.subplots(len(rows), len(PLANES), figsize=(5.2 * len(PLANES), 4.6 * len(rows)), squeeze=False)
    for line, (name, window) in zip(axes, rows, strict=True):
        for axis, (plane, share) in zip(line, PLANES, strict=True):
            low, high = WINDOWS[window]
            axis.imshow(cut(scans[name], plane, share), cmap="gray", vmin=low, vmax=high)
            axis.set_axis_off()
        line[0].set_title(f"{name}, {window}", loc="left")
    figure.text(0.01, 0.002, "Research use only; not for diagnosis")
    figure.tight_layout()
    figure.savefig(path, dpi=60)


def main() -> None:
    """Read the command line and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("ct", type=Path, help="a real chest CT")
    parser.add_argument("figure", type=Path, help="the PNG to write")
    parser.add_argument("--kind", choices=KINDS, default="recovering")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    real = sitk.ReadImage(str(arguments.ct))
    real = resample(real, isotropic_grid(grid_of(real), 1.75))
    visits = make_patient(arguments.kind, arguments.seed, days=(0, 90)).visits
    draw({"phantom": to_array(visits[0].ct), "real": to_array(real)}, arguments.figure)


if __name__ == "__main__":
    main()
