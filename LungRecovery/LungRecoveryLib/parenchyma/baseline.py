"""The baseline of a scan: how dense its healthy parenchyma is, front to back, and the window to look at it with.

Healthy parenchyma is sampled in a ring around airways and vessels, where lesions of the periphery seldom reach, inside
the eroded lung. What is left of lesions is rejected: the healthy part is the mode of the sample, not its median, and
its spread is read from the side below the mode, where no lesion lies. Below the pleura healthy lung is denser than
deeper down, by 15 to 30 HU within a centimetre in most chests: that is measured as well.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from .tissue import Tissue, along_patient, smoothed

RING_MM = (1.5, 5.0)
EDGE_MM = 4.0  # of the lung that is not looked at: its blurred surface
CLIP_HU = (-80.0, 400.0)  # the range of the enhanced image, as published
_LEAST_RING_ML = 40.0
_LEAST_SAMPLE_ML = 8.0
_LEAST_REGION_ML = 2.0
_SMOOTH_MM = 1.5
_KEPT = 2.5  # standard deviations about the line that count as healthy
_MAD_TO_SD = 1.4826
_LEAST_SPREAD_HU = 3.0
_BINS = 12
_MOST_SAMPLES = 400_000
_PLAUSIBLE_HU = (-1000.0, -620.0)
_REACH = 3.0  # SDs of healthy parenchyma that the window shows to either side
_STEEPEST = 1.5  # HU per mm
_SHELLS_MM = (3.0, 4.0, 5.0, 7.0, 9.0, 11.0, 14.0)  # depths below the pleura between which its rise is measured
_DEEP_MM = 16.0  # from here on there is none
_MOST_RISE_HU = 40.0  # more is disease
_LEAST_SHELL_ML = 5.0
_NEAR_MODE = 1.5  # SDs about the mode that are averaged


@dataclass(frozen=True)
class Baseline:
    """The healthy parenchyma of a scan.

    `level_hu` deep in the lung at `middle_mm` (LPS y of the sample's median); `slope` HU per mm towards the back, the
    gradient of gravity; `mad_hu` the median absolute deviation of single voxels about it (noise included) and
    `texture_hu` the SD of their means over a few mm; `sample_ml` what was sampled in the "ring" around tubes or, where
    tubes are unknown or too few, in the whole "lung"; `rejected_percent` of it taken for lesion. `regions` has each
    region's own level. `pleural_hu` is how much denser it is below the pleura, at depths of `pleural_mm`.
    """

    level_hu: float
    slope: float
    middle_mm: float
    mad_hu: float
    texture_hu: float
    sample: str
    sample_ml: float
    rejected_percent: float
    regions: dict[str, float] = field(default_factory=dict)
    pleural_mm: tuple[float, ...] = (_DEEP_MM,)
    pleural_hu: tuple[float, ...] = (0.0,)

    def at(self, y_mm: np.ndarray) -> np.ndarray:
        """The baseline in HU at LPS y coordinates in mm, deep in the lung."""
        return self.level_hu + self.slope * (y_mm - self.middle_mm)

    def rise(self, depth_mm: np.ndarray) -> np.ndarray:
        """How many HU denser healthy parenchyma is at depths in mm below the pleura than deep in the lung."""
        return np.interp(depth_mm, self.pleural_mm, self.pleural_hu).astype(np.float32)

    @property
    def window(self) -> tuple[float, float]:
        """Level and width in HU that show the healthy parenchyma and what rises above it."""
        return self.level_hu, 2 * _REACH * _MAD_TO_SD * self.mad_hu

    @property
    def clip(self) -> tuple[float, float]:
        """The range in HU above the baseline to which the enhanced image is cut: as published, wider under noise, so
        that the cut never takes one side of the noise alone."""
        return min(CLIP_HU[0], -_REACH * _MAD_TO_SD * self.mad_hu), CLIP_HU[1]


def estimate_baseline(tissue: Tissue, regions: Mapping[str, np.ndarray] | None = None) -> Baseline:
    """The baseline of a scan's parenchyma.

    `regions` are bool masks (z, y, x) on the tissue's grid, such as the lobes: each gets its own level as well, at the
    scan's middle and slope. Raises BadInput where too little healthy parenchyma is left to tell.
    """
    ring, sample = _sampled(tissue)
    usable = tissue.inside & (tissue.from_tubes >= RING_MM[0])
    means = smoothed(tissue.hu, usable, tissue.sigma(_SMOOTH_MM))
    y = along_patient(tissue.grid, ring, 1)
    middle = float(np.median(y))
    step = max(1, y.size // _MOST_SAMPLES)
    line, spread = _healthy_line(means[ring][::step], y[::step] - middle)
    depths, rises = _pleural_rise(tissue, usable, means, line[1], middle, spread)
    rise = np.interp(tissue.depth[ring], depths, rises).astype(np.float32)
    residual = means[ring] - rise - (line[0] + line[1] * (y - middle) - float(np.median(rise)))
    healthy = np.abs(residual) <= _KEPT * spread
    raw = tissue.hu[ring] - line[1] * (y - middle) - rise
    level = float(np.median(raw[healthy]))
    if not _PLAUSIBLE_HU[0] <= level <= _PLAUSIBLE_HU[1]:
        raise BadInput(
            f"no healthy parenchyma to compare with: the lung's commonest density is {level:.0f} HU; give a scan in "
            "inspiration that shows some aerated lung"
        )
    return Baseline(
        level_hu=level,
        slope=line[1],
        middle_mm=middle,
        mad_hu=max(float(np.median(np.abs(raw[healthy] - level))), _LEAST_SPREAD_HU),
        texture_hu=spread,
        sample=sample,
        sample_ml=float(ring.sum() * tissue.grid.voxel_ml),
        rejected_percent=100.0 * float(1.0 - healthy.mean()),
        regions=_region_levels(tissue, regions or {}, ring, healthy, raw),
        pleural_mm=depths,
        pleural_hu=rises,
    )


def _sampled(tissue: Tissue) -> tuple[np.ndarray, str]:
    """Where parenchyma is sampled, (z, y, x) bool, and what that is: the ring around tubes, or the whole lung."""
    inner = tissue.inside & (tissue.depth >= EDGE_MM)
    ring = inner & (tissue.from_tubes >= RING_MM[0]) & (tissue.from_tubes <= RING_MM[1])
    if ring.sum() * tissue.grid.voxel_ml >= _LEAST_RING_ML:
        return ring, "ring"
    lung = inner & (tissue.from_tubes >= RING_MM[0])
    if lung.sum() * tissue.grid.voxel_ml < _LEAST_SAMPLE_ML:
        raise BadInput(
            f"less than {_LEAST_SAMPLE_ML:.0f} ml of parenchyma lie clear of vessels and the lung's surface: give a "
            "scan, or a lung mask, that shows more of the lung"
        )
    return lung, "lung"


def _healthy_line(values: np.ndarray, y: np.ndarray) -> tuple[tuple[float, float], float]:
    """The line (HU at y = 0, HU per mm) on which healthy parenchyma lies, and the SD about it.

    It starts from the modes of equally full bins from front to back (Theil-Sen, so that bins filled by a lesion do not
    count) and goes on by least squares over what lies near the line.
    """
    edges = np.quantile(y, np.linspace(0, 1, _BINS + 1))
    bins = np.clip(np.searchsorted(edges, y, side="right") - 1, 0, _BINS - 1)
    filled = [b for b in range(_BINS) if np.count_nonzero(bins == b) >= 30]
    modes = np.array([_mode(values[bins == b]) for b in filled])
    places = np.array([float(np.median(y[bins == b])) for b in filled])
    line = _theil_sen(places, modes)
    spread = _LEAST_SPREAD_HU
    for _ in range(20):
        residual = values - (line[0] + line[1] * y)
        shift = _mode(residual)
        below = shift - residual[residual < shift]
        spread = max(_MAD_TO_SD * float(np.median(below)) if below.size else 0.0, _LEAST_SPREAD_HU)
        kept = np.abs(residual - shift) <= _KEPT * spread
        slope, start = np.polyfit(y[kept], values[kept], 1) if np.ptp(y[kept]) > 20 else (0.0, np.median(values[kept]))
        slope = float(np.clip(slope, -_STEEPEST, _STEEPEST))
        moved = abs(start - line[0]) + 50 * abs(slope - line[1])
        line = (float(start), slope)
        if moved < 0.05:
            break
    return line, spread


def _pleural_rise(
    tissue: Tissue, usable: np.ndarray, means: np.ndarray, slope: float, middle: float, spread: float
) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Depths in mm below the pleura, and how many HU denser the parenchyma there commonly is than deep in the lung.

    The commonest density of each shell counts, so that lesions do not; it never rises again towards the depth.
    """

    def commonest(shell: np.ndarray) -> float | None:
        if shell.sum() * tissue.grid.voxel_ml < _LEAST_SHELL_ML:
            return None
        step = max(1, int(shell.sum()) // _MOST_SAMPLES)
        values = (means[shell] - slope * (along_patient(tissue.grid, shell, 1) - middle))[::step]
        centre = _mode(values)
        for _ in range(10):
            centre = float(values[np.abs(values - centre) < _NEAR_MODE * spread].mean())
        return centre

    deep = commonest(usable & (tissue.depth >= _DEEP_MM))
    depths, rises = [_DEEP_MM], [0.0]
    if deep is None:
        return tuple(depths), tuple(rises)
    for low, high in zip(_SHELLS_MM[-2::-1], _SHELLS_MM[:0:-1], strict=True):
        level = commonest(usable & (tissue.depth >= low) & (tissue.depth < high))
        if level is not None:
            depths.append((low + high) / 2)
            rises.append(float(np.clip(level - deep, rises[-1], _MOST_RISE_HU)))
    return tuple(depths[::-1]), tuple(rises[::-1])


def _theil_sen(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """The line (value at 0, slope) through the median slope of all pairs of points."""
    first, second = np.triu_indices(len(x), 1)
    apart = np.abs(x[second] - x[first]) > 5.0
    if not apart.any():
        return float(np.median(y)), 0.0
    slope = float(np.median(((y[second] - y[first])[apart]) / ((x[second] - x[first])[apart])))
    return float(np.median(y - slope * x)), slope


def _mode(values: np.ndarray) -> float:
    """The half-sample mode (Bickel 2006): the densest half of the values, again and again."""
    ordered = np.sort(values)
    while ordered.size > 200:  # below that the half's position is noise
        half = (ordered.size + 1) // 2
        widths = ordered[half - 1 :] - ordered[: ordered.size - half + 1]
        start = int(np.argmin(widths))
        ordered = ordered[start : start + half]
    return float(np.median(ordered))


def _region_levels(
    tissue: Tissue, regions: Mapping[str, np.ndarray], ring: np.ndarray, healthy: np.ndarray, raw: np.ndarray
) -> dict[str, float]:
    """The level in HU of each region with enough healthy samples."""
    levels = {}
    for name, mask in regions.items():
        own = mask[ring] & healthy
        if own.sum() * tissue.grid.voxel_ml >= _LEAST_REGION_ML:
            levels[name] = float(np.median(raw[own]))
    return levels
