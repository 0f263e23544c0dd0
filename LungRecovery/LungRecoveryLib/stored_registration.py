"""A registration as a study's folder keeps it, in place of one that was just made."""

from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import grids, images
from LungRecoveryLib.image_files import read_stored_transform
from LungRecoveryLib.recovery import quality
from LungRecoveryLib.registration.measure import folding_percent, leave_out_padding
from LungRecoveryLib.results import TimePointResult


class StoredRegistration:
    """A registration as a study's folder keeps it, with the figures of merit that the lungs' masks change."""

    def __init__(self, folder: Path, timepoint: TimePointResult, baseline_lungs: sitk.Image, lungs: sitk.Image):
        self._folder, self._timepoint = folder, timepoint
        self.fixed_lungs, self.lungs = baseline_lungs, lungs
        self.grid = grids.grid_of(baseline_lungs)
        known, made = timepoint.quality, timepoint.registration
        self.similarity_before, self.similarity_after = known["similarity_before"], known["similarity_after"]
        self.inverse_mean_mm, self.inverse_p95_mm = known["inverse_mean_mm"], known["inverse_p95_mm"]
        self.device, self.notes, self.settings = made["device"], made["notes"], made.get("settings", {})
        self.seconds = made["seconds"]
        lung = sitk.GetArrayViewFromImage(baseline_lungs) != 0
        self.folding_percent = folding_percent(sitk.GetArrayViewFromImage(self.jacobian)[lung])
        seen = sitk.GetArrayViewFromImage(self.inside) != 0
        warped = sitk.GetArrayViewFromImage(self.warped_lungs) != 0
        self.lung_dice = quality.lung_overlap(lung & seen, warped & seen, baseline_lungs)[0]

    @cached_property
    def jacobian(self) -> sitk.Image:
        """det(grad phi) on the grid of the maps."""
        return self._image("jacobian")

    @cached_property
    def warped(self) -> sitk.Image:
        """The follow-up on the grid of the maps, HU."""
        return self._image("warped")

    @cached_property
    def uncertainty(self) -> sitk.Image | None:
        """SD of the displacement in mm, where the study has it."""
        return self._image("uncertainty") if "uncertainty" in self._timepoint.files else None

    @cached_property
    def transform(self) -> sitk.Transform:
        """Baseline point to follow-up point."""
        return read_stored_transform(self._timepoint.layer(self._folder, "transform"))

    @cached_property
    def inverse_transform(self) -> sitk.Transform:
        """Follow-up point to baseline point."""
        return read_stored_transform(self._timepoint.layer(self._folder, "inverse_transform"))

    @cached_property
    def displacement(self) -> sitk.Image:
        """phi(p) - p, LPS mm, on the grid of the maps."""
        return grids.to_image(grids.transform_to_field(self.transform, self.grid), self.grid)

    @cached_property
    def warped_lungs(self) -> sitk.Image:
        """The follow-up's lungs on the grid of the maps."""
        return grids.resample(self.lungs, self.grid, self.transform, "nearest", outside=0)

    @cached_property
    def inside(self) -> sitk.Image:
        """1 where the follow-up shows phi(p); around the lungs its padding counts as outside."""
        scan = grids.grid_of(self.lungs)
        shape, field = self.grid.shape, sitk.GetArrayViewFromImage(self.displacement)
        inside = np.empty(shape, bool)
        y, x = np.mgrid[: shape[1], : shape[2]]
        for z in range(shape[0]):
            index = np.stack([x.ravel(), y.ravel(), np.full(x.size, z)], axis=1)
            points = self.grid.points(index) + field[z].reshape(-1, 3)
            inside[z] = scan.contains(points).reshape(shape[1:])
        padded = ~inside | (sitk.GetArrayViewFromImage(self.warped) <= grids.AIR_HU)
        leave_out_padding(inside, padded, sitk.GetArrayViewFromImage(self.fixed_lungs) != 0)
        return grids.to_image(inside, self.grid)

    def _image(self, layer: str) -> sitk.Image:
        return images.read_image(self._timepoint.layer(self._folder, layer))
