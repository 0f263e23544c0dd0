"""Fixtures that every test may use."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from skips import skip_or_fail

# What is slow to make and shared, by the group of the tests that need it: each group runs in one process, and first.
_SHARED = {"small_study": "study", "strict_run": "study", "real_chest": "chests"}


def _group(item: pytest.Item) -> str | None:
    return next((group for name, group in _SHARED.items() if name in item.fixturenames), None)


@pytest.hookimpl(tryfirst=True)  # pytest-xdist looks at the groups in the same hook
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests that share what is slow to make stay together, and so do those of a file, when processes divide them."""
    items.sort(key=lambda item: _group(item) is None)
    for item in items:
        group = _group(item) or str(item.path.relative_to(Path(__file__).parent))
        item.add_marker(pytest.mark.xdist_group(group))


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder with the real scans; without it the test is skipped, saying so."""
    folder = Path(os.environ.get("LUNGRECOVERY_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        skip_or_fail(f"no real scans at {folder.name}: set LUNGRECOVERY_TEST_DATA")
    return folder


@pytest.fixture(scope="session")
def real_chest(real_data) -> Callable[[str], tuple]:
    """A real chest CT by its name, and its lungs as segmented, each segmented once."""
    import SimpleITK

    from LungRecoveryLib.anatomy.lungs import segment_lungs

    @cache
    def read(name: str) -> tuple:
        ct = SimpleITK.ReadImage(str(real_data / "chest-ct" / f"{name}.nii.gz"))
        return ct, segment_lungs(ct)

    return read


def chest_array(shape: tuple[int, int, int] = (12, 24, 28), seed: int = 0) -> np.ndarray:
    """A tiny chest in HU, (z, y, x) int16: air around a body with two lungs, with noise that tells voxels apart."""
    z, y, x = (np.linspace(-1, 1, n) for n in shape)
    y, x = np.meshgrid(y, x, indexing="ij")
    plane = np.where(x**2 / 0.9 + y**2 / 0.7 < 1, 40.0, -1000.0)
    plane[(np.abs(x) - 0.45) ** 2 / 0.1 + y**2 / 0.3 < 1] = -850.0
    noise = np.random.default_rng(seed).normal(0, 8, shape)
    return np.clip(np.rint(plane[None] + noise + 5 * z[:, None, None]), -1024, 3071).astype(np.int16)


@pytest.fixture(scope="session")
def chest() -> np.ndarray:
    """A tiny chest in HU, see `chest_array`."""
    return chest_array()


def write_dicom_series(
    folder: Path,
    array: np.ndarray,
    *,
    positions: Sequence[float] | None = None,
    spacing: tuple[float, float, float] = (0.8, 0.7, 2.5),
    origin: tuple[float, float, float] = (-120.0, -100.0, -920.0),
    orientation: Sequence[float] = (1, 0, 0, 0, 1, 0),
    shear: Sequence[float] = (0, 0, 0),
    slope: float = 1.0,
    intercept: float = -1024.0,
    suffix: str = ".dcm",
    **tags: object,
) -> list[Path]:
    """Write an array (z, y, x) of HU as a CT series of single slices; returns the files, in the order of the array.

    `spacing` is (x, y, z) mm, `positions` the mm along the slice normal (evenly spaced by default), `shear` moves each
    slice by so many mm (LPS) a slice as a tilted gantry does. Further keywords are DICOM tags; None leaves one out.
    """
    pydicom = pytest.importorskip("pydicom")
    folder.mkdir(parents=True, exist_ok=True)
    row, column = np.array(orientation, float).reshape(2, 3)
    normal = np.cross(row, column)
    positions = [i * spacing[2] for i in range(len(array))] if positions is None else positions
    common = {
        "Modality": "CT",
        "PatientID": "P1",
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": pydicom.uid.generate_uid(),
        "SeriesNumber": 2,
        "SeriesDescription": "Thorax 1.0 B40f",
        "ConvolutionKernel": "B40f",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "SliceThickness": spacing[2],
        "PatientPosition": "HFS",
        "AcquisitionDate": "20200305",
        "RescaleSlope": slope,
        "RescaleIntercept": intercept,
    } | tags
    files = []
    for index, (plane, along) in enumerate(zip(array, positions, strict=True)):
        meta = pydicom.dataset.FileMetaDataset()
        meta.MediaStorageSOPClassUID = common.get("SOPClassUID", pydicom.uid.CTImageStorage)
        meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
        meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
        path = folder / f"{len(array) - index:04d}{suffix}"  # names in the reverse order: only positions may count
        data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
        data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
        place = np.array(origin) + normal * along + np.array(shear, float) * index
        data.ImagePositionPatient = [f"{v:.6g}" for v in place]
        data.ImageOrientationPatient = [f"{v:.9g}" for v in orientation]
        data.PixelSpacing = [spacing[1], spacing[0]]
        for tag, value in common.items():
            if tag == "PixelPaddingValue":
                data.add_new(0x00280120, "US" if value > 32767 else "SS", value)  # the wild has both for signed voxels
            elif value is not None:
                setattr(data, tag, value)
            elif tag in data:
                delattr(data, tag)
        data.Rows, data.Columns = plane.shape
        data.InstanceNumber = index + 1
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 16
        data.HighBit, data.PixelRepresentation = 15, 1
        data.PixelData = np.rint((plane - intercept) / slope).astype(np.int16).tobytes()
        data.save_as(path, enforce_file_format=True)
        files.append(path)
    return files


@pytest.fixture(scope="session")
def write_series():
    """The function that writes a CT series as DICOM files, see `write_dicom_series`."""
    return write_dicom_series


@pytest.fixture(scope="session")
def required_program():
    """The function that finds a program of a Debian package; a test that lacks one is skipped, or fails."""

    def find(name: str, package: str) -> str:
        found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")
        if found is None:
            skip_or_fail(f"{name} is not installed: apt-get install {package}")
        return found

    return find


@pytest.fixture(scope="session")
def dicom_errors(required_program):
    """The function that says what dciodvfy (dicom3tools) finds wrong in a DICOM file; without it tests are skipped."""
    program = required_program("dciodvfy", "dicom3tools")

    def errors(file: Path) -> list[str]:
        done = subprocess.run([program, "-new", str(file)], capture_output=True, encoding="utf-8", errors="replace")
        return [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("Error")]

    return errors


@pytest.fixture(scope="session")
def small_patient():
    """A synthetic patient who recovers, three visits, coarse enough to be analysed within seconds."""
    from LungRecoveryLib.phantom import make_patient

    return make_patient("recovering", 0, (88, 68, 92), (3.5, 3.5, 3.5), days=(0, 30, 90))


@pytest.fixture(scope="session")
def small_scans(small_patient, tmp_path_factory):
    """Folder with the small patient's scans (0.mha, 1.mha, 2.mha), lung masks (lungs0.mha, ...) and landmarks."""
    from LungRecoveryLib.images import write_image

    folder = tmp_path_factory.mktemp("small_scans")
    baseline = small_patient.visits[0]
    for i, visit in enumerate(small_patient.visits):
        write_image(visit.ct, folder / f"{i}.mha")
        write_image(visit.lungs, folder / f"lungs{i}.mha")
        pairs = np.concatenate([baseline.landmarks, visit.landmarks], axis=1)
        np.savetxt(folder / f"landmarks{i}.csv", pairs, delimiter=",", fmt="%.3f")
    return folder


