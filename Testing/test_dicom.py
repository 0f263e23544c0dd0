"""DICOM folders: voxels and geometry are those of the files, and whatever is wrong is said in one sentence."""

import json
import re
import shutil

import numpy as np
import pytest
import SimpleITK as sitk

from LungRecoveryLib import grids
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.images import read_scan, read_scans

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
OBLIQUE = (0.9, 0.1, -0.42426407, -0.05, 0.99, 0.12727922)  # made orthonormal below


def voxels(scan) -> np.ndarray:
    return sitk.GetArrayFromImage(scan.image)


def orthonormal(orientation) -> list[float]:
    row, column = np.array(orientation, float).reshape(2, 3)
    row /= np.linalg.norm(row)
    column -= row * (row @ column)
    return [*row, *(column / np.linalg.norm(column))]


def refused(path, *words: str, **options) -> str:
    """The message with which a path is refused: one line that names it and holds the words."""
    with pytest.raises(BadInput) as caught:
        read_scan(path, **options)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    for word in words:
        assert word in message
    return message


def test_a_series_is_read_slice_by_slice_in_order_of_position(tmp_path, chest, write_series):
    write_series(tmp_path, chest)
    scan = read_scan(tmp_path)
    np.testing.assert_array_equal(voxels(scan), chest)
    assert scan.image.GetPixelID() == sitk.sitkInt16
    assert scan.image.GetOrigin() == pytest.approx((-120, -100, -920))
    assert scan.image.GetSpacing() == pytest.approx((0.8, 0.7, 2.5))
    assert scan.date.isoformat() == "2020-03-05"
    assert scan.source["kernel"] == "B40f"
    assert scan.source["position"] == "supine"


@pytest.mark.parametrize("orientation", [(1, 0, 0, 0, 1, 0), (-1, 0, 0, 0, 1, 0), (0, 1, 0, 0, 0, -1), OBLIQUE])
def test_geometry_agrees_with_itk_for_any_orientation(tmp_path, chest, write_series, orientation):
    files = write_series(tmp_path, chest, orientation=orthonormal(orientation))
    scan = read_scan(tmp_path)
    theirs = sitk.ReadImage([str(f) for f in files])
    assert grids.same_grid(scan.image, theirs)
    np.testing.assert_array_equal(voxels(scan), sitk.GetArrayFromImage(theirs))


def test_rescale_is_applied_with_fractions_and_per_slice(tmp_path, chest, write_series):
    uid = "1.2.3.4.5"
    half = len(chest) // 2
    positions = [2.5 * i for i in range(len(chest))]
    write_series(tmp_path / "a", chest[:half], slope=0.5, SeriesInstanceUID=uid, positions=positions[:half])
    write_series(tmp_path / "b", chest[half:], intercept=-2000.0, SeriesInstanceUID=uid, positions=positions[half:])
    np.testing.assert_array_equal(voxels(read_scan(tmp_path)), chest)


def test_padding_becomes_air_but_an_ordinary_value_named_padding_does_not(tmp_path, chest, write_series):
    padded = chest.copy()
    padded[:, :3] = -3024  # stored as -2000
    write_series(tmp_path / "gap", padded, PixelPaddingValue=63536)
    assert (voxels(read_scan(tmp_path / "gap"))[:, :3] == -1024).all()
    top = chest.copy()
    top[:, :3] = 3071
    write_series(tmp_path / "top", top, PixelPaddingValue=4095)
    assert (voxels(read_scan(tmp_path / "top"))[:, :3] == -1024).all()
    write_series(tmp_path / "zero", chest, intercept=0, PixelPaddingValue=40)
    np.testing.assert_array_equal(voxels(read_scan(tmp_path / "zero")), chest)


def test_files_without_ending_in_nested_folders_and_other_files_are_no_hindrance(tmp_path, chest, write_series):
    write_series(tmp_path / "ST0" / "SE1", chest, suffix="")
    (tmp_path / "ST0" / "readme.txt").write_text("not an image")
    (tmp_path / "DICOMDIR").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    (tmp_path / "broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\0" * 40)
    np.testing.assert_array_equal(voxels(read_scan(tmp_path)), chest)


