"""Training and validation through Lightning's command line: YAML configs, later ones override earlier ones."""

import json
import os
import tempfile
from argparse import ArgumentError
from contextlib import nullcontext
from itertools import pairwise
from pathlib import Path

import torch
import yaml
from jsonargparse import Namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.cli import LightningCLI

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.system import check_device

from .acceleration import fused
from .arguments import PARSER, bad_argument
from .checkpoints import NAMED, WholeCheckpoints, newest_checkpoint, read_checkpoint
from .completion import CompletionTask
from .configs import config_path
from .data import PairsData
from .tasks import RegistrationTask

COMMANDS = {
    "fit": "Train a network. Example: lungrecovery-train fit --config default --config cpu --trainer.max_epochs 20. "
    "With --ckpt_path last the newest run goes on; with --smoke-test the config runs five short epochs on generated "
    "data. Names of configs that come with the module, or paths.",
    "validate": "The objective and errors of a checkpoint on the validation pairs. "
    "Example: lungrecovery-train validate --config default --ckpt_path best",
}
SMOKE_TEST = "--smoke-test"
# Generated in seconds: voxels of 4 mm, one patient to train on and one to validate on.
SMALL_CHEST = {"visits": 1, "kinds": ["pair"], "pixel_mm": [4.0, 4.0], "slice_mm": [4.0, 4.0]}
SMOKE_PHANTOMS = {"train": 1, "val": 1, "seed": 0, "settings": SMALL_CHEST, "held_out": SMALL_CHEST}
# Few steps on a coarse grid: whatever the config, it trains, validates and checkpoints.
_SMALL = {
    "device": "cpu",
    "trainer.num_nodes": "1",
    "trainer.strategy": "auto",
    "trainer.max_epochs": "5",
    "trainer.check_val_every_n_epoch": "1",
    "trainer.accumulate_grad_batches": "1",
    "trainer.enable_progress_bar": "false",
    "trainer.enable_model_summary": "false",
    "model.mixed_precision": "false",
    "model.compile": "false",
    "model.spacing_mm": "10.0",
    "model.optimisation.fused": "false",
    "data.pairs": "null",
    "data.spacing_mm": "10.0",
    "data.size": "[32, 24, 32]",
    "data.batch_size": "1",
    "data.steps": "1",
    "data.workers": "0",
}


class TrainingCLI(LightningCLI):
    """Lightning's command line with devices as in the other commands, one seed, and runs that go on where they were."""

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        """The commands and the arguments that they do not take."""
        return {name: LightningCLI.subcommands()[name] | {"weights_only"} for name in COMMANDS}

    def add_arguments_to_parser(self, parser) -> None:
        """What Lightning's command line lacks."""
        parser.add_argument("--device", type=str | None, help="auto, cpu or cuda[:n], instead of trainer.devices")
        parser.add_argument("--tf32", type=bool, default=True, help="TF32 for matrix products outside the convolutions")
        parser.add_argument("--cudnn_benchmark", type=bool, default=True, help="let cuDNN try its algorithms")

    def parse_arguments(self, parser, args) -> None:
        """Parse, and find the checkpoint that `last` or `best` means."""
        self.config = parser.parse_args(args)
        config = self.config[self.config.subcommand]
        if config.ckpt_path in NAMED:
            checkpoint = newest_checkpoint(config.ckpt_path, _runs_folder(config))
            if self.config.subcommand == "fit":  # the run's log and checkpoints go on, too
                config.trainer.logger.init_args.version = checkpoint.parents[1].name
            config.ckpt_path = str(checkpoint)
        elif config.ckpt_path is not None:
            read_checkpoint(config.ckpt_path)
        elif self.config.subcommand == "validate":
            raise BadInput("There is nothing to validate: give --ckpt_path best, last or the path of a checkpoint.")

    def before_instantiate_classes(self) -> None:
        """Settle what depends on one another, and tell torch how to multiply."""
        config = self.config[self.config.subcommand]
        torch.set_float32_matmul_precision("high" if config.tf32 else "highest")
        torch.backends.cudnn.benchmark = config.cudnn_benchmark
        if config.data.spacing_mm != config.model.spacing_mm:
            raise BadInput(
                f"data.spacing_mm ({config.data.spacing_mm:g}) and model.spacing_mm ({config.model.spacing_mm:g}) "
                "differ: give both the same."
            )
        for part in (config.data, config.model):
            if part.seed is None and config.seed_everything is not False:
                part.seed = config.seed_everything
        _choose_device(config)
        _share_out(config.trainer)

    def instantiate_trainer(self, **kwargs):
        """Make the trainer: the data module shares out batches, and checkpoints are written whole."""
        given = self._get(self.config_init, "trainer").get("plugins") or []
        plugins = [*given] if isinstance(given, list) else [given]
        return super().instantiate_trainer(
            plugins=[*plugins, WholeCheckpoints()], use_distributed_sampler=False, **kwargs
        )

    def fit(self, **settings) -> None:
        """Train, by own kernels where asked to."""
        with self._kernels():
            self.trainer.fit(**settings)

    def validate(self, **settings) -> None:
        """Validate, by own kernels where asked to."""
        with self._kernels():
            self.trainer.validate(**settings)

    def _kernels(self):
        return fused(self.trainer.strategy.root_device) if self.model.fused_kernels else nullcontext()


