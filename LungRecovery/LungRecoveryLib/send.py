"""Sending DICOM objects to a PACS (C-STORE), with verification, retries and a log of every object."""

import csv
import datetime
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pydicom
from pynetdicom import AE, Association
from pynetdicom.sop_class import Verification

from LungRecoveryLib.dicom_headers import looks_like_dicom
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.progress import Progress, no_progress

LOG = "sent.csv"
_COLUMNS = ("time", "file", "sop_instance_uid", "stored", "attempts", "status", "message")
_MOST_CONTEXTS = 128  # of one association (PS3.8)
_WARNINGS = range(0xB000, 0xC000)  # stored all the same (PS3.4 B.2.3)
_BUSY = range(0xA700, 0xA800)  # out of resources: worth another try


@dataclass(frozen=True)
class Receiver:
    """Where objects go, and how long and how often to try."""

    aet: str
    host: str
    port: int
    calling_aet: str = "LUNGRECOVERY"
    timeout_s: float = 30.0
    retries: int = 3
    wait_s: float = 1.0

    @property
    def name(self) -> str:
        return f"{self.aet} at {self.host}:{self.port}"


@dataclass(frozen=True)
class Sent:
    """What became of one object: the last status (None: no answer) and in words why it is not stored."""

    file: Path
    uid: str
    stored: bool
    attempts: int
    status: int | None
    message: str


def verify(receiver: Receiver) -> None:
    """Ask the receiver whether it is there (C-ECHO); raises BadInput where it is not or refuses."""
    with _association(receiver, [(Verification, None)]) as association:
        status = association.send_c_echo() if association else None
    if not status or status.Status != 0:
        raise BadInput(
            f"{receiver.name} does not answer a DICOM verification: check --aet, --host and --port, and that it knows "
            f"the calling title {receiver.calling_aet}"
        )


def send(folder: Path, receiver: Receiver, progress: Progress = no_progress, log: Path | None = None) -> list[Sent]:
    """Send every DICOM object in a folder and below it; returns what became of each, in the order of the log.

    The receiver is verified first. A connection that breaks is made anew and the object sent again, `retries` times
    with growing waits; so is one that the receiver was too busy for. A refused object does not stop the others. Every
    object is a line of `log` (`sent.csv` in the folder) as soon as its fate is known. Raises BadInput where the folder
    holds no DICOM, the log cannot be written or the receiver does not answer.
    """
    objects = _objects(Path(folder))
    verify(receiver)
    results: list[Sent] = []
    with _log(log or Path(folder) / LOG) as write:
        for chunk in _chunks(objects):
            for result in _Sender(receiver, chunk).results():
                results.append(result)
                write(result, Path(folder))
                progress("send", len(results) / len(objects), result.file.name)
    return results


def _objects(folder: Path) -> list[tuple[Path, Any]]:
    """The DICOM files in a folder, with the header that says what they are."""
    if not folder.is_dir():
        raise BadInput(f"{folder}: is no folder; name the folder that holds the DICOM objects")
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        if looks_like_dicom(file):
            try:
                meta = pydicom.filereader.read_file_meta_info(file)
                found.append((file, (meta.MediaStorageSOPClassUID, meta.TransferSyntaxUID)))
            except (pydicom.errors.InvalidDicomError, AttributeError) as error:
                raise BadInput(f"{file}: is damaged DICOM; export it again or remove it") from error
    if not found:
        raise BadInput(f"{folder}: holds no DICOM objects; make them with lungrecovery analyze --dicom")
    return found


def _chunks(objects: list[tuple[Path, Any]]) -> Iterator[list[tuple[Path, Any]]]:
    """Objects in parts that one association can take."""
    chunk: list[tuple[Path, Any]] = []
    for file, context in objects:
        if len({c for _, c in chunk} | {context}) > _MOST_CONTEXTS:
            yield chunk
            chunk = []
        chunk.append((file, context))
    yield chunk


