"""The pairs of a split as a torch data set of samples, cached by MONAI.

What is deterministic (reading, segmenting, aligning, resampling) is done once and kept, in half precision, in a folder
(`monai.data.PersistentDataset`) or in memory (`monai.data.CacheDataset`). What is random is done each time.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from monai.data import CacheDataset, PersistentDataset
from monai.data.utils import json_hashing
from monai.transforms import Transform
from torch.utils.data import DataLoader, Dataset

from LungRecoveryLib.errors import BadInput, LungRecoveryError
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.system import use_threads

from .manifest import Manifest, Row
from .samples import TEXTS, Sample, fill_up, make_sample, pair_name

# Raised when samples are made differently, so that older caches are not taken for the same.
VERSION = 1
_HALVES = (torch.float32, torch.float16)


class LoadPair(Transform):
    """A MONAI transform from a pair as plain values (see :func:`_item`) to its compact sample."""

    def __call__(self, item: Mapping) -> Sample:
        """The sample of the pair with its images and displacement in half precision."""
        fixed, moving = (_row(item[which]) for which in ("fixed", "moving"))
        sample = make_sample(fixed, moving, item["spacing_mm"], item["size"], item["align"], item["anatomy"])
        wanted = {key: value for key, value in sample.items() if item["keep"].get(key.partition("_")[2], True)}
        return compact(wanted)


def compact(sample: Mapping) -> Sample:
    """The sample with images and displacement in half precision; points stay as they are."""
    return {k: v.half() if _is_halved(k, v, torch.float32) else v for k, v in sample.items()}


def expand(sample: Mapping) -> Sample:
    """A compact sample in the precision that samples have."""
    return {k: v.float() if _is_halved(k, v, torch.float16) else v for k, v in sample.items()}


def _is_halved(key: str, value, dtype: torch.dtype) -> bool:
    return key not in TEXTS and not key.endswith("_points") and value.dtype == dtype


class CachedPairs(Dataset):
    """The pairs of a manifest's split; item i is the sample of pair i.

    Parameters: `mode` of :meth:`Manifest.pairs`; `spacing_mm`, `size` (z, y, x), `align` and `anatomy` of
    :func:`.samples.make_sample`; `cache`, a folder for the samples (None: memory, filled here and now); `workers`
    processes (threads, in memory) that fill it; `transform`, random, from sample to sample; `limit`, the number of
    pairs at most, taken evenly. Labels and landmarks are there if every pair has them. Raises BadInput for a split
    without pairs.
    """

    def __init__(
        self,
        manifest: Manifest,
        split: str,
        mode: str = "baseline",
        spacing_mm: float = 3.0,
        size: tuple[int, int, int] | None = None,
        align: bool = True,
        anatomy: str = "lungs",
        cache: str | Path | None = None,
        workers: int = 0,
        transform: Callable[[Sample], Sample] | None = None,
        limit: int | None = None,
    ):
        self.pairs = _evenly(manifest.pairs(split, mode), limit)
        if not self.pairs:
            raise BadInput(
                f"{manifest.path}: its split {split!r} has no pair of scans (mode {mode}); add follow-ups, or make "
                "pairs of its scans with `lungrecovery-train prepare synthetic`"
            )
        self.names = [pair_name(*pair) for pair in self.pairs]
        self.size, self.workers, self.on_disk = size, workers, cache is not None
        keep = {kind: all(getattr(row, column) for pair in self.pairs for row in pair) for kind, column in _OPTIONAL}
        settings = {"spacing_mm": spacing_mm, "size": size, "align": align, "anatomy": anatomy, "keep": keep}
        items = [_item(*pair, settings) for pair in self.pairs]
        self.transform = transform
        if cache is not None:
            self._compact = PersistentDataset(items, LoadPair(), cache, hash_func=json_hashing)
        else:
            with _own_errors():
                self._compact = CacheDataset(items, LoadPair(), num_workers=workers, progress=False)

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int) -> Sample:
        sample = expand(self.cached(index))
        return sample if self.transform is None else self.transform(sample)

    def fill(self, progress: Progress = no_progress) -> None:
        """Make every sample that the cache folder lacks, by `workers` processes."""
        for number in range(len(self)) if not self.on_disk else self._filled():
            progress("samples", (number + 1) / len(self), self.names[number])

    def _filled(self):
        context = "spawn" if self.workers else None
        loader = DataLoader(
            _Filler(self._compact),
            None,
            num_workers=self.workers,
            multiprocessing_context=context,
            worker_init_fn=_one_thread,
        )
        yield from loader

    def cached(self, index: int) -> Sample:
        """The compact sample of pair `index`, before anything random."""
        with _own_errors():
            return self._compact[index]

    def to_tensors(self, device: torch.device | str, progress: Progress = no_progress) -> dict[str, torch.Tensor]:
        """The whole split as a batch on a device: images and displacements float16, masks and labels uint8.

        Nothing random is done. Raises BadInput where the samples differ in size.
        """
        if self.size is None and len(self) > 1:
            raise BadInput("samples of different sizes cannot lie in one tensor; give a size to fit all of them to")
        self.fill(progress)
        return to_tensors((self.cached(i) for i in range(len(self))), len(self), device)


def to_tensors(samples, count: int, device: torch.device | str) -> dict[str, torch.Tensor]:
    """`count` samples of one size as a batch on a device, compact, one after the other, so that memory holds them once.

    Points are filled up with NaN to the longest list.
    """
    batch: dict[str, torch.Tensor] = {}
    points: dict[str, list[torch.Tensor]] = {}
    for number, sample in enumerate(map(compact, samples)):
        for key, value in sample.items():
            if key in TEXTS:
                continue
            if key.endswith("_points"):
                points.setdefault(key, []).append(value)
                continue
            if key not in batch:
                batch[key] = torch.zeros((count, *value.shape), dtype=value.dtype, device=device)
            batch[key][number] = value.to(device)
    for key, lists in points.items():
        batch[key] = torch.stack(fill_up(lists)).to(device)
    return batch


_OPTIONAL = (("labels", "labels"), ("points", "landmarks"))


class _Filler(Dataset):
    """Makes sample i for the cache and gives back its number, which costs nothing to pass on."""

    def __init__(self, compact_samples: PersistentDataset):
        self.samples = compact_samples

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> int:
        with _own_errors():
            self.samples[index]
        return index


@contextmanager
def _own_errors() -> Iterator[None]:
    """What is wrong with a scan is told as such, not as MONAI's error of a transform."""
    try:
        yield
    except RuntimeError as error:
        if isinstance(error.__cause__, LungRecoveryError):
            raise error.__cause__ from None
        raise


def _one_thread(worker: int) -> None:
    use_threads(1)


def _evenly(pairs: list, limit: int | None) -> list:
    if limit is None or limit >= len(pairs):
        return pairs
    return [pairs[i] for i in np.linspace(0, len(pairs) - 1, limit).round().astype(int)]


def _item(fixed: Row, moving: Row, settings: Mapping) -> dict:
    """A pair as plain values, with size and date of each file, so that a changed file is read again."""
    item = {"version": VERSION, **settings}
    for which, row in (("fixed", fixed), ("moving", moving)):
        files = {column: str(path.resolve()) for column, path in row.files.items()}
        stamps = {column: [Path(path).stat().st_size, Path(path).stat().st_mtime_ns] for column, path in files.items()}
        item[which] = {"subject": row.subject, "timepoint": row.timepoint, "files": files, "stamps": stamps}
    return item


def _row(values: Mapping) -> Row:
    files = {column: Path(path) for column, path in values["files"].items()}
    return Row(values["subject"], values["timepoint"], **files)
