"""The configs that come with the module: each of them trains, and says what the documentation says."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml

import tiny
from LungRecoveryLib.errors import BadInput
from LungRecoveryTrainingLib import acceleration, fitting
from LungRecoveryTrainingLib.benchmark import task_from
from LungRecoveryTrainingLib.cli import main
from LungRecoveryTrainingLib.configs import config_path, configs_folder
from LungRecoveryTrainingLib.data import PairsData, PhantomPool
from LungRecoveryTrainingLib.datasets.chests import HELD_OUT, PhantomSettings

NAMES = sorted(path.stem for path in configs_folder().glob("*.yaml"))
BELOW = {
    "default": [],
    "lung_completion_fine": ["default", "lung_completion"],
    "lung_completion_real": ["default", "lung_completion", "lung_completion_fine"],
}


def options(name: str) -> list[str]:
    """A config over the default, or over what it says."""
    return [word for config in [*BELOW.get(name, ["default"]), name] for word in ("--config", config)]


@pytest.fixture(scope="module")
def keep(tmp_path_factory) -> Path:
    """A folder in which a smoke test finds its pairs made."""
    folder = tmp_path_factory.mktemp("keep")
    small = {key: tuple(value) if isinstance(value, list) else value for key, value in fitting.SMALL_CHEST.items()}
    pool = PhantomPool(1, 1, 0, replace(PhantomSettings(), **small), replace(HELD_OUT, **small), folder)
    data = PairsData(phantoms=pool, spacing_mm=10.0, size=(32, 24, 32))
    for split, count in (("train", 1), ("val", 1)):
        torch.save(tiny.pairs(count, (32, 24, 32)), data.kept(split))
    return folder


@pytest.mark.parametrize("name", NAMES)
def test_every_config_trains(name, keep, capsys):
    """Five epochs through phases, validation, checkpoints and export; generated chests are in the test below."""
    before = set(keep.iterdir())
    assert main(["fit", *options(name), f"--smoke-test={keep}"]) == 0
    assert "Smoke test passed" in capsys.readouterr().out
    assert set(keep.iterdir()) == before  # what was made for it was found


def test_a_smoke_test_generates_its_data(capsys):
    """From the program's own phantoms, as on a fresh machine."""
    assert main(["fit", *options("cpu"), "--smoke-test"]) == 0
    shown = capsys.readouterr()
    assert "weights.safetensors" in shown.out
    assert "phantoms: phantom-" in shown.err


def test_names_and_paths():
    """The configs that the design names are there."""
    assert {"default", "cpu", "h200", "multilevel", "lung", "oasis"} <= set(NAMES)
    assert config_path("cpu").name == "cpu.yaml"
    with pytest.raises(BadInput, match="cpu, default"):
        config_path("gone")


def test_later_configs_override_single_settings():
    """What a later config does not say stays."""
    task = task_from([config_path("default"), config_path("h200")])
    assert task.optimisation.fused
    assert task.optimisation.warmup == 0.03
    assert task.fused_kernels
    assert len(task.network.levels) == 3


def test_the_objective_is_the_fields():
    """NCC 1.0, bending 3.0, Jacobian 0.1, Dice 0.5 by default."""
    weights = task_from([config_path("default")]).objective.weights
    assert (weights.ncc, weights.bending, weights.jacobian, weights.dice) == (1.0, 3.0, 0.1, 0.5)


def test_multilevel_freezes_and_joins():
    """Level 1; level 2 with the first frozen; both together; and so on to the last."""
    phases = task_from([config_path("default"), config_path("multilevel")]).phases
    assert [phase.train for phase in phases] == [(0,), (1,), (0, 1), (2,), (0, 1, 2)]
    assert [phase.levels for phase in phases] == [1, 2, 2, 3, 3]


def test_the_h200_is_used_as_promised():
    """bf16 for convolutions, TF32, compilation, own kernels, 8 pairs x 4, 16 workers, fused AdamW, resident data."""
    h200 = yaml.safe_load(config_path("h200").read_text())
    assert h200["model"] == {
        "mixed_precision": True,
        "compile": True,
        "fused_kernels": True,
        "optimisation": {"fused": True},
    }
    assert (h200["data"]["batch_size"], h200["trainer"]["accumulate_grad_batches"]) == (8, 4)
    assert (h200["data"]["workers"], h200["data"]["resident"], h200["tf32"], h200["cudnn_benchmark"]) == (16, 1, 1, 1)


def test_brains_have_no_lungs():
    """No compression, no ground of 0 HU, no lesions, no lung that is left out; labels count."""
    task = task_from([config_path("default"), config_path("oasis")])
    augmentation = task.randomness.augmentation
    assert task.randomness.synthetic_share == 0
    assert augmentation.mass == (0.0, 0.0)
    assert augmentation.ground == augmentation.lesion_probability == augmentation.one_lung_probability == 0
    assert augmentation.scanner.limits == (0.0, 1.5)
    assert task.objective.weights.dice == 1.0


def test_contrasts_are_drawn_for_generated_brains_alone():
    """Every other config leaves images as they are."""
    painted = {}
    for name in NAMES:
        model = yaml.safe_load(config_path(name).read_text(encoding="utf-8")).get("model", {})
        painted[name] = "contrasts" in model.get("randomness", {}).get("augmentation", {})
    assert [name for name, drawn in painted.items() if drawn] == ["brain"]
    assert task_from([config_path("default")]).randomness.augmentation.contrasts.probability == 0


def test_own_kernels_change_nothing_without_cuda(keep, monkeypatch):
    """The option reaches the kernels' switch, which finds none on a CPU and trains all the same."""
    seen = []

    def fused(device):
        seen.append(device.type)
        return acceleration.fused(device)

    monkeypatch.setattr(fitting, "fused", fused)
    assert main(["fit", *options("cpu"), "--model.fused_kernels=true", f"--smoke-test={keep}"]) == 0
    assert seen == ["cpu"]