def test_localizers_and_pictures_of_the_scanner_are_ignored(tmp_path, chest, write_series):
    write_series(tmp_path / "scan", chest)
    write_series(tmp_path / "scout", chest[:2], ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"], SeriesNumber=1)
    picture = {"SOPClassUID": SECONDARY_CAPTURE, "ImagePositionPatient": None, "ImageOrientationPatient": None}
    write_series(tmp_path / "dose", chest[:6], SeriesNumber=999, **picture)
    scan = read_scan(tmp_path)
    assert scan.image.GetSize()[2] == len(chest)
    assert scan.source["chosen"]["why"] == "the only one"
    shutil.rmtree(tmp_path / "scan")
    refused(tmp_path, "localizers")


def test_converted_scans_are_read(tmp_path, chest, write_series):
    write_series(tmp_path / "capture", chest, SOPClassUID=SECONDARY_CAPTURE)
    np.testing.assert_array_equal(voxels(read_scan(tmp_path / "capture")), chest)
    (tmp_path / "itk").mkdir()
    volume = sitk.GetImageFromArray(chest)
    volume.SetSpacing((0.8, 0.7, 2.5))
    for index in range(len(chest)):  # as SimpleITK's own example writes a series
        plane = volume[:, :, index]
        place = volume.TransformIndexToPhysicalPoint((0, 0, index))
        tags = {"0008|0060": "CT", "0020|000e": "1.2.7", "0020|0037": "1\\0\\0\\0\\1\\0"}
        for tag, value in (tags | {"0020|0032": "\\".join(map(str, place))}).items():
            plane.SetMetaData(tag, value)
        writer = sitk.ImageFileWriter()
        writer.KeepOriginalImageUIDOn()
        writer.SetFileName(str(tmp_path / "itk" / f"{index}.dcm"))
        writer.Execute(plane)
    scan = read_scan(tmp_path / "itk")
    np.testing.assert_array_equal(voxels(scan), chest)
    assert grids.same_grid(scan.image, volume)


def test_several_acquisitions_of_one_series_are_told_apart(tmp_path, chest, write_series):
    for number in (1, 2):
        write_series(tmp_path / str(number), chest + number, SeriesInstanceUID="1.2.9", AcquisitionNumber=number)
    scan = read_scan(tmp_path)
    assert scan.image.GetSize()[2] == len(chest)
    assert len(scan.source["candidates"]) == 2


# ------------------------------------------------------------------------------------------------------------ bad input


def test_missing_slices_are_refused(tmp_path, chest, write_series):
    files = write_series(tmp_path, chest)
    files[4].unlink()
    files[5].unlink()
    refused(tmp_path, "2 missing slices", "complete series")


def test_duplicated_slices_are_refused(tmp_path, chest, write_series):
    files = write_series(tmp_path, chest)
    shutil.copy(files[3], tmp_path / "copy.dcm")
    refused(tmp_path, "1 duplicated slice ")


def test_uneven_spacing_is_refused_but_rounded_positions_are_not(tmp_path, chest, write_series):
    even = np.arange(len(chest)) * 0.625
    write_series(tmp_path / "rounded", chest, positions=even.round(1))
    spacing = read_scan(tmp_path / "rounded").image.GetSpacing()[2]
    assert spacing == pytest.approx(0.625, abs=0.01)
    uneven = even + np.where(np.arange(len(chest)) > 5, 0.25, 0)
    write_series(tmp_path / "uneven", chest, positions=uneven)
    refused(tmp_path / "uneven", "unevenly spaced")


def test_a_tilted_gantry_is_refused(tmp_path, chest, write_series):
    write_series(tmp_path / "tilted", chest, shear=(0, 0.5, 0))
    refused(tmp_path / "tilted", "tilted gantry (11 degrees", "by 5.5 mm", "3D Slicer")
    write_series(tmp_path / "rounded", chest, shear=(0.02, 0.03, 0))  # as positions of few digits leave
    assert read_scan(tmp_path / "rounded").image.GetSize()[2] == len(chest)


def test_several_patients_in_a_folder_are_refused(tmp_path, chest, write_series):
    write_series(tmp_path / "a", chest)
    write_series(tmp_path / "b", chest, PatientID="P2")
    message = refused(tmp_path, "2 patients")
    assert "P1" not in message


def test_scans_of_several_dates_in_a_folder_are_refused_unless_one_is_named(tmp_path, chest, write_series):
    write_series(tmp_path / "a", chest, AcquisitionDate="20200301", SeriesNumber=3)
    write_series(tmp_path / "b", chest, AcquisitionDate="20200601", SeriesNumber=4)
    refused(tmp_path, "2 dates")
    assert read_scan(tmp_path, "4").date.isoformat() == "2020-06-01"


def test_other_modalities_and_folders_without_images_are_refused(tmp_path, chest, write_series):
    write_series(tmp_path / "mr", chest, Modality="MR", SOPClassUID="1.2.840.10008.5.1.4.1.1.4")
    refused(tmp_path / "mr", "MR", "no CT")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "empty folder")
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "a.txt").write_text("hello")
    refused(tmp_path / "text", "no DICOM")


