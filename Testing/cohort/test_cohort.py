"""Cohorts on a real Dask cluster of this machine, mostly with a quick stand-in for the analysis."""

import csv
import json
import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("distributed")

import cloudpickle
import dask

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.cohort import report
from LungRecoveryLib.cohort.manifest import Patient, read_manifest
from LungRecoveryLib.cohort.patient import content_key, failure, finished
from LungRecoveryLib.cohort.run import Cluster, run_cohort
from LungRecoveryLib.cohort.table import read_table
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.system import exclusive


def record_of(patient: Patient, recovery: float = 0.5, status: str = "done", **more) -> dict:
    """A record as `analyse_patient` returns it."""
    points = [
        {
            "label": f"day {days}", "days": days, "reliable": status == "done", "verdict": "pass", "reasons": [],
            "volume_ml": 4000.0 + days, "mean_hu": -700.0, "abnormal_percent": 20.0 * (1 - share),
            "jacobian": 0.9, "jacobian_normalized": 0.95, "tissue_recovery": share, "class": "partial",
        }
        for days, share in ((0.0, 0.0), (90.0, recovery))
    ]  # fmt: skip
    base = {"patient": patient.name, "group": patient.group, "folder": patient.folder, "status": status, "code": 0}
    base |= {"message": "", "timepoints": points, "last": "day 90", "seconds": 1.0, "peak_mb": 900, "disk_mb": 20.0}
    return base | {"resumed": False} | more


def stand_in(patient: Patient, settings: dict, output: str) -> dict:
    """Take a moment; crash, fail or be interrupted as the patient's name says."""
    folder = Path(output) / "patients" / patient.folder
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{os.getpid()}.pid").write_text("", encoding="utf-8")
    if patient.name == "poison":
        os.kill(os.getpid(), signal.SIGKILL)
    if patient.name == "bug":
        raise KeyError("lungs")
    tries = len(list(folder.glob("*.try")))
    (folder / f"{tries}.try").write_text("", encoding="utf-8")
    if patient.name == "flaky" and tries == 0:
        raise OSError("the network drive blinked")
    if patient.name == "bad":
        return {
            "patient": patient.name, "group": "", "folder": patient.folder, "seconds": 0.0,
            **failure(2, "scan.mha: does not exist"),
        }  # fmt: skip
    time.sleep(settings["pause"])
    (folder / "finished").write_text("", encoding="utf-8")
    return record_of(patient)


cloudpickle.register_pickle_by_value(sys.modules[__name__])


def patients(*names: str) -> list[Patient]:
    return [Patient(name, name.lower(), "", ()) for name in names]


def kill_workers(output: Path, every_s: float, stop: threading.Event, killed: list[int]) -> None:
    """Kill a worker that is at work on a patient, again and again."""
    while not stop.wait(every_s):
        busy = [p for p in (output / "patients").rglob("*.pid") if not (p.parent / "finished").exists()]
        for file in busy[:1]:
            try:
                os.kill(int(file.stem), signal.SIGKILL)
                killed.append(int(file.stem))
            except ProcessLookupError:
                file.unlink(missing_ok=True)


