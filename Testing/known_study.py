"""A small study whose truth is known, written by hand.

The follow-ups are resampled through a known transform (affine and bend) on oblique, anisotropic grids of their own, so
every geometry error shows.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib.anatomy.regions import ATOM_REGIONS, REGION_NAMES, lung_atoms
from LungRecoveryLib.grids import (
    Grid,
    crop_to_mask,
    field_to_transform,
    grid_of,
    resample,
    sample,
    to_array,
    to_image,
    transform_points,
    window,
)
from LungRecoveryLib.results import StudyResult, TimePointResult, write_study

CENTRE = np.array([10.0, -30.0, -920.0])  # LPS mm, as of a low table
MOVED = CENTRE + np.array([6.0, -9.0, 14.0])
SETTINGS = {
    "preset": "fast",
    "spacing_mm": 4.0,
    "device": "cpu",
    "seed": 0,
    "native_maps": False,
    "bands": [{"name": "well_aerated", "low": -950.0, "high": -700.0}],
    "quality_thresholds": {},
    "score_thresholds": {},
}
"""Settings that a study of tests may have been made with."""
LABELS = ("baseline", "day 30", "Kontrolle; ä=2")
FOLDERS = ("baseline", "day-30", "kontrolle")
DAYS = (0.0, 30.0, 90.0)
LUNG_JACOBIAN = {"day 30": 1.25, "Kontrolle; ä=2": 1.5}  # about, in the left lung; the right one shrinks


def turned(degrees: float, axis: tuple[float, float, float]) -> np.ndarray:
    """A rotation matrix."""
    transform = sitk.VersorTransform(axis, np.deg2rad(degrees))
    return np.array(transform.GetMatrix()).reshape(3, 3)


def grid_about(
    spacing: tuple[float, ...], extent: tuple[float, ...], axes: np.ndarray, centre: np.ndarray = CENTRE
) -> Grid:
    """A grid of about that extent (mm, along its own axes) around an LPS point."""
    size = np.ceil(np.array(extent) / np.array(spacing)).astype(int)
    origin = centre - axes @ ((size - 1) / 2 * np.array(spacing))
    return Grid(tuple(map(int, size)), tuple(spacing), tuple(origin.tolist()), tuple(axes.ravel().tolist()))


def lps(grid: Grid) -> np.ndarray:
    """The LPS points (z, y, x, 3) of a grid's voxels."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), -1)[..., ::-1]
    return grid.points(index.reshape(-1, 3)).reshape(*grid.shape, 3)


def chest(grid: Grid) -> tuple[np.ndarray, np.ndarray]:
    """HU and lung labels (z, y, x) of a crude chest in patient space, with texture that tells places apart."""
    x, y, z = np.moveaxis(lps(grid) - CENTRE, -1, 0)
    hu = np.where((x / 100) ** 2 + (y / 75) ** 2 < 1, 40.0, -1000.0)
    labels = np.zeros(hu.shape, np.uint8)
    for label, middle in ((1, -42.0), (2, 42.0)):  # the patient's right lung lies at lower L
        lung = ((x - middle) / 34) ** 2 + (y / 55) ** 2 + (z / 70) ** 2 < 1
        labels[lung] = label
        hu[lung] = -850.0 + 60 * np.sin(x[lung] / 9) * np.cos(y[lung] / 11) * np.sin(z[lung] / 13)
    return np.rint(hu).astype(np.int16), labels


def bend(grid: Grid, strength: float) -> np.ndarray:
    """A displacement field (3, z, y, x), LPS mm, that fades out well inside the grid."""
    middle = lps(grid) - CENTRE
    inward = [np.minimum(np.arange(n), np.arange(n)[::-1]) for n in grid.shape]  # voxels from the border
    fade = np.clip((np.minimum.reduce(np.meshgrid(*inward, indexing="ij")) - 1) / 6.0, 0, 1)
    wave = np.stack([np.sin(middle[..., 2] / 40), np.cos(middle[..., 0] / 50), np.sin(middle[..., 1] / 45)])
    return (strength * wave * fade).astype(np.float32)


def turn_and_shift() -> sitk.AffineTransform:
    """The affine part of every follow-up's motion."""
    affine = sitk.AffineTransform(3)
    affine.SetCenter(CENTRE.tolist())
    affine.SetMatrix((turned(4.0, (0, 1, 0.3)) * 1.04).ravel().tolist())
    affine.SetTranslation((6.0, -9.0, 14.0))
    return affine


def known_transform(field: np.ndarray, grid: Grid) -> sitk.Transform:
    """Baseline point -> follow-up point: first the bend, then the turn and shift."""
    whole = sitk.CompositeTransform(3)
    whole.AddTransform(turn_and_shift())
    whole.AddTransform(field_to_transform(field, grid))
    return whole


