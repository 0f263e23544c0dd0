"""The benchmark: this project's training step and its peers' on one device, with the same shapes."""

import gc
import platform
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from copy import deepcopy
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from LungRecoveryLib.errors import BadInput, MissingDependency, OutOfMemory
from LungRecoveryLib.files import atomic_write_json
from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.system import check_device

from ..acceleration import fused, kernels_for
from ..memory import PeakMemory
from .contenders import PEERS, Batch, Contender, Own, check_installed, example_batch
from .limits import ceilings, demand
from .timing import StageClock, milliseconds

SHAPES = {"cuda": ((192, 160, 192), 8), "cpu": ((64, 64, 64), 1)}
"""Default shape (z, y, x) and batch by kind of device."""
_REPEATS = {"cuda": 10, "cpu": 3}
_PACKAGES = ("torch", "triton", "monai", "voxelmorph", "neurite")


@dataclass(frozen=True)
class Variant:
    """One way to run a contender: its name and settings in the table, how to make it, what holds while it runs."""

    name: str
    settings: str
    make: Callable[[], Contender]
    compiled: bool = False
    fused: bool = False


def run(
    task,
    device: str = "auto",
    shape: tuple[int, int, int] | None = None,
    batch: int | None = None,
    output: str | Path | None = None,
    peers: bool = True,
    repeats: int | None = None,
    progress: Progress = no_progress,
    settings: Sequence[str] | None = None,
) -> dict:
    """Measure a `tasks.RegistrationTask` and, with `peers`, the other implementations; write JSON where `output` says.

    Parameters: the device (auto, cpu, cuda[:n]); `shape` (z, y, x) in voxels, best multiples of 32, which VoxelMorph
    needs, and `batch` size, by default those of SHAPES; `repeats` of every timed call, of which the median counts;
    `settings`: only those are measured. A contender that does not fit into the device's memory is measured with half
    the batch, and so on, and says so.

    Returns {device, shape, batch, versions, ceilings, measured, missing}; each measured entry has pairs_per_second,
    step_ms, stages_ms (ours), inference_ms (one pair that lies on the device, not compiled), peak_memory_mb,
    parameters, flops_per_pair, bytes_per_pair (of the step before compiling), and the percentages of the ceilings that
    these make.
    Raises BadInput for an unknown device and OutOfMemory where not even one pair fits.
    """
    where = _chosen(device)
    shape, batch = tuple(shape or SHAPES[where.type][0]), batch or SHAPES[where.type][1]
    repeats = repeats or _REPEATS[where.type]
    with _same_arithmetic():
        progress("ceilings", 0.0)
        limits = ceilings(where, repeats)
        variants, missing = _variants(task, where, peers)
        variants = [v for v in variants if settings is None or v.settings in settings]
        measured = []
        for number, variant in enumerate(variants):
            progress(f"{variant.name}, {variant.settings}", 0.05 + 0.95 * number / len(variants))
            try:
                measured.append(_measure(variant, where, shape, batch, repeats, limits))
            except (RuntimeError, ValueError, AssertionError, TypeError, OutOfMemory) as error:
                if variant.name == Own.name:
                    raise
                why = f"It failed with {type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
                missing.append({"name": f"{variant.name}, {variant.settings}", "why": why})
    report = {
        "device": _device_name(where),
        "shape": list(shape),
        "batch": batch,
        "versions": versions(),
        "ceilings": limits,
        "measured": measured,
        "missing": missing,
    }
    if output is not None:
        atomic_write_json(output, report)
    progress("done", 1.0)
    return report


