"""What differs between operating systems or belongs to the process: signals, threads."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from LungRecoveryLib.errors import BadInput, Cancelled
from LungRecoveryLib.progress import Progress

_STOPPED = "stopped on request; nothing was written"


@contextmanager
def cancellable(progress: Progress) -> Iterator[Progress]:
    """Within the block Ctrl-C and termination raise `Cancelled`; yields `progress` with the same check added.

    The first signal wins; later ones are ignored until the block ends, so that cleaning up is not cut short. Outside
    the main thread, where Python delivers no signals, the block changes nothing.
    """
    requested = threading.Event()

    def stop(signum: int, frame: FrameType | None) -> None:
        requested.set()
        for number in previous:
            signal.signal(number, signal.SIG_IGN)
        raise Cancelled(_STOPPED)

    def report(stage: str, fraction: float, message: str = "") -> None:
        if requested.is_set():  # the exception was raised where it could not travel, as in a finaliser
            raise Cancelled(_STOPPED)
        progress(stage, fraction, message)

    previous: dict[int, object] = {}
    if threading.current_thread() is threading.main_thread():
        for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK"):
            number = getattr(signal, name, None)
            if number is not None and signal.getsignal(number) is not signal.SIG_IGN:
                previous[number] = signal.signal(number, stop)
    try:
        yield report
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def use_threads(threads: int | None) -> int:
    """Limit the numeric libraries of this process to `threads` (None: leave them as they are); returns the number."""
    import SimpleITK as sitk
    import torch

    if threads is not None:
        torch.set_num_threads(threads)
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
    return torch.get_num_threads()


def check_device(device: str) -> None:
    """Raise BadInput where `device` is not auto, cpu or a CUDA device of this machine."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise BadInput(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise BadInput(f"--device {device}: this machine has {count or 'no'} CUDA devices; choose --device cpu")
