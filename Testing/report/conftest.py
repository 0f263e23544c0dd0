"""A small study folder as `analyze` leaves it, made without any analysis, for the tests of the report."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.results import ABSENT, StudyResult, TimePointResult, write_study

BANDS = [
    {"name": "hyperinflated", "low": -1024.0, "high": -950.0},
    {"name": "well_aerated", "low": -950.0, "high": -700.0},
    {"name": "poorly_aerated", "low": -700.0, "high": -300.0},
    {"name": "non_aerated", "low": -300.0, "high": 100.0},
]
REGIONS = {
    "lungs": "Both lungs",
    "right": "Right lung",
    "left": "Left lung",
    **{f"{s}_{t}": f"{s.capitalize()} {t} third" for s in ("right", "left") for t in ("upper", "middle", "lower")},
    "rind": "Rind (within 15 mm of the pleura)",
    "core": "Core",
}
QUALITY_THRESHOLDS = {
    "fail_folds_percent": 0.1,
    "fail_dice": 0.9,
    "fail_similarity_gain": 0.0,
    "review_folds_percent": 0.0,
    "review_dice": 0.95,
    "review_inverse_p95_mm": 1.0,
    "review_volume_ratio_low": 0.85,
    "review_volume_ratio_high": 1.15,
}
SCORE_THRESHOLDS = {"complete": 0.85, "partial": 0.5, "minimum_abnormal_percent": 1.0, "complete_abnormal_percent": 2.0}

# Recovery of the abnormal lung at each follow-up of the default study.
COURSE = {"Baseline": (0.0, 0.0), "Day 30": (30.0, 0.183), "Day 90": (90.0, 0.476), "Day 180": (180.0, 0.624)}


def grid_like(
    direction=None, spacing=(4.0, 4.0, 4.0), centre=(10.0, -30.0, -920.0), extent=(320.0, 240.0, 280.0)
) -> Grid:
    """A grid with its centre at an LPS point and about the extent along its own axes."""
    axes = np.eye(3) if direction is None else np.asarray(direction, float)
    size = np.ceil(np.array(extent) / np.array(spacing)).astype(int)
    origin = np.array(centre) - axes @ ((size - 1) / 2 * np.array(spacing))
    return Grid(tuple(int(n) for n in size), tuple(spacing), tuple(origin.tolist()), tuple(axes.ravel().tolist()))


def chest(grid: Grid, lesion_hu: float = -350.0) -> tuple[np.ndarray, np.ndarray]:
    """HU and lung labels (z, y, x) of a crude chest, defined in patient space so that the grid does not matter."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size], indexing="ij"), -1).reshape(-1, 3)
    x, y, z = (grid.points(index) - np.array([10.0, -30.0, -920.0])).T
    hu = np.where((x / 150) ** 2 + (y / 110) ** 2 < 1, 40.0, -1000.0)
    labels = np.zeros(hu.shape, np.uint8)
    for label, middle in ((1, -68.0), (2, 68.0)):  # the right lung lies at lower L
        lung = ((x - middle) / 52) ** 2 + (y / 80) ** 2 + (z / 115) ** 2 < 1
        labels[lung] = label
        hu[lung] = -860.0 + 0.4 * y[lung]
    sick = (np.hypot(np.hypot(x + 75, y - 25), z + 50) < 28) & (labels > 0)
    hu[sick] = lesion_hu
    shape = grid.size
    return tuple(np.ascontiguousarray(a.reshape(shape).transpose(2, 1, 0)) for a in (hu.astype(np.int16), labels))


def scores_of(recovery: float | None, jacobian: float, name: str | None) -> dict:
    return {
        "jacobian": jacobian,
        "jacobian_normalized": min(1.0, jacobian + 0.05),
        "tissue_recovery": recovery,
        "class": name,
        "explanation": "Tissue recovery: share of the abnormal lung that cleared.",
    }


def density_of(region: str, abnormal: float) -> dict:
    part = {"lungs": 1.0, "right": 0.55, "left": 0.45}.get(region, 0.15)
    return {
        "volume_ml": 4870.4 * part,
        "mean_hu": -812.0 + 4 * abnormal,
        "sd_hu": 118.0,
        "perc15_hu": -921.0,
        "mass_g": 915.0 * part,
        "laa950_percent": 1.234,
        "haa_percent": 0.4 * abnormal,
        "abnormal_percent": abnormal,
        "bands_percent": {
            "hyperinflated": 1.234,
            "well_aerated": 98.766 - abnormal - 3,
            "poorly_aerated": 0.7 * abnormal + 3,
            "non_aerated": 0.3 * abnormal,
        },
    }


