"""Radiomics of a scan: features as the Image Biomarker Standardisation Initiative defines them, computed by MIRP.

Few of them, on the lungs, their lobes (sides where lobes are not known) and the lesions, before and after the scan's
bias is taken out. Which of them may be followed over time is measured: see :func:`stability`.

Definitions: Zwanenburg et al., Radiology 2020, and the IBSI reference manual (arXiv:1612.07003), by the ids given here.
MIRP: Zwanenburg et al., JOSS 2024.
"""

import csv
import json
import logging
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from io import StringIO
from typing import Any

import numpy as np
import SimpleITK as sitk

from ..anatomy.regions import LOBE_REGIONS
from ..errors import MissingDependency
from ..grids import crop_to_mask, resample, resample_mask, to_array, with_spacing
from ..progress import Progress, no_progress
from ..resources import resource

SPACING_MM = 3.0
BIN_HU = 25.0
RANGES_HU = {"plain": (-1000.0, 400.0), "enhanced": (-200.0, 400.0)}
"""The densities that count, by image: "plain" is the CT, "enhanced" the image with the scan's bias taken out."""

LESIONS = "lesions"
SIDES = {1: "right", 2: "left"}
STABLE_ICC = 0.9
COLUMNS = ("region", "ml", "image", "family", "feature", "ibsi", "value", "icc", "stable")
_FEWEST_VOXELS = 100
_STABILITY = "radiomics_stability.json"


@dataclass(frozen=True)
class Feature:
    """A feature: its IBSI family, name and id, what MIRP's column begins with, and its unit."""

    family: str
    name: str
    ibsi: str
    column: str
    unit: str = ""


FEATURES = tuple(
    Feature(family, *feature)
    for family, features in {
        "intensity": (
            ("mean", "Q4LE", "stat_mean", "HU"),
            ("variance", "ECT3", "stat_var", "HU²"),
            ("skewness", "KE2A", "stat_skew"),
            ("kurtosis", "IPH6", "stat_kurt"),
            ("median", "Y12H", "stat_median", "HU"),
            ("10th percentile", "QG58", "stat_p10", "HU"),
            ("90th percentile", "8DWT", "stat_p90", "HU"),
            ("interquartile range", "SALO", "stat_iqr", "HU"),
            ("robust mean absolute deviation", "1128", "stat_rmad", "HU"),
        ),
        "co-occurrence": (
            ("joint entropy", "TU9B", "cm_joint_entr_"),
            ("contrast", "ACUI", "cm_contrast_"),
            ("correlation", "NI2N", "cm_corr_"),
            ("inverse difference", "IB1Z", "cm_inv_diff_d1"),
            ("cluster tendency", "DG8W", "cm_clust_tend_"),
        ),
        "run length": (
            ("short runs emphasis", "22OV", "rlm_sre_"),
            ("run percentage", "9ZK5", "rlm_r_perc_"),
            ("grey level variance", "8CE5", "rlm_gl_var_"),
            ("run entropy", "HJ9O", "rlm_rl_entr_"),
        ),
        "size zone": (
            ("small zone emphasis", "5QRC", "szm_sze_"),
            ("zone percentage", "P30P", "szm_z_perc_"),
            ("grey level variance", "BYLV", "szm_gl_var_"),
            ("zone size entropy", "GU8N", "szm_zs_entr_"),
        ),
    }.items()
    for feature in features
)


def require_mirp() -> None:
    """Raise MissingDependency, saying how to install it, where MIRP is not installed."""
    try:
        import mirp  # noqa: F401
    except ModuleNotFoundError as error:
        raise MissingDependency(
            f"radiomics need the Python package {error.name}: pip install 'lungrecovery[radiomics]'"
        ) from None


def measure(
    images: Mapping[str, sitk.Image],
    lungs: sitk.Image,
    lobes: sitk.Image | None,
    lesions: sitk.Image,
    progress: Progress = no_progress,
) -> dict[str, dict[str, Any]]:
    """The features of a scan by region: {"volume_ml": ml, image's name: {IBSI id: value}}.

    `images` by the names of RANGES_HU, HU on one grid; `lungs` (1 right, 2 left), `lobes` (by the labels of
    LOBE_REGIONS, or None) and `lesions` (any label) on it too. All are laid on voxels of SPACING_MM. Regions of fewer
    than 100 such voxels are left out. Raises MissingDependency without MIRP.
    """
    grid = with_spacing(crop_to_mask(lungs, 0.0), (SPACING_MM,) * 3)
    masks = _regions(*(None if m is None else to_array(resample_mask(m, grid)) for m in (lungs, lobes, lesions)))
    masks = {region: mask for region, mask in masks.items() if np.count_nonzero(mask) >= _FEWEST_VOXELS}
    laid = {image: to_array(resample(volume, grid), np.float32) for image, volume in images.items()}
    table: dict[str, dict[str, Any]] = {}
    for done, (region, mask) in enumerate(masks.items()):
        progress("radiomics", done / len(masks), region)
        table[region] = {"volume_ml": float(np.count_nonzero(mask)) * grid.voxel_ml}
        for image, voxels in laid.items():
            found = features(voxels, mask, RANGES_HU[image])
            table[region][image] = {feature.ibsi: value for feature, value in found.items()}
    return table


