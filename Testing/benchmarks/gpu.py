"""Everything that only a CUDA device can tell, in one run: kernels against float64, their times, the training step.

    PYTHONPATH=LungRecovery:LungRecoveryTraining python3 Testing/benchmarks/gpu.py [--output FILE] [--small] [--no-step]

Prints one JSON on standard output and what goes on on standard error; exit code 1 where a kernel is wrong. It needs
torch, Triton and lightning; peers that are not installed are named in the JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch

from LungRecoveryLib.registration import flow, losses
from LungRecoveryTrainingLib.acceleration import kernels_for
from LungRecoveryTrainingLib.benchmark import as_text, run
from LungRecoveryTrainingLib.benchmark.limits import ceilings
from LungRecoveryTrainingLib.benchmark.run import SHAPES, versions
from LungRecoveryTrainingLib.benchmark.timing import milliseconds
from LungRecoveryTrainingLib.memory import PeakMemory

DEVICE = torch.device("cuda")
# |found - float64| / |float64| that float32 arithmetic may leave; the torch functions themselves stay below.
VALUE, SLOPE = 1e-5, 1e-3
IMAGES = (((2, 1, 64, 80, 96), 2), ((3, 1, 33, 47, 65), 3), ((1, 1, 40, 24, 130), 4), ((1, 1, 3, 5, 4), 4))
FIELDS = ((2, 3, 48, 40, 64), (1, 3, 17, 23, 31), (1, 3, 4, 1, 6))
SETTINGS = (
    "float32",
    "bf16 U-Net",
    "bf16 U-Net, compiled",
    "bf16 U-Net, compiled, channels last",
    "bf16 U-Net, compiled, fused kernels",
    "bf16 autocast",
)
_STARTED = time.perf_counter()


def say(words: str) -> None:
    """A line of progress on standard error."""
    print(f"[{time.perf_counter() - _STARTED:6.1f} s] {words}", file=sys.stderr, flush=True)


def images(shape: tuple[int, ...], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """A fixed image like lung tissue, a warped one that is partly alike, and a mask with holes, on the device."""
    generator = torch.Generator(DEVICE).manual_seed(seed)

    def noise() -> torch.Tensor:
        return torch.rand(shape, generator=generator, device=DEVICE)

    fixed = 0.15 + 0.1 * noise()
    return fixed, 0.5 * fixed + 0.05 * noise(), (noise() > 0.3).float()


def velocity(shape: tuple[int, ...], size: float = 3.0, seed: int = 1) -> torch.Tensor:
    """A smooth velocity field with steps of a few voxels, some of them across the border."""
    generator = torch.Generator(DEVICE).manual_seed(seed)
    coarse = torch.randn(*shape[:2], *(max(1, n // 6) for n in shape[2:]), generator=generator, device=DEVICE)
    return size * torch.nn.functional.interpolate(coarse, size=shape[2:], mode="trilinear", align_corners=False)


def with_gradient(function, leaf: torch.Tensor, upstream: torch.Tensor | None = None):
    """The function's value at a copy of a tensor, and its gradient there."""
    leaf = leaf.detach().clone().requires_grad_(True)
    value = function(leaf)
    value.backward(torch.full_like(value, 3.0) if upstream is None else upstream.to(value))
    return value.detach(), leaf.grad


def apart(a: torch.Tensor, b: torch.Tensor) -> float:
    """|a - b| / |b|."""
    return float((a.double() - b.double()).norm() / b.double().norm())


def check(kernels) -> list[dict]:
    """Errors of the kernels, and of the torch functions, against float64."""
    rows = []
    for shape, radius in IMAGES:
        fixed, warped, mask = images(shape)
        truth = with_gradient(losses.Lncc(fixed.double(), mask.double(), radius), warped.double())
        found = with_gradient(kernels.Lncc(fixed, mask, radius), warped)
        plain = with_gradient(losses.Lncc(fixed, mask, radius), warped)
        rows.append(_row(f"lncc radius {radius}", shape, found, plain, truth))
    for shape in FIELDS:
        v, upstream = velocity(shape), torch.randn(shape, device=DEVICE)
        truth = with_gradient(lambda x: flow.exponentiate(x, 7), v.double(), upstream)
        found = with_gradient(lambda x: kernels.exponentiate(x, 7), v, upstream)
        plain = with_gradient(lambda x: flow.exponentiate(x, 7), v, upstream)
        rows.append(_row("exponentiate", shape, found, plain, truth))
    return rows