def inverse(field: np.ndarray, grid: Grid, at: Grid) -> sitk.Transform:
    """Follow-up point -> baseline point as a field on the grid `at`, by fixed-point iteration."""
    back = turn_and_shift().GetInverse()
    points = lps(at).reshape(-1, 3)
    origin, columns = (np.array(back.TransformPoint((0.0, 0.0, 0.0))), np.array(back.GetMatrix()).reshape(3, 3))
    turned_back = points @ columns.T + origin
    guess = turned_back.copy()
    for _step in range(15):
        guess = turned_back - sample(field, grid, guess)
    return field_to_transform(np.moveaxis((guess - points).reshape(*at.shape, 3), -1, 0), at)


@dataclass
class Truth:
    """A study's folder and what the test knows about it."""

    folder: Path
    grid: Grid
    transforms: dict[str, sitk.Transform]
    scans: dict[str, sitk.Image]  # at their own resolution
    landmarks: np.ndarray  # baseline points (N, 3), LPS mm

    @property
    def labels(self) -> tuple[str, ...]:
        return LABELS

    @property
    def landmarks_ras(self) -> np.ndarray:
        """The landmarks in RAS mm."""
        return self.landmarks * (-1, -1, 1)

    def moved_ras(self, label: str) -> np.ndarray:
        """Where the landmarks' tissue lies in a follow-up, RAS mm."""
        return transform_points(self.transforms[label], self.landmarks) * (-1, -1, 1)

    def layer(self, label: str, name: str, box: Grid | None = None) -> sitk.Image:
        """A layer of the study as it is on disk, or the part of it in a crop of its grid."""
        image = sitk.ReadImage(str(self.folder / FOLDERS[LABELS.index(label)] / f"{name}.nii.gz"))
        return image if box is None else to_image(to_array(image)[window(grid_of(image), box)], box)

    @property
    def lung_box(self) -> Grid:
        """The part of the study's grid that holds the lungs."""
        return crop_to_mask(self.layer("baseline", "lungs"), 0.0)


def _density(abnormal: float) -> dict:
    return {
        "volume_ml": 4870.4,
        "mean_hu": -812.25 + abnormal,
        "sd_hu": 118.0,
        "perc15_hu": -921.0,
        "mass_g": 915.0,
        "laa950_percent": 1.234,
        "haa_percent": 3.3,
        "abnormal_percent": abnormal,
        "bands_percent": {"well_aerated": 70.0, "poorly_aerated": 30.0},
    }


def _series(name: str, region: str, values: list[float | None], unit: str = "", reliable=(True, True, True)) -> dict:
    points = [
        {"x": x, "value": v, "error": 0.02 * max(abs(v or 0), 0.5), "reliable": r}
        for x, v, r in zip(DAYS, values, reliable, strict=True)
        if v is not None
    ]
    curve = [{"x": x, "low": x / 100 - 0.1, "mid": x / 100, "high": x / 100 + 0.1} for x in (0.0, 45.0, 90.0)]
    return {"name": name, "unit": unit, "region": region, "model": "linear", "points": points, "curve": curve}


def _timepoint(visit: int, files: dict[str, str], reliable: bool) -> TimePointResult:
    abnormal = (21.3, 12.0, 4.0)[visit]
    name, recovery = (None, "partial", "complete")[visit], (None, 0.436, -0.25)[visit]
    scores = {
        region: {
            "jacobian": 0.7,
            "jacobian_normalized": 0.9,
            "tissue_recovery": recovery if region != "core" else None,
            "class": name,
            "explanation": "as the test wants it",
        }
        for region in REGION_NAMES
    }
    followup = {
        "jacobian": {r: {"mean": 1.08, "volume_change_percent": 8.04} for r in REGION_NAMES},
        "change": {r: {"density_change_mean_mg_ml": -60.0} for r in REGION_NAMES},
        "quality": {"verdict": "pass" if reliable else "fail", "reasons": ["as the test wants it"]},
        "registration": {"seconds": {"refine": 1.0}, "device": "cpu", "preset": "fast", "notes": []},
    }
    return TimePointResult(
        label=LABELS[visit],
        folder=FOLDERS[visit],
        baseline=visit == 0,
        days=DAYS[visit],
        visit=visit,
        source={"format": "NIfTI"},
        lungs_source="given",
        density={r: _density(abnormal) for r in REGION_NAMES},
        scores=scores,
        files=files,
        reliable=reliable,
        **({} if visit == 0 else followup),
    )


