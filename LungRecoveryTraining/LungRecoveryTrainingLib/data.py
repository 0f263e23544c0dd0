"""What a training run reads: the pairs of a manifest, generated phantoms, or both, as batches of samples."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import lightning
import torch
from lightning.pytorch.trainer.states import TrainerFn
from lightning.pytorch.utilities.rank_zero import rank_zero_info
from torch.utils.data import DataLoader, Sampler

from LungRecoveryLib.cli.display import shown_progress
from LungRecoveryLib.errors import BadInput, OutOfMemory
from LungRecoveryLib.files import atomic_file

from .datasets.brains import brain_samples
from .datasets.cache import CachedPairs, expand, to_tensors
from .datasets.chests import HELD_OUT, PhantomSettings
from .datasets.manifest import Manifest, read_manifest
from .datasets.phantoms import generate_samples
from .datasets.samples import Sample, stack
from .datasets.trunks import trunk_samples
from .datasets.whole_chests import whole_chest_samples
from .memory import free_memory

ORGANS = ("chest", "trunk", "whole_chest", "brain")
# Of a compact sample with labels: images and displacement in half precision, masks, truth and labels in bytes.
_BYTES_PER_VOXEL = 15
# How much of the free memory of a host, and of a GPU, the resident pairs may take.
_HOST_SHARE, _DEVICE_SHARE = 0.9, 0.4


@dataclass(frozen=True)
class PhantomPool:
    """Synthetic patients generated for a run: how many to train on and to validate on, the first seed, what they are
    drawn from (those to validate on from `held_out` settings), and a folder that keeps them for the next run.

    `organ` is chest (the lungs alone are seen); trunk: two scans of one abdomen or chest, to which the settings
    say nothing; whole_chest: two visits with all around the lungs, to complete these; or brain: two people's brains,
    and random shapes, with labels, to which the settings say nothing."""

    train: int = 0
    val: int = 0
    seed: int = 0
    settings: PhantomSettings = PhantomSettings()  # noqa: RUF009 - frozen
    held_out: PhantomSettings = HELD_OUT
    keep: Path | None = None
    organ: str = "chest"


@dataclass(frozen=True)
class ManifestPairs:
    """Pairs of a manifest: its file, how rows make pairs (baseline, all, subjects, alone), how often an epoch repeats
    them, the folder that caches them, whether scans are aligned, the anatomy (lungs, whole_chest, brain), and how many
    pairs to train and to validate on at most, taken evenly."""

    manifest: Path
    mode: str = "baseline"
    repeat: int = 1
    cache: Path | None = None
    align: bool = True
    anatomy: str = "lungs"
    limit: int | None = None
    val_limit: int | None = None


@dataclass(eq=False)
class Resident:
    """Pairs in memory: compact tensors with a batch axis, the pairs' names, and the pairs of an epoch, with repeats."""

    tensors: dict[str, torch.Tensor]
    names: list[str]
    order: list[int]

    @property
    def bytes(self) -> int:
        """How much memory the tensors take."""
        return sum(value.numel() * value.element_size() for value in self.tensors.values())

    def to(self, device: torch.device) -> "Resident":
        """The same on a device where it leaves room for the training, else in the host's memory."""
        if device.type == "cuda" and self.bytes > _DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]:
            rank_zero_info(f"The pairs ({self.bytes / 1e9:.1f} GB) stay in the host's memory.")
            return self
        return Resident({key: value.to(device) for key, value in self.tensors.items()}, self.names, self.order)


