"""Training runs: killed and resumed, spoilt, interrupted, by several processes, validated."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import tiny
from LungRecoveryLib.registration.weights import load_weights
from LungRecoveryTrainingLib.cli import main
from LungRecoveryTrainingLib.tasks import RegistrationTask

HERE = Path(__file__).parent

ENVIRONMENT = {
    **os.environ,
    "OMP_NUM_THREADS": "1",
    "GLOO_SOCKET_IFNAME": "lo",
    "PYTHONPATH": os.pathsep.join([str(HERE), os.environ.get("PYTHONPATH", "")]),
}


@pytest.fixture(autouse=True)
def one_thread():
    """As in the processes that the tests start: sums are the same only if they are made alike."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def run(folder: Path, *options: str, version: int = 0) -> tuple[int, Path]:
    """Train by the tiny config in a folder; gives the exit code and the run's folder."""
    config = tiny.write_run(folder)
    return main(["fit", "--config", str(config), *options]), folder / "runs" / "tiny" / f"version_{version}"


def disturbed(what: str, epoch: int = 2) -> str:
    """The option that adds a callback which disturbs the run."""
    arguments = {"class_path": "tiny_callbacks.Disturb", "init_args": {"what": what, "epoch": epoch}}
    return f"--trainer.callbacks+={json.dumps(arguments)}"


def checkpoint(run: Path, name: str = "last") -> dict:
    return torch.load(run / "checkpoints" / f"{name}.ckpt", weights_only=True)


def assert_equal(a, b, where: str = "") -> None:
    """Nested values are the same to the last bit."""
    assert type(a) is type(b), where
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), where
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_equal(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, (list, tuple)):
        for number, pair in enumerate(zip(a, b, strict=True)):
            assert_equal(*pair, f"{where}.{number}")
    else:
        assert a == b, where


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> Path:
    """The folder of a run that nothing disturbed."""
    torch.set_num_threads(1)
    code, folder = run(tmp_path_factory.mktemp("undisturbed"))
    assert code == 0
    return folder


def test_a_run_leaves_checkpoints_weights_and_a_log(undisturbed):
    """Best and last checkpoints, weights that load with what they were trained by, curves and pictures."""
    assert checkpoint(undisturbed)["epoch"] == 3
    # Only the last phase contends for the best: losses of coarser levels are none to compare with.
    assert checkpoint(undisturbed, "best")["epoch"] == 3
    weights = load_weights(undisturbed / "weights.safetensors")
    assert weights.spacing_mm == 4.0
    assert weights.card["steps"] == 12
    assert weights.card["config"]["objective"]["likelihood"] == 0.1
    assert weights.card["config"]["seed"] == 3
    assert {"val/loss", "val/error_mm", "val/tre_mm", "train/loss", "train/ncc"} <= set(weights.card["metrics"])
    assert load_weights(undisturbed / "best.safetensors").card["metrics"].keys() == {"val/loss"}
    log = EventAccumulator(str(undisturbed))
    log.Reload()
    assert len(log.Scalars("val/error_mm")) == 4
    assert log.Images("pair/fixed moving warped before after")[0].width == 5 * tiny.SHAPE[2] // 2


def test_averaged_weights_are_exported(undisturbed):
    """What is exported is the moving average, not the weights of the last step."""
    exported, last = load_file(undisturbed / "weights.safetensors"), checkpoint(undisturbed)
    name = "levels.1.unet.stem.0.weight"
    assert torch.equal(exported[name], last["state_dict"][f"network.{name}"])
    assert not torch.equal(exported[name], last["current_model_state"][f"network.{name}"])


