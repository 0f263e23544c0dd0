"""One scan's parenchyma: everything this package knows of it, in one go, with warnings in whole sentences."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.airways import segment_airways
from ..anatomy.vessels import segment_vessels
from ..grids import crop_to_mask, grid_of, resample, resample_mask, to_array, to_image
from ..progress import Progress, no_progress
from .baseline import Baseline, estimate_baseline
from .calibration import Calibration, check_calibration
from .enhance import Excess, enhanced_image, excess_of, find_lesions, native_excess
from .measures import lesion_measures
from .noise import Noise, estimate_noise
from .tissue import Tissue, tissue_of

_THICK_MM = 6.0
_METAL_HU = 2500
_METAL_ML = 0.3
_NEAR_MM = 15.0
_STREAK_HU = -1015
_STREAK_SHARE = 0.05
_SPREAD_HU = 45.0
_REJECTED = 45.0
_CUT_SHARE = 0.25
_SMALL_LUNG = 0.2


@dataclass(frozen=True)
class ScanNumbers:
    """What of a scan other dates are compared with."""

    baseline: Baseline
    noise: Noise | None
    calibration: Calibration
    volume_ml: float
    cut: bool

    @classmethod
    def from_summary(cls, summary: dict[str, Any]) -> "ScanNumbers":
        """The numbers from :meth:`Parenchyma.summary`, as a study keeps it."""
        return cls(
            Baseline(**summary["baseline"]),
            None if summary["noise"] is None else Noise(**summary["noise"]),
            Calibration(**summary["calibration"]),
            summary["volume_ml"],
            summary["cut"],
        )


@dataclass
class Parenchyma:
    """A scan's parenchyma.

    `excess` (int16 HU above the baseline, see :func:`.enhance.native_excess`) and `lesions` (uint8: 1 plainly visible,
    2 seen only after enhancement) lie on the scan's grid; `found` tells what they hold, see
    :func:`.measures.lesion_measures`. `cut` says whether the field of view cuts the lungs, so that their volume is not
    that of a breath. `volume_ml` is the lungs'.
    """

    baseline: Baseline
    noise: Noise | None
    calibration: Calibration
    excess: sitk.Image
    lesions: sitk.Image
    found: dict[str, float | None]
    volume_ml: float
    cut: bool
    warnings: list[str]

    @property
    def enhanced(self) -> sitk.Image:
        """The enhanced image, int16: the excess cut to the baseline's range."""
        return enhanced_image(self.excess, self.baseline)

    def numbers(self) -> ScanNumbers:
        """What other dates are compared with."""
        return ScanNumbers(self.baseline, self.noise, self.calibration, self.volume_ml, self.cut)

    def summary(self) -> dict[str, Any]:
        """The numbers, ready for JSON."""
        level, width = self.baseline.window
        calibration = asdict(self.calibration)
        calibration.pop("warnings")
        return {
            "baseline": asdict(self.baseline),
            "window": {"level_hu": level, "width_hu": width},
            "clip_hu": list(self.baseline.clip),
            "noise": None if self.noise is None else asdict(self.noise),
            "calibration": calibration,
            "volume_ml": self.volume_ml,
            "cut": self.cut,
            "lesions": self.found,
        }


def assess(
    ct: sitk.Image,
    lungs: sitk.Image,
    airways: sitk.Image | None = None,
    vessels: sitk.Image | None = None,
    progress: Progress = no_progress,
) -> Parenchyma:
    """Measure a scan's baseline, noise and calibration, and make its enhanced image and its lesions.

    `ct` in HU, `lungs` its lungs (1 right, 2 left), `airways` (lumen by generation, 1 the trachea) and `vessels`, all
    on one grid; tubes that are not given are segmented. Raises BadInput where no healthy parenchyma is left to compare
    with.
    """
    airways = airways if airways is not None else segment_airways(ct, lungs)
    progress("vessels", 0.3)
    vessels = vessels if vessels is not None else segment_vessels(ct, lungs, airways)
    progress("baseline", 0.7)
    tissue = tissue_of(ct, lungs, tubes_of(airways, vessels))
    baseline = estimate_baseline(tissue)
    noise, calibration = estimate_noise(ct, lungs), check_calibration(ct, lungs, airways)
    progress("enhanced image", 0.8)
    above = excess_of(tissue, baseline)
    excess = native_excess(ct, lungs, tissue, above, baseline)
    lesions = _native_lesions(lungs, tissue, above, baseline)
    progress("parenchyma", 1.0)
    warnings, cut = cautions(ct, lungs, baseline)
    volume = float(np.count_nonzero(sitk.GetArrayViewFromImage(lungs))) * grid_of(ct).voxel_ml
    return Parenchyma(
        baseline,
        noise,
        calibration,
        excess,
        lesions,
        lesion_measures(excess, lesions, volume),
        volume,
        cut,
        [*calibration.warnings, *warnings],
    )


