"""A study as DICOM objects: read back by pydicom, highdicom and SimpleITK, and passed by dciodvfy."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from scipy import ndimage

hd = pytest.importorskip("highdicom")
pydicom = pytest.importorskip("pydicom")

from LungRecoveryLib.errors import BadInput  # noqa: E402
from LungRecoveryLib.grids import grid_of, to_array, transform_points  # noqa: E402
from LungRecoveryLib.report.dicom import Origin, write_dicom  # noqa: E402
from LungRecoveryLib.report.dicom.registration import registration  # noqa: E402

OBLIQUE = sitk.Euler3DTransform((0, 0, 0), 0.1, -0.05, 0.2).GetMatrix()
PERSON = {"PatientName": "Mustermann^Erika", "PatientID": "KH-4711", "PatientBirthDate": "19560314", "PatientSex": "F"}


def waves(grid) -> sitk.Transform:
    """An affine map and a smooth displacement of up to 12 mm on a grid, as a registration saves them."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.size[::-1]], indexing="ij"), -1)[..., ::-1]
    points = grid.points(index.reshape(-1, 3)).reshape(index.shape)
    field = 12.0 * np.sin(points / 35.0)[..., [1, 2, 0]]
    image = sitk.GetImageFromArray(field.astype(np.float64), isVector=True)
    image.SetSpacing(grid.spacing)
    image.SetOrigin(grid.origin)
    image.SetDirection(grid.direction)
    affine = sitk.AffineTransform((1.02, 0.01, 0, 0, 0.97, 0.03, -0.02, 0, 1.05), (4.0, -6.0, 9.0))
    return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(image)])


@pytest.fixture(scope="module")
def folder(study_maker, grid_maker, write_series, tmp_path_factory):
    """A study of two dates on an oblique grid, and its scans as DICOM series of a person."""
    here = tmp_path_factory.mktemp("dicom")
    study = here / "study"
    grid = grid_maker(np.array(OBLIQUE).reshape(3, 3), (8.0, 8.0, 8.0))
    study_maker(study, {"Baseline": (0.0, 0.0), "Día 90": (90.0, 0.476)}, grid=grid)
    sitk.WriteTransform(waves(grid), str(study / "visit-1" / "transform.h5"))
    content = json.loads((study / "study.json").read_text(encoding="utf-8"))
    content["timepoints"][1]["files"]["transform"] = "visit-1/transform.h5"
    (study / "study.json").write_text(json.dumps(content), encoding="utf-8")
    (study / "report.pdf").write_bytes(b"%PDF-1.4 a report")
    ct = to_array(sitk.ReadImage(str(study / "baseline" / "ct.nii.gz")), np.int16)
    for number, (name, date) in enumerate((("baseline", "20200305"), ("visit-1", "20200603"))):
        write_series(
            here / name,
            ct + np.int16(number),
            spacing=grid.spacing,
            origin=grid.origin,
            orientation=[*grid.axes[:, 0], *grid.axes[:, 1]],
            AcquisitionDate=date,
            StudyInstanceUID=f"1.2.3.{number}",
            SeriesInstanceUID=f"1.2.3.{number}.1",
            FrameOfReferenceUID=f"1.2.3.{number}.2",
            PositionReferenceIndicator="",
            SeriesDescription="Thorax MUSTERMANN",
            **PERSON,
        )
    return here


def objects(folder: Path, keep: bool) -> dict[str, pydicom.Dataset]:
    """The objects of the study by file name."""
    shutil.rmtree(folder / "study" / "dicom", ignore_errors=True)
    origins = {name: Origin(folder / name) for name in ("baseline", "visit-1")}
    files = write_dicom(folder / "study", origins, keep)
    return {str(file.relative_to(folder / "study" / "dicom")): pydicom.dcmread(file) for file in files}


@pytest.fixture(scope="module")
def anonymous(folder):
    made = objects(folder, keep=False)
    shutil.copytree(folder / "study" / "dicom", folder / "anonymous")
    return made