def _chosen(device: str) -> torch.device:
    check_device(device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(device)


def task_from(configs: Sequence[Path]):
    """The `tasks.RegistrationTask` of the `model` part of YAML configs, later ones overriding earlier ones.

    Raises BadInput for a config that is not there or has settings that the task does not know.
    """
    import yaml
    from jsonargparse import ArgumentParser

    from ..tasks import RegistrationTask

    merged: dict = {}
    for path in configs:
        try:
            content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        except (OSError, yaml.YAMLError) as error:
            raise BadInput(f"{path}: cannot be read as a config; give a YAML file") from error
        merged = _merged(merged, (content or {}).get("model") or {})
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(RegistrationTask, "model")
    instantiate = getattr(parser, "instantiate", parser.instantiate_classes)  # the name from 4.49 on
    try:
        return instantiate(parser.parse_object({"model": merged})).model
    except Exception as error:  # the parser has its own kind for each misfit
        raise BadInput(f"The model's settings do not fit ({error}): correct the config.") from error


def _merged(base: dict, over: dict) -> dict:
    both = [key for key, value in over.items() if isinstance(value, dict) and isinstance(base.get(key), dict)]
    return {**base, **over, **{key: _merged(base[key], over[key]) for key in both}}


def versions() -> dict[str, str | None]:
    """The versions that timings depend on, CUDA's and cuDNN's among them; None for what is not installed."""
    found: dict[str, str | None] = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = None
    cudnn = torch.backends.cudnn.version() if torch.cuda.is_available() else None
    return found | {"CUDA": torch.version.cuda, "cuDNN": None if cudnn is None else str(cudnn)}


@contextmanager
def _same_arithmetic() -> Iterator[None]:
    """TF32 for float32 products and cuDNN's own choice of algorithms, for everyone."""
    precision, tuned = torch.get_float32_matmul_precision(), torch.backends.cudnn.benchmark
    torch.set_float32_matmul_precision("high")
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.backends.cudnn.benchmark = tuned


def _variants(task, device: torch.device, peers: bool) -> tuple[list[Variant], list[dict]]:
    """What is measured, and what cannot be and why."""
    variants, missing = [_own(task, device)], []
    if device.type == "cuda":
        variants += [_own(task, device, mixed=True, last=last) for last in (False, True)]
        variants += [_own(task, device, mixed=True, last=last, compiled=True) for last in (False, True)]
        if kernels_for(device) is not None:
            variants += [_own(task, device, mixed=True, compiled=True, last=last, fused=True) for last in (False, True)]
    for peer in PEERS if peers else ():
        try:
            check_installed(peer)
        except MissingDependency as error:
            missing.append({"name": peer.name, "why": str(error)})
            continue
        variants.append(Variant(peer.name, "float32", lambda peer=peer: peer(device, False)))
        if device.type == "cuda":
            variants.append(Variant(peer.name, "bf16 autocast", lambda peer=peer: peer(device, True)))
    return variants, missing


def _own(task, device, mixed: bool = False, compiled: bool = False, last: bool = False, fused: bool = False) -> Variant:
    """This project's step: U-Nets in bf16, compiled, in channels-last memory; losses and integration by kernels."""
    words = {"bf16 U-Net": mixed, "compiled": compiled, "channels last": last, "fused kernels": fused}
    settings = ", ".join(word for word, holds in words.items() if holds) or "float32"
    return Variant(Own.name, settings, lambda: Own(deepcopy(task), device, mixed, last), compiled, fused)


def _measure(variant: Variant, device: torch.device, shape, batch: int, repeats: int, limits: dict) -> dict:
    """The entry of a variant with the largest batch that fits."""
    size, entry = batch, None
    while entry is None:
        _release(device)
        try:
            with fused(device) if variant.fused else nullcontext():
                entry = _timed(variant, device, example_batch(shape, size, device.type == "cuda"), repeats)
        except torch.OutOfMemoryError as error:
            if size == 1:
                raise OutOfMemory(f"{variant.name} needs more memory for one pair than there is.") from error
            size //= 2
    per_second = entry["pairs_per_second"]
    matrix = 1e12 * max(limits["bf16_tflops"], limits["float32_tflops"])
    entry["matrix_percent"] = 100 * entry["flops_per_pair"] * per_second / matrix
    entry["bandwidth_percent"] = 100 * entry["bytes_per_pair"] * per_second / (1e9 * limits["bandwidth_gb_s"])
    entry["note"] = "" if size == batch else f"A batch of {batch} does not fit into memory; measured with {size}."
    return entry


def _release(device: torch.device) -> None:
    """Give back what earlier contenders held, which graphs and their modules keep alive in cycles."""
    gc.collect()
    if device.type == "cuda":
        torch.cuda.empty_cache()


def _timed(variant: Variant, device: torch.device, batch: Batch, repeats: int) -> dict:
    contender = variant.make()
    size = len(batch["fixed"])
    single = {key: value[:1] for key, value in batch.items()}
    # Counted and inferred before compiling: the counters do not see into compiled graphs, which training alone uses.
    needs = demand(lambda: contender.step(single, device), device)
    inference_ms = _inference(contender, device, single, repeats)
    if variant.compiled:
        contender.compile()
    with PeakMemory(device) as memory:
        step_ms = milliseconds(lambda: contender.step(batch, device), device, repeats)
    entry = {
        "name": variant.name,
        "version": contender.version,
        "settings": variant.settings,
        "batch": size,
        "parameters": contender.parameters,
        "step_ms": step_ms,
        "pairs_per_second": 1e3 * size / step_ms,
        "inference_ms": inference_ms,
        "peak_memory_mb": memory.mb,
        "flops_per_pair": needs["flops"],
        "bytes_per_pair": needs["bytes"],
    }
    if isinstance(contender, Own):
        entry["stages_ms"] = _stages(contender, device, batch, repeats)
    return entry


def _inference(contender: Contender, device: torch.device, single: Batch, repeats: int) -> float:
    """Milliseconds to warp one pair that lies on the device."""
    loaded = contender.load(single, device)
    with torch.inference_mode():
        return milliseconds(lambda: contender.infer(loaded), device, repeats)


def _stages(contender: Own, device: torch.device, batch: Batch, repeats: int) -> dict[str, float]:
    """Mean milliseconds of each stage of a step."""
    clock = StageClock(device)
    with clock.watching(contender.task.objective):
        for _ in range(repeats):
            contender.step(batch, device, clock)
    return {name: ms / repeats for name, ms in clock.totals().items()}


def _device_name(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} processor, {torch.get_num_threads()} threads"