def timepoint(visit: int, label: str, days: float | None, recovery: float, fails: bool, files: dict) -> TimePointResult:
    baseline = visit == 0
    abnormal = 21.3 * (1 - recovery)
    name = None if baseline else "complete" if recovery >= 0.85 else "partial" if recovery >= 0.5 else "persistent"
    follow_up = {} if baseline else follow_up_tables(recovery, fails)
    return TimePointResult(
        label=label,
        folder="baseline" if baseline else f"visit-{visit}",
        baseline=baseline,
        days=days,
        visit=visit,
        source={"format": "DICOM", "kernel": "B30f", "slice_thickness_mm": 1.0, "patient_name": "DOE^JANE"},
        lungs_source="segmented",
        density={r: density_of(r, abnormal) for r in REGIONS},
        scores={r: scores_of(recovery, 1.0 if baseline else 0.712, name) for r in REGIONS},
        files=files,
        reliable=not fails,
        **follow_up,
    )


def follow_up_tables(recovery: float, fails: bool) -> dict:
    reasons = (
        ["0.412 % of the lung voxels are folded (fail above 0.1 %)"] if fails else ["no measure outside its limits"]
    )
    return {
        "jacobian": {r: {"mean": 1.08, "sd": 0.1, "volume_change_percent": 8.0} for r in REGIONS},
        "change": {r: {"density_change_mean_mg_ml": -60.0 * recovery, "hu_change_mean": -55.0} for r in REGIONS},
        "quality": {
            "verdict": "fail" if fails else "pass",
            "reasons": reasons,
            "folds_percent": 0.412 if fails else 0.0,
            "lung_dice": 0.981,
            "lung_hd95_mm": 2.1,
            "inverse_mean_mm": 0.11,
            "inverse_p95_mm": 0.32,
            "similarity_before": 0.31,
            "similarity_after": 0.74,
            "volume_ratio": 1.08,
            "tre": None,
            "thresholds": QUALITY_THRESHOLDS,
        },
        "registration": {"seconds": {"align": 3.2, "refine": 21.4}, "device": "cpu", "preset": "standard", "notes": []},
    }


def trajectory(points: list[TimePointResult]) -> dict:
    dated = all(t.days is not None for t in points)
    series = {}
    for name, table, unit in (
        ("tissue_recovery", "scores", ""),
        ("jacobian", "scores", ""),
        ("jacobian_normalized", "scores", ""),
        ("abnormal_percent", "density", "%"),
        ("mean_hu", "density", "HU"),
        ("volume_ml", "density", "ml"),
        ("mass_g", "density", "g"),
    ):
        values = [getattr(t, table)["lungs"][name] for t in points]
        xs = [float(t.days if dated else t.visit) for t in points]
        error = 0.03 if table == "scores" else 0.02 * max(abs(v) for v in values)
        line = np.polyfit(xs, values, 1) if len(points) > 2 else None
        curve = (
            []
            if line is None
            else [
                {
                    "x": float(x),
                    "low": float(np.polyval(line, x) - error),
                    "mid": float(np.polyval(line, x)),
                    "high": float(np.polyval(line, x) + error),
                }
                for x in np.linspace(xs[0], xs[-1], 25)
            ]
        )
        slope = None if line is None else {"value": line[0], "low": line[0] * 0.8, "high": line[0] * 1.2}
        change = {
            "value": values[-1] - values[0],
            "low": values[-1] - values[0] - 0.1,
            "high": values[-1] - values[0] + 0.1,
        }
        series[f"{name}.lungs"] = {
            "name": name,
            "unit": unit,
            "region": "lungs",
            "model": "linear" if line is not None else "change",
            "points": [
                {"x": x, "value": v, "error": error, "reliable": t.reliable}
                for x, v, t in zip(xs, values, points, strict=True)
            ],
            "change": None if line is not None else change,
            "slope": slope,
            "interval": 0.95,
            "curve": curve,
            "day_reaches_0_85": {"estimate": 251.0, "low": 214.0, "high": 305.0}
            if name == "tissue_recovery" and dated
            else None,
            "day_reaches_0_85_reason": None if name == "tissue_recovery" else "no trend towards 0.85",
        }
    return {"axis": "days" if dated else "visit", "notes": [], "series": series}