def test_a_single_slice_and_a_series_without_rescale_are_refused(tmp_path, chest, write_series):
    files = write_series(tmp_path / "scan", chest)
    refused(files[0], "2D image", "folder")
    write_series(tmp_path / "raw", chest + 1024, intercept=0, RescaleIntercept=None, RescaleSlope=None)
    refused(tmp_path / "raw", "without the -1024 offset")


def test_a_truncated_file_is_named(tmp_path, chest, write_series):
    files = write_series(tmp_path, chest)
    files[6].write_bytes(files[6].read_bytes()[:-900])
    refused(tmp_path, files[6].name)


# ------------------------------------------------------------------------------------------------ choice between series


def several_series(folder, chest, write_series, **changes):
    """A folder with a soft thin, a sharp thin and a soft thick reconstruction (series 2, 3, 4)."""
    thick = chest[::2]
    thin = (0.8, 0.7, 1.0)
    write_series(folder / "2", chest, spacing=thin, **{"SeriesNumber": 2} | changes)
    sharp = {"ConvolutionKernel": "B70f", "SeriesDescription": "Thorax 1.0 B70f", "SeriesNumber": 3}
    write_series(folder / "3", chest, spacing=thin, **sharp | changes)
    write_series(folder / "4", thick, spacing=(0.8, 0.7, 5.0), **{"SeriesNumber": 4} | changes)
    return folder


def test_the_thin_soft_series_is_taken_and_the_reasons_are_given(tmp_path, chest, write_series):
    scan = read_scan(several_series(tmp_path, chest, write_series))
    assert scan.source["series_number"] == "2"
    table = {c["number"]: c for c in scan.source["candidates"]}
    assert [table[n]["chosen"] for n in "234"] == [True, False, False]
    assert "sharp kernel B70f" in table["3"]["penalties"]
    assert "slices 5 mm thick" in table["4"]["penalties"]
    assert table["2"]["penalty"] == min(c["penalty"] for c in table.values())


def test_a_series_is_named_by_number_description_key_or_uid(tmp_path, chest, write_series):
    several_series(tmp_path, chest, write_series)
    by_number = read_scan(tmp_path, "3")
    assert by_number.source["kernel"] == "B70f"
    for name in ("Thorax 1.0 b70F", by_number.source["chosen"]["series"]):
        assert read_scan(tmp_path, name).source["series_number"] == "3"
    refused(tmp_path, "there is no series '9'", series="9")
    refused(tmp_path, "several series are called", series="Thorax 1.0 B40f")