def _row(name: str, shape: tuple[int, ...], found, plain, truth) -> dict:
    row = {"what": name, "shape": list(shape)}
    for who, pair in (("fused", found), ("torch", plain)):
        row |= {f"{who}_value": apart(pair[0], truth[0]), f"{who}_slope": apart(pair[1], truth[1])}
    row["right"] = row["fused_value"] < VALUE and row["fused_slope"] < SLOPE
    say(f"{name} {shape}: {'right' if row['right'] else 'WRONG'} {row}")
    return row


def times(kernels, shape: tuple[int, int, int], batch: int, repeats: int) -> list[dict]:
    """Milliseconds and memory of forward and backward of each function, with torch's operators and fused."""
    fixed, warped, mask = images((batch, 1, *shape))
    half = (batch, 3, *(n // 2 for n in shape))
    v, upstream = velocity(half), torch.randn(half, device=DEVICE)
    exponents = (flow.exponentiate, kernels.exponentiate)
    work = {
        "lncc": [lambda x, make=make: make(fixed, mask)(x) for make in (losses.Lncc, kernels.Lncc)],
        "exponentiate": [lambda x, exponent=exponent: exponent(x, 7) for exponent in exponents],
    }
    rows = []
    for name, functions in work.items():
        leaf, back = (warped, None) if name == "lncc" else (v, upstream)
        for who, function in zip(("torch", "fused"), functions, strict=True):
            row = {"what": name, "who": who, "shape": list(leaf.shape)}
            with torch.no_grad():
                row["forward_ms"] = milliseconds(lambda f=function, x=leaf: f(x), DEVICE, repeats)
            with PeakMemory(DEVICE) as memory:
                both = milliseconds(lambda f=function, x=leaf, u=back: with_gradient(f, x, u), DEVICE, repeats)
            row |= {"forward_and_backward_ms": both, "memory_mb": memory.mb}
            say(str(row))
            rows.append(row)
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, help="also write the JSON here")
    parser.add_argument("--small", action="store_true", help="a small shape, to see that everything runs")
    parser.add_argument("--no-step", action="store_true", help="kernels alone, without the training step and its peers")
    options = parser.parse_args()
    kernels = kernels_for(DEVICE) if torch.cuda.is_available() else None
    if kernels is None:
        print("There is no CUDA device with Triton here: run this where there is one.", file=sys.stderr)
        return 3
    shape, batch = ((64, 64, 64), 2) if options.small else SHAPES["cuda"]
    repeats = 5
    report = {"device": torch.cuda.get_device_name(DEVICE), "versions": versions(), "ceilings": ceilings(DEVICE)}
    say(str(report))
    report |= {"checks": check(kernels), "times": times(kernels, shape, batch, repeats)}
    torch.cuda.empty_cache()
    if not options.no_step:
        report["step"] = step(shape, batch, repeats)
    text = json.dumps(report, indent=1)
    if options.output:
        options.output.write_text(text + "\n", encoding="utf-8")
    print(text)
    return 0 if all(row["right"] for row in report["checks"]) else 1


def step(shape: tuple[int, int, int], batch: int, repeats: int) -> dict:
    """The training step of VoxelMorph-Diff (one level, velocity at half resolution, seven squarings) and its peers."""
    from LungRecoveryTrainingLib.tasks import RegistrationTask

    task = RegistrationTask({"name": "voxelmorph_diff"})
    report = run(
        task, "cuda", shape, batch, repeats=repeats, settings=SETTINGS,
        progress=lambda stage, fraction, message="": say(f"{100 * fraction:.0f} % {stage}"),
    )  # fmt: skip
    print(as_text(report), file=sys.stderr)
    return report


if __name__ == "__main__":
    sys.exit(main())
