"""A training run that takes seconds: a config, and pairs with a known smooth motion in the place of phantoms."""

from pathlib import Path

import numpy as np
import torch
import yaml

from batches import lungs, make_batch
from LungRecoveryLib.grids import Grid, to_image
from LungRecoveryLib.images import write_image
from LungRecoveryTrainingLib.data import PairsData, PhantomPool
from LungRecoveryTrainingLib.datasets import Row, write_manifest
from LungRecoveryTrainingLib.datasets.cache import compact

SHAPE = (16, 16, 24)
LEVEL = {"encoder": [3, 4, 4], "final": [4]}
CALLBACKS = [
    {"class_path": "lightning.pytorch.callbacks.EMAWeightAveraging", "init_args": {"decay": 0.9}},
    {"class_path": "LungRecoveryTrainingLib.callbacks.WarpedPairs", "init_args": {"every": 1}},
    {"class_path": "LungRecoveryTrainingLib.callbacks.WeightsExport"},
    {"class_path": "LungRecoveryTrainingLib.callbacks.StopEarly"},
    {"class_path": "LungRecoveryTrainingLib.callbacks.LastCheckpoint"},
    {"class_path": "LungRecoveryTrainingLib.callbacks.BestCheckpoint"},
]
PHASES = [
    {"levels": 1, "train": [0], "share": 0.5, "coarsened": 2},
    {"levels": 2, "train": [1], "share": 0.25},
    {"levels": 2, "train": [0, 1], "share": 0.25, "rate": 0.5},
]


def pairs(count: int, shape: tuple[int, int, int] = SHAPE) -> dict[str, torch.Tensor]:
    """The compact tensors of pairs that each have another texture."""
    batch = make_batch(shape, count)
    batch.pop("subject")
    noise = 0.05 * torch.randn(batch["moving"].shape, generator=torch.Generator().manual_seed(1))
    batch["moving"] = batch["moving"] + noise * (batch["moving_mask"] > 0)
    return compact(batch)


def write_run(folder: Path, train: int = 5, val: int = 3) -> Path:
    """Write pairs and a config that trains on them for four epochs of three steps; returns the config."""
    pool = PhantomPool(train, val, keep=folder / "pairs")
    data = PairsData(phantoms=pool, spacing_mm=4.0, size=SHAPE)
    for split, count in (("train", train), ("val", val)):
        data.kept(split).parent.mkdir(parents=True, exist_ok=True)
        torch.save(pairs(count * data.settings(split).visits), data.kept(split))
    config = {
        "seed_everything": 3,
        "trainer": {
            "accelerator": "cpu",
            "devices": 1,
            "max_epochs": 4,
            "gradient_clip_val": 1.0,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "logger": {
                "class_path": "lightning.pytorch.loggers.TensorBoardLogger",
                "init_args": {"save_dir": str(folder / "runs"), "name": "tiny"},
            },
            "callbacks": CALLBACKS,
        },
        "model": {
            "architecture": {
                "name": "pyramid",
                "probabilistic": True,
                "levels": [{"downsample": 1, "correlation": 1, **LEVEL}, {"downsample": 0, **LEVEL}],
            },
            "objective": {"kl": 0.001, "displacement": 1.0, "likelihood": 0.1},
            "randomness": {"synthetic_share": 0.3},
            "phases": PHASES,
            "spacing_mm": 4.0,
        },
        "data": {
            "phantoms": {"train": train, "val": val, "keep": str(folder / "pairs")},
            "spacing_mm": 4.0,
            "size": list(SHAPE),
            "batch_size": 2,
            "steps": 3,
            "workers": 0,
        },
    }
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def write_manifest_of_scans(folder: Path, subjects: int = 2) -> Path:
    """Write CTs of subjects s0, s1, ..., two time points each with masks and labels, all to train on but the last
    subject of three or more, and their manifest; returns it."""
    folder.mkdir(parents=True)
    grid = Grid(SHAPE[::-1], (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), (1.0, 0, 0, 0, 1.0, 0, 0, 0, 1.0))
    labels = lungs(SHAPE)[0, 0].numpy()
    rows = []
    for subject in range(subjects):
        for day in range(2):
            noise = np.random.default_rng([subject, day]).normal(0, 30, SHAPE)
            name = f"s{subject}-{day}"
            ct = np.where(labels > 0, -800.0, 40.0) + noise
            files = {"image": f"{name}.nii.gz", "mask": f"{name}-mask.nii.gz", "labels": f"{name}-labels.nii.gz"}
            for column, array in (("image", ct.astype(np.int16)), ("mask", labels > 0), ("labels", labels)):
                write_image(
                    to_image(array.astype(np.int16 if column == "image" else np.uint8), grid), folder / files[column]
                )
            split = "val" if subject == subjects - 1 >= 2 else "train"
            rows.append(Row(f"s{subject}", float(day), **{c: folder / f for c, f in files.items()}, split=split))
    return write_manifest(rows, folder / "manifest.csv").path
