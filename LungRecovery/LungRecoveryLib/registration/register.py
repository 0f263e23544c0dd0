"""One pair: prepare -> align -> refine -> transforms, maps and figures of merit."""

import json
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import SimpleITK as sitk
import torch

from .. import grids
from ..errors import BadInput
from ..grids import Grid
from ..progress import Progress, no_progress, part
from ..resources import SHIPPED_WEIGHTS
from ..system import check_device, limited_threads
from .deform import PRESETS, Plan, deform, timed
from .measure import folding_percent, inverse_consistency, make_maps, similarities

__all__ = ["PRESETS", "Registration", "choose_device", "register", "summary", "write_registration"]


@dataclass(eq=False)
class Registration:
    """A follow-up (moving) registered onto a baseline (fixed). Images are on `grid`, the working grid."""

    transform: sitk.Transform  # baseline point -> follow-up point, LPS mm
    inverse_transform: sitk.Transform
    grid: Grid
    warped: sitk.Image  # the follow-up on the grid, HU
    displacement_mm: np.ndarray  # phi(p) - p, LPS mm, float32 (3, z, y, x)
    jacobian: sitk.Image  # det(grad phi), affine part included
    fixed_lungs: sitk.Image  # labels 1 right, 2 left
    warped_lungs: sitk.Image  # the follow-up's lungs on the grid
    inside: sitk.Image  # 1 where the follow-up shows phi(p); around the lungs its padding counts as outside
    folding_percent: float  # share of lung voxels with J <= 0
    similarity_before: float  # mean squared LNCC in the lungs as the scans lie in the scanner, 0 to 1
    similarity_after: float
    inverse_mean_mm: float
    inverse_p95_mm: float
    lung_dice: float
    seconds: dict[str, float]
    settings: dict
    device: str
    notes: list[str] = field(default_factory=list)
    # the expected length of the error in mm, on a coarser grid, where asked for
    uncertainty: sitk.Image | None = None
    weights_sha256: str | None = None

    @cached_property
    def displacement(self) -> sitk.Image:
        """phi(p) - p, LPS mm, float32 vectors; an image only where one is asked for, since it is large."""
        return grids.to_image(self.displacement_mm, self.grid)


def register(
    fixed: sitk.Image,
    moving: sitk.Image,
    fixed_lungs: sitk.Image | None = None,
    moving_lungs: sitk.Image | None = None,
    preset: str = "standard",
    device: str = "auto",
    seed: int = 0,
    threads: int | None = None,
    spacing_mm: float = 1.5,
    native_maps: bool = False,
    weights: str | Path = SHIPPED_WEIGHTS,
    uncertainty: bool = False,
    progress: Progress = no_progress,
) -> Registration:
    """Register a moving scan onto a fixed one by their lungs.

    Parameters: scans in HU; lung masks on any grid (non-zero: lung), segmented where None; `preset` one of PRESETS;
    `device` auto, cpu or cuda[:n]; `spacing_mm` of the isotropic working grid in the fixed scan's axes, on which the
    maps lie, unless `native_maps` asks for the fixed scan's own grid; `weights` of the network that gives refinement
    its start: the name of shipped ones, a .safetensors file, or "none"; `uncertainty`: also how far the deformation
    may be off.

    Raises BadInput for an unknown preset or device, for weights that cannot be used and for lungs that do not overlap
    after alignment, OutOfMemory when not even the CPU at half resolution has enough.
    """
    plan = Plan.of(preset, weights)
    seconds: dict[str, float] = {}
    torch.manual_seed(seed)
    with limited_threads(threads):
        with timed(seconds, "lungs"):
            fixed_lungs = _lungs(fixed, fixed_lungs, part(progress, 0.0, 0.05))
            moving_lungs = _lungs(moving, moving_lungs, part(progress, 0.05, 0.1))
        made = deform(
            fixed, moving, fixed_lungs, moving_lungs, plan, choose_device(device), spacing_mm, progress, uncertainty
        )
        seconds |= made.seconds
        progress("maps", 0.9)
        with timed(seconds, "maps"):
            grid = grids.grid_of(fixed) if native_maps else grids.isotropic_grid(grids.grid_of(fixed), spacing_mm)
            result = _measure(made.deformation, grid, fixed, moving, fixed_lungs, moving_lungs)
    settings = {
        "preset": preset,
        "levels": [vars(level) for level in plan.levels],
        "network": made.network is not None,
        "spacing_mm": spacing_mm,
        "seed": seed,
        "native_maps": native_maps,
    }
    progress("maps", 1.0)
    return replace(
        result,
        seconds=seconds,
        settings=settings,
        device=made.device,
        notes=made.notes,
        uncertainty=made.uncertainty,
        weights_sha256=None if made.network is None else made.network.sha256,
    )


