"""Sending to real DICOM receivers: pynetdicom's storage SCP, and Orthanc where it is installed."""

import csv
import json
import shutil
import socket
import subprocess
import time
import urllib.request

import pytest
from typer.testing import CliRunner

pytest.importorskip("pynetdicom")

from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification

from LungRecoveryLib.cli.application import app
from LungRecoveryLib.send import Receiver, send, verify


@pytest.fixture(scope="module")
def objects(write_series, chest, tmp_path_factory):
    """A folder with twelve DICOM objects."""
    folder = tmp_path_factory.mktemp("objects") / "dicom"
    write_series(folder, chest)
    (folder / "notes.txt").write_text("no DICOM", encoding="utf-8")
    return folder


class Server:
    """A storage SCP on a free port of this machine; `answer(number, event)` gives the status of each object."""

    def __init__(self, answer=lambda number, event: 0x0000, verification=True):
        self.stored, self.asked = [], 0
        self.answer = answer
        entity = AE(ae_title="PACS")
        if verification:
            entity.add_supported_context(Verification)
        entity.add_supported_context(CTImageStorage)
        self.server = entity.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_STORE, self._store)])
        self.port = self.server.server_address[1]

    def _store(self, event):
        self.asked += 1
        status = self.answer(self.asked, event)
        if status == 0x0000:
            self.stored.append(event.dataset.SOPInstanceUID)
        return status

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.server.shutdown()

    @property
    def receiver(self) -> Receiver:
        return Receiver("PACS", "127.0.0.1", self.port, timeout_s=10, wait_s=0.01)


def logged(folder):
    with (folder / "sent.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def folder(objects, tmp_path):
    return shutil.copytree(objects, tmp_path / "dicom")


def test_every_object_is_stored_and_logged(folder):
    with Server() as server:
        arguments = ["send", str(folder), "--aet", "PACS", "--host", "127.0.0.1", "--port", str(server.port), "--json"]
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["sent"] == 12
    assert len(set(server.stored)) == 12
    rows = logged(folder)
    assert [row["stored"] for row in rows] == ["yes"] * 12
    assert {row["sop_instance_uid"] for row in rows} == set(server.stored)


def test_a_connection_that_breaks_in_the_middle_is_made_anew(folder):
    """The receiver aborts during the fifth object and is too busy for the ninth: all arrive in the end, once."""

    def answer(number, event):
        if number == 5:
            event.assoc.abort()
        return 0xA700 if number in (5, 9) else 0x0000

    with Server(answer) as server:
        results = send(folder, server.receiver)
    assert all(result.stored for result in results)
    assert sorted(result.attempts for result in results) == [1] * 10 + [2] * 2
    assert len(server.stored) == len(set(server.stored)) == 12


def test_a_refused_object_does_not_stop_the_others(folder):
    """It is not sent again; the log says why, and the command ends with one sentence and 2."""
    with Server(lambda number, event: 0xC123 if number == 3 else 0x0000) as server:
        arguments = ["send", str(folder), "--aet", "PACS", "--host", "127.0.0.1", "--port", str(server.port)]
        done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "1 of 12 objects were not stored" in done.stderr
    assert len(server.stored) == 11
    (failed,) = [row for row in logged(folder) if row["stored"] == "no"]
    assert (failed["status"], failed["attempts"]) == ("0xC123", "1")


def test_a_receiver_that_goes_away_is_given_up_after_the_retries(folder):
    """What was stored before stays logged as stored, every other object as not stored."""
    server = Server()

    def answer(number, event):
        if number == 4:
            server.server.shutdown()
            event.assoc.abort()
        return 0x0000 if number < 4 else 0xA700

    server.answer = answer
    results = send(folder, server.receiver)
    assert [result.stored for result in results].count(True) == 3
    assert len(logged(folder)) == 12


def test_nobody_there_is_one_sentence(folder):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    arguments = ["send", str(folder), "--aet", "PACS", "--host", "127.0.0.1", "--port", str(port), "--timeout", "2"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "does not answer a DICOM verification" in done.stderr
    assert not (folder / "sent.csv").exists()


def test_a_folder_without_dicom_is_one_sentence(tmp_path):
    arguments = ["send", str(tmp_path), "--aet", "PACS", "--host", "127.0.0.1", "--port", "4242"]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 2
    assert "no DICOM objects" in done.stderr


def test_orthanc_takes_everything(folder, tmp_path, required_program):
    """A real PACS: Orthanc, started here on free ports, holds every object afterwards."""
    orthanc = required_program("Orthanc", "orthanc")
    ports = []
    for _ in range(2):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            ports.append(free.getsockname()[1])
    settings = {
        "Name": "test", "StorageDirectory": str(tmp_path / "db"), "IndexDirectory": str(tmp_path / "db"),
        "DicomAet": "ORTHANC", "DicomPort": ports[0], "HttpPort": ports[1], "RemoteAccessAllowed": False,
        "AuthenticationEnabled": False, "DicomServerEnabled": True, "Plugins": [],
    }  # fmt: skip
    (tmp_path / "orthanc.json").write_text(json.dumps(settings), encoding="utf-8")
    server = subprocess.Popen([orthanc, str(tmp_path / "orthanc.json")], stderr=subprocess.DEVNULL)
    receiver = Receiver("ORTHANC", "127.0.0.1", ports[0], timeout_s=20)
    try:
        for _ in range(120):
            try:
                verify(receiver)
                break
            except Exception:
                assert server.poll() is None
                time.sleep(0.5)
        results = send(folder, receiver)
        assert all(result.stored for result in results), results
        with urllib.request.urlopen(f"http://127.0.0.1:{ports[1]}/instances", timeout=20) as answer:
            assert len(json.load(answer)) == 12
    finally:
        server.terminate()
        server.wait(60)