class _Sender:
    """Sends some objects over one association, which is made anew when it breaks."""

    def __init__(self, receiver: Receiver, objects: list[tuple[Path, Any]]):
        self.receiver, self.objects = receiver, objects
        self.contexts = list(dict.fromkeys(context for _, context in objects))

    def results(self) -> Iterator[Sent]:
        waiting = list(self.objects)
        attempts = 0
        while waiting:
            with _association(self.receiver, self.contexts) as association:
                while waiting and association:
                    attempts += 1
                    result, again = self._store(association, waiting[0][0], attempts)
                    if again and attempts <= self.receiver.retries:
                        break
                    waiting.pop(0)
                    attempts = 0
                    yield result
                else:
                    if not waiting:
                        return
                    attempts += 1
                    if attempts > self.receiver.retries:
                        for file, _ in waiting:
                            uid = _uid(file)
                            yield Sent(file, uid, False, attempts, None, "the receiver took no more connections")
                        return
            time.sleep(self.receiver.wait_s * 2 ** (attempts - 1))

    def _store(self, association: Association, file: Path, attempts: int) -> tuple[Sent, bool]:
        """Send one object: what became of it, and whether another try may help."""
        dataset = pydicom.dcmread(file)
        uid = str(dataset.SOPInstanceUID)
        try:
            answer = association.send_c_store(dataset)
        except ValueError:  # no accepted context for this kind of object
            return Sent(file, uid, False, attempts, None, "the receiver does not take this kind of object"), False
        except RuntimeError:  # the association is gone
            return Sent(file, uid, False, attempts, None, "the connection broke"), True
        if "Status" not in answer:
            return Sent(file, uid, False, attempts, None, "the connection broke"), True
        status = int(answer.Status)
        if status == 0 or status in _WARNINGS:
            message = "" if status == 0 else f"stored with a warning {answer.get('ErrorComment', '')}".strip()
            return Sent(file, uid, True, attempts, status, message), False
        reason = f"refused with status 0x{status:04X} {answer.get('ErrorComment', '')}".strip()
        return Sent(file, uid, False, attempts, status, reason), status in _BUSY


def _uid(file: Path) -> str:
    return str(pydicom.dcmread(file, specific_tags=["SOPInstanceUID"], stop_before_pixels=True).SOPInstanceUID)


@contextmanager
def _association(receiver: Receiver, contexts: list[tuple[Any, Any]]) -> Iterator[Association | None]:
    """An association, None where there is none; it is released at the end."""
    entity = AE(ae_title=receiver.calling_aet)
    entity.acse_timeout = entity.dimse_timeout = entity.network_timeout = receiver.timeout_s
    entity.connection_timeout = receiver.timeout_s
    for sop_class, syntax in contexts:
        entity.add_requested_context(sop_class, *([] if syntax is None else [syntax]))
    try:
        association = entity.associate(receiver.host, receiver.port, ae_title=receiver.aet)
    except (OSError, ValueError) as error:
        raise BadInput(f"{receiver.name}: {error}; correct --aet, --host or --port") from error
    try:
        yield association if association.is_established else None
    finally:
        if association.is_established:
            association.release()


@contextmanager
def _log(path: Path) -> Iterator[Any]:
    """A function that adds an object's line to the log, and has it on disk when it returns."""
    try:
        with path.open("a", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            if file.tell() == 0:
                writer.writerow(_COLUMNS)

            def write(result: Sent, folder: Path) -> None:
                now = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
                status = "" if result.status is None else f"0x{result.status:04X}"
                name = result.file.relative_to(folder).as_posix()
                stored = "yes" if result.stored else "no"
                writer.writerow((now, name, result.uid, stored, result.attempts, status, result.message))
                file.flush()

            yield write
    except OSError as error:
        raise BadInput(f"{path}: cannot be written ({error.strerror}); give --log another place") from error
