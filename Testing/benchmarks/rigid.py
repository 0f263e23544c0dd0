"""Known rigid motions: the network's start alone, and the whole registration from it and from the search.

``python Testing/benchmarks/rigid.py --output build/rigid.md`` makes the table of accuracy.md. Phantom abdomens are
moved between two contrast phases; with `$LUNGRECOVERY_TEST_DATA`, chest CT is moved as well, with contrast medium
simulated in the mediastinum and noise added, and what the motion takes out of the field is missing.
"""

import argparse
import os
import sys
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.anatomy.lungs import segment_lungs
from LungRecoveryLib.grids import grid_of, to_array, to_image
from LungRecoveryLib.phantom.abdomen import make_abdomen
from LungRecoveryLib.registration.motion6 import matrix_4x4, rigid, rotation_of
from LungRecoveryLib.registration.rigid import register_rigid
from LungRecoveryLib.registration.rigid_scan import rigid_scans
from LungRecoveryLib.registration.rigid_start import learned_start
from LungRecoveryLib.resources import NO_NETWORK, RIGID_WEIGHTS
from LungRecoveryLib.system import limited_threads

SPACING_MM = 1.5
# Degrees about x, y and z, mm along them, and the masks that are given: of both scans, the fixed one, none.
ABDOMENS = (
    (11, (0, 0, 30), (50, 0, 0), "both"),
    (12, (20, -15, 15), (-30, 25, -30), "both"),
    (13, (-8, 20, -20), (10, -20, 45), "both"),
    (14, (10, 18, -12), (25, 15, 30), "fixed"),
    (15, (-15, -10, 20), (-20, 30, -15), "none"),
)
CHESTS = (
    ("normal001", (20, -15, 12), (-25, 30, 20), "none"),
    ("normal001", (20, -15, 12), (-25, 30, 20), "fixed"),
    ("popi_phase00", (0, 0, 30), (50, 0, 0), "fixed"),
)
TITLES = (
    "scan", "motion: degrees about x, y, z; mm along x, y, z", "masks", "start alone, mean", "seconds",
    "result, mean / largest", "seconds", "without the network", "seconds",
)  # fmt: skip


@dataclass(eq=False)
class Case:
    """Two scans, the organ that counts in each, and the true transform from fixed to moving points."""

    name: str
    motion: str
    masks: str
    fixed: sitk.Image
    moving: sitk.Image
    organs: tuple[sitk.Image, sitk.Image]
    true: np.ndarray

    def given(self) -> tuple[sitk.Image | None, sitk.Image | None]:
        """The masks that the registration is given."""
        return {"both": self.organs, "fixed": (self.organs[0], None), "none": (None, None)}[self.masks]

    def errors(self, found: sitk.Transform) -> np.ndarray:
        """How far from where they belong the organ's voxels are taken, mm (n,)."""
        grid = grid_of(self.organs[0])
        points = grid.points(np.argwhere(to_array(self.organs[0]) != 0)[::101, ::-1])
        apart = matrix_4x4(found) - self.true
        return np.linalg.norm(points @ apart[:3, :3].T + apart[:3, 3], axis=1)


def told(degrees, mm) -> str:
    """A motion as the table shows it."""
    return "; ".join(", ".join(map(str, part)) for part in (degrees, mm))


def abdomens() -> Iterator[Case]:
    for seed, degrees, mm, masks in ABDOMENS:
        venous, arterial = make_abdomen(seed, rotation_degrees=degrees, translation_mm=mm)
        true = matrix_4x4(arterial.from_body)
        organs = venous.liver, arterial.liver
        yield Case(f"abdomen, seed {seed}", told(degrees, mm), masks, venous.ct, arterial.ct, organs, true)


def chests(folder: Path) -> Iterator[Case]:
    for name, degrees, mm, masks in CHESTS:
        ct = sitk.ReadImage(str(folder / "chest-ct" / f"{name}.nii.gz"), sitk.sitkInt16)
        grid, lungs = grid_of(ct), segment_lungs(ct)
        true = rigid(rotation_of(np.radians(degrees)), grid.centre, np.array(mm, float))
        moving = sitk.Resample(_with_contrast(ct, lungs), ct, true.GetInverse(), sitk.sitkBSpline, -1024.0)
        organs = lungs, sitk.Resample(lungs, ct, true.GetInverse(), sitk.sitkNearestNeighbor)
        yield Case(f"chest `{name}`", told(degrees, mm), masks, ct, moving, organs, matrix_4x4(true))


def _with_contrast(ct: sitk.Image, lungs: sitk.Image) -> sitk.Image:
    """The scan with 150 HU more in what is blood's density between the lungs, and noise of 10 HU."""
    hu = to_array(ct, np.float32)
    inside = to_array(lungs) != 0
    first, last = np.flatnonzero(inside.any((0, 1)))[[0, -1]]
    middle = np.zeros(hu.shape, bool)
    middle[..., first + (last - first) // 3 : last - (last - first) // 3] = True
    blood = middle & (hu > 0) & (hu < 90)
    noise = np.random.default_rng(0).normal(0.0, 10.0, hu.shape)
    return to_image(np.clip(hu + 150.0 * blood + noise, -1024, 3071).astype(np.int16), ct)


def row(case: Case) -> str:
    scans, masks = (case.fixed, case.moving), case.given()
    prepared = rigid_scans(scans, masks, SPACING_MM)
    learned_start(scans, prepared, RIGID_WEIGHTS)  # the first one pays for reading the weights
    start, seconds = timed(lambda: learned_start(scans, prepared, RIGID_WEIGHTS))
    cells = [case.name, case.motion, case.masks, f"{case.errors(start).mean():.2f} mm", f"{seconds:.2f}"]
    for weights in (RIGID_WEIGHTS, NO_NETWORK):
        found, seconds = timed(lambda weights=weights: register_rigid(*scans, *masks, weights=weights))
        errors = case.errors(found.transform)
        cells += [f"{errors.mean():.3f} / {errors.max():.3f} mm", f"{seconds:.1f}"]
        if weights == RIGID_WEIGHTS and found.start != "network":
            cells[-2] += " (searched)"
    return line(cells)


def line(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


def timed(function) -> tuple:
    """What a function returns, and the seconds it took."""
    start = time.perf_counter()
    result = function()
    return result, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, required=True, help="the table's file")
    given = parser.parse_args()
    data = os.environ.get("LUNGRECOVERY_TEST_DATA")
    if not data:
        print("LUNGRECOVERY_TEST_DATA is not set: phantoms alone", file=sys.stderr)
    lines = [line(TITLES), line("---" for _ in TITLES)]
    with limited_threads(given.threads):
        for cases in (abdomens(), chests(Path(data)) if data else ()):
            for case in cases:
                lines.append(row(case))
                print(lines[-1], flush=True)
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
