"""Weights of networks and the cards that say where they come from.

Weights are a `.safetensors` file with a card beside it, `<name>.json`: the network's architecture, the grid it works
on, the data it was trained on with their licences, the recipe, metrics and the file's sha256. Nothing is unpickled.
"""

import hashlib
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from ..errors import BadInput
from ..resources import NO_NETWORK, SHIPPED_WEIGHTS, resource
from .networks import build_network


@dataclass(frozen=True, eq=False)
class Weights:
    """A network with its weights, ready to predict, and its card."""

    network: nn.Module
    card: dict
    sha256: str

    @property
    def spacing_mm(self) -> float:
        """The spacing of the grid that the network was trained on."""
        return float(self.card["spacing_mm"])


def weights_file(name: str | Path) -> Path:
    """The weights of a path, or of the name of shipped ones. Raises BadInput where there are none."""
    path = Path(name)
    if path.suffix != ".safetensors":
        path = resource("Models") / f"{name}.safetensors"
    if not path.is_file():
        raise BadInput(
            f"There are no weights {str(name)!r}: give a .safetensors file, or {NO_NETWORK!r} for no network."
        )
    return path


def load_weights(name: str | Path = SHIPPED_WEIGHTS, device: torch.device | str = "cpu") -> Weights:
    """The network of a weights file or of the shipped weights of that name, on a device.

    Raises BadInput where weights or card are missing, do not belong together or fit no network.
    """
    path = weights_file(name)
    return _loaded(path, path.stat().st_mtime_ns, str(device))


@lru_cache(maxsize=4)
def _loaded(path: Path, modified: int, device: str) -> Weights:
    card = read_card(path)
    sha256 = sha256_of(path)
    if card["sha256"] != sha256:
        raise BadInput(f"The weights {path} are not those of their card (sha256 differs): get both files anew.")
    try:
        state = load_file(path, device=device)
    except Exception as error:  # safetensors raises its own type for any damage
        raise BadInput(f"The weights {path} cannot be read ({error}): get the file anew.") from error
    network = build_network(card["architecture"]).to(device)
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise BadInput(
            f"The weights {path} are for another architecture than their card says: get both files anew."
        ) from error
    return Weights(network.eval().requires_grad_(False), card, sha256)


def read_card(path: Path) -> dict:
    """The card of a weights file. Raises BadInput where it is missing or lacks what a network needs."""
    card_path = path.with_suffix(".json")
    try:
        card = json.loads(card_path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BadInput(f"The weights {path} have no card: put {card_path.name} beside them.") from error
    except (OSError, ValueError) as error:
        raise BadInput(f"The card {card_path} cannot be read as JSON: get it anew.") from error
    missing = [key for key in ("architecture", "spacing_mm", "sha256") if key not in card]
    if missing:
        raise BadInput(f"The card {card_path} does not say {', '.join(missing)}: get it anew.")
    return card


def save_weights(network: nn.Module, card: dict, path: Path) -> Path:
    """Write weights and their card (with the sha256 added) beside each other; returns the weights' path."""
    path = Path(path)
    state = {name: value.detach().cpu().contiguous() for name, value in network.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    save_file(state, path)
    card = {**card, "sha256": sha256_of(path)}
    path.with_suffix(".json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    return path


def sha256_of(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