def rows_of(table: Mapping[str, Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """What :func:`measure` found, a row (see COLUMNS) for each region, image and feature; `stable` None where the
    stability is not known."""
    known = stability()
    for region, measured in table.items():
        for image in (image for image in RANGES_HU if image in measured):
            for feature in (feature for feature in FEATURES if feature.ibsi in measured[image]):
                icc = known.get(_key(region, image, feature))
                yield {
                    "region": region, "ml": measured["volume_ml"], "image": image, "family": feature.family,
                    "feature": feature.name, "ibsi": feature.ibsi, "value": measured[image][feature.ibsi], "icc": icc,
                    "stable": None if icc is None else icc >= STABLE_ICC,
                }  # fmt: skip


def _regions(lungs: np.ndarray, lobes: np.ndarray | None, lesions: np.ndarray) -> dict[str, np.ndarray]:
    parts, names = (lobes, LOBE_REGIONS) if lobes is not None and lobes.any() else (lungs, SIDES)
    found = {name: parts == label for label, name in names.items()}
    return {"lungs": lungs > 0, **found, LESIONS: (lesions > 0) & (lungs > 0)}


def features(voxels: np.ndarray, mask: np.ndarray, range_hu: tuple[float, float]) -> dict[Feature, float]:
    """The features of the voxels (z, y, x) float HU in a mask (z, y, x) bool, isotropic, within a range of HU.

    Grey levels are bins of BIN_HU from the range's lower end; matrices are 3D, of all directions merged, distance 1.
    Features that the voxels leave undefined are left out. Raises MissingDependency without MIRP.
    """
    require_mirp()
    from mirp import extract_features

    if np.count_nonzero(mask & (voxels >= range_hu[0]) & (voxels <= range_hu[1])) < _FEWEST_VOXELS:
        return {}
    cut = tuple(slice(max(i.min() - 1, 0), i.max() + 2) for i in np.nonzero(mask))
    with _quiet():
        table = extract_features(
            image=voxels[cut],
            mask=mask[cut].astype(np.uint8),
            image_modality="ct",
            base_feature_families=["statistics", "glcm", "glrlm", "glszm"],
            base_discretisation_method="fixed_bin_size",
            base_discretisation_bin_width=BIN_HU,
            resegmentation_intensity_range=[float(end) for end in range_hu],
            glcm_spatial_method="3d_volume_merge",
            glrlm_spatial_method="3d_volume_merge",
            glszm_spatial_method="3d",
        )[0]
    values = {feature: float(table[_column(table.columns, feature)].iloc[0]) for feature in FEATURES}
    return {feature: value for feature, value in values.items() if np.isfinite(value)}


def _column(columns: Any, feature: Feature) -> str:
    exact = [column for column in columns if column == feature.column]
    (column,) = exact or [column for column in columns if column.startswith(feature.column)]
    return column


@contextmanager
def _quiet() -> Iterator[None]:
    """MIRP sets up the root logger to tell of its progress; within the block it says only what is wrong."""
    root = logging.getLogger()
    handlers, level, disabled = root.handlers[:], root.level, root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        root.handlers[:], root.level = handlers, level
        logging.disable(disabled)


def _key(region: str, image: str, feature: Feature) -> tuple[str, str, str]:
    """What of a row the stability depends on: lesions by themselves, every other region as lung."""
    return LESIONS if region == LESIONS else "lung", image, feature.ibsi


def stability() -> dict[tuple[str, str, str], float]:
    """The intraclass correlation ICC(2,1) by region ("lung" or "lesions"), image and IBSI id, as it was measured.

    `Testing/benchmarks/radiomics.py` measured it on phantoms across noise, kernel and breath. A feature is stable from
    STABLE_ICC on ("excellent", Koo and Li, J Chiropr Med 2016).
    """
    return _measured_stability("icc")


def repeatability(region: str, feature: Feature, image: str = "enhanced") -> float:
    """The SD of a feature between scans of the same lung that differ in noise, kernel and breath, in its own unit.

    Of the phantoms of :func:`stability`, pooled over their lobes, or over the lesions in them for lesions.
    """
    return _measured_stability("sd")[_key(region, image, feature)]


@cache
def _measured_stability(measure: str) -> dict[tuple[str, str, str], float]:
    content = json.loads(resource(_STABILITY).read_text(encoding="utf-8"))
    return {(row["region"], row["image"], row["ibsi"]): row[measure] for row in content["features"]}


def stable_features(region: str, image: str = "enhanced") -> tuple[Feature, ...]:
    """The features of a region that may be followed over time."""
    known = stability()
    return tuple(f for f in FEATURES if known.get(_key(region, image, f), -1.0) >= STABLE_ICC)


def to_csv(rows: Iterable[dict[str, Any]]) -> str:
    """Rows of :func:`rows_of` as CSV; empty cells where the stability is not known."""
    text = StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for row in rows:
        shown = {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        writer.writerow(shown | {"stable": {True: "yes", False: "no", None: ""}[row["stable"]]})
    return text.getvalue()


def icc(ratings: np.ndarray) -> float:
    """The intraclass correlation ICC(2,1) of ratings (subjects, conditions): random, single, absolute agreement.

    Shrout and Fleiss, Psychological Bulletin 1979; ICC(A,1) of McGraw and Wong 1996. NaN for fewer than two subjects or
    conditions, or where nothing varies.
    """
    n, k = ratings.shape
    if n < 2 or k < 2:
        return float("nan")
    mean = ratings.mean()
    rows = k * float(np.square(ratings.mean(axis=1) - mean).sum()) / (n - 1)
    columns = n * float(np.square(ratings.mean(axis=0) - mean).sum()) / (k - 1)
    total = float(np.square(ratings - mean).sum())
    error = (total - rows * (n - 1) - columns * (k - 1)) / ((n - 1) * (k - 1))
    spread = rows + (k - 1) * error + k * (columns - error) / n
    return (rows - error) / spread if spread > 0 else float("nan")