@pytest.fixture(scope="module")
def named(folder, anonymous):
    made = objects(folder, keep=True)
    shutil.copytree(folder / "study" / "dicom", folder / "named")
    return made


def moved(registration: pydicom.Dataset, points: np.ndarray) -> np.ndarray:
    """Where the grid of a deformable registration takes points, by the formula of PS3.3 C.20.3.1.1."""
    (item,) = registration.DeformableRegistrationSequence
    (grid,) = item.DeformableRegistrationGridSequence
    x, y = np.array(grid.ImageOrientationPatient, float).reshape(2, 3)
    steps = np.stack([x, y, np.cross(x, y)], 1) * np.array(grid.GridResolution, float)
    vectors = np.frombuffer(grid.VectorGridData, "<f4").reshape(*grid.GridDimensions[::-1], 3)
    index = np.linalg.solve(steps, (points - np.array(grid.ImagePositionPatient, float)).T)[::-1]
    return points + np.stack([ndimage.map_coordinates(vectors[..., c], index, order=1) for c in range(3)], 1)


def test_landmarks_make_the_round_trip(folder, anonymous):
    """The registration takes baseline points where the transform takes them, from one frame to the other."""
    made = anonymous["visit-1-registration.dcm"]
    transform = sitk.ReadTransform(str(folder / "study" / "visit-1" / "transform.h5"))
    grid = grid_of(sitk.ReadImage(str(folder / "study" / "baseline" / "ct.nii.gz")))
    points = grid.points(np.random.default_rng(0).uniform(1, np.array(grid.size) - 2, (500, 3)))
    expected = transform_points(transform, points)
    assert np.linalg.norm(expected - points, axis=1).mean() > 8
    assert np.abs(moved(made, points) - expected).max() < 0.1
    (item,) = made.DeformableRegistrationSequence
    assert made.FrameOfReferenceUID == anonymous["baseline-ct/0001.dcm"].FrameOfReferenceUID
    assert item.SourceFrameOfReferenceUID == anonymous["visit-1-ct/0001.dcm"].FrameOfReferenceUID
    assert made.FrameOfReferenceUID != item.SourceFrameOfReferenceUID


def test_a_transform_without_deformation_is_a_rigid_registration(folder, anonymous, tmp_path, dicom_errors):
    """Its matrix takes follow-up points to the baseline's frame, and dciodvfy passes it."""
    from LungRecoveryLib.report.dicom.identity import identity_of
    from LungRecoveryLib.report.dicom.scans import save

    rigid = sitk.Euler3DTransform((1, 2, 3), 0.1, 0.2, -0.1, (5, -3, 12))
    scans = [[anonymous[f"{name}-ct/{n:04d}.dcm"] for n in range(1, 6)] for name in ("baseline", "visit-1")]
    grid = grid_of(sitk.ReadImage(str(folder / "study" / "baseline" / "ct.nii.gz")))
    made = registration(rigid, grid, *scans, identity_of("k", None, "p" * 12, None), 1, "x", "x")
    matrix = made.RegistrationSequence[1].MatrixRegistrationSequence[0].MatrixSequence[0]
    assert matrix.FrameOfReferenceTransformationMatrixType == "RIGID"
    values = np.array(matrix.FrameOfReferenceTransformationMatrix, float).reshape(4, 4)
    point = np.array([10.0, -40.0, 300.0])
    there = np.append(rigid.TransformPoint(point.tolist()), 1)
    assert np.allclose((values @ there)[:3], point, atol=1e-4)
    save(made, tmp_path / "rigid.dcm")
    assert dicom_errors(tmp_path / "rigid.dcm") == []


@pytest.mark.parametrize("kind", ["anonymous", "named"])
def test_every_object_passes_its_validator(folder, request, kind, dicom_errors):
    made = request.getfixturevalue(kind)
    ct = [name for name in made if "-ct/" in name]
    for name in [name for name in made if name not in ct[1:]]:
        assert dicom_errors(folder / kind / name) == [], name