def _lungs(scan: sitk.Image, lungs: sitk.Image | None, progress: Progress) -> sitk.Image:
    if lungs is not None:
        return lungs
    from ..anatomy.lungs import segment_lungs

    return segment_lungs(scan, progress)


def _measure(deformation, grid, fixed, moving, fixed_lungs, moving_lungs) -> Registration:
    labels = grids.resample_mask(fixed_lungs, grid)
    lung = grids.to_array(labels) != 0
    maps = make_maps(deformation, grid, moving, moving_lungs, lung)
    common, other = lung & maps.inside, (maps.lungs != 0) & maps.inside
    overlap = np.count_nonzero(common & other)
    if not overlap:
        raise BadInput("The lungs of the two scans do not overlap: give scans, or masks, of the same lung.")
    transform, inverse = deformation.transform(), deformation.inverse_transform()
    device = deformation.velocity.coefficients.device
    before, after = similarities(fixed, moving, maps.warped, grid, common, device)
    inverse_error = inverse_consistency(transform, inverse, grid, common)
    return Registration(
        transform=transform,
        inverse_transform=inverse,
        grid=grid,
        warped=grids.to_image(maps.warped, grid),
        displacement_mm=maps.displacement,
        jacobian=grids.to_image(maps.jacobian, grid),
        fixed_lungs=labels,
        warped_lungs=grids.to_image(maps.lungs, grid),
        inside=grids.to_image(maps.inside, grid),
        folding_percent=folding_percent(maps.jacobian[common]),
        similarity_before=before,
        similarity_after=after,
        inverse_mean_mm=float(inverse_error.mean()),
        inverse_p95_mm=float(np.percentile(inverse_error, 95)),
        lung_dice=float(2.0 * overlap / (np.count_nonzero(common) + np.count_nonzero(other))),
        seconds={},
        settings={},
        device="",
    )


def choose_device(name: str) -> torch.device:
    """The torch device for auto, cpu, cuda or cuda:n. Raises BadInput where there is no such device."""
    check_device(name)
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def write_registration(registration: Registration, folder: Path) -> None:
    """Write transform.h5, inverse_transform.h5, jacobian.nii.gz, warped.nii.gz and registration.json into a folder."""
    from ..images import write_image, write_transform

    folder = Path(folder)
    write_transform(registration.transform, folder / "transform.h5")
    write_transform(registration.inverse_transform, folder / "inverse_transform.h5")
    write_image(registration.jacobian, folder / "jacobian.nii.gz")
    write_image(registration.warped, folder / "warped.nii.gz")
    (folder / "registration.json").write_text(json.dumps(summary(registration), indent=2) + "\n", encoding="utf-8")


def summary(registration: Registration) -> dict:
    """What registration.json says of a registration: figures of merit, settings, seconds, versions."""
    from .. import RESEARCH_USE_ONLY, __version__

    return {
        "notice": RESEARCH_USE_ONLY,
        "folding_percent": registration.folding_percent,
        "similarity_before": registration.similarity_before,
        "similarity_after": registration.similarity_after,
        "lung_dice": registration.lung_dice,
        "inverse_mean_mm": registration.inverse_mean_mm,
        "inverse_p95_mm": registration.inverse_p95_mm,
        "seconds": registration.seconds,
        "settings": registration.settings,
        "device": registration.device,
        "notes": registration.notes,
        "versions": {
            "lungrecovery": __version__,
            "torch": torch.__version__,
            "SimpleITK": sitk.Version_VersionString(),
        },
        "weights_sha256": registration.weights_sha256,
    }
