"""A picture of a registration with labels: the fixed image, the moving one before and after, outlines of labels."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import RESEARCH_USE_ONLY


def draw_overlay(
    fixed: sitk.Image,
    moving: sitk.Image,
    warped: sitk.Image,
    labels: list[sitk.Image],
    dice: tuple[float, float],
    path: Path,
    window: tuple[float, float] | None = None,
) -> None:
    """Draw three planes of each image with the fixed labels (blue) and its own (orange); all on the fixed grid.

    `labels`: of the fixed image, of the moving one as it lies and as it was carried over; `dice` before and after;
    `window`: the values of black and white, by default from 0 to the brightest of each image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    images = [sitk.DICOMOrient(image, "LPS") for image in (fixed, moving, warped)]
    maps = [sitk.DICOMOrient(image, "LPS") for image in labels]
    arrays, outlines = ([sitk.GetArrayViewFromImage(i) for i in group] for group in (images, maps))
    spacing = images[0].GetSpacing()
    planes = _planes(outlines[0], spacing)
    figure = Figure(figsize=(9.0, 9.4), facecolor="black", layout="compressed")
    FigureCanvasAgg(figure)
    axes = figure.subplots(3, 3)
    titles = ("fixed", f"moving before, Dice {dice[0]:.3f}", f"moving after, Dice {dice[1]:.3f}")
    for column, (array, own, title) in enumerate(zip(arrays, outlines, titles, strict=True)):
        black, white = window or (0.0, _brightest(array))
        for row, (cut, aspect) in enumerate(planes):
            plot = axes[row, column]
            plot.imshow(array[cut], cmap="gray", vmin=black, vmax=white, aspect=aspect, origin="lower")
            for shown, colour in ((outlines[0], "#56b4e9"), (own, "#e69f00"))[: 1 if column == 0 else 2]:
                plot.contour(_borders(shown[cut]), [0.5], colors=colour, linewidths=0.8)
            plot.set_axis_off()
        axes[0, column].set_title(title, color="white", fontsize=11)
    figure.text(0.5, -0.01, f"Labels: fixed blue, moving orange. {RESEARCH_USE_ONLY}.", color="white", ha="center")
    figure.savefig(path, dpi=110, bbox_inches="tight")


def _brightest(array: np.ndarray) -> float:
    above = array[array > array.min()]
    return float(np.percentile(above, 99.5)) if above.size else 1.0


def _planes(labels: np.ndarray, spacing: tuple[float, float, float]) -> list[tuple[tuple, float]]:
    """Axial, coronal and sagittal cuts through the middle of the labels, the last off the midline, with the pixels'
    ratio of height to width."""
    voxels = np.argwhere(labels != 0)
    z, y, x = voxels.mean(0).astype(int) if len(voxels) else (n // 2 for n in labels.shape)
    x = min(x + round(22 / spacing[0]), labels.shape[2] - 1)
    # Axial slices are shown with the front at the top, as radiologists do.
    return [
        ((z, slice(None, None, -1)), spacing[1] / spacing[0]),
        ((slice(None), y), spacing[2] / spacing[0]),
        ((slice(None), slice(None), x), spacing[2] / spacing[1]),
    ]


def _borders(labels: np.ndarray) -> np.ndarray:
    """1 along the borders between labels of a slice."""
    borders = np.zeros(labels.shape, np.float32)
    borders[:, 1:] = np.maximum(borders[:, 1:], labels[:, 1:] != labels[:, :-1])
    borders[1:] = np.maximum(borders[1:], labels[1:] != labels[:-1])
    return borders
