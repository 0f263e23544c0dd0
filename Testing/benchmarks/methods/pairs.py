"""The pairs of the benchmark as files of one folder each, so that every method starts from the same voxels.

A folder holds fixed.mha, moving.mha, fixed_lungs.mha, moving_lungs.mha, landmarks_lps_mm.csv, pair.json (whether the
methods may see the masks) and, for a phantom, jacobian.mha: the true Jacobian on the fixed image's grid.
"""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from methods.common import Pair

HEADER = "baseline_x,baseline_y,baseline_z,followup_x,followup_y,followup_z"
MOTIONS_MM = (25.0, 11.0)


def names(groups: list[str], seeds: list[int]) -> list[str]:
    """The pairs of the groups "phantom" (each seed once with a deep and once with a shallow breath) and "real"."""
    found = []
    if "phantom" in groups:
        found += [f"phantom-{seed}-{motion:.0f}mm" for motion in MOTIONS_MM for seed in seeds]
    if "real" in groups:
        found += ["real", "real-without-masks"]
    return found


def prepare(name: str, folder: Path) -> None:
    """Write the files of a pair into `folder`, unless they are there already."""
    if (folder / "pair.json").is_file():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    if name.startswith("phantom-"):
        _, seed, motion = name.split("-")
        _write_phantom(int(seed), float(motion.removesuffix("mm")), folder)
    else:
        _copy_real(folder)
    masks = not name.endswith("without-masks")
    (folder / "pair.json").write_text(json.dumps({"name": name, "masks_given": masks}))


def _write_phantom(seed: int, mean_motion_mm: float, folder: Path) -> None:
    from LungRecoveryLib.phantom import make_pair

    baseline, followup = make_pair(seed, mean_motion_mm=mean_motion_mm).visits
    _write(folder, baseline.ct, followup.ct, baseline.lungs, followup.lungs)
    sitk.WriteImage(followup.jacobian, str(folder / "jacobian.mha"), useCompression=True)
    rows = np.hstack([baseline.landmarks, followup.landmarks])
    np.savetxt(folder / "landmarks_lps_mm.csv", rows, fmt="%.4f", delimiter=",", header=HEADER, comments="")


def _copy_real(folder: Path) -> None:
    """Copy the real pair's files from the folder that LUNGRECOVERY_TEST_DATA names."""
    data = Path(os.environ.get("LUNGRECOVERY_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
    source = data / "lung-followup-pair"
    if not source.is_dir():
        raise FileNotFoundError(f"no folder {source}: set LUNGRECOVERY_TEST_DATA or leave the real pair out")
    files = ("baseline.mha", "followup.mha", "baseline_lung_mask.mha", "followup_lung_mask.mha")
    _write(folder, *(sitk.ReadImage(str(source / file)) for file in files))
    shutil.copyfile(source / "landmarks_lps_mm.csv", folder / "landmarks_lps_mm.csv")


def _write(folder: Path, fixed, moving, fixed_lungs, moving_lungs) -> None:
    named = {"fixed": fixed, "moving": moving, "fixed_lungs": fixed_lungs, "moving_lungs": moving_lungs}
    for name, image in named.items():
        sitk.WriteImage(image, str(folder / f"{name}.mha"), useCompression=True)


def read(folder: Path) -> tuple[Pair, bool]:
    """The pair in a folder, masks included, and whether the methods may use those masks."""
    fixed, moving, fixed_lungs, moving_lungs = (
        sitk.ReadImage(str(folder / f"{name}.mha")) for name in ("fixed", "moving", "fixed_lungs", "moving_lungs")
    )
    given = json.loads((folder / "pair.json").read_text())["masks_given"]
    return Pair(fixed, moving, fixed_lungs, moving_lungs), given


def read_landmarks(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The corresponding points (N, 3) of the fixed and the moving image, LPS mm."""
    rows = np.loadtxt(folder / "landmarks_lps_mm.csv", delimiter=",", skiprows=1, ndmin=2)
    return rows[:, :3], rows[:, 3:]


def read_jacobian(folder: Path) -> np.ndarray | None:
    """The true Jacobian (z, y, x) on the fixed image's grid; None for a real pair."""
    path = folder / "jacobian.mha"
    return sitk.GetArrayFromImage(sitk.ReadImage(str(path))) if path.is_file() else None