@pytest.mark.skipif(os.name == "nt", reason="needs SIGKILL")
@pytest.mark.parametrize(
    ("count", "every_s", "pause"), [(6, 3.0, 0.5), pytest.param(200, 30.0, 1.0, marks=pytest.mark.slow)]
)
def test_workers_die_and_every_patient_has_one_row(tmp_path, count, every_s, pause):
    """Workers are killed at work, one patient kills each worker it gets, one has a bug, one fails once, one is bad."""
    names = [f"P{number:03d}" for number in range(count)]
    stop, killed = threading.Event(), []
    killer = threading.Thread(target=kill_workers, args=(tmp_path / "out", every_s, stop, killed))
    killer.start()
    try:
        records = run_cohort(
            patients(*names, "flaky", "bug", "bad", "poison"),
            {"pause": pause},
            tmp_path / "out",
            Cluster(workers=2, memory="2GB", lost_workers=2),
            task=stand_in,
        )
    finally:
        stop.set()
        killer.join()
    rows = {row["patient"]: row for row in read_table(tmp_path / "out")}
    assert len(rows) == len(read_table(tmp_path / "out")) == len(records) == count + 4
    for name in (*names, "flaky"):
        assert rows[name]["status"] == "done", rows[name]
        assert rows[name]["tissue_recovery"] == "0.5"
    assert (rows["bad"]["status"], rows["bad"]["code"], rows["bad"]["message"]) == (
        "failed",
        "2",
        "scan.mha: does not exist",
    )
    assert (rows["bug"]["status"], rows["bug"]["code"]) == ("failed", "1")
    assert (rows["poison"]["status"], rows["poison"]["code"]) == ("failed", "4")
    assert "3 workers ended" in rows["poison"]["message"]
    assert len(list((tmp_path / "out" / "patients" / "flaky").glob("*.try"))) >= 2
    assert (tmp_path / "out" / "report.html").is_file()


def surroundings(patient: Patient, settings: dict, output: str) -> dict:
    """Tell the worker's environment and how often Dask looks at it."""
    names = ("admin.tick.interval", "worker.profile.enabled")
    watched = {name: dask.config.get(f"distributed.{name}") for name in names}
    return record_of(patient) | {"message": json.dumps([dict(os.environ), watched])}


def test_workers_are_left_to_their_work(tmp_path):
    """Dask's habits of giving memory back at once and of looking at its workers all the time do not reach them."""
    (record,) = run_cohort(patients("A"), {}, tmp_path / "out", Cluster(workers=1, memory="2GB"), task=surroundings)
    environment, watched = json.loads(record["message"])
    assert "MALLOC_TRIM_THRESHOLD_" not in environment
    assert watched == {"admin.tick.interval": "1s", "worker.profile.enabled": False}


def test_a_scheduler_that_is_not_there_is_one_sentence(tmp_path):
    with pytest.raises(BadInput, match="does not answer; start it first"):
        run_cohort(
            patients("A"), {}, tmp_path / "out", Cluster(scheduler="tcp://127.0.0.1:9", timeout_s=1), task=stand_in
        )


