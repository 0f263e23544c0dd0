"""Cancel in every stage of the real worker: its processes are gone within seconds, and no node and no file is left."""

import os
import time
from pathlib import Path

import pytest

SECONDS = 3.0  # that a cancel may take, on a computer that has nothing else to do
RUN_SECONDS = 600.0
STAGES = 6  # at least; what they are called is the worker's business

pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="looks into /proc")]


def processes_of(group: int) -> list[int]:
    """The processes of a group that live and are no zombies."""
    found = []
    for place in Path("/proc").glob("[0-9]*/stat"):
        try:
            pid, rest = place.read_text(encoding="utf-8").split(" ", 1)
        except OSError:  # it ended meanwhile
            continue
        state, _parent, own_group = rest.rpartition(")")[2].split()[:3]
        if int(own_group) == group and state != "Z":
            found.append(int(pid))
    return found


@pytest.mark.timeout(1800)
def test_cancel_in_every_stage(listed, scene, standin, process_events):
    """Again and again, each time in the first stage in which it was not cancelled before, until none is left."""
    panel, ui = listed.panel, listed.ui
    panel.time_points.set_rows(panel.time_points.rows[:2])
    panel.parameters.preset, panel.parameters.spacingMm = "preview", 5.0
    nodes = scene.GetNumberOfNodes()
    cancelled: dict[str, float] = {}

    def stage() -> str:
        """What is being done, whichever scan it is done to."""
        first, *rest = ui.stageLabel.text.split(": ")
        return rest[0] if rest and first in ("baseline", "day 30") else first

    def somewhere_new() -> bool:
        run = panel.run.current
        return run is None or (run._process.started and stage() not in cancelled)

    while True:
        ui.applyButton.click()
        assert process_events(somewhere_new, RUN_SECONDS)
        if panel.run.current is None:
            break
        group, name, start = panel.run.current._process._pid, stage(), time.monotonic()
        assert processes_of(group) or not panel.run.current.running  # the last stage, without them, loads the results
        ui.applyButton.click()
        assert process_events(lambda group=group: not panel.run.running and not processes_of(group), RUN_SECONDS)
        cancelled[name] = time.monotonic() - start
        assert scene.GetNumberOfNodes() == nodes, name
        assert os.listdir(standin.temporaryPath) == [], name
        assert panel.shown is None
        assert ui.applyButton.enabled
    assert standin.messages == []
    assert panel.shown is not None
    assert len(cancelled) >= STAGES, cancelled
    busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
    assert max(cancelled.values()) < SECONDS * busy, cancelled
