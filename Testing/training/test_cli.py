"""`lungrecovery-train` says in one sentence what is wrong, with the right exit code."""

import json
from pathlib import Path

import pytest
import SimpleITK as sitk
import torch

import tiny
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.weights import save_weights
from LungRecoveryTrainingLib import data as data_module
from LungRecoveryTrainingLib.cli import _sentence, main


@pytest.fixture
def config(tmp_path) -> str:
    """The tiny config."""
    return str(tiny.write_run(tmp_path))


def told(capsys, *arguments: object) -> tuple[int, str]:
    """The exit code of a command and the last line of what it wrote to standard error."""
    capsys.readouterr()
    code = main([str(argument) for argument in arguments])
    return code, capsys.readouterr().err.strip().splitlines()[-1]


def test_help_and_no_command(capsys):
    """The commands are listed; each has its own help with an example."""
    assert main([]) == 2
    assert main(["--help"]) == 0
    shown, commands = capsys.readouterr().out, ("fit", "validate", "prepare", "test", "benchmark")
    assert all(f"\n  {command}  " in shown for command in commands)
    for command in commands:
        capsys.readouterr()
        assert main([command, "--help"]) == 0
        assert f"lungrecovery-train {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("content", "name"),
    [
        ("colour: 1", "'colour'"),
        ("trainer: {max_epoch: 1}", "'trainer.max_epoch'"),
        ("model: {objective: {nccc: 1}}", "'model.objective.nccc'"),
        ("model: {randomness: {augmentation: {motin: 1}}}", "'model.randomness.augmentation.motin'"),
        ("data: {phantoms: {trian: 1}}", "'data.phantoms.trian'"),
        ("model: {phases: [{levels: 1, train: [0], shar: 1}]}", "'model.phases.shar'"),
        ("trainer: {callbacks: [{class_path: LungRecoveryTrainingLib.callbacks.StopEarly, init_args: {a: 1}}]}", ".a'"),
    ],
)
def test_unknown_settings_of_a_config_are_named(config, tmp_path, capsys, content, name):
    """An unknown key of a config is told with where it stands."""
    (tmp_path / "other.yaml").write_text(content)
    code, line = told(capsys, "fit", "--config", config, "--config", tmp_path / "other.yaml")
    assert code == 2
    assert line.startswith("There is no setting ")
    assert name in line


@pytest.mark.parametrize(
    ("option", "told_of"),
    [
        ("--trainer.max_epoch=1", "There is no setting 'trainer.max_epoch'"),
        ("--model.optimisation.rate=fast", "The setting 'model.optimisation.rate' does not fit (Expected a float"),
        ("--data.size=[1,2]", "The setting 'data.size' does not fit (Expected a tuple with 3 elements"),
        ("--config=gone", "There is no config 'gone': give a YAML file or one of brain, cpu"),
        ("--device=tpu", "choose auto, cpu, cuda"),
        ("--data.spacing_mm=2", "differ: give both the same"),
        ("--model.architecture={name: unet}", "There is no network 'unet'"),
        ("--model.phases=[{levels: 3, train: [0], share: 1}]", "phase 1: 3 levels cannot run; the network has 2"),
        ("--trainer.max_epochs=2", "3 phases need at least one epoch each"),
        ("--ckpt_path=last", "has a last checkpoint yet: leave --ckpt_path out"),
        ("--ckpt_path=gone.ckpt", "There is no checkpoint gone.ckpt"),
        ("--data.phantoms=null", "There is nothing to train on"),
    ],
)
def test_settings_that_cannot_be_are_told(config, capsys, option, told_of):
    """Each wrong option gives exit code 2 and one sentence that names it."""
    code, line = told(capsys, "fit", "--config", config, option)
    assert code == 2
    assert told_of in line


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_a_config_for_a_gpu_says_that_there_is_none(capsys):
    """The H200's config on a machine without GPU."""
    code, line = told(capsys, "fit", "--config", "default", "--config", "h200")
    assert (code, "--device cpu" in line) == (2, True)


def test_configs_that_are_no_yaml(config, tmp_path, capsys):
    """A config that cannot be parsed, and one that is no mapping."""
    for content in ("model: [", "3"):
        (tmp_path / "broken.yaml").write_text(content)
        code, line = told(capsys, "fit", "--config", config, f"--config={tmp_path / 'broken.yaml'}")
        assert code == 2
        assert "onfig" in line


def test_damaged_checkpoints(config, tmp_path, capsys):
    """A file that is no checkpoint, and one that would run code, are refused before anything is read from them."""
    (tmp_path / "text.ckpt").write_text("no")
    torch.save({"state_dict": {}, "code": Path("x")}, tmp_path / "code.ckpt")
    torch.save({"weights": {}}, tmp_path / "other.ckpt")
    for name, words in (("text", "cannot be read"), ("code", "cannot be read"), ("other", "is no checkpoint")):
        code, line = told(capsys, "validate", "--config", config, "--ckpt_path", tmp_path / f"{name}.ckpt")
        assert code == 2
        assert words in line
    code, line = told(capsys, "validate", "--config", config)
    assert (code, "give --ckpt_path" in line) == (2, True)


# ------------------------------------------------------------------------------------------------------------ manifests


@pytest.fixture
def manifest(tmp_path) -> Path:
    """A manifest of two subjects."""
    return tiny.write_manifest_of_scans(tmp_path / "scans")


def from_manifest(manifest: Path, *options: str) -> list[str]:
    return [f"--data.pairs={json.dumps({'manifest': str(manifest), 'align': False})}", "--data.phantoms=null", *options]


