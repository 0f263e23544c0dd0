"""Whole synthetic chests with their lungs, two visits of each patient, for the network that completes lungs."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import torch

from .chests import PhantomSettings, patient_scans
from .processes import in_processes
from .samples import TEXTS, Sample
from .surroundings import whole_arrays


def whole_chest_samples(
    seeds: Iterable[int], spacing_mm: float, size: tuple[int, int, int], settings: PhantomSettings, workers: int = 0
) -> Iterator[Sample]:
    """One sample for each seed, in their order: `size` (z, y, x) voxels of `spacing_mm` about the lungs.

    The same arguments give the same samples, whatever the workers. Of `settings` all but crops and masks counts.
    """
    whole = replace(settings, visits=1, one_lung=0.0, rough_masks=0.0, cropped=0.0)
    for sample in in_processes(partial(_packed, spacing_mm, tuple(size), whole), seeds, workers):
        yield {k: v if k in TEXTS else torch.from_numpy(v) for k, v in sample.items()}


def _packed(spacing_mm: float, size: tuple[int, int, int], settings: PhantomSettings, seed: int) -> dict:
    """A sample as arrays, which pass between processes without shared memory."""
    kind, scans = patient_scans(seed, settings)
    pair = {name: (scan.image, scan.lungs) for name, scan in zip(("fixed", "moving"), scans, strict=True)}
    return {"subject": f"chest-{seed}", "pair": f"chest-{seed}:{kind}"} | whole_arrays(pair, spacing_mm, size)