def test_across_dates_the_matching_series_is_taken_even_if_it_is_not_the_best_alone(tmp_path, chest, write_series):
    sharp = {"ConvolutionKernel": "B70f", "SeriesDescription": "Thorax B70f"}
    write_series(tmp_path / "baseline", chest, spacing=(0.8, 0.7, 1.0), AcquisitionDate="20200301", **sharp)
    followup = several_series(tmp_path / "followup", chest, write_series, AcquisitionDate="20200601")
    baseline, later = read_scans([tmp_path / "baseline", followup])
    assert baseline.source["kernel"] == later.source["kernel"] == "B70f"
    assert later.warnings == ()
    assert read_scan(followup).source["kernel"] == "B40f"  # by itself


def test_what_differs_from_the_baseline_is_a_warning(tmp_path, chest, write_series):
    write_series(tmp_path / "a", chest, SeriesDescription="Thorax inspiration", AcquisitionDate="20200301")
    write_series(
        tmp_path / "b",
        chest,
        AcquisitionDate="20200601",
        SeriesDescription="Thorax expir",
        PatientPosition="HFP",
        ConvolutionKernel="B70f",
        SliceThickness=5,
    )
    baseline, followup = read_scans([tmp_path / "a", tmp_path / "b"])
    assert baseline.warnings == ()
    said = " | ".join(followup.warnings)
    for words in ("kernel B40f", "slice thickness 2.5 mm, then 5 mm", "supine, then prone", "inspiration, then expira"):
        assert words in said
    # The earliest is the baseline in whatever order they are given.
    later, first = read_scans([tmp_path / "b", tmp_path / "a"])
    assert first.warnings == ()
    assert later.warnings == followup.warnings


def test_different_patients_across_dates_are_refused_or_warned_of(tmp_path, chest, write_series):
    write_series(tmp_path / "a", chest)
    write_series(tmp_path / "b", chest, PatientID="P2")
    write_series(tmp_path / "c", chest, PatientID="")
    with pytest.raises(
        BadInput, match=r"b: has another DICOM patient ID than the baseline.*--allow-different-patients"
    ):
        read_scans([tmp_path / "a", tmp_path / "b"])
    scans = read_scans([tmp_path / "a", tmp_path / "b", tmp_path / "c"], allow_different_patients=True)
    assert [len(s.warnings) for s in scans] == [0, 1, 0]
    assert "patient" in scans[1].warnings[0]


def test_different_patients_are_refused_before_voxels_are_read(tmp_path, chest, write_series, monkeypatch):
    write_series(tmp_path / "a", chest)
    write_series(tmp_path / "b", chest, PatientID="P2")
    monkeypatch.setattr("LungRecoveryLib.dicom.read_volume", lambda *_: pytest.fail("voxels were read"))
    with pytest.raises(BadInput, match="patient"):
        read_scans([tmp_path / "a", tmp_path / "b"])


def test_the_same_series_for_two_dates_is_warned_of(tmp_path, chest, write_series):
    write_series(tmp_path / "a", chest)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    first, second = read_scans([tmp_path / "a", tmp_path / "b"])
    assert first.warnings == ()
    assert second.warnings == ("b: is the same DICOM series as the baseline",)


def test_a_broken_series_is_left_out_with_a_warning_where_another_is_whole(tmp_path, chest, write_series):
    several_series(tmp_path, chest, write_series)
    next((tmp_path / "2").glob("0005*")).unlink()
    scan = read_scan(tmp_path)
    assert scan.source["series_number"] == "3"
    assert any("series 2" in w and "missing" in w for w in scan.warnings)
    refused(tmp_path, "missing", series="2")


def test_the_source_reveals_neither_patient_nor_date_nor_place(tmp_path, chest, write_series):
    several_series(tmp_path, chest, write_series, PatientName="Doe^Jane", PatientID="SECRET7")
    scan = read_scan(tmp_path)
    written = repr(scan.source) + repr(scan.warnings) + repr(scan)
    assert not re.search(r"SECRET7|Doe|2020|1\.2\.826|" + re.escape(str(tmp_path)), written.replace("2020, 3, 5", ""))
    assert scan.image.GetMetaDataKeys() == ()


