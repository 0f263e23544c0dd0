"""What happens beside the training steps: checkpoints, early stopping, exported weights and pictures in the log."""

import subprocess
import time
from pathlib import Path

import lightning
import torch
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint

from LungRecoveryLib import __version__
from LungRecoveryLib.registration import flow
from LungRecoveryLib.registration.networks import build_network
from LungRecoveryLib.registration.weights import save_weights

from .phases import coarsened

_NETWORK = "network."


class LastCheckpoint(ModelCheckpoint):
    """Keeps `last.ckpt`, written after every `every_n_epochs`-th epoch, validated or not: what a run resumes from."""

    def __init__(self, every_n_epochs: int = 1):
        super().__init__(
            filename="last", every_n_epochs=every_n_epochs, save_on_train_epoch_end=True, enable_version_counter=False
        )


class BestCheckpoint(ModelCheckpoint):
    """Keeps `best.ckpt`, that of the lowest `monitor` on the validation pairs.

    Losses of different phases are those of different levels and grids: only epochs of the last phase contend.
    """

    def __init__(self, monitor: str = "val/loss", mode: str = "min"):
        super().__init__(
            filename="best", monitor=monitor, mode=mode, save_on_train_epoch_end=False, enable_version_counter=False
        )

    def check_monitor_top_k(self, trainer, current=None) -> bool:
        """Whether the present weights are the best so far."""
        return trainer.lightning_module.in_last_phase() and super().check_monitor_top_k(trainer, current)


class StopEarly(EarlyStopping):
    """Ends the training after `patience` validations without a lower `monitor`, all in the last phase."""

    def __init__(self, monitor: str = "val/loss", patience: int = 50, min_delta: float = 0.0, mode: str = "min"):
        super().__init__(monitor, min_delta, patience, mode=mode, check_on_train_epoch_end=False)

    def on_validation_end(self, trainer, pl_module) -> None:
        """Look at the epoch where it counts."""
        if pl_module.in_last_phase():
            super().on_validation_end(trainer, pl_module)


class WeightsExport(lightning.Callback):
    """Writes weights with their card into the run's folder when training ends: `weights.safetensors`, those at the end,
    and `best.safetensors`, those of the best checkpoint, where one is kept.

    It comes after weight averaging in the list of callbacks, so that averaged weights are what is written. `data` says
    in the card what the network was trained on, with licences.
    """

    def __init__(self, data: str = "generated phantoms", name: str = "weights"):
        self.data, self.name = data, name
        self._before, self._started = 0.0, time.monotonic()

    def on_train_start(self, trainer, task) -> None:
        """The clock starts."""
        self._started = time.monotonic()

    def state_dict(self) -> dict:
        """The time that training took so far, so that a resumed run tells the whole."""
        return {"seconds": self._seconds()}

    def load_state_dict(self, state: dict) -> None:
        """Take up the time of the run that is resumed."""
        self._before = state["seconds"]

    def _seconds(self) -> float:
        return self._before + time.monotonic() - self._started

    def on_train_end(self, trainer, task) -> None:
        """Write the weights."""
        folder = Path(trainer.log_dir or trainer.default_root_dir)  # asked for by every process
        if not trainer.is_global_zero:
            return
        figures = {name: round(float(value), 5) for name, value in trainer.callback_metrics.items()}
        save_weights(task.network, self._card(trainer, task, figures), folder / f"{self.name}.safetensors")
        for callback in trainer.checkpoint_callbacks:
            if isinstance(callback, BestCheckpoint) and callback.best_model_path:
                network = _network_of(callback.best_model_path, task.hparams["architecture"])
                figures = {callback.monitor: round(float(callback.best_model_score), 5)}
                save_weights(network, self._card(trainer, task, figures), folder / "best.safetensors")

    def _card(self, trainer, task, figures: dict) -> dict:
        hardware = torch.cuda.get_device_name(task.device) if task.device.type == "cuda" else "CPU"
        return {
            "architecture": task.hparams["architecture"],
            "spacing_mm": task.spacing_mm,
            "anatomy": task.hparams["anatomy"],
            "data": self.data,
            "version": __version__,
            "commit": _commit(),
            "hardware": f"{trainer.world_size} x {hardware}" if trainer.world_size > 1 else hardware,
            "hours": round(self._seconds() / 3600, 3),
            "steps": trainer.global_step,
            "config": _plain(dict(task.hparams)) | {"initial": _name_of(task.hparams.get("initial"))},
            "metrics": figures,
        }


def _network_of(checkpoint: str, architecture: dict) -> torch.nn.Module:
    state = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    network = build_network(architecture)
    network.load_state_dict({name.removeprefix(_NETWORK): value for name, value in state.items()})
    return network


def _commit() -> str | None:
    """The commit of the source tree that trains, if it is one."""
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, encoding="utf-8", check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return found.stdout.strip()


def _name_of(file: str | Path | None) -> str | None:
    """A file's own name: where it lay is nobody's business."""
    return Path(file).name if file is not None else None


def _plain(value):
    """Settings as JSON holds them."""
    if isinstance(value, dict):
        return {str(k): _plain(v) for k, v in value.items() if not str(k).startswith("_")}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in value]
    if hasattr(value, "__dataclass_fields__"):
        return {name: _plain(getattr(value, name)) for name in value.__dataclass_fields__}
    return value if isinstance(value, (int, float, str, bool, type(None))) else str(value)


class WarpedPairs(lightning.Callback):
    """Puts coronal slices of the first validation pair into the log (TensorBoard's or W&B's) every so many epochs:
    fixed, moving, warped, and the error before and after."""

    TITLE = "pair/fixed moving warped before after"

    def __init__(self, every: int = 10):
        self.every = every

    def on_validation_batch_end(self, trainer, task, outputs, batch, index, dataloader_idx=0) -> None:
        """Draw the first batch's first pair."""
        if index or trainer.current_epoch % self.every or not trainer.is_global_zero:
            return
        loggers = [logger for logger in trainer.loggers if _takes_pictures(logger)]
        if not loggers:
            return
        picture = warped_pair(task, batch)
        for logger in loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(self.TITLE, [picture.float().cpu().numpy()], trainer.global_step)
            else:
                logger.experiment.add_image(self.TITLE, picture[None], trainer.global_step)


def _takes_pictures(logger) -> bool:
    return hasattr(logger, "log_image") or hasattr(logger.experiment, "add_image")


@torch.no_grad()
def warped_pair(task, batch: dict) -> torch.Tensor:
    """Middle coronal slices of a batch's first pair, side by side (rows from head to foot), values 0..1."""
    phase = task.phase()
    first = {key: value[:1] for key, value in batch.items()}
    first = coarsened(first, phase.coarsened if phase else 1)
    field = task.predict_batch(first, phase).displacement
    identity = flow.voxel_coordinates(tuple(field.shape[2:]), device=field.device)
    fixed, moving = first["fixed"].float(), first["moving"].float()
    warped = flow.warp(moving, identity + field)
    middle = fixed.shape[3] // 2
    panels = [fixed, moving, warped, (fixed - moving).abs(), (fixed - warped).abs()]
    return torch.cat([panel[0, 0, :, middle].flip(0).clamp(0, 1) for panel in panels], dim=1)
