"""SIGKILL at every stage of an analysis: no half result, and the next run is as if nothing had been."""

import json
import os
import signal
import subprocess
import sys

import pytest

from LungRecoveryLib.files import remove_unfinished

pytestmark = pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")

RUN = """
import json, os, signal, sys
from LungRecoveryLib.job import job_from
from LungRecoveryLib.study import analyze
job, last = json.loads(sys.argv[1]), sys.argv[2]
seen = []
def report(stage, fraction, message=""):
    if stage not in seen:
        seen.append(stage)
        print(stage, flush=True)
    if stage == last and (fraction > 0 or len(seen) > 1):
        os.kill(os.getpid(), signal.SIGKILL)
analyze(job_from(job), report)
"""


@pytest.fixture(scope="module")
def quick_job(small_scans) -> dict:
    """A job of two scans with masks that takes seconds; it has no output yet."""
    points = [
        {"path": str(small_scans / f"{i}.mha"), "days": 30 * i, "lungs": str(small_scans / f"lungs{i}.mha")}
        for i in (0, 1)
    ]
    return {"timepoints": points, "preset": "preview", "spacing_mm": 5.0, "device": "cpu", "threads": 1}


def run(job: dict, last: str = "") -> subprocess.CompletedProcess:
    """Analyse in a process of its own, which kills itself in the stage `last`; its output names the stages."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", RUN, json.dumps(job), last], capture_output=True, encoding="utf-8", env=environment
    )


def numbers(folder) -> dict:
    """A study's content without what is of the run alone."""
    content = json.loads((folder / "study.json").read_text(encoding="utf-8"))
    content.pop("seconds")
    for timepoint in content["timepoints"]:
        (timepoint.get("registration") or {}).pop("seconds", None)
    return content


def killed(job: dict, folder, stage: str) -> None:
    """Kill an analysis in a stage and check what lies there: nothing under the output's name."""
    done = run({**job, "output": str(folder / "study")}, stage)
    assert done.returncode == -signal.SIGKILL, done.stderr
    left = list(folder.iterdir())
    assert all(path.name.startswith(".study.unfinished-") for path in left), left


def test_a_kill_in_the_report_leaves_no_half_study(quick_job, tmp_path):
    """When almost all is written; the folder's name stays free, and what lies beside it can be removed."""
    killed(quick_job, tmp_path, "report")
    assert list(tmp_path.iterdir())
    remove_unfinished(tmp_path / "study")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_kill_in_any_stage_leaves_no_half_study(quick_job, tmp_path):
    """In every stage that a whole run names; the earlier result stays whole, and a later run has the same numbers."""
    whole = run({**quick_job, "output": str(tmp_path / "whole" / "study")})
    assert whole.returncode == 0, whole.stderr
    stages = [stage for stage in whole.stdout.splitlines() if stage != "done"]
    assert len(stages) >= 6
    for number, stage in enumerate(stages):
        folder = tmp_path / str(number)
        folder.mkdir()
        killed(quick_job, folder, stage)
    before = (tmp_path / "whole" / "study" / "study.json").read_bytes()
    again = {**quick_job, "output": str(tmp_path / "whole" / "study"), "overwrite": True}
    assert run(again, stages[-1]).returncode == -signal.SIGKILL
    assert (tmp_path / "whole" / "study" / "study.json").read_bytes() == before
    earlier = numbers(tmp_path / "whole" / "study")
    assert run(again).returncode == 0
    assert numbers(tmp_path / "whole" / "study") == earlier
