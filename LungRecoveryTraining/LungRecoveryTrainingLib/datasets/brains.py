"""Pairs of generated brains with labels as samples, after SynthMorph: what is learned is shapes, not a scanner.

A pair is two people's brains, or random shapes within a brain's hull, to train on in turn; to validate on, people
alone. Shapes lie alike in both scans: what moves them apart is drawn anew for every batch by the augmentation, with
known truth, as is the contrast of both kinds. Nothing of any real scan is in them.

Source: Hoffmann et al., IEEE TMI 2022 (SynthMorph).
"""

from collections.abc import Iterable, Iterator
from functools import partial

import numpy as np
import SimpleITK as sitk
import torch
from scipy.ndimage import gaussian_filter

from LungRecoveryLib.grids import to_image
from LungRecoveryLib.phantom.brain import BrainScan, make_brains
from LungRecoveryLib.phantom.frames import make_grid

from .cache import compact, expand
from .processes import in_processes
from .samples import TEXTS, Sample, Scan, sample_of

SHAPES = 16
# The scale (mm) of shapes, from those of the cortex to those of a lobe.
_SCALE_MM = (6.0, 16.0)
# Half-axes of a hull (mm; x, y, z) and how far from person to person they differ; its surface is uneven.
_HALF_MM, _OTHER_SIZE = (68.0, 84.0, 70.0), (0.88, 1.08)
_UNEVEN, _UNEVEN_MM = 0.06, 20.0
_TONES = (0.1, 1.0)
# Brains are drawn in voxels so many times finer and averaged, as real ones are that come on a coarse grid.
_FINER = 2


def brain_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], workers: int = 0, shapes: bool = False
) -> Iterator[Sample]:
    """One sample for each seed, in their order: `size` (z, y, x) voxels of `spacing_mm` about the brain.

    `shapes`: those of odd seeds are random shapes. The same arguments give the same samples, whatever the workers.
    """
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size), shapes), seeds, workers):
        yield expand({k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()})


def _packed(spacing_mm: float, size: tuple[int, int, int], shapes: bool, seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    kind = "shapes" if shapes and seed % 2 else "people"
    if kind == "shapes":
        scans, known = make_shapes(seed, spacing_mm), _still
    else:
        scans, known = make_brains(seed, spacing_mm / _FINER), None
    sample = sample_of(*map(_scan, scans), known, spacing_mm, size, align=False, anatomy="brain")
    arrays = {key: value.numpy() for key, value in compact(sample).items()}
    return arrays | {"subject": f"brain-{seed}", "pair": f"brain-{seed}:{kind}"}


def _scan(brain: BrainScan) -> Scan:
    return Scan(brain.image, sitk.Cast(brain.image > 0, sitk.sitkUInt8), brain.labels)


def _still(points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Tissue lies where it lay."""
    return points, np.ones(len(points), bool)


def make_shapes(seed: int, spacing_mm: float) -> tuple[BrainScan, BrainScan]:
    """Random shapes, labels 1 to SHAPES, within the hull of a brain, twice: in two contrasts.

    The same seed and spacing give the same shapes.
    """
    rng = np.random.default_rng([seed, 40_409])
    half = np.array(_HALF_MM) * rng.uniform(*_OTHER_SIZE, 3)
    shape = tuple(round(2.4 * mm / spacing_mm) for mm in half[::-1])
    place = [(i - (n - 1) / 2) * spacing_mm for i, n in zip(np.indices(shape), shape, strict=True)]
    radius = np.sqrt(sum((p / h) ** 2 for p, h in zip(place, half[::-1], strict=True)))
    hull = radius + _UNEVEN * _noise(rng, shape, _UNEVEN_MM / spacing_mm) < 1
    # Where the highest of the fields changes, one shape ends and another begins.
    fields = [_noise(rng, shape, rng.uniform(*_SCALE_MM) / spacing_mm) for _ in range(SHAPES)]
    labels = np.where(hull, 1 + np.argmax(fields, axis=0), 0).astype(np.uint8)
    grid = make_grid(shape[::-1], (spacing_mm,) * 3)
    scans = []
    for _ in range(2):
        tones = np.concatenate([[0.0], rng.uniform(*_TONES, SHAPES)]).astype(np.float32)
        scans.append(BrainScan(to_image(tones[labels], grid), to_image(labels, grid)))
    return scans[0], scans[1]


def _noise(rng: np.random.Generator, shape: tuple[int, ...], sigma: float) -> np.ndarray:
    """Smooth noise of mean 0 and standard deviation 1."""
    noise = gaussian_filter(rng.standard_normal(shape, dtype=np.float32), sigma, truncate=3.0)
    return (noise - noise.mean()) / noise.std()