def run_lightning(arguments: list[str]) -> None:
    """Run `fit` or `validate`. Raises BadInput for unknown keys, missing files and settings that do not fit."""
    arguments = _with_config_paths(arguments)
    smoke = [argument for argument in arguments if argument.partition("=")[0] == SMOKE_TEST]
    if not smoke:
        _run(arguments)
        return
    with tempfile.TemporaryDirectory(prefix="lungrecovery-smoke-") as folder:
        keep = smoke[-1].partition("=")[2] or None
        _run([*(argument for argument in arguments if argument not in smoke), *_small(folder, keep)])
        weights = list(Path(folder).rglob("*.safetensors"))
        if not weights:
            raise BadInput("The smoke test left no weights: keep the WeightsExport callback in the config.")
        print(f"Smoke test passed: trained, validated and exported {', '.join(sorted(p.name for p in weights))}.")


def _small(folder: str, keep: str | None) -> list[str]:
    """The options of a smoke test that logs to `folder`; its phantoms stay in `keep`, if anywhere, for the next."""
    phantoms = json.dumps({**SMOKE_PHANTOMS, "keep": keep})
    options = {**_SMALL, "data.phantoms": phantoms, "trainer.logger.init_args.save_dir": folder}
    # Nothing of the config's own phantoms may stay.
    return ["--data.phantoms=null", *(f"--{key}={value}" for key, value in options.items())]


def _run(arguments: list[str]) -> None:
    commands = {name: {**PARSER, "description": description} for name, description in COMMANDS.items()}
    try:
        TrainingCLI(
            _task_class(arguments),
            PairsData,
            args=arguments,
            save_config_kwargs={"overwrite": True},
            parser_kwargs={**PARSER, "prog": "lungrecovery-train", **commands},
            auto_configure_optimizers=False,
        )
    except ArgumentError as error:
        raise bad_argument(error, arguments[0]) from error
    except MisconfigurationException as error:
        raise BadInput(f"{' '.join(str(error).split())} Correct the config.") from error


def _task_class(arguments: list[str]) -> type[RegistrationTask]:
    """What the configs' network is trained for: registration, or completing lungs."""
    name = None
    for option, value in pairwise(["", *arguments]):
        if option in ("--config", "-c") or value.startswith("--config="):
            name = _architecture_name(Path(value.removeprefix("--config="))) or name
    return CompletionTask if name == "segmenter" else RegistrationTask


def _architecture_name(config: Path) -> str | None:
    try:
        content = yaml.safe_load(config.read_text(encoding="utf-8"))
        return content["model"]["architecture"]["name"]
    except (OSError, yaml.YAMLError, TypeError, KeyError):
        return None  # what is wrong with it, parsing will say


def _with_config_paths(arguments: list[str]) -> list[str]:
    """The arguments with names of shipped configs made paths. Raises BadInput for a config that is not there."""
    resolved = list(arguments)
    for index, argument in enumerate(resolved):
        if argument.startswith("--config="):
            resolved[index] = f"--config={config_path(argument.removeprefix('--config='))}"
        elif index and resolved[index - 1] in ("--config", "-c"):
            resolved[index] = str(config_path(argument))
    return resolved


def _runs_folder(config: Namespace) -> Path:
    """The folder in which the logger of a config lays its runs. Raises BadInput where it does not say."""
    logger = config.trainer.logger
    settings = logger.get("init_args") if isinstance(logger, Namespace) else None
    if settings is None or "save_dir" not in settings or "version" not in settings:
        raise BadInput(
            "Only runs that TensorBoardLogger or CSVLogger log are found by name: give a path to --ckpt_path."
        )
    return Path(settings.save_dir) / (settings.get("name") or "")


def _choose_device(config: Namespace) -> None:
    """What --device says as Lightning's settings. Raises BadInput for a device that this machine lacks."""
    trainer = config.trainer
    if config.device is not None:
        check_device(config.device)
        kind, _, number = config.device.partition(":")
        trainer.accelerator = {"cuda": "gpu"}.get(kind, kind)
        trainer.devices = [int(number)] if number else 1
    if trainer.accelerator in ("gpu", "cuda") and not torch.cuda.is_available():
        raise BadInput("The config asks for a GPU and this machine has no CUDA device: add --device cpu.")


def _share_out(trainer: Namespace) -> None:
    """As many processes as torchrun started; a level that a phase leaves out has no gradient to share."""
    if torch.distributed.is_available() and torch.distributed.is_torchelastic_launched():
        processes, here = int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_WORLD_SIZE"])
        trainer.devices, trainer.num_nodes = here, processes // here
    if trainer.strategy == "ddp" or (trainer.strategy == "auto" and _processes(trainer) > 1):
        trainer.strategy = "ddp_find_unused_parameters_true"


def _processes(trainer: Namespace) -> int:
    """How many processes a training will have."""
    devices = trainer.devices
    if isinstance(devices, list):
        here = len(devices)
    elif str(devices) in ("auto", "-1"):
        here = torch.cuda.device_count() if trainer.accelerator != "cpu" else 1
    else:
        here = int(devices)
    return here * trainer.num_nodes
