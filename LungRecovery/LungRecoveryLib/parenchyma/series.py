"""The dates of a study, one after the other: every scan enhanced, and made comparable with the first."""

from dataclasses import dataclass, field
from typing import Any

import SimpleITK as sitk

from ..errors import BadInput
from . import dates
from .noise import Noise, softened
from .scan import ScanNumbers, assess


@dataclass
class Enhanced:
    """A date's enhanced image on its scan's own grid (int16, HU above the healthy parenchyma) and what `study.json`
    tells of it; both None, with a warning that says why, where there is no healthy parenchyma to compare with."""

    image: sitk.Image | None
    summary: dict[str, Any] | None
    warnings: list[str] = field(default_factory=list)


class Series:
    """Enhances the scans of a study in their order.

    `noises` are those of all its dates: with the removal of the kernel every scan is smoothed to the softest one's. The
    first date sets what the others are compared with; `first` gives its numbers where it was measured before.
    """

    def __init__(self, removal: dates.BiasRemoval, noises: list[Noise | None], first: ScanNumbers | None = None):
        self.removal, self.first = removal, first
        self.softest = max(filter(None, noises), key=lambda noise: noise.correlation_mm, default=None)

    def enhance(
        self, ct: sitk.Image, lungs: sitk.Image, airways: sitk.Image, vessels: sitk.Image, noise: Noise | None
    ) -> Enhanced:
        """The next date; all images on its scan's grid, `noise` as it was measured in the scan as it came."""
        scan = ct
        if self.removal.kernel and noise is not None and self.softest is not None:
            scan = softened(ct, noise, self.softest)
        try:
            own = assess(scan, lungs, airways, vessels)
        except BadInput as error:
            return Enhanced(None, None, [f"it has no enhanced image: {error}"])
        own.noise = noise
        numbers = own.numbers()
        if self.first is None:
            self.first = numbers
            applied = {"baseline": self.removal.baseline, "kernel": scan is not ct, "inspiration": False}
            return Enhanced(own.enhanced, own.summary() | {"between_dates": {"applied": applied}}, own.warnings)
        breath = dates.inspiration(self.first, numbers)
        image = dates.comparable(self.first, own, breath, self.removal, lungs)
        told = dates.summary(self.first, numbers, breath, self.removal, scan is not ct)
        warnings = [*own.warnings, *dates.warnings(self.first, numbers, breath, self.removal)]
        return Enhanced(image, own.summary() | {"between_dates": told}, warnings)
