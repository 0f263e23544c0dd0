"""Batches: what is in them, in which order, from where."""

from pathlib import Path

import pytest
import torch

import tiny
from LungRecoveryLib.errors import BadInput, OutOfMemory
from LungRecoveryTrainingLib import data as data_module
from LungRecoveryTrainingLib.data import EpochOrder, ManifestPairs, PairsData, PhantomPool, Resident, joined


def orders(count: int, world: int = 1, epoch: int = 0, **settings) -> list[list[list[int]]]:
    """The batches of every process."""
    found = []
    for rank in range(world):
        order = EpochOrder(range(count), world=world, rank=rank, **settings)
        order.set_epoch(epoch)
        found.append(list(order))
        assert len(order) == len(found[-1])
    return found


def test_an_epoch_visits_every_pair_in_an_order_of_its_own():
    """The order depends on seed and epoch alone."""
    settings = {"batch_size": 2, "steps": None, "seed": 3, "shuffle": True}
    (first,) = orders(6, **settings)
    assert sorted(pair for batch in first for pair in batch) == list(range(6))
    assert orders(6, **settings) == [first]
    assert orders(6, epoch=1, **settings) != [first]
    assert orders(6, **settings | {"seed": 4}) != [first]


def test_longer_epochs_wrap_round_and_processes_share():
    """With `steps` the order goes on; the processes' batches are those of one process with larger ones."""
    settings = {"batch_size": 2, "steps": 4, "seed": 0, "shuffle": True}
    (alone,) = orders(5, **settings | {"batch_size": 4})
    a, b = orders(5, world=2, **settings)
    assert [x + y for x, y in zip(a, b, strict=True)] == alone
    drawn = [pair for batch in alone for pair in batch]
    assert [sorted(drawn[i : i + 5]) for i in (0, 5, 10)] == [list(range(5))] * 3


def test_validation_visits_every_pair_once():
    """Shared between processes; one without a share takes another's pair, so that none waits for it for ever."""
    settings = {"batch_size": 2, "steps": None, "seed": 0, "shuffle": False}
    assert orders(5, **settings) == [[[0, 1], [2, 3], [4]]]
    assert orders(5, world=2, **settings) == [[[0, 2], [4]], [[1, 3]]]
    assert orders(1, world=2, **settings) == [[[0]], [[0]]]


def make(folder: Path, **settings) -> PairsData:
    """Data of the scans of three subjects, the last of them to validate on."""
    pairs = settings.pop("pairs", {})
    manifest = folder / "scans" / "manifest.csv"
    if not manifest.exists():
        tiny.write_manifest_of_scans(manifest.parent, 3)
    return PairsData(
        ManifestPairs(manifest, align=False, **pairs), spacing_mm=4.0, size=(12, 12, 16), workers=0, **settings
    )


def test_batches_of_a_manifest_are_the_same_resident_and_read(tmp_path):
    """From the cache folder through workers' code or out of memory: the same batches, with the pairs' names."""
    seen = []
    for resident in (False, True):
        data = make(tmp_path, pairs={"cache": tmp_path / "cache", "repeat": 2}, resident=resident, batch_size=3)
        data.prepare_data()
        data.setup("fit")
        batches = list(data.train_dataloader())
        # Four in two batches of three, which wrap round.
        names = [name for batch in batches for name in batch["pair"]]
        assert sorted(names[:4]) == ["s0:0-1"] * 2 + ["s1:0-1"] * 2
        assert len(names) == 6
        (val,) = data.val_dataloader()
        assert val["pair"] == ["s2:0-1"]
        assert batches[0]["fixed"].dtype == torch.float32
        assert batches[0]["fixed"].shape == (3, 1, 12, 12, 16)
        assert batches[0]["fixed_labels"].unique().tolist() == [0, 1, 2]
        seen.append(batches)
    for a, b in zip(*seen, strict=True):
        assert a["pair"] == b["pair"]
        assert all(torch.equal(a[key], b[key]) for key in a if key != "pair")


def test_caches_are_filled_before_the_training(tmp_path):
    """What `prepare_data` does in one process, the others find."""
    make(tmp_path, pairs={"cache": tmp_path / "cache"}).prepare_data()
    assert len(list((tmp_path / "cache").glob("*.pt"))) == 3


def test_fewer_pairs_on_request(tmp_path):
    """Limits for training and validation."""
    data = make(tmp_path, pairs={"limit": 1, "mode": "subjects"}, resident=True)
    data.setup("fit")
    assert len(list(data.train_dataloader())) == 1
    assert data.val_dataloader() == []  # one subject makes no pair