def write_layers(folder: Path, grid: Grid, visits: int) -> None:
    """The images of a study on a grid: lesions that clear, and a lung that grows below."""
    base, labels = chest(grid)
    (folder / "baseline").mkdir(parents=True)
    sitk.WriteImage(to_image(base, grid), str(folder / "baseline" / "ct.nii.gz"))
    sitk.WriteImage(to_image(labels, grid), str(folder / "baseline" / "lungs.nii.gz"))
    inside = labels > 0
    for visit in range(1, visits):
        here = folder / f"visit-{visit}"
        here.mkdir()
        warped, _ = chest(grid, lesion_hu=-350.0 - 120.0 * visit)
        height = grid.points(np.array([[0, 0, k] for k in range(grid.size[2])], float))[:, 2]
        jacobian = np.where(inside, 1.0 + 0.15 * np.tanh((-920 - height) / 60)[:, None, None], 1.0).astype(np.float32)
        change = np.where(inside, jacobian * (warped + 1000.0) - (base + 1000.0), 0).astype(np.float32)
        for name, array in (("warped", warped), ("jacobian", jacobian), ("density_change", change), ("lungs", labels)):
            sitk.WriteImage(to_image(array, grid), str(here / f"{name}.nii.gz"))
        sitk.WriteTransform(sitk.TranslationTransform(3, (6.0, -4.0, 9.0)), str(here / "inverse_transform.h5"))


FILES = {name: f"{name}.nii.gz" for name in ("warped", "jacobian", "density_change", "lungs")}


def make_study(
    folder: Path,
    course: dict[str, tuple[float | None, float]] | None = None,
    fails: tuple[str, ...] = (),
    grid: Grid | None = None,
    without: tuple[str, ...] = (),
    warnings: tuple[str, ...] = (),
) -> StudyResult:
    """Write a study folder: `course` maps labels to (days, tissue recovery), the first is the baseline."""
    course = course or COURSE
    folder.mkdir(parents=True, exist_ok=True)
    grid = grid or grid_like()
    write_layers(folder, grid, len(course))
    points = []
    for visit, (label, (days, recovery)) in enumerate(course.items()):
        here = "baseline" if visit == 0 else f"visit-{visit}"
        names = (
            {"ct": "ct.nii.gz", "lungs": "lungs.nii.gz"}
            if visit == 0
            else FILES | {"inverse_transform": "inverse_transform.h5"}
        )
        files = {layer: f"{here}/{name}" for layer, name in names.items() if layer not in without}
        points.append(timepoint(visit, label, days, recovery, label in fails, files))
    study = StudyResult(
        settings={
            "preset": "standard",
            "spacing_mm": 1.5,
            "device": "cpu",
            "threads": 2,
            "seed": 0,
            "native_maps": False,
            "bands": BANDS,
            "quality_thresholds": QUALITY_THRESHOLDS,
            "score_thresholds": SCORE_THRESHOLDS,
        },
        grid={
            "size": list(grid.size),
            "spacing": list(grid.spacing),
            "origin": list(grid.origin),
            "direction": list(grid.direction),
        },
        regions=dict(REGIONS),
        region_codes={"1": ["lungs", "right"]},
        timepoints=points,
        trajectory=trajectory(points),
        absent=dict(ABSENT),
        warnings=list(warnings),
        seconds={"reading": 4.1, "segmentation": 12.0, "registration": 96.4},
    )
    write_study(study, folder)
    return study


@pytest.fixture(scope="session")
def study_maker() -> Callable[..., StudyResult]:
    """`make_study`."""
    return make_study


@pytest.fixture(scope="session")
def grid_maker() -> Callable[..., Grid]:
    """`grid_like`."""
    return grid_like


def _report(folder: Path, **options) -> tuple[Path, dict]:
    from LungRecoveryLib.report import write_report

    make_study(folder, **options)
    write_report(folder)
    return folder, json.loads((folder / "study.json").read_text("utf-8"))


@pytest.fixture(scope="session")
def reported(tmp_path_factory) -> tuple[Path, dict]:
    """The default study with its report written: the folder, and the content of study.json."""
    return _report(tmp_path_factory.mktemp("study"))


@pytest.fixture(scope="session")
def reported_failure(tmp_path_factory) -> tuple[Path, dict]:
    """A study whose day 90 failed the quality gate and whose labels hold markup."""
    course = {
        "Before <b>": (0.0, 0.0),
        "<script>alert('x')</script> $\\alpha$": (90.0, 0.476),
        "Day 180": (180.0, 0.624),
    }
    return _report(
        tmp_path_factory.mktemp("failure"),
        course=course,
        fails=("<script>alert('x')</script> $\\alpha$",),
        warnings=("5 < 6 & 7",),
    )
