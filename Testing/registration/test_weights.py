"""Weights and cards: what is saved comes back, and what does not belong together is refused in one sentence."""

import json
import re

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import networks, weights
from LungRecoveryLib.resources import resource

ARCHITECTURE = {"name": "voxelmorph_diff", "encoder": [4, 6, 8], "decoder": [6], "final": [4]}


@pytest.fixture
def saved(tmp_path):
    torch.manual_seed(3)
    network = networks.build_network(ARCHITECTURE)
    card = {"architecture": ARCHITECTURE, "spacing_mm": 3.0}
    return weights.save_weights(network, card, tmp_path / "small.safetensors"), network


def change_card(path, **values):
    card_path = path.with_suffix(".json")
    card_path.write_text(json.dumps({**json.loads(card_path.read_text()), **values}))


def test_a_network_comes_back_as_it_was_saved(saved):
    path, network = saved
    loaded = weights.load_weights(path)
    for name, value in network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value)
    assert loaded.spacing_mm == 3.0
    assert loaded.sha256 == weights.sha256_of(path)
    assert not loaded.network.training


def test_weights_that_are_not_those_of_the_card_are_refused(saved):
    path, _ = saved
    change_card(path, sha256="0" * 64)
    with pytest.raises(BadInput, match="sha256"):
        weights.load_weights(path)


def test_another_architecture_is_refused(saved):
    path, _ = saved
    change_card(path, architecture={**ARCHITECTURE, "encoder": [4, 8, 8]})
    with pytest.raises(BadInput, match="architecture"):
        weights.load_weights(path)


def test_damaged_weights_are_refused(saved):
    path, _ = saved
    path.write_bytes(b"no tensors")
    change_card(path, sha256=weights.sha256_of(path))
    with pytest.raises(BadInput, match="cannot be read"):
        weights.load_weights(path)


def test_weights_without_a_card_and_no_weights_at_all_are_refused(saved, tmp_path):
    path, _ = saved
    path.with_suffix(".json").unlink()
    with pytest.raises(BadInput, match="no card"):
        weights.load_weights(path)
    with pytest.raises(BadInput, match="no weights"):
        weights.load_weights(tmp_path / "gone.safetensors")
    with pytest.raises(BadInput, match="no weights"):
        weights.load_weights("spleen")


def test_a_card_that_says_too_little_is_refused(saved):
    path, _ = saved
    path.with_suffix(".json").write_text('{"sha256": "0"}')
    with pytest.raises(BadInput, match="architecture, spacing_mm"):
        weights.load_weights(path)


@pytest.mark.parametrize("path", sorted(resource("Models").glob("*.safetensors")), ids=lambda path: path.stem)
def test_shipped_weights_are_those_of_their_card(path):
    """They load, are small, and say what they were trained on, by which commit and how."""
    loaded = weights.load_weights(path.stem)
    assert loaded.sha256 == loaded.card["sha256"]
    assert path.stat().st_size <= 10_000_000
    assert not loaded.network.training
    assert re.fullmatch("[0-9a-f]{40}", loaded.card["commit"])
    assert {"data", "steps", "hardware", "metrics", "config"} <= set(loaded.card)