def test_killed_and_resumed_is_as_if_nothing_had_happened(undisturbed, tmp_path):
    """A run that SIGKILL ends amid its third epoch and that is resumed ends with the same weights, averages, optimiser,
    learning rate and log as one that was let alone."""
    config = tiny.write_run(tmp_path)
    command = [sys.executable, "-m", "LungRecoveryTrainingLib.cli", "fit", "--config", str(config), disturbed("kill")]
    killed = subprocess.run(command, env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "runs" / "tiny" / "version_0"
    assert checkpoint(folder)["epoch"] == 1
    assert not (folder / "weights.safetensors").exists()

    assert main(["fit", "--config", str(config), "--ckpt_path", "last"]) == 0

    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    wanted, found = checkpoint(undisturbed), checkpoint(folder)
    for part in ("epoch", "global_step", "state_dict", "current_model_state", "averaging_state", "lr_schedulers"):
        assert_equal(found[part], wanted[part], part)
    assert_equal(found["optimizer_states"], wanted["optimizer_states"])
    assert_equal(load_file(folder / "weights.safetensors"), load_file(undisturbed / "weights.safetensors"))
    assert_equal(checkpoint(folder, "best")["state_dict"], checkpoint(undisturbed, "best")["state_dict"])
    cards = [json.loads((f / "weights.json").read_text()) for f in (folder, undisturbed)]
    assert cards[0]["metrics"] == cards[1]["metrics"]


@pytest.mark.parametrize("what", ["images", "gradient"])
def test_a_loss_that_is_not_a_number_stops_and_keeps_the_last_good_checkpoint(tmp_path, capsys, monkeypatch, what):
    """The message names the batch with its pairs and the checkpoint, whose weights are finite."""
    monkeypatch.syspath_prepend(str(HERE))
    code, folder = run(tmp_path, disturbed(what, epoch=1))
    assert code == 1
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert message.startswith(f"The {'loss' if what == 'images' else 'gradient'} of batch 1 (phantom-")
    assert "in epoch 1 is not a number" in message
    assert str(folder / "checkpoints" / "last.ckpt") in message
    kept = checkpoint(folder)
    assert kept["epoch"] == 0
    assert all(torch.isfinite(value).all() for value in kept["current_model_state"].values())
    assert not (folder / "weights.safetensors").exists()


def test_an_interrupted_run_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    """Ctrl-C ends with the exit code of a cancelled command; the last checkpoint is there."""
    monkeypatch.syspath_prepend(str(HERE))
    code, folder = run(tmp_path, disturbed("interrupt", epoch=1))
    assert code == 5
    assert "--ckpt_path last" in capsys.readouterr().err
    assert checkpoint(folder)["epoch"] == 0


def test_two_processes_train_with_the_same_config(tmp_path, capsys):
    """torchrun alone makes two processes of the same config: both end with the same weights, one exports them, and the
    figures of the validation are those that one process finds, though the pairs are odd in number."""
    config = tiny.write_run(tmp_path)
    write = {"class_path": "tiny_callbacks.WriteWeights", "init_args": {"folder": str(tmp_path)}}
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
    command += ["-m", "LungRecoveryTrainingLib.cli", "fit", "--config", str(config)]
    done = subprocess.run(
        [*command, f"--trainer.callbacks+={json.dumps(write)}"],
        env=ENVIRONMENT, capture_output=True, encoding="utf-8", check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    ranks = [torch.load(tmp_path / f"rank{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert_equal(*ranks)
    folder = tmp_path / "runs" / "tiny" / "version_0"
    assert [path.name for path in folder.parent.iterdir()] == ["version_0"]
    card = json.loads((folder / "weights.json").read_text())
    assert card["hardware"] == "2 x CPU"
    assert card["steps"] == 12

    assert main(["validate", "--config", str(config), "--ckpt_path", "last"]) == 0
    alone = validated(folder)
    for name in ("val/loss", "val/error_mm", "val/tre_mm", "val/folds_percent"):
        assert alone[name] == pytest.approx(card["metrics"][name], rel=1e-4, abs=1e-5), name


def validated(folder: Path) -> dict[str, float]:
    """What the validation after the run in `folder` logged."""
    log = EventAccumulator(str(folder.parent / "version_1"))
    log.Reload()
    return {name: log.Scalars(name)[-1].value for name in log.Tags()["scalars"] if name.startswith("val/")}


def test_shipped_or_own_weights_to_begin_with(undisturbed, tmp_path, capsys):
    """Training begins where given weights are; those of another architecture are refused in one sentence."""
    name = str(undisturbed / "weights.safetensors")
    weights = load_weights(name)
    task = RegistrationTask(weights.card["architecture"], initial=name)
    assert_equal(task.network.state_dict(), weights.network.state_dict())
    # More passes, and a level that the weights do not have, which begins anew.
    levels = [{**level, "passes": 2} for level in weights.card["architecture"]["levels"]]
    torch.manual_seed(1)
    more = RegistrationTask({"name": "pyramid", "levels": [*levels, levels[-1]]}, initial=name).network
    assert_equal(dict(more.levels[1].unet.state_dict()), dict(weights.network.levels[1].unet.state_dict()))
    code, _ = run(tmp_path, f"--model.initial={name}", "--model.architecture={name: voxelmorph}", "--model.phases=null")
    assert code == 2
    assert "are for another architecture: they share no layer" in capsys.readouterr().err