def test_maps_hold_real_world_values(folder, anonymous):
    """highdicom gives back the map of the study, in its place, with its unit."""
    for layer, unit, tolerance in (("jacobian", "{ratio}", 6e-5), ("density_change", "mg/ml", 0.06)):
        image = hd.imread(folder / "anonymous" / f"visit-1-{layer.replace('_', '-')}.dcm")
        volume = image.get_volume(apply_real_world_transform=True)
        study = sitk.ReadImage(str(folder / "study" / "visit-1" / f"{layer}.nii.gz"))
        lungs = to_array(sitk.ReadImage(str(folder / "study" / "baseline" / "lungs.nii.gz"))) > 0
        index = np.argwhere(lungs)[::97]
        here = np.array([study.TransformIndexToPhysicalPoint(i[::-1].tolist()) for i in index])
        there = np.rint(volume.map_reference_to_indices(here)).astype(int)
        values = volume.array[tuple(there.T)]
        assert np.abs(values - to_array(study)[tuple(index.T)]).max() < tolerance
        meaning = image.SharedFunctionalGroupsSequence[0].RealWorldValueMappingSequence[0]
        assert meaning.MeasurementUnitsCodeSequence[0].CodeValue == unit


def test_masks_hold_the_lungs_with_standard_codes(folder, anonymous):
    """highdicom and SimpleITK read them; every voxel is the study's."""
    made = hd.seg.segread(folder / "anonymous" / "baseline-masks.dcm")
    kinds = [s.SegmentedPropertyTypeCodeSequence[0].CodeValue for s in made.SegmentSequence]
    assert kinds == ["3341006", "44029006"]
    labels = sitk.ReadImage(str(folder / "study" / "baseline" / "lungs.nii.gz"))
    volume = made.get_volume(combine_segments=True)
    for value in (1, 2):
        assert (volume.array == value).sum() == (to_array(labels) == value).sum()
    index = np.argwhere(to_array(labels) == 2)[::53]
    points = np.array([labels.TransformIndexToPhysicalPoint(i[::-1].tolist()) for i in index])
    there = np.rint(volume.map_reference_to_indices(points)).astype(int)
    assert (volume.array[tuple(there.T)] == 2).all()
    frames = sitk.GetArrayFromImage(sitk.ReadImage(str(folder / "anonymous" / "baseline-masks.dcm")))
    assert np.count_nonzero(frames) == np.count_nonzero(to_array(labels))


def test_copied_scans_are_the_scans(folder, anonymous):
    """SimpleITK reads the CT series that goes along: the same voxels in the same places."""
    from LungRecoveryLib.images import read_scan

    for name in ("baseline", "visit-1"):
        copied, given = (read_scan(path).image for path in (folder / "anonymous" / f"{name}-ct", folder / name))
        assert np.array_equal(to_array(copied), to_array(given))
        assert np.allclose(copied.GetOrigin(), given.GetOrigin(), atol=1e-3)
        assert np.allclose(copied.GetDirection(), given.GetDirection(), atol=1e-6)


def test_the_report_is_a_tid_1500_with_units_and_codes(folder, anonymous):
    """Measures by time point and region come back from the structured report with the study's numbers."""
    made = hd.sr.srread(folder / "anonymous" / "measurements.dcm")
    assert made.ConceptNameCodeSequence[0].CodeValue == "126000"
    template = made.ContentTemplateSequence[0]
    assert (template.MappingResource, template.TemplateIdentifier) == ("DCMR", "1500")
    study = json.loads((folder / "study" / "study.json").read_text(encoding="utf-8"))
    groups = [
        group
        for group in (
            *made.content.get_volumetric_roi_measurement_groups(),
            *made.content.get_image_measurement_groups(),
        )
        if group.tracking_identifier == "Día 90: Right lung"
    ]
    (group,) = groups
    found = {
        m.name.value + (m.derivation.value if m.derivation else ""): (m.value, m.unit.value)
        for m in group.get_measurements()
    }
    right = study["timepoints"][1]["density"]["right"]
    assert found["118565006"] == (pytest.approx(right["volume_ml"]), "ml")
    assert found["112031373098007"] == (pytest.approx(right["mean_hu"]), "[hnsf'U]")
    scores = study["timepoints"][1]["scores"]["right"]
    assert found["tissue-recovery"] == (pytest.approx(scores["tissue_recovery"]), "{ratio}")
    assert group.referenced_segment.referenced_sop_instance_uid == anonymous["visit-1-masks.dcm"].SOPInstanceUID
    assert made.ContentSequence


