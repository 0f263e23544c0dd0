"""Times of work on a device: whole calls, and the stages inside a training step."""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from statistics import median
from unittest.mock import patch

import torch

from LungRecoveryLib.registration import flow, networks

STAGES = ("load", "unet", "integrate", "warp", "loss", "other", "backward", "optimiser")
"""`other`: what the network does beside its U-Nets, integration and warps. Warps inside an integration belong to it."""

_OPAQUE = ("integrate",)


def synchronise(device: torch.device) -> None:
    """Wait until a device has done everything asked of it."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def milliseconds(work: Callable[[], object], device: torch.device, repeats: int, warmup: int = 3) -> float:
    """The median time of a call, each with the device idle before and done after it."""
    for _ in range(warmup):
        work()
    times = []
    for _ in range(repeats):
        synchronise(device)
        start = time.perf_counter()
        work()
        synchronise(device)
        times.append(1e3 * (time.perf_counter() - start))
    return median(times)


class StageClock:
    """Exclusive times of named stages: a stage within another one stops the outer one's clock meanwhile.

    On a CUDA device the times are between events on its stream, so that measuring makes nothing wait.
    """

    def __init__(self, device: torch.device):
        self.device = device
        self._stack: list[str] = []
        self._spans: list[tuple[str, object, object]] = []
        self._begun: object = None

    def _now(self) -> object:
        if self.device.type != "cuda":
            return time.perf_counter()
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(self.device))
        return event

    def _close(self) -> None:
        now = self._now()
        if self._stack:
            self._spans.append((self._stack[-1], self._begun, now))
        self._begun = now

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count what happens within as `name`, unless it happens inside a stage that keeps everything."""
        if self._stack and self._stack[-1] in _OPAQUE:
            yield
            return
        self._close()
        self._stack.append(name)
        try:
            yield
        finally:
            self._close()
            self._stack.pop()

    def totals(self) -> dict[str, float]:
        """Milliseconds by stage since the last call."""
        synchronise(self.device)
        totals: dict[str, float] = defaultdict(float)
        for name, start, end in self._spans:
            totals[name] += start.elapsed_time(end) if self.device.type == "cuda" else 1e3 * (end - start)
        self._spans.clear()
        return dict(totals)

    def timed(self, name: str, function: Callable) -> Callable:
        """The function, counted as `name`."""

        @wraps(function)
        def counted(*args, **kwargs):
            with self.stage(name):
                return function(*args, **kwargs)

        return counted

    @contextmanager
    def watching(self, objective) -> Iterator[None]:
        """Count every U-Net, integration and warp of the library, and this objective, within the block."""
        unet = self.timed("unet", networks.UNet.__call__)
        with (
            patch.object(networks.UNet, "__call__", unet),
            patch.object(flow, "exponentiate", self.timed("integrate", flow.exponentiate)),
            patch.object(flow, "warp", self.timed("warp", flow.warp)),
            patch.object(type(objective), "__call__", self.timed("loss", type(objective).__call__)),
        ):
            yield
