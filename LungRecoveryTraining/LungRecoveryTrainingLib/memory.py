"""How much memory work takes at its peak."""

import os
import threading
from pathlib import Path
from types import TracebackType

import torch

_STATM = Path("/proc/self/statm")
_MEMINFO = Path("/proc/meminfo")
_INTERVAL_S = 0.005


class PeakMemory:
    """Within a ``with`` block, watches the memory of a device; `mb` (1e6 bytes) is known after it.

    On a CUDA device it is what tensors took at most; on the CPU the largest resident size of the whole process, read
    every few milliseconds, and None on systems that do not tell it.
    """

    def __init__(self, device: torch.device | str):
        self.device = torch.device(device)
        self.mb: float | None = None
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._poll, daemon=True)
        self._peak = 0

    def __enter__(self) -> "PeakMemory":
        if self.device.type == "cuda":
            torch.cuda.reset_peak_memory_stats(self.device)
        elif _STATM.exists():
            self._watch.start()
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, traceback: TracebackType | None) -> None:
        if self.device.type == "cuda":
            self.mb = torch.cuda.max_memory_allocated(self.device) / 1e6
        elif self._watch.is_alive():
            self._done.set()
            self._watch.join()
            self.mb = self._peak / 1e6

    def _poll(self) -> None:
        page = os.sysconf("SC_PAGE_SIZE")
        while True:
            self._peak = max(self._peak, int(_STATM.read_text(encoding="utf-8").split()[1]) * page)
            if self._done.wait(_INTERVAL_S):
                return


def free_memory() -> int | None:
    """The bytes of memory that programs may still take, None on systems that do not tell it."""
    try:
        lines = _MEMINFO.read_text(encoding="ascii").splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("MemAvailable:")]
    return 1024 * int(found[0]) if found else None
