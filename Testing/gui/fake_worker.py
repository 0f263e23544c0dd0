"""A worker that behaves as a test asks: ``python fake_worker.py BEHAVIOUR STUDY job.json PID``.

It prints what the real one prints. "good" copies the folder STUDY to the job's output, "unreliable" likewise with the
exit code of a failed quality gate; the others go wrong in the way their name says.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path


def say(**event) -> None:
    print(json.dumps(event), flush=True)


def progress(stage: str, fraction: float) -> None:
    say(event="progress", stage=stage, fraction=fraction, message="")


def finish(output: Path, study: str, reliable: bool = True) -> int:
    """Leave the study and say so."""
    for number, stage in enumerate(("read", "baseline: lungs", "day 30: refine", "report")):
        progress(stage, 0.1 + 0.25 * number)
    shutil.copytree(study, output)
    say(event="result", path=str(output), code=0 if reliable else 6, reliable=reliable)
    return 0 if reliable else 6


def linger(output: Path, stubborn: bool) -> None:
    """Write a half-done result, start a child, and wait to be ended; a stubborn one ignores the request to end."""
    unfinished = output.parent / f".{output.name}.unfinished-1234"
    unfinished.mkdir(parents=True)
    (unfinished / "half.nii.gz").write_bytes(b"half")
    ignore = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN);" if stubborn else ""
    child = subprocess.Popen([sys.executable, "-c", f"{ignore}import time; time.sleep(120)"])
    Path(os.environ["FAKE_WORKER_CHILDREN"]).write_text(f"{os.getpid()} {child.pid}", encoding="utf-8")
    if stubborn:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    progress("day 30: refine", 0.5)
    time.sleep(120)


def main(behaviour: str, study: str, job: str, parent: str) -> int:
    if hasattr(os, "setsid"):
        os.setsid()
    if behaviour != "mute":
        say(event="started", pid=os.getpid())
    content = json.loads(Path(job).read_text(encoding="utf-8"))
    output = Path(content["output"])
    if behaviour in ("good", "unreliable"):
        return finish(output, study, behaviour == "good")
    if behaviour in ("hang", "stubborn", "mute"):
        linger(output, behaviour == "stubborn")
    progress("read", 0.02)
    if behaviour == "crash":
        os.kill(os.getpid(), signal.SIGSEGV)
    if behaviour == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "silent":
        return 3
    if behaviour == "garbage":
        sys.stdout.buffer.write(b'\xff\xfe not json \xc3\x28\n{"event": 7}\n[1, 2]\n{"event": "progress"}\n')
        sys.stdout.buffer.write(b"x" * 3_000_000)
        print('\n{"event": "progress", "stage": 1, "fraction": "much"}', flush=True)
        return finish(output, study)
    if behaviour == "memory":
        say(event="error", code=4, message="not enough memory: close other programs or choose --preset fast", detail="")
        return 4
    if behaviour == "bug":
        say(event="error", code=1, message="unexpected KeyError", detail="Traceback: in broken")
        return 1
    if behaviour == "bad":
        scan = Path(job).parent / content["timepoints"][1]["path"]
        say(event="error", code=2, message=f"{scan}: shows the left lung but {scan.name} the right", detail="")
        return 2
    if behaviour == "full":
        say(event="error", code=2, message=f"{output}: the disk is full; make room or give an output on another disk")
        return 2
    if behaviour == "vanished":
        say(event="result", path=str(output), code=0, reliable=True)
        return 0
    if behaviour == "damaged":
        code = finish(output, study)
        next(output.glob("*/jacobian.nii.gz")).write_bytes(b"damaged")
        return code
    raise ValueError(behaviour)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