class PairsData(lightning.LightningDataModule):
    """Batches of samples (see `datasets.samples`) with the pairs' names, each epoch in an order that depends on
    (seed, epoch) alone; `seed` is that of the run (seed_everything) where it is None.

    `resident` lays the whole training set on the training device once, where it fits, and cuts batches out of it there,
    which feeds a fast GPU; otherwise `workers` processes read the cache. Generated phantoms are always resident.
    `steps` is the length of an epoch in batches for each process, by default one pass over the data. Raises BadInput
    for manifests and scans that cannot be used, OutOfMemory where the pairs are larger than the free memory.
    """

    def __init__(
        self,
        pairs: ManifestPairs | None = None,
        phantoms: PhantomPool | None = None,
        spacing_mm: float = 3.0,
        size: tuple[int, int, int] = (112, 88, 112),
        batch_size: int = 2,
        steps: int | None = None,
        workers: int = 4,
        resident: bool = False,
        seed: int | None = None,
    ):
        super().__init__()
        if pairs is None and phantoms is None:
            raise BadInput("There is nothing to train on: give data.pairs.manifest or data.phantoms.")
        if phantoms is not None and phantoms.organ not in ORGANS:
            raise BadInput(f"There are no phantoms of {phantoms.organ!r}: use one of {', '.join(ORGANS)}.")
        self.pairs, self.phantoms = pairs, phantoms
        self.spacing_mm, self.size, self.batch_size, self.steps = spacing_mm, tuple(size), batch_size, steps
        self.workers, self.resident, self.seed = workers, resident or phantoms is not None, seed or 0
        self._splits: dict[str, Resident | CachedPairs | None] = {}

    # --------------------------------------------------------------------------------------------------------- reading

    def prepare_data(self) -> None:
        """Fill the caches, in one process a machine: scans that cannot be used are met before the training."""
        validating = self.trainer is not None and self.trainer.state.fn == TrainerFn.VALIDATING
        for split in ("val",) if validating else ("train", "val"):
            if self.phantoms is not None and self.phantoms.keep is not None and self._count(split):
                self._generated(split)
            if self.pairs is not None and self.pairs.cache is not None:
                pairs = self._read(split)
                if pairs is not None:
                    with shown_progress() as progress:
                        pairs.fill(progress)

    def setup(self, stage: str) -> None:
        """Read or generate what the stage needs."""
        for split in ("train", "val") if stage == "fit" else ("val",):
            if split not in self._splits:
                self._splits[split] = self._split(split)

    def _split(self, split: str) -> Resident | CachedPairs | None:
        """The pairs of a split: a data set read by workers, or resident tensors; None where there are none."""
        self._check_room(split)
        read = self._read(split)
        if not self.resident:
            return read
        parts, names, order = [], [], []
        if read is not None:
            parts.append(read.to_tensors("cpu"))
            names += read.names
            order += list(range(len(read))) * (self.pairs.repeat if split == "train" else 1)
        if self._count(split):
            parts.append(self._generated(split))
            order += range(len(names), len(names) + len(parts[-1]["fixed"]))
            names += self._phantom_names(split)
        return Resident(joined(parts), names, order) if parts else None

    @cached_property
    def _manifest(self) -> Manifest:
        return read_manifest(self.pairs.manifest)

    def _limit(self, split: str) -> int | None:
        return self.pairs.limit if split == "train" else self.pairs.val_limit

    def _read(self, split: str) -> CachedPairs | None:
        if self.pairs is None or not self._manifest.pairs(split, self.pairs.mode):
            return None
        settings = self.pairs
        return CachedPairs(
            self._manifest, split, settings.mode, self.spacing_mm, self.size, settings.align, settings.anatomy,
            settings.cache, self.workers, limit=self._limit(split),
        )  # fmt: skip

    def _check_room(self, split: str) -> None:
        """Raise OutOfMemory where a split's pairs will not fit into memory, before hours are spent on them."""
        count = self._count(split) * self._visits(split)
        if self.pairs is not None and (self.resident or self.pairs.cache is None):
            found = len(self._manifest.pairs(split, self.pairs.mode))
            count += min(found, self._limit(split) or found)
        needed = count * _BYTES_PER_VOXEL * self.size[0] * self.size[1] * self.size[2]
        free = free_memory()
        if free is not None and needed > _HOST_SHARE * free:
            raise OutOfMemory(
                f"The {count} pairs to hold in memory need {needed / 1e9:.1f} GB and {free / 1e9:.1f} GB are free: "
                "lower data.size or their number, or give data.pairs.cache with data.resident false."
            )

    # -------------------------------------------------------------------------------------------------------- phantoms

    def _count(self, split: str) -> int:
        return 0 if self.phantoms is None else getattr(self.phantoms, split)

    def settings(self, split: str) -> PhantomSettings:
        """What the phantoms of a split are drawn from."""
        return self.phantoms.settings if split == "train" else self.phantoms.held_out

    def _seeds(self, split: str) -> range:
        # Validation has seeds of its own, so that no patient is in both.
        first = self.phantoms.seed + (0 if split == "train" else 1_000_000)
        return range(first, first + self._count(split))

    def _phantom_names(self, split: str) -> list[str]:
        visits = range(1, self._visits(split) + 1)
        return [f"phantom-{seed} visit {visit}" for seed in self._seeds(split) for visit in visits]

    def _visits(self, split: str) -> int:
        """How many pairs there are of each phantom."""
        if not self._count(split):
            return 0
        return self.settings(split).visits if self.phantoms.organ == "chest" else 1

    def _generated(self, split: str) -> dict[str, torch.Tensor]:
        seeds, settings = self._seeds(split), self.settings(split)
        kept = self.kept(split)
        if kept is not None and kept.is_file():
            try:
                return torch.load(kept, weights_only=True)
            except Exception as error:  # any damage has a kind of its own
                raise BadInput(f"{kept}: cannot be read; delete it, and its phantoms are made anew.") from error
        if self.phantoms.organ == "chest":
            samples = generate_samples(seeds, self.spacing_mm, self.size, settings, self.workers)
        elif self.phantoms.organ == "whole_chest":
            samples = whole_chest_samples(seeds, self.spacing_mm, self.size, settings, self.workers)
        elif self.phantoms.organ == "brain":
            # Shapes lie apart by augmentation alone.
            samples = brain_samples(seeds, self.spacing_mm, self.size, self.workers, shapes=split == "train")
        else:
            # Augmentation moves the pairs to train on.
            samples = trunk_samples(seeds, self.spacing_mm, self.size, self.workers, apart=split == "val")
        count = len(seeds) * self._visits(split)
        with shown_progress() as progress:
            tensors = to_tensors(_reported(samples, count, progress), count, "cpu")
        if kept is not None:
            kept.parent.mkdir(parents=True, exist_ok=True)
            with atomic_file(kept) as unfinished:
                torch.save(tensors, unfinished)
        return tensors

    def kept(self, split: str) -> Path | None:
        """The file that holds generated pairs, named by all that they depend on."""
        if self.phantoms.keep is None:
            return None
        seeds = self._seeds(split)
        drawn_from = {
            "chest": self.settings(split),
            "trunk": f"trunk {split}",
            "whole_chest": ("whole_chest 2", self.settings(split)),
            "brain": f"brain {split}",
        }[self.phantoms.organ]
        made_of = repr((seeds.start, len(seeds), drawn_from, self.spacing_mm, self.size)).encode()
        return Path(self.phantoms.keep) / f"{split}-{hashlib.sha256(made_of).hexdigest()[:16]}.pt"

    # --------------------------------------------------------------------------------------------------------- batches

    def train_dataloader(self):
        """Batches to train on. Raises BadInput where there is no pair."""
        if self._splits.get("train") is None:
            raise BadInput(
                "There is no pair to train on: the manifest's split 'train' has none and no phantom is asked for."
            )
        return self._loader("train", self.batch_size, self.steps)

    def val_dataloader(self):
        """Batches to validate on, each pair once; none where there is no pair."""
        if self._splits.get("val") is None:
            return []
        return self._loader("val", self.batch_size if self.resident else 1, None)

    def _loader(self, split: str, batch_size: int, steps: int | None):
        pairs, shuffle = self._splits[split], split == "train"
        world, rank = (self.trainer.world_size, self.trainer.global_rank) if self.trainer else (1, 0)
        if isinstance(pairs, Resident):
            pairs = pairs.to(self.trainer.strategy.root_device if self.trainer else torch.device("cpu"))
            self._splits[split] = pairs
            return ResidentBatches(pairs, EpochOrder(pairs.order, batch_size, steps, self.seed, shuffle, world, rank))
        indices = list(range(len(pairs))) * (self.pairs.repeat if shuffle else 1)
        order = EpochOrder(indices, batch_size, steps, self.seed, shuffle, world, rank)
        return DataLoader(
            pairs, batch_sampler=order, num_workers=self.workers, collate_fn=named_stack,
            pin_memory=torch.cuda.is_available(), persistent_workers=self.workers > 0,
            prefetch_factor=4 if self.workers else None,
        )  # fmt: skip