@pytest.mark.realdata
def test_jpeg_lossless_dicom_reads_as_itk_reads_it(real_data):
    folder = real_data / "dicom" / "covid_p001"
    scan = read_scan(folder)
    reader = sitk.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folder)))
    theirs = reader.Execute()
    assert scan.image.GetSize() == (512, 512, 148)
    assert grids.same_grid(scan.image, theirs)
    np.testing.assert_array_equal(voxels(scan), np.clip(sitk.GetArrayFromImage(theirs), -1024, 3071))
    assert scan.source["kernel_class"] == "medium"


# --------------------------------------------------------------------------------------------------------- multi-frame


def write_enhanced(path, array, positions) -> None:
    """Write an enhanced CT: one file with all slices, whose geometry and rescale lie in functional groups."""
    pydicom = pytest.importorskip("pydicom")

    def group(name, **content):
        item, inner = pydicom.Dataset(), pydicom.Dataset()
        for tag, value in content.items():
            setattr(inner, tag, value)
        setattr(item, name, pydicom.Sequence([inner]))
        return item

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.2.1"
    meta.MediaStorageSOPInstanceUID = pydicom.uid.generate_uid()
    meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    data = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=b"\0" * 128)
    data.SOPClassUID, data.SOPInstanceUID = meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID
    data.Modality, data.SeriesInstanceUID, data.NumberOfFrames = "CT", "1.2.3", len(array)
    data.Rows, data.Columns = array.shape[1:]
    data.SamplesPerPixel, data.PhotometricInterpretation, data.PixelRepresentation = 1, "MONOCHROME2", 0
    data.BitsAllocated, data.BitsStored, data.HighBit = 16, 16, 15
    shared = group("PixelMeasuresSequence", PixelSpacing=[0.7, 0.8], SliceThickness=2.5)
    shared.update(group("PlaneOrientationSequence", ImageOrientationPatient=[1, 0, 0, 0, 1, 0]))
    rescale = {"RescaleIntercept": -1024, "RescaleSlope": 1, "RescaleType": "HU"}
    shared.update(group("PixelValueTransformationSequence", **rescale))
    data.SharedFunctionalGroupsSequence = pydicom.Sequence([shared])
    frames = [group("PlanePositionSequence", ImagePositionPatient=[-120, -100, z]) for z in positions]
    data.PerFrameFunctionalGroupsSequence = pydicom.Sequence(frames)
    data.PixelData = (array.astype(np.int32) + 1024).astype(np.uint16).tobytes()
    data.save_as(path, enforce_file_format=True)


@pytest.mark.parametrize("step", [2.5, -2.5])
def test_an_enhanced_ct_is_read_as_a_file_and_as_a_folder(tmp_path, chest, step):
    positions = -920 + step * np.arange(len(chest))
    write_enhanced(tmp_path / "enhanced.dcm", chest, positions)
    for path in (tmp_path, tmp_path / "enhanced.dcm"):
        image = read_scan(path).image
        np.testing.assert_array_equal(sitk.GetArrayFromImage(image), chest)
        expected = (-120 + 3 * 0.8, -100 + 2 * 0.7, positions[4])
        assert image.TransformIndexToPhysicalPoint((3, 2, 4)) == pytest.approx(expected)


def test_an_enhanced_ct_with_missing_frames_is_refused(tmp_path, chest):
    positions = 2.5 * np.arange(len(chest))
    positions[7:] += 2.5
    write_enhanced(tmp_path / "enhanced.dcm", chest, positions)
    refused(tmp_path, "missing, uneven or duplicated frames")


def test_a_description_in_a_local_character_set_is_no_hindrance(tmp_path, chest, write_series):
    write_series(tmp_path, chest, SpecificCharacterSet="ISO_IR 100", SeriesDescription="Thorax Größe Inspir.")
    scan = read_scan(tmp_path)
    assert scan.source["series_description"] == "Thorax Größe Inspir."
    assert json.loads(json.dumps(scan.source)) == scan.source
    assert scan.source["breath_phase"] == "inspiration"
