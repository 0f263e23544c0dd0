"""How the viewer opens: its address first, then what draws and the study; and what it offers for each date.

The server runs in the tests' own process here, so no test of this file may use the browser, which has a loop too.
"""

import asyncio
from dataclasses import replace

import pytest
from typer.testing import CliRunner

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.results import read_study

pytest.importorskip("trame")


def test_the_address_comes_before_what_draws_is_imported(small_study, monkeypatch):
    """And an error on the way there ends the server with its sentence."""
    from LungRecoveryLib.viewer import serve

    order = []

    def importing(_name):
        order.append("import")
        raise BadInput("the study is damaged")

    monkeypatch.setattr(serve, "import_module", importing)
    monkeypatch.setattr(serve, "require_drawing", lambda _study: None)
    monkeypatch.setattr(serve, "_LAST_WORDS", 0.0)
    monkeypatch.setattr(serve, "_OPENING", 0.0)
    with pytest.raises(BadInput, match="the study is damaged"):
        serve.serve(serve.Settings(browser=False), lambda address: order.append(address[:7]), small_study)
    assert order == ["http://", "import"]


def test_without_a_way_to_draw_the_report_is_offered(monkeypatch, small_study):
    from LungRecoveryLib.viewer import checks, serve

    monkeypatch.setattr(checks, "_DRAW", "import os; os.abort()")
    monkeypatch.setattr(serve, "import_module", lambda _name: None)
    monkeypatch.setattr(serve, "_LAST_WORDS", 0.0)
    monkeypatch.setattr(serve, "_OPENING", 0.0)
    result = CliRunner().invoke(app, ["view", str(small_study)])
    assert result.exit_code == 3
    assert "libegl1" in result.output
    assert str(small_study / "report.html") in result.output


def test_a_cancel_ends_a_worker_that_was_only_about_to_start(small_job, tmp_path, monkeypatch):
    from LungRecoveryLib.errors import Cancelled
    from LungRecoveryLib.viewer import analysis

    ended = []
    end = analysis.end_process_tree
    monkeypatch.setattr(analysis, "end_process_tree", lambda pid, **how: ended.append(pid) or end(pid, **how))
    one = analysis.Analysis({**small_job, "output": str(tmp_path / "study")}, lambda *_progress: None)

    async def cancelled_at_once() -> None:
        running = asyncio.ensure_future(one.run())
        await asyncio.sleep(0)
        assert one._process is None
        await one.cancel()
        assert ended == []
        await running

    with pytest.raises(Cancelled):
        asyncio.run(cancelled_at_once())
    assert set(ended) == {one._process.pid}
    assert len(ended) > 1  # asked to end, and not only tidied up after
    one.discard()
    assert list(tmp_path.iterdir()) == []


def test_the_optimal_window_is_that_of_the_date(small_study):
    """Of each scan its own; a scan without one takes the baseline's, and without any there is none."""
    pytest.importorskip("slicer")
    from LungRecoveryLib.viewer.windows import presets

    result = read_study(small_study)
    wanted = {"baseline": -700.0, "day 30": -730.0, "Kontrolle": None}
    result.timepoints = [
        replace(t, parenchyma=wanted[t.label] and {"window": {"width_hu": 400.0, "level_hu": wanted[t.label]}})
        for t in result.timepoints
    ]
    levels = [next(w["level"] for w in presets(result, label) if w["name"] == "optimal") for label in wanted]
    assert levels == [-700.0, -730.0, -700.0]
    result.timepoints = [replace(t, parenchyma=None) for t in result.timepoints]
    assert [w["name"] for w in presets(result, "day 30")] == ["lung", "mediastinum"]


@pytest.mark.parametrize(("said", "reliable", "counts"), [("not usable", False, "fail"), ("usable", True, "pass")])
def test_the_dot_of_a_date_has_the_colour_of_the_readers_verdict(small_study, said, reliable, counts):
    """Whatever the quality check said before."""
    pytest.importorskip("slicer")
    from LungRecoveryLib.viewer import content

    result = read_study(small_study)
    first = result.followups[0]
    first.quality |= {"verdict": "review", "reader": {"verdict": said, "comment": "as I see it"}}
    first.reliable = reliable
    told = content.timepoints(result)[1]
    assert told["verdict"] == counts
    assert "the reader" in told["verdictWords"]
    assert ("Do not rely on" in content.caution(result, first.label)) == (not reliable)


def test_places_are_told_by_the_patients_sides():
    """RAS mm: right, front and above are positive; what rounds to nothing has the positive letter."""
    pytest.importorskip("slicer")
    from LungRecoveryLib.viewer.readout import along, place

    assert place((63.8, -22.5, -10.5)) == "R 63.8  P 22.5  I 10.5 mm"
    assert place((-1.0, 2.0, 3.0)) == "L 1.0  A 2.0  S 3.0 mm"
    assert along(2, (0.0, 0.0, -0.04)) == "S 0.0 mm"