def test_a_manifest_whose_scan_is_gone(config, manifest, capsys):
    """Row, column and file are named."""
    (manifest.parent / "s0-1.nii.gz").unlink()
    code, line = told(capsys, "fit", "--config", config, *from_manifest(manifest))
    assert code == 2
    assert "row 2 (subject s0 at 1): its image" in line
    assert "s0-1.nii.gz is gone" in line


def test_a_manifest_whose_scan_is_unreadable(config, manifest, capsys):
    """A scan that is no image, and one whose header alone is whole."""
    scan = manifest.parent / "s0-1.nii.gz"
    whole = scan.read_bytes()
    scan.write_bytes(b"no image")
    code, line = told(capsys, "fit", "--config", config, *from_manifest(manifest))
    assert code == 2
    assert "s0-1.nii.gz cannot be read" in line
    scan.write_bytes(whole[: len(whole) // 2])
    code, line = told(capsys, "fit", "--config", config, *from_manifest(manifest))
    assert code == 2
    assert "s0-1.nii.gz" in line


def test_labels_that_are_no_whole_numbers(config, manifest, capsys):
    """The label map is named."""
    path = manifest.parent / "s1-0-labels.nii.gz"
    sitk.WriteImage(sitk.Cast(sitk.ReadImage(str(path)), sitk.sitkFloat32) * 0.5, str(path))
    code, line = told(capsys, "fit", "--config", config, *from_manifest(manifest))
    assert code == 2
    assert "s1-0-labels.nii.gz: its labels are no whole numbers" in line


def test_an_error_in_a_worker_process_keeps_its_sentence():
    """torch wraps what a worker raises into a report of many lines."""
    wrapper = torch._utils.ExceptionWrapper((BadInput, BadInput("a.nii.gz: is gone; restore it."), None), "in worker 0")
    with pytest.raises(BadInput, match="Caught BadInput in worker 0") as caught:
        wrapper.reraise()
    assert _sentence(str(caught.value)) == "a.nii.gz: is gone; restore it."


# --------------------------------------------------------------------------------------------------- memory and weights


def test_too_little_memory(config, manifest, capsys, monkeypatch):
    """Pairs that will not fit are told before they are made; memory that runs out is no bug."""
    monkeypatch.setattr(data_module, "free_memory", lambda: 100_000)
    code, line = told(capsys, "fit", "--config", config)
    assert code == 4
    assert "pairs to hold in memory need 0.0 GB and 0.0 GB are free" in line
    monkeypatch.setattr(data_module, "free_memory", lambda: None)

    def exhausted(*arguments):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(data_module, "joined", exhausted)
    code, line = told(capsys, "fit", "--config", config)
    assert code == 4
    assert "lower data.batch_size or data.size" in line


def test_weights_that_do_not_fit_their_card(manifest, tmp_path, capsys):
    """A card that is missing, that of other weights and that of another architecture, before any pair is read."""
    architecture = {"name": "voxelmorph", "encoder": [2, 4], "decoder": [4], "final": [4]}
    path = tmp_path / "own.safetensors"
    save_weights(build_network(architecture), {"architecture": architecture, "spacing_mm": 3.0}, path)
    card = json.loads(path.with_suffix(".json").read_text())
    wrong = {
        "sha256 differs": {**card, "sha256": "0" * 64},
        "another architecture": {**card, "architecture": {**architecture, "final": [5]}},
        "does not say spacing_mm": {k: v for k, v in card.items() if k != "spacing_mm"},
    }
    command = ("test", "--manifest", manifest, "--output", tmp_path / "out", "--weights", path, "--split", "train")
    for words, content in wrong.items():
        path.with_suffix(".json").write_text(json.dumps(content))
        code, line = told(capsys, *command)
        assert code == 2
        assert words in line
        assert not (tmp_path / "out").exists()
    path.with_suffix(".json").unlink()
    code, line = told(capsys, *command)
    assert (code, "have no card" in line) == (2, True)


# ------------------------------------------------------------------------------------------------------- other commands


def test_other_commands_name_wrong_options(capsys, tmp_path):
    """Unknown data sets, options and values of prepare, test and benchmark."""
    for arguments, words in (
        (("prepare", "mnist", "--root", tmp_path), "mnist"),
        (("prepare", "folder", "--root", tmp_path, "--colour", "1"), "'colour'"),
        (("prepare", "folder"), "root"),
        (("test", "--manifest", tmp_path / "gone.csv", "--output", tmp_path / "out"), "gone.csv: does not exist"),
        (("benchmark", "--batch", "many"), "'batch'"),
        (("benchmark", "--config", '["gone"]'), "There is no config 'gone'"),
        (("colour",), "colour"),
    ):
        code, line = told(capsys, *arguments)
        assert (code, words in line) == (2, True), line


def test_a_missing_package_is_named(config, capsys, monkeypatch):
    """W&B is no part of the extra and is told when a config asks for it."""
    code, line = told(
        capsys, "fit", "--config", config, "--trainer.logger=lightning.pytorch.loggers.WandbLogger"
    )  # fmt: skip
    if code == 0:
        pytest.skip("W&B is installed")
    assert code == 3
    assert "wandb" in line


def test_a_data_set_is_prepared(manifest, capsys):
    """`prepare` writes a manifest and says how many scans it holds."""
    folder = manifest.parent
    manifest.unlink()
    for path in folder.glob("*-*-*"):
        path.unlink()
    assert main(["prepare", "folder", "--root", str(folder), "--output", str(folder / "own.csv")]) == 0
    assert "own.csv: 4 scans" in capsys.readouterr().out
