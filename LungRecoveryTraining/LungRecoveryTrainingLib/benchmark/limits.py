"""What a device can do at most, and how much of it work asks for: floating-point operations and bytes."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from ..acceleration import kernels_for
from .timing import milliseconds

_SIDE = {"cuda": 8192, "cpu": 1024}
_COPIED_BYTES = {"cuda": 4 * 2**30, "cpu": 256 * 2**20}
_ALLOCATIONS = ("aten::empty", "aten::new_empty")


def ceilings(device: torch.device, repeats: int = 10) -> dict[str, float]:
    """The device's matrix rates in bf16 and float32 (TFLOP/s) and its memory bandwidth (GB/s, read plus written).

    Measured on the spot: products of large square matrices of random numbers and a copy many times larger than caches.
    Float32 products are made as torch is set to, in TF32 within the benchmark.
    """
    rates = {f"{name}_tflops": _matrix_rate(device, dtype, repeats) for name, dtype in _DTYPES.items()}
    count = _COPIED_BYTES[device.type] // 4
    source, target = torch.rand(count, device=device), torch.empty(count, device=device)
    ms = milliseconds(lambda: target.copy_(source), device, repeats)
    return rates | {"bandwidth_gb_s": 2 * 4 * count / ms / 1e6}


_DTYPES = {"bf16": torch.bfloat16, "float32": torch.float32}


def _matrix_rate(device: torch.device, dtype: torch.dtype, repeats: int) -> float:
    side = _SIDE[device.type]
    a, b = (torch.randn(side, side, device=device).to(dtype) for _ in range(2))
    return 2 * side**3 / milliseconds(lambda: a @ b, device, repeats) / 1e9


class _Traffic(TorchDispatchMode):
    """Adds up the bytes that operators read and write; views and allocations move nothing."""

    def __init__(self):
        super().__init__()
        self.bytes = 0

    def add(self, count: int) -> None:
        self.bytes += count

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        if not _is_view(function) and not function.name().startswith(_ALLOCATIONS):
            self.bytes += _bytes(args) + _bytes(kwargs) + _bytes(result)
        return result


def _is_view(function) -> bool:
    returns = [r.alias_info for r in function._schema.returns]
    return any(info is not None and not info.is_write for info in returns)


def _bytes(values) -> int:
    return sum(t.numel() * t.element_size() for t in tree_leaves(values) if isinstance(t, torch.Tensor))


def demand(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """The operations (convolutions and matrix products, 2 a multiply-add) and the bytes that a step asks for.

    Bytes are those that its operators, one by one, read and write: what a compiler fuses moves fewer.
    """
    with FlopCounterMode(display=False) as operations, _counted_launches(device) as traffic, traffic:
        step()
    return {"flops": float(operations.get_total_flops()), "bytes": float(traffic.bytes)}


@contextmanager
def _counted_launches(device: torch.device) -> Iterator[_Traffic]:
    """A counter that the fused kernels report to as well."""
    traffic, kernels = _Traffic(), kernels_for(device)
    if kernels is None:
        yield traffic
        return
    kernels.on_launch = traffic.add
    try:
        yield traffic
    finally:
        kernels.on_launch = None