def write_small_study(folder: Path, extra: dict[str, tuple[str, ...]] | None = None, fails: int | None = None) -> Truth:
    """Write a study of a baseline and two follow-ups; `extra` names further layers by label, `fails` a visit."""
    folder.mkdir(parents=True)
    extra = extra or {}
    grid = grid_about((5.0, 4.0, 4.5), (230, 180, 200), turned(17.0, (0.2, 1, 0.1)))
    hu, labels = chest(grid)
    truth = Truth(folder, grid, {}, {"baseline": to_image(hu, grid)}, _landmarks())
    layers = {"ct": to_image(hu, grid), "lungs": to_image(labels, grid)}
    layers["regions"] = lung_atoms(layers["lungs"])
    layers |= {name: _extra(name, layers["lungs"]) for name in extra.get("baseline", ())}
    timepoints = [_timepoint(0, _write(folder, "baseline", layers), True)]
    for visit, label in enumerate(LABELS[1:], start=1):
        field = bend(grid, 4.0 * visit)
        transform = known_transform(field, grid)
        own = grid_about((5.0, 5.5, 6.0), (240, 200, 220), turned(-25.0, (1, 0.4, 0.2)), MOVED)
        back = inverse(field, grid, own)
        scan, lungs = resample(layers["ct"], own, back), resample(layers["lungs"], own, back, "nearest", 0)
        truth.transforms[label], truth.scans[label] = transform, scan
        jacobian = np.where(labels == 2, LUNG_JACOBIAN[label], np.where(labels == 1, 0.7, 3.0)).astype(np.float32)
        change = np.where(labels == 1, 120.0 * visit, 0.0).astype(np.float32)
        maps = {
            "warped": resample(scan, grid, transform),
            "jacobian": to_image(jacobian, grid),
            "jacobian_normalized": to_image(jacobian / np.float32(1.1), grid),
            "density_change": to_image(change, grid),
            "similarity": to_image(np.where(labels > 0, np.float32(0.8), np.float32(0)), grid),
            "lungs": lungs,
        }
        own_grid = ("lesions", "enhanced")
        maps |= {name: _extra(name, lungs if name in own_grid else layers["lungs"]) for name in extra.get(label, ())}
        here = FOLDERS[visit]
        files = _write(folder, here, maps)
        sitk.WriteTransform(transform, str(folder / here / "transform.h5"))
        timepoints.append(_timepoint(visit, files | {"transform": f"{here}/transform.h5"}, fails != visit))
    write_study(_result(grid, timepoints, fails), folder)
    return truth


def _landmarks() -> np.ndarray:
    rng = np.random.default_rng(4)
    return CENTRE + rng.uniform(-1, 1, (40, 3)) * (75, 50, 65)


def _extra(name: str, lungs: sitk.Image) -> sitk.Image:
    """A layer that later versions write."""
    labels = to_array(lungs)
    array = {
        "lesions": (labels == 1).astype(np.uint8),
        "uncertainty": np.where(labels > 0, 2.5, 9.0).astype(np.float32),
        "enhanced": np.where(labels > 0, 500, 0).astype(np.float32),
        "novelty": np.where(labels > 0, 7.0, 0.0).astype(np.float32),
    }[name]
    return to_image(array, lungs)


def _write(folder: Path, here: str, layers: dict[str, sitk.Image]) -> dict[str, str]:
    (folder / here).mkdir()
    for name, image in layers.items():
        sitk.WriteImage(image, str(folder / here / f"{name}.nii.gz"))
    return {name: f"{here}/{name}.nii.gz" for name in layers}


def _result(grid: Grid, timepoints: list[TimePointResult], fails: int | None) -> StudyResult:
    reliable = tuple(fails != visit for visit in range(3))
    series = [
        _series("tissue_recovery", "lungs", [None, 0.436, 0.82], reliable=reliable),
        _series("jacobian", "lungs", [1.0, 0.7, 0.7], reliable=reliable),
        _series("jacobian_normalized", "lungs", [1.0, 0.9, 0.9], reliable=reliable),
        _series("abnormal_percent", "lungs", [21.3, 12.0, 4.0], "%"),
        _series("mean_hu", "lungs", [-790.0, -800.0, -808.0], "HU"),
        _series("abnormal_percent", "right", [30.0, 20.0, 10.0], "%"),
    ]
    table = {"lungs": {"mean_hu": -8.0, "abnormal_percent": -8.0}}
    scores = {"lungs": {"tissue_recovery": 0.667, "jacobian": 0.0, "jacobian_normalized": 0.0}}
    scores["lungs"] |= {"class": None, "explanation": ""}
    compared = {"earlier": LABELS[1], "later": LABELS[2], "days": 60.0, "reliable": True}
    return StudyResult(
        settings=SETTINGS,
        grid={key: list(getattr(grid, key)) for key in ("size", "spacing", "origin", "direction")},
        regions=dict(REGION_NAMES),
        region_codes={str(code): ids for code, ids in ATOM_REGIONS.items()},
        timepoints=timepoints,
        trajectory={"axis": "days", "notes": [], "series": {f"{s['name']}.{s['region']}": s for s in series}},
        comparisons=[compared | {"change": table, "scores": scores}],
    )