def test_phantoms_are_kept_by_what_they_are_made_of(tmp_path, monkeypatch):
    """Generated once, read the next time, generated anew for other settings; their names tell seed and visit."""
    calls = []

    def generate(seeds, spacing_mm, size, settings, workers):
        calls.append(list(seeds))
        for _ in seeds:
            for _ in range(settings.visits):
                yield {key: value[0] for key, value in tiny.pairs(1).items()} | {"subject": "s", "pair": "p"}

    monkeypatch.setattr(data_module, "generate_samples", generate)

    def batches(**pool):
        data = PairsData(phantoms=PhantomPool(2, 1, keep=tmp_path / "keep", **pool), size=tiny.SHAPE, batch_size=4)
        data.prepare_data()
        data.setup("fit")
        return data, list(data.train_dataloader()), list(data.val_dataloader())

    _, train, val = batches()
    assert calls == [[0, 1], [1_000_000]]
    assert sorted(train[0]["pair"]) == [f"phantom-{seed} visit {visit}" for seed in (0, 1) for visit in (1, 2)]
    assert val[0]["pair"] == ["phantom-1000000 visit 1"]
    _, again, _ = batches()
    assert len(calls) == 2
    assert torch.equal(train[0]["moving"], again[0]["moving"])
    data, _, _ = batches(seed=7)
    assert calls[2:] == [[7, 8], [1_000_007]]
    data.kept("train").write_bytes(b"damaged")
    with pytest.raises(BadInput, match="delete it, and its phantoms are made anew"):
        data.prepare_data()


def test_manifest_and_phantoms_together(tmp_path):
    """Labels that only some have are left out, the order names both."""
    first, second = tiny.pairs(2), tiny.pairs(1)
    second.pop("fixed_labels")
    both = joined([first, second])
    assert len(both["fixed"]) == 3
    assert "fixed_labels" not in both
    assert "fixed_points" not in both
    assert joined([first]) is first


def test_too_little_memory_is_told_before_the_work(tmp_path, monkeypatch):
    """Resident pairs are counted against the free memory; those that a cache holds are not."""
    monkeypatch.setattr(data_module, "free_memory", lambda: 50_000)
    data = make(tmp_path, resident=True)
    with pytest.raises(OutOfMemory, match=r"The 2 pairs to hold in memory need 0\.0 GB"):
        data.setup("fit")
    make(tmp_path, pairs={"cache": tmp_path / "cache"}).setup("fit")


def test_pairs_that_leave_no_room_on_the_gpu_stay_in_the_hosts_memory(monkeypatch):
    """A GPU with little free memory; no CUDA device is needed to ask."""
    pairs = Resident({"fixed": torch.zeros(4, 100, dtype=torch.float16)}, [], [])
    assert pairs.bytes == 800
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (1000, 2000))
    assert pairs.to(torch.device("cuda")) is pairs


def test_nothing_to_train_on(tmp_path):
    """Neither pairs nor phantoms, or none for training."""
    with pytest.raises(BadInput, match="There is nothing to train on"):
        PairsData()
    data = PairsData(phantoms=PhantomPool(0, 0))
    data.setup("fit")
    with pytest.raises(BadInput, match="There is no pair to train on"):
        data.train_dataloader()
    assert data.val_dataloader() == []


def test_generated_brains_have_labels_and_a_file_of_their_own(tmp_path):
    """Shapes to train on in turn with people, people alone to validate on; chests of the same seeds lie elsewhere."""
    grid = {"spacing_mm": 12.0, "size": (16, 20, 16), "workers": 0}
    data = PairsData(phantoms=PhantomPool(2, 1, keep=tmp_path, organ="brain"), batch_size=2, **grid)
    data.prepare_data()
    data.setup("fit")
    (batch,) = data.train_dataloader()
    assert batch["fixed"].shape == batch["moving_labels"].shape == (2, 1, 16, 20, 16)
    assert sorted(int(known.any()) for known in batch["truth"]) == [0, 1]  # people's truth is not known, shapes' is
    (val,) = data.val_dataloader()
    assert not val["truth"].any()
    assert val["fixed_labels"].any()
    chests = PairsData(phantoms=PhantomPool(2, 1, keep=tmp_path), **grid)
    assert data.kept("train").is_file()
    assert data.kept("train") != chests.kept("train")