@pytest.fixture(scope="session")
def small_job(small_scans):
    """The content of a job that analyses the small patient within seconds; it has no output yet."""
    return {
        "timepoints": [
            {"path": str(small_scans / "0.mha"), "days": 0, "lungs": str(small_scans / "lungs0.mha")},
            {
                "path": str(small_scans / "1.mha"),
                "days": 30,
                "lungs": str(small_scans / "lungs1.mha"),
                "landmarks": str(small_scans / "landmarks1.csv"),
            },
            {"path": str(small_scans / "2.mha"), "days": 90, "label": "Kontrolle"},
        ],
        "preset": "fast",
        "spacing_mm": 3.0,
        "device": "cpu",
        "threads": 1,
    }


@pytest.fixture(scope="session")
def small_study(small_job, tmp_path_factory):
    """The small patient, analysed: the folder that `analyze` left."""
    from LungRecoveryLib.job import job_from
    from LungRecoveryLib.study import analyze

    folder = tmp_path_factory.mktemp("small_study") / "study"
    analyze(job_from({**small_job, "output": str(folder)}))
    return folder


@pytest.fixture(scope="session")
def strict_job(small_scans):
    """A quick job of two undated scans with a quality limit that no registration meets; it has no output yet."""
    paths = [{"path": str(small_scans / f"{i}.mha"), "lungs": str(small_scans / f"lungs{i}.mha")} for i in (0, 1)]
    settings = {"preset": "fast", "spacing_mm": 5.0, "device": "cpu", "threads": 1, "seed": 7}
    return {"timepoints": paths, "quality_thresholds": {"fail_dice": 1.0}, **settings}


@pytest.fixture(scope="session")
def strict_run(small_scans, strict_job, tmp_path_factory):
    """The strict job as a command: (result of the runner, the folder it left)."""
    from typer.testing import CliRunner

    from LungRecoveryLib.cli.application import app

    folder = tmp_path_factory.mktemp("strict_run") / "study"
    arguments = [timepoint["path"] for timepoint in strict_job["timepoints"]]
    arguments += ["--lungs", f"baseline={small_scans / 'lungs0.mha'}"]
    arguments += ["--lungs", f"follow-up 1={small_scans / 'lungs1.mha'}"]
    arguments += ["--quality", "fail_dice=1", "--preset", "fast", "--spacing", "5", "--seed", "7"]
    arguments += ["--device", "cpu", "--threads", "1", "--json", "--output", str(folder)]
    return CliRunner().invoke(app, ["analyze", *arguments]), folder


@pytest.fixture
def small_disk(tmp_path) -> Iterator[Callable[..., Path]]:
    """The function that mounts a disk (tmpfs) of so many MB; skips where only root may, even if all is required."""
    mounted: list[Path] = []

    def mount(megabytes: int, read_only: bool = False) -> Path:
        place = tmp_path / f"disk{len(mounted)}"
        place.mkdir()
        options = f"size={megabytes}m" + (",ro" if read_only else "")
        try:
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(place)],
                check=True, capture_output=True, encoding="utf-8",
            )  # fmt: skip
        except (OSError, subprocess.CalledProcessError):
            pytest.skip("mounting a small disk is not allowed here")
        mounted.append(place)
        return place

    yield mount
    for place in mounted:
        subprocess.run(["umount", str(place)], check=True, capture_output=True)
