"""The benchmark counts what it says it counts, and measures everyone on the same work."""

import json
from importlib import import_module
from types import SimpleNamespace

import pytest
import torch

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.registration import flow, losses
from LungRecoveryTrainingLib import acceleration
from LungRecoveryTrainingLib.benchmark import as_text, contenders, limits, task_from, timing
from LungRecoveryTrainingLib.benchmark import run as measure
from LungRecoveryTrainingLib.tasks import RegistrationTask

CPU = torch.device("cpu")
SHAPE = (32, 32, 32)


@pytest.fixture
def task():
    torch.manual_seed(0)
    levels = [{"downsample": 1, "encoder": [2, 4, 4], "final": [4]}, {"encoder": [2, 4, 4], "final": [4]}]
    return RegistrationTask({"name": "pyramid", "levels": levels})


@pytest.fixture(autouse=True)
def small_limits(monkeypatch):
    """Ceilings of small products and copies: here only their kind matters."""
    monkeypatch.setattr(limits, "_SIDE", {"cpu": 64})
    monkeypatch.setattr(limits, "_COPIED_BYTES", {"cpu": 2**16})


def test_operations_of_a_convolution_are_two_for_each_multiplication():
    convolution = torch.nn.Conv3d(2, 4, 3, padding=1)
    image = torch.rand(1, 2, 8, 8, 8)
    forward = 2 * 8**3 * 27 * 2 * 4
    assert limits.demand(lambda: convolution(image), CPU)["flops"] == forward
    # Backward without a gradient for the image: the weights' gradient costs as much as the forward pass.
    assert limits.demand(lambda: convolution(image).sum().backward(), CPU)["flops"] == 2 * forward


def test_bytes_are_those_read_and_written_and_views_move_none():
    a, b = torch.rand(1000), torch.rand(1000)
    assert limits.demand(lambda: a + b, CPU)["bytes"] == 3 * 4000
    assert limits.demand(lambda: (a.view(10, 100).T + 1).expand(2, 100, 10), CPU)["bytes"] == 2 * 4000
    assert limits.demand(lambda: torch.empty(1000), CPU)["bytes"] == 0


def test_ceilings_are_rates():
    found = limits.ceilings(CPU, repeats=2)
    assert set(found) == {"bf16_tflops", "float32_tflops", "bandwidth_gb_s"}
    assert all(rate > 0 for rate in found.values())


@pytest.fixture
def pass_time(monkeypatch):
    """Lets seconds pass on the clock that the benchmark reads: how long this machine takes does not matter."""
    seconds = [0.0]
    monkeypatch.setattr(timing, "time", SimpleNamespace(perf_counter=lambda: seconds[0]))

    def passes(amount: float) -> None:
        seconds[0] += amount

    return passes


def test_the_time_of_a_call_is_the_median_of_its_repeats(pass_time):
    durations = iter([9, 9, 9, 0.02, 0.06, 0.03])
    assert timing.milliseconds(lambda: pass_time(next(durations)), CPU, repeats=3) == pytest.approx(30)


def test_a_stage_stops_the_clock_of_the_one_around_it(pass_time):
    clock = timing.StageClock(CPU)
    with clock.stage("loss"):
        pass_time(0.01)
        with clock.stage("warp"):
            pass_time(0.03)
        with clock.stage("integrate"), clock.stage("warp"):  # which belongs to the integration
            pass_time(0.05)
        pass_time(0.02)
    assert clock.totals() == pytest.approx({"loss": 30, "warp": 30, "integrate": 50})
    assert clock.totals() == {}


def test_every_stage_of_a_step_is_timed_and_nothing_stays_patched(task):
    before = flow.exponentiate, flow.warp
    own = contenders.Own(task, CPU, mixed_precision=False, channels_last=False)
    batch = contenders.example_batch(SHAPE, 2, pinned=False)
    clock = timing.StageClock(CPU)
    with clock.watching(task.objective):
        own.step(batch, CPU, clock)
    assert {"load", "unet", "integrate", "warp", "loss", "other", "backward", "optimiser"} == set(clock.totals())
    assert (flow.exponentiate, flow.warp) == before