def tubes_of(airways: sitk.Image, vessels: sitk.Image) -> np.ndarray:
    """Airways and vessels together, (z, y, x) bool."""
    return (sitk.GetArrayViewFromImage(airways) != 0) | (sitk.GetArrayViewFromImage(vessels) != 0)


def _native_lesions(lungs: sitk.Image, tissue: Tissue, above: Excess, baseline: Baseline) -> sitk.Image:
    """The lesions on the scan's own voxels, within the lungs."""
    found = to_array(resample_mask(to_image(find_lesions(tissue, above, baseline), tissue.grid), grid_of(lungs)))
    found[sitk.GetArrayViewFromImage(lungs) == 0] = 0
    return to_image(found, lungs)


def cautions(ct: sitk.Image, lungs: sitk.Image, baseline: Baseline) -> tuple[list[str], bool]:
    """What a reader must know of a scan before its numbers, as sentences, and whether its field cuts the lungs."""
    labels = sitk.GetArrayViewFromImage(lungs)
    grid = grid_of(ct)
    warnings = []
    counts = [int(np.count_nonzero(labels == side)) for side in (1, 2)]
    for count, other, name in ((counts[0], counts[1], "right"), (counts[1], counts[0], "left")):
        if count < _SMALL_LUNG * other:
            state = "not shown or airless" if count == 0 else "very small"
            warnings.append(f"the {name} lung is {state}: the results stand for what is aerated and shown")
    if max(grid.spacing) > _THICK_MM:
        warnings.append(
            f"slices are {max(grid.spacing):.1f} mm apart: tubes and small lesions blur into each other; read volumes "
            "of lesions and the baseline to about 20 HU"
        )
    cut = _cut(labels)
    if cut:
        warnings.append("the field of view cuts the lungs: volumes and shares stand for the part that is shown")
    near = crop_to_mask(lungs, _NEAR_MM)
    hu = to_array(resample(ct, near))
    if np.count_nonzero(hu > _METAL_HU) * near.voxel_ml > _METAL_ML:
        warnings.append("metal near the lungs: streaks may look like lesions")
    if np.mean(sitk.GetArrayViewFromImage(ct)[labels > 0] < _STREAK_HU) > _STREAK_SHARE:
        warnings.append("much of the lung is as dark as air: streaks, motion, or an offset of the HU scale")
    if baseline.texture_hu > _SPREAD_HU:
        warnings.append(
            f"the healthy parenchyma varies by {baseline.texture_hu:.0f} HU from place to place (motion, streaks or "
            "disease everywhere): faint lesions are not told from it"
        )
    if baseline.rejected_percent > _REJECTED:
        warnings.append(
            f"{baseline.rejected_percent:.0f} % of the sampled parenchyma is abnormal: the baseline rests on the rest, "
            "which may be ill as well"
        )
    if baseline.sample == "lung":
        warnings.append("too few airways and vessels were found: the baseline was sampled in the whole lung")
    return warnings, cut


def _cut(labels: np.ndarray) -> bool:
    """Whether the border of the image cuts the lungs: much lung lies in an outermost plane of any axis."""
    inside = labels != 0
    for axis in range(3):
        area = inside.sum(axis=tuple(a for a in range(3) if a != axis))
        if max(area[0], area[-1]) > _CUT_SHARE * area.max():
            return True
    return False
