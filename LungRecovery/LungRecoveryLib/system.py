"""What differs between operating systems or belongs to the process: signals, threads, process trees."""

import os
import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
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


@contextmanager
def limited_threads(threads: int | None) -> Iterator[None]:
    """`use_threads` within the block, and what was before after it."""
    import SimpleITK as sitk
    import torch

    before = torch.get_num_threads(), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    use_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before[1])


def check_device(device: str) -> None:
    """Raise BadInput where `device` is not auto, cpu or a CUDA device of this machine."""
    if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", device):
        raise BadInput(f"--device {device}: choose auto, cpu, cuda or cuda:N")
    if device.startswith("cuda"):
        import torch

        count = torch.cuda.device_count()
        if int(device.partition(":")[2] or 0) >= count:
            raise BadInput(f"--device {device}: this machine has {count or 'no'} CUDA devices; choose --device cpu")


@contextmanager
def exclusive(path: str | os.PathLike, message: str) -> Iterator[None]:
    """Hold a lock file within the block; raises BadInput with `message` while another process holds it.

    The system lets go of it when a process ends, however it ends.
    """
    with open(path, "a", encoding="utf-8") as file:
        try:
            if os.name == "nt":
                import msvcrt

                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            else:
                import fcntl

                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadInput(message) from error
        yield


def peak_memory_mb() -> float:
    """The most memory that this process has held so far."""
    if os.name == "nt":
        import psutil

        return psutil.Process().memory_info().peak_wset / 1e6
    import resource
    import sys

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1e6 if sys.platform == "darwin" else peak / 1e3  # macOS counts bytes


def lead_process_group() -> None:
    """Make this process the head of a group of its own, so that `end_process_tree` reaches all that it starts.

    On Windows nothing is needed: there the tree is known by its parents.
    """
    if hasattr(os, "setsid"):
        with suppress(OSError):  # it leads one already
            os.setsid()


def end_process_tree(pid: int, force: bool = False) -> None:
    """End a process that called `lead_process_group` and all that it started; a process that is gone is no error.

    Without `force` it is asked to end and may clean up (SIGTERM); Windows has no such request, so there it is ended.
    """
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(pid)], capture_output=True, check=False)
        return
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL if force else signal.SIGTERM)


def process_alive(pid: int) -> bool:
    """Whether a process of this user runs."""
    if os.name == "nt":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x00100000, False, pid)  # SYNCHRONIZE
        if not handle:
            return False
        running = ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0x102  # WAIT_TIMEOUT
        ctypes.windll.kernel32.CloseHandle(handle)
        return running
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return True