def test_a_step_is_the_tasks_own(task):
    own = contenders.Own(task, CPU, mixed_precision=False, channels_last=False)
    batch = contenders.example_batch(SHAPE, 1, pinned=False)
    torch.testing.assert_close(own.loss(batch), task.loss(batch)[0])
    before = [p.detach().clone() for p in task.network.parameters()]
    own.step(batch, CPU)
    after = list(task.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert own.infer(batch).shape == (1, 1, *SHAPE)


def test_the_report_holds_what_was_measured_and_what_was_not(task, tmp_path, monkeypatch):
    monkeypatch.setattr(contenders, "find_spec", lambda name: None)
    report = measure(task, "cpu", SHAPE, 2, tmp_path / "out.json", repeats=1)
    assert json.loads((tmp_path / "out.json").read_text()) == report
    (entry,) = report["measured"]
    assert (entry["batch"], entry["settings"], entry["note"]) == (2, "float32", "")
    assert entry["pairs_per_second"] == pytest.approx(2000 / entry["step_ms"])
    assert entry["matrix_percent"] > 0
    assert entry["parameters"] == sum(p.numel() for p in task.network.parameters())
    assert [m["name"] for m in report["missing"]] == ["VoxelMorph (torch)", "MONAI VoxelMorph"]
    text = as_text(report)
    assert "voxelmorph is not installed: pip install 'lungrecovery[train-peers]'" in text
    assert f"torch {torch.__version__}" in text
    assert all(stage in text for stage in ("load", "unet", "integrate", "backward", "optimiser"))


def test_less_memory_means_a_smaller_batch_and_says_so(task, monkeypatch):
    step = contenders.Own.step

    def needs_memory(self, batch, *rest):
        if len(batch["fixed"]) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        step(self, batch, *rest)

    monkeypatch.setattr(contenders.Own, "step", needs_memory)
    report = measure(task, "cpu", SHAPE, 4, peers=False, repeats=1)
    assert report["measured"][0]["batch"] == 1
    assert "A batch of 4 does not fit" in as_text(report)


def test_a_peer_that_fails_is_named_and_ends_nothing(task, monkeypatch):
    class Broken(contenders.Monai):
        def predict(self, batch):
            raise RuntimeError("no kernel for this\nmany more lines")

    monkeypatch.setattr(import_module("LungRecoveryTrainingLib.benchmark.run"), "PEERS", (Broken,))
    monkeypatch.setattr(contenders, "find_spec", lambda name: True)
    monkeypatch.setattr(contenders.Monai, "_network", lambda self: torch.nn.Linear(1, 1))
    monkeypatch.setattr(contenders.Monai, "_losses", lambda self: (None, None))
    report = measure(task, "cpu", SHAPE, 1, repeats=1)
    assert report["missing"] == [
        {"name": "MONAI VoxelMorph, float32", "why": "It failed with RuntimeError: no kernel for this"}
    ]


@pytest.mark.parametrize("peer", contenders.PEERS, ids=lambda p: p.package)
def test_peers_take_a_step_on_the_same_batches(peer):
    pytest.importorskip(peer.package, reason=f"{peer.package} is a peer of the benchmark only")
    torch.manual_seed(0)
    contender = peer(CPU, mixed_precision=False)
    batch = contenders.example_batch(SHAPE, 2, pinned=False)
    assert 0 < float(contender.loss(batch).detach()) < 3
    before = [p.detach().clone() for p in contender.network.parameters()]
    contender.step(batch, CPU)
    after = list(contender.network.parameters())
    assert any(not torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert contender.infer(batch).shape == (2, 1, *SHAPE)


def test_devices_and_configs_that_do_not_exist_are_refused(task, tmp_path):
    with pytest.raises(BadInput, match="CUDA"):
        measure(task, "cuda:99", SHAPE, 1)
    with pytest.raises(BadInput, match="cannot be read as a config"):
        task_from([tmp_path / "gone.yaml"])
    (tmp_path / "odd.yaml").write_text("model:\n  architecture: {name: voxelmorph_diff}\n  colour: red\n")
    with pytest.raises(BadInput, match="colour"):
        task_from([tmp_path / "odd.yaml"])


def test_later_configs_override_earlier_ones(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "trainer: {max_epochs: 3}\nmodel:\n  architecture: {name: voxelmorph_diff, encoder: [2, 4, 4]}\n"
        "  objective: {ncc: 1.0, dice: 0.25}\n"
    )
    (tmp_path / "b.yaml").write_text("model:\n  objective: {ncc: 2.0}\n")
    task = task_from([tmp_path / "a.yaml", tmp_path / "b.yaml"])
    assert (task.objective.weights.ncc, task.objective.weights.dice) == (2.0, 0.25)


def test_fused_kernels_take_batches_only_and_leave_nothing_behind(monkeypatch):
    original = flow.exponentiate, losses.Lncc
    with acceleration.fused("cpu") as found:
        assert not found
        assert (flow.exponentiate, losses.Lncc) == original

    class Kernels:
        exponentiate = staticmethod(lambda velocity, steps: ("fused", steps))
        Lncc = staticmethod(lambda fixed, mask, radius, epsilon: ("fused", radius))

    monkeypatch.setattr(acceleration, "kernels_for", lambda device: Kernels)
    monkeypatch.setattr(acceleration, "_is_batch", lambda tensor: tensor.ndim == 5)
    batch, single = torch.zeros(1, 3, 4, 4, 4), torch.zeros(3, 4, 4, 4)
    with acceleration.fused("cuda") as found:
        assert found
        assert flow.exponentiate(batch, 7) == ("fused", 7)
        assert flow.exponentiate(single, 2).shape == single.shape
        assert losses.Lncc(batch, batch) == ("fused", 2)
        assert isinstance(losses.Lncc(batch, batch, masked_windows=True), original[1])
    assert (flow.exponentiate, losses.Lncc) == original
