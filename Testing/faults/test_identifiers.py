"""No output of an analysis with DICOM objects names the patient, whatever kind of file it is."""

import gzip
import io
import re

import pytest
from typer.testing import CliRunner

pytest.importorskip("highdicom")
pypdf = pytest.importorskip("pypdf")

from LungRecoveryLib.cli.application import app  # noqa: E402
from LungRecoveryLib.grids import grid_of, to_array  # noqa: E402

PERSON = {"PatientName": "Mustermann^Erika", "PatientID": "KH-4711", "PatientBirthDate": "19560314"}
WORDS = re.compile(rb"(?i)mustermann|erika|kh-4711|19560314|1956-03-14|14\.0?3\.1956")


def contents(path) -> bytes:
    """All that a file says: its bytes, unpacked where it is packed, and the text of a PDF, also within DICOM."""
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        return data + gzip.decompress(data)
    start = data.find(b"%PDF-")
    if start >= 0:
        document = pypdf.PdfReader(io.BytesIO(data[start:]))
        return (
            data + "".join(page.extract_text() for page in document.pages).encode() + repr(document.metadata).encode()
        )
    return data


@pytest.mark.slow
def test_no_file_of_an_analysis_names_the_patient(tmp_path, small_patient, write_series):
    """Name, ID and birth date stand in the scans, in their folders' names and in their descriptions; `analyze --dicom`
    leaves them in none of its files, nor in a file's name."""
    paths = []
    for visit, day in zip(small_patient.visits[:2], ("20210302", "20210401"), strict=True):
        paths.append(tmp_path / f"Mustermann_Erika_19560314_{day}")
        grid = grid_of(visit.ct)
        write_series(
            paths[-1], to_array(visit.ct), spacing=grid.spacing, origin=grid.origin, AcquisitionDate=day,
            SeriesDescription="Thorax MUSTERMANN KH-4711", StudyID="KH-4711", OtherPatientIDs="KH-4711",
            StudyInstanceUID=f"1.2.3.{day}", SeriesInstanceUID=f"1.2.3.{day}.1", FrameOfReferenceUID=f"1.2.3.{day}.2",
            PositionReferenceIndicator="", PatientSex="F", **PERSON,
        )  # fmt: skip
    options = ["--preset", "preview", "--spacing", "5", "--device", "cpu", "--threads", "1", "--dicom"]
    run = CliRunner().invoke(app, ["analyze", *map(str, paths), "--output", str(tmp_path / "out"), *options])
    assert run.exit_code in (0, 6), run.stderr
    assert all(WORDS.search(contents(path)) for path in paths[0].iterdir())  # the search finds what is there
    files = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".json", ".csv", ".html", ".pdf", ".png", ".gz", ".h5", ".dcm"} <= kinds
    for path in files:
        found = WORDS.search(contents(path)) or WORDS.search(str(path.relative_to(tmp_path)).encode())
        assert found is None, f"{path.relative_to(tmp_path)} holds {found}"