def test_two_runs_into_one_folder_and_foreign_folders_are_refused(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine", encoding="utf-8")
    with pytest.raises(BadInput, match="no cohort"):
        run_cohort(patients("A"), {}, tmp_path / "other", Cluster(), task=stand_in)
    out = tmp_path / "out"
    (out / "patients").mkdir(parents=True)
    (out / "cohort.json").write_text("{}", encoding="utf-8")
    with exclusive(out / ".lock", "busy"), pytest.raises(BadInput, match="another run writes"):
        run_cohort(patients("A"), {}, out, Cluster(), task=stand_in)


def test_a_manifest_is_checked_line_by_line(tmp_path):
    path = tmp_path / "patients.csv"
    path.write_text(
        "patient,path,days,group,label\n../../etc,a.mha,0,=cmd(),first\n../../etc,b.mha,90,,\nB,/c.mha,,,\n",
        encoding="utf-8",
    )
    first, second = read_manifest(path)
    assert (first.name, first.folder, first.group) == ("../../etc", "etc", "=cmd()")
    assert [t["path"] for t in first.timepoints] == [str(tmp_path / "a.mha"), str(tmp_path / "b.mha")]
    assert [t.get("days") for t in first.timepoints] == [0.0, 90.0]
    assert second.timepoints[0]["path"] == "/c.mha"
    for text, words in (
        ("patient,scan\nA,b\n", "no column path"),
        ("patient,path,age\nA,b,5\n", "column age too many"),
        ("patient,path\nA,\n", "line 2 has no path"),
        ("patient,path,days\nA,b,soon\n", "soon is no number"),
        ("patient,path\nA,b,c\n", "more cells"),
        ("patient,path\n", "names no patients"),
    ):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(BadInput, match=words):
            read_manifest(path)
    path.write_bytes(b"patient,path\n\xff\xfe,b\n")
    with pytest.raises(BadInput, match="UTF-8"):
        read_manifest(path)
    with pytest.raises(BadInput, match="does not exist"):
        read_manifest(tmp_path / "none.csv")


def test_the_key_changes_with_the_bytes_and_the_settings(tmp_path):
    """The same inputs elsewhere have the same key; another byte, setting or day has not; threads do not count."""
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ct.mha").write_bytes(b"voxels")

    def key(folder="a", days=0.0, **settings):
        return content_key(
            Patient("P", "p", "", ({"path": str(tmp_path / folder / "ct.mha"), "days": days},)), settings
        )

    first = key(seed=1)
    assert key("b", seed=1, threads=7) == first
    assert len({first, key(seed=2), key(days=1.0, seed=1)}) == 3
    (tmp_path / "b" / "ct.mha").write_bytes(b"voxelz")
    assert key("b", seed=1) != first


def test_only_a_record_with_the_key_counts_as_finished(tmp_path):
    assert finished(tmp_path, "k") is None
    (tmp_path / "patient.json").write_text("[1]", encoding="utf-8")
    assert finished(tmp_path, "k") is None
    (tmp_path / "patient.json").write_text(json.dumps({"key": "k", "status": "done"}), encoding="utf-8")
    assert finished(tmp_path, "k")["status"] == "done"
    assert finished(tmp_path, "other") is None


def test_the_report_names_outliers_and_failures_and_escapes(tmp_path):
    records = [
        record_of(Patient(f"P{i}", f"p{i}", "ICU" if i % 2 else "ward", ()), 0.5 + 0.01 * (i % 5)) for i in range(12)
    ]
    records.append(record_of(Patient("<b>far", "far", "ward", ()), -0.9))
    records.append(record_of(Patient("gate", "gate", "", ()), 0.2, "unreliable", message="The lungs overlap badly."))
    records.append(
        {"patient": "gone", "group": "", "folder": "gone", "seconds": 0, **failure(2, "a <script> is missing")}
    )
    report.write(records, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    outliers, rest = page.split("<h2>Outliers</h2>")[1].split("<h2>Failed quality gate</h2>")
    assert 'href="patients/far/report.html">&lt;b&gt;far' in outliers
    assert "P3" not in outliers
    assert "The lungs overlap badly." in rest
    assert "a &lt;script&gt; is missing" in rest
    assert "<script" not in page
    assert "http" not in page.replace("http-equiv", "")
    assert "13 of 15 patients measured, 1 unreliable, 1 failed" in page


def test_a_report_of_failures_alone_is_a_page(tmp_path):
    report.write([{"patient": "x", "group": "", "folder": "x", "seconds": 0, **failure(2, "no")}], tmp_path)
    assert "0 of 1 patients measured, 1 failed" in (tmp_path / "report.html").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_command_analyses_resumes_and_reports(small_scans, tmp_path):
    """Two real patients, one of them without a scan; the second run keeps what was finished."""
    rows = [["patient", "path", "days", "lungs", "group"]]
    rows += [["=A", small_scans / f"{i}.mha", 90 * i, small_scans / f"lungs{i}.mha", "ward"] for i in (0, 1)]
    rows += [["B", small_scans / "0.mha", 0, "", "ICU"], ["B", tmp_path / "none.mha", 30, "", "ICU"]]
    with (tmp_path / "patients.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)
    arguments = ["cohort", str(tmp_path / "patients.csv"), "--output", str(tmp_path / "out"), "--workers", "1"]
    arguments += ["--preset", "preview", "--spacing", "4", "--threads", "1", "--json"]
    for resumed in (0, 1):
        done = CliRunner().invoke(app, arguments)
        assert done.exit_code == 0, done.stderr
        content = json.loads(done.stdout)
        assert (content["done"] + content["unreliable"], content["failed"], content["resumed"]) == (1, 1, resumed)
        table = {row["patient"]: row for row in read_table(tmp_path / "out")}
        assert table["'=A"]["folder"] == "a"
        assert "none.mha: does not exist" in table["B"]["message"]
        assert (tmp_path / "out" / "patients" / "a" / "report.html").is_file()
