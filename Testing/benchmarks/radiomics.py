"""Which radiomic features are stable: ICC(2,1) across noise, kernel and breath of the same phantoms.

``python Testing/benchmarks/radiomics.py --output LungRecovery/Resources/radiomics_stability.json`` makes patients whose
disease does not change, in two breaths, and scans each with a soft kernel at full and at low dose and with a sharp
kernel: six conditions. Subjects are the lobes, and the lesions in each lobe. Every subject is measured in the plain CT
and with the bias between dates taken out as a study does it (kernel, baseline, inspiration; the first condition is the
first date). True lungs, lobes, tubes and lesions are given, so that the table is of the features alone.
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.anatomy.regions import LOBE_REGIONS
from LungRecoveryLib.grids import crop_to_mask, grid_of, resample, resample_mask, to_array, to_image, with_spacing
from LungRecoveryLib.parenchyma.dates import BiasRemoval
from LungRecoveryLib.parenchyma.noise import estimate_noise
from LungRecoveryLib.parenchyma.radiomics import FEATURES, RANGES_HU, SPACING_MM, STABLE_ICC, features, icc
from LungRecoveryLib.parenchyma.series import Series
from LungRecoveryLib.phantom import make_patient
from LungRecoveryLib.phantom.acquisition import Scanner, acquire

IDEAL = Scanner("ideal", blur_mm=0.0, noise_hu=0.0)
PROTOCOLS = {
    "soft": Scanner("soft", noise_hu=10.0),
    "soft, low dose": Scanner("soft", noise_hu=25.0),
    "sharp": Scanner("sharp", blur_mm=0.45, sharpen=0.5, noise_hu=28.0),
}
EXTENT_MM = (308.0, 238.0, 322.0)
LEAST_VOXELS = 150  # of lesion in a lobe, in every condition


def conditions(seed: int, spacing: float) -> list[dict[str, sitk.Image]]:
    """A patient's six scans with what is true of them; the first is the soft one in the first breath."""
    size = tuple(round(extent / spacing) for extent in EXTENT_MM)
    patient = make_patient("unchanged", seed, size, (spacing,) * 3, days=(0, 30), scanner=IDEAL)
    scans = []
    for breath, visit in enumerate(patient.visits):
        grid = grid_of(visit.ct)
        ideal = to_array(visit.ct, np.float32)
        true = {name: getattr(visit, name) for name in ("lungs", "lobes", "vessels", "lesions")}
        true["airways"] = visit.airways == 1
        for number, scanner in enumerate(PROTOCOLS.values()):
            rng = np.random.default_rng([seed, breath, number])
            scans.append({"plain": to_image(acquire(ideal.copy(), grid, scanner, rng), grid), **true})
    noises = [estimate_noise(scan["plain"], scan["lungs"]) for scan in scans]
    series = Series(BiasRemoval(), noises)
    for scan, noise in zip(scans, noises, strict=True):
        tubes = (scan[name] for name in ("airways", "vessels"))
        scan["enhanced"] = series.enhance(scan["plain"], scan["lungs"], *tubes, noise).image
    return scans


def subjects(scan: dict[str, sitk.Image]) -> dict[tuple[str, str, str], np.ndarray]:
    """The features (22,) of each lobe and of each lobe's lesions, by (region, image) and the lobe's name."""
    grid = with_spacing(crop_to_mask(scan["lungs"], 0.0), (SPACING_MM,) * 3)
    lobes, lesions = (to_array(resample_mask(scan[name], grid)) for name in ("lobes", "lesions"))
    found = {}
    for image, limits in RANGES_HU.items():
        voxels = to_array(resample(scan[image], grid), np.float32)
        for label, lobe in LOBE_REGIONS.items():
            inside = lobes == label
            for region, mask in (("lung", inside), ("lesions", inside & (lesions > 0))):
                if np.count_nonzero(mask) >= LEAST_VOXELS:
                    values = features(voxels, mask, limits)
                    found[region, image, lobe] = np.array([values.get(feature, np.nan) for feature in FEATURES])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--patients", type=int, default=5)
    parser.add_argument("--spacing", type=float, default=2.0, help="of the scans, mm")
    parser.add_argument("--output", type=Path, default=Path("build/radiomics_stability.json"))
    given = parser.parse_args()
    ratings: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)
    for seed in range(given.patients):
        measured = [subjects(scan) for scan in conditions(seed, given.spacing)]
        for region, image, lobe in measured[0]:
            rows = [scan.get((region, image, lobe)) for scan in measured]
            if all(row is not None and np.isfinite(row).all() for row in rows):
                ratings[region, image].append(np.stack(rows))
        print({key: len(values) for key, values in ratings.items()}, flush=True)
        write(ratings, seed + 1, given)


def within_subject_sd(table: np.ndarray) -> float:
    """The SD between the conditions of one subject, pooled over the subjects of a table (subjects, conditions)."""
    return float(np.sqrt(table.var(axis=1, ddof=1).mean()))


def write(ratings: dict[tuple[str, str], list[np.ndarray]], patients: int, given: argparse.Namespace) -> None:
    """Leave the table of what was measured so far."""
    rows = []
    for (region, image), values in sorted(ratings.items()):
        table = np.stack(values)  # (subjects, conditions, features)
        rows += [
            {
                "region": region, "image": image, "family": feature.family, "feature": feature.name,
                "ibsi": feature.ibsi, "subjects": len(table), "icc": round(icc(table[:, :, index]), 3),
                "sd": float(f"{within_subject_sd(table[:, :, index]):.3g}"),
            }
            for index, feature in enumerate(FEATURES)
        ]  # fmt: skip
    content = {
        "what": "ICC(2,1), absolute agreement, across noise, kernel and breath of the same phantoms",
        "made_by": "Testing/benchmarks/radiomics.py",
        "conditions": [f"{protocol}, breath {breath}" for breath in (1, 2) for protocol in PROTOCOLS],
        "patients": patients, "scan_spacing_mm": given.spacing, "stable_from": STABLE_ICC, "features": rows,
    }  # fmt: skip
    given.output.parent.mkdir(parents=True, exist_ok=True)
    given.output.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