def test_the_pdf_comes_back(folder, anonymous):
    made = anonymous["report.dcm"]
    pdf = (folder / "study" / "report.pdf").read_bytes()
    assert made.EncapsulatedDocument[: made.EncapsulatedDocumentLength] == pdf


def test_uids_come_from_the_inputs(folder, anonymous, named):
    """The same study gives the same files byte by byte; other objects have other UIDs; no UID stands twice."""
    again = objects(folder, keep=False)
    for name in again:
        assert (folder / "anonymous" / name).read_bytes() == (folder / "study" / "dicom" / name).read_bytes(), name
    instances = [made.SOPInstanceUID for made in anonymous.values()]
    assert len(set(instances)) == len(instances)
    assert len({made.StudyInstanceUID for made in anonymous.values()}) == 1
    assert not {made.SOPInstanceUID for made in named.values()} & set(instances)


def test_without_leave_nothing_identifies_the_patient(folder, anonymous):
    """No name, ID, birth date, true date or UID of the originals, in names or contents of the files."""
    words = ["Mustermann", "Erika", "KH-4711", "19560314", "20200305", "20200603", "1.2.3."]
    for file in (folder / "anonymous").rglob("*.dcm"):
        data = (str(file.relative_to(folder)) + file.read_bytes().decode("latin-1")).lower()
        assert not [w for w in words if w.lower() in data.replace("1.2.3.4.5", "")], file.name
    made = anonymous["measurements.dcm"]
    assert made.PatientIdentityRemoved == "YES"
    assert made.PatientID.startswith("LR-")
    assert (made.StudyDate, anonymous["visit-1-ct/0001.dcm"].StudyDate) == ("20000331", "20000331")


def test_with_leave_the_objects_join_the_patients_images(folder, named):
    """The patient is the scans'; frames of reference and references are the scanner's own, and no scan is copied."""
    assert not [name for name in named if "-ct/" in name]
    for made in named.values():
        assert made.PatientName == PERSON["PatientName"]
        assert made.PatientID == PERSON["PatientID"]
    assert named["visit-1-jacobian.dcm"].FrameOfReferenceUID == "1.2.3.0.2"
    assert named["visit-1-masks.dcm"].FrameOfReferenceUID == "1.2.3.1.2"
    deformable = named["visit-1-registration.dcm"]
    assert deformable.FrameOfReferenceUID == "1.2.3.0.2"
    assert deformable.DeformableRegistrationSequence[0].SourceFrameOfReferenceUID == "1.2.3.1.2"
    for name in ("visit-1-jacobian.dcm", "visit-1-registration.dcm"):
        (*_, other) = named[name].StudiesContainingOtherReferencedInstancesSequence
        assert other.StudyInstanceUID in ("1.2.3.0", "1.2.3.1")
    assert named["report.dcm"].StudyDate == "20200603"


def test_files_without_dicom_cannot_keep_identifiers(folder):
    """A NIfTI scan has no identifiers to keep: one sentence says so."""
    nifti = folder / "study" / "baseline" / "ct.nii.gz"
    with pytest.raises(BadInput, match="keep-identifiers"):
        write_dicom(folder / "study", {"baseline": Origin(nifti), "visit-1": Origin(folder / "visit-1")}, True)
