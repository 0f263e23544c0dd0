"""The script for a CUDA machine: its checks tell right kernels from wrong ones, and it says where it cannot run."""

import importlib.util
from pathlib import Path

import pytest
import torch

from LungRecoveryLib.registration import flow, losses


@pytest.fixture
def script(monkeypatch):
    """The script as a module that works on the CPU, on small images and fields."""
    path = Path(__file__).parents[2] / "benchmarks" / "gpu.py"
    spec = importlib.util.spec_from_file_location("gpu_script", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "DEVICE", torch.device("cpu"))
    monkeypatch.setattr(module, "IMAGES", (((2, 1, 6, 7, 20), 2),))
    monkeypatch.setattr(module, "FIELDS", ((2, 3, 6, 7, 9),))
    return module


class Right:
    Lncc = losses.Lncc
    exponentiate = staticmethod(flow.exponentiate)


class Wrong:
    @staticmethod
    def Lncc(fixed, mask, radius):
        return lambda warped: losses.Lncc(fixed, mask, radius)(1.001 * warped)

    @staticmethod
    def exponentiate(velocity, steps):
        return flow.exponentiate(velocity, steps - 1)


def test_the_checks_tell_right_from_wrong(script):
    assert [row["right"] for row in script.check(Right)] == [True, True]
    assert [row["right"] for row in script.check(Wrong)] == [False, False]


def test_times_are_taken_of_both_ways(script):
    rows = script.times(Right, (8, 8, 8), 1, 1)
    assert [(r["what"], r["who"]) for r in rows] == [
        (what, who) for what in ("lncc", "exponentiate") for who in ("torch", "fused")
    ]
    assert all(r["forward_and_backward_ms"] > r["forward_ms"] > 0 for r in rows)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_cuda_device_it_says_so(script, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["gpu.py"])
    assert script.main() == 3
    assert "no CUDA device" in capsys.readouterr().err
