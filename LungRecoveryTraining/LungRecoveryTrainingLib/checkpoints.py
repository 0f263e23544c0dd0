"""Checkpoints on disk: written whole or not at all, read without running what they hold, found by run."""

from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.plugins.io import TorchCheckpointIO

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.files import atomic_file

NAMED = ("last", "best")


class WholeCheckpoints(TorchCheckpointIO):
    """A checkpoint takes the place of the one before it only when it is complete: a kill at any time leaves one."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path, storage_options=None) -> None:
        """Write it beside the old one, then rename."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(path) as unfinished:
            torch.save(checkpoint, unfinished)

    def load_checkpoint(self, path, map_location=None, weights_only: bool | None = True) -> dict[str, Any]:
        """Read plain values and tensors. Raises BadInput for a file that is gone, damaged or holds anything else."""
        return read_checkpoint(path)


def read_checkpoint(path: str | Path) -> dict[str, Any]:
    """The content of a checkpoint, on the CPU. Raises BadInput for one that is gone, damaged or holds code."""
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BadInput(f"There is no checkpoint {path}: give the path of one, or 'last'.") from error
    except Exception as error:  # any damage has a kind of its own
        raise BadInput(f"The checkpoint {path} cannot be read: give another one.") from error
    if not isinstance(content, dict) or "state_dict" not in content:
        raise BadInput(f"{path} is no checkpoint of a training run: give a .ckpt file of one.")
    return content


def newest_checkpoint(name: str, runs: Path) -> Path:
    """The newest `last` or `best` checkpoint of the runs (`version_0`, ...) in a folder. Raises BadInput without."""
    found = sorted(runs.glob(f"*/checkpoints/{name}.ckpt"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise BadInput(f"No run in {runs} has a {name} checkpoint yet: leave --ckpt_path out, or give a path.")
    return found[-1]
