"""Which graphics cards the computation can use, asked of a process of its own: torch never enters Slicer's process.

``python -m LungRecoveryLib.gui.devices`` prints {"devices": [{"id", "name", "memory_gib"}], "problem"} as JSON.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

_LONGEST_MS = 60_000

Found = Callable[[list[dict[str, Any]], str], None]


class DeviceProbe:
    """Looks for devices; calls `found` with them and with what stood in the way (empty: nothing)."""

    def __init__(self, found: Found, command: list[str] | None = None):
        self._found, self._command, self._process = found, command, None

    @property
    def running(self) -> bool:
        """Whether it is looking."""
        return self._process is not None

    def start(self) -> None:
        """Look, unless it is looking already."""
        import qt

        from LungRecoveryLib.gui.process import python_program

        if self.running:
            return
        command = self._command or [python_program(), "-m", "LungRecoveryLib.gui.devices"]
        process = self._process = qt.QProcess()
        environment = qt.QProcessEnvironment.systemEnvironment()
        package, known = str(Path(__file__).resolve().parents[2]), environment.value("PYTHONPATH", "")
        environment.insert("PYTHONPATH", package + (os.pathsep + known if known else ""))
        process.setProcessEnvironment(environment)
        process.connect("finished(int,QProcess::ExitStatus)", self._finished)
        process.connect("errorOccurred(QProcess::ProcessError)", self._failed)
        process.start(command[0], command[1:])
        qt.QTimer.singleShot(_LONGEST_MS, lambda: process.kill() if self._process is process else None)

    def abort(self) -> None:
        """Stop looking and return only when the process is gone; nothing is reported."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.waitForFinished(1000)

    def _finished(self, code: int, status: Any) -> None:
        if self._process is None:
            return
        text = bytes(self._process.readAllStandardOutput().data()).decode("utf-8", "replace")
        self._process = None
        try:
            answer = json.loads(text.strip().splitlines()[-1])
            devices = [{key: d[key] for key in ("id", "name", "memory_gib")} for d in answer["devices"]]
            self._found(devices, str(answer.get("problem", "")))
        except (ValueError, IndexError, KeyError, TypeError):
            self._found([], "")

    def _failed(self, error: Any) -> None:
        import qt

        if error == qt.QProcess.FailedToStart and self._process is not None:
            self._process = None
            self._found([], "")


def main() -> int:
    """Print the devices of this computer."""
    answer: dict[str, Any] = {"devices": [], "problem": ""}
    try:
        import torch

        for index in range(torch.cuda.device_count()):
            properties = torch.cuda.get_device_properties(index)
            torch.zeros(1, device=f"cuda:{index}").item()  # a card that cannot compute is none
            memory = round(properties.total_memory / 2**30, 1)
            answer["devices"].append({"id": f"cuda:{index}", "name": properties.name, "memory_gib": memory})
    except Exception as error:
        answer["problem"] = f"{type(error).__name__}: {error}"
    print(json.dumps(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
