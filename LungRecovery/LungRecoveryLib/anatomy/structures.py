"""Airways, vessels, lobes and lesions in known lungs, found one after the other because each needs the one before."""

from dataclasses import dataclass, replace

import numpy as np
import SimpleITK as sitk

from ..grids import crop_to_mask, grid_of, to_image, window
from ..progress import Progress, no_progress
from .airways import segment_airways
from .lesions import segment_lesions
from .lobes import Lobes, segment_lobes
from .vessels import segment_vessels

_MARGIN_MM = 10.0


@dataclass(frozen=True)
class Structures:
    """Label maps on the scan's grid: `airways` by generation, `vessels` 1, `lesions` 1 ground glass, 2 consolidation,
    3 reticulation; and the `lobes` with what is visible of their fissures."""

    airways: sitk.Image
    vessels: sitk.Image
    lesions: sitk.Image
    lobes: Lobes


def segment_structures(
    ct: sitk.Image, lungs: sitk.Image, progress: Progress = no_progress, lobes: Lobes | None = None
) -> Structures:
    """Find airways, vessels, lobes and lesions. `ct` in HU, `lungs` a label map of some lung on its grid.

    `lobes` that are known already are taken as they are. Vessels, lobes and lesions are looked for in the box of the
    lungs only, which saves memory on large scans.
    """
    progress("airways", 0.0)
    airways = segment_airways(ct, lungs)
    progress("vessels", 0.4)
    box = crop_to_mask(lungs, _MARGIN_MM)
    start = ct.TransformPhysicalPointToIndex(box.origin)
    near = [sitk.RegionOfInterest(image, box.size, start) for image in (ct, lungs, airways)]
    vessels = segment_vessels(*near)
    progress("lobes", 0.7)
    cut = window(grid_of(ct), box)
    if lobes is None:
        lobes = segment_lobes(*near[:2], vessels)
        lobes = replace(lobes, labels=_whole(lobes.labels, ct, cut))
    progress("lesions", 0.8)
    lesions = segment_lesions(*near, vessels)
    progress("lesions", 1.0)
    return Structures(airways, _whole(vessels, ct, cut), _whole(lesions, ct, cut), lobes)


def _whole(part: sitk.Image, ct: sitk.Image, cut: tuple[slice, ...]) -> sitk.Image:
    """Labels of the box on the scan's whole grid."""
    labels = np.zeros(grid_of(ct).shape, np.uint8)
    labels[cut] = sitk.GetArrayViewFromImage(part)
    return to_image(labels, ct)