def _reported(samples: Iterator[Sample], count: int, progress) -> Iterator[Sample]:
    for number, sample in enumerate(samples, 1):
        progress("phantoms", number / count, sample["pair"])
        yield sample


def joined(parts: list[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Batches one after the other; what not all of them have, and landmarks, which differ in number, are left out."""
    if len(parts) == 1:
        return parts[0]
    keys = {key for key in set.intersection(*(set(part) for part in parts)) if not key.endswith("_points")}
    return {key: torch.cat([part[key] for part in parts]) for key in sorted(keys)}


def named_stack(samples: Sequence[Sample]) -> dict:
    """Samples as a batch, with the list of their pairs' names."""
    return {**stack(samples), "pair": [sample["pair"] for sample in samples]}


class EpochOrder(Sampler):
    """The pairs of each batch of an epoch, a share of them for each of `world` processes.

    Shuffled, the order of `pairs` (which may name one more than once) depends on (seed, epoch), and `steps` batches are
    drawn, wrapping round as often as needed. Unshuffled, every pair is visited once, but that a process without a share
    visits one of the others'.
    """

    def __init__(
        self,
        pairs: Sequence[int],
        batch_size: int,
        steps: int | None,
        seed: int,
        shuffle: bool,
        world: int = 1,
        rank: int = 0,
    ):
        self.pairs, self.batch_size, self.seed, self.shuffle = list(pairs), batch_size, seed, shuffle
        self.world, self.rank, self.epoch = world, rank, 0
        self.sampler = self  # where Lightning looks for whom to tell the epoch
        self._share = self.pairs[rank::world] or [self.pairs[rank % len(self.pairs)]]
        if not shuffle:
            self.steps = -(-len(self._share) // batch_size)
        else:
            self.steps = steps if steps is not None else max(1, -(-len(self.pairs) // (batch_size * world)))

    def set_epoch(self, epoch: int) -> None:
        """Called by the trainer before every epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.steps

    def __iter__(self) -> Iterator[list[int]]:
        if not self.shuffle:
            yield from (self._share[i : i + self.batch_size] for i in range(0, len(self._share), self.batch_size))
            return
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + self.epoch)
        needed, drawn = self.steps * self.batch_size * self.world, []
        while len(drawn) < needed:
            drawn += [self.pairs[i] for i in torch.randperm(len(self.pairs), generator=generator)]
        for step in range(self.steps):
            first = (step * self.world + self.rank) * self.batch_size
            yield drawn[first : first + self.batch_size]


class ResidentBatches:
    """Batches cut out of resident pairs, in the precision that samples have."""

    def __init__(self, pairs: Resident, batch_sampler: EpochOrder):
        self.pairs, self.batch_sampler = pairs, batch_sampler

    def __len__(self) -> int:
        return len(self.batch_sampler)

    def __iter__(self) -> Iterator[dict]:
        tensors = self.pairs.tensors
        for indices in self.batch_sampler:
            chosen = torch.tensor(indices, device=tensors["fixed"].device)
            batch = expand({key: value[chosen] for key, value in tensors.items()})
            yield {**batch, "pair": [self.pairs.names[index] for index in indices]}
