"""The CT images that the objects refer to: the scanner's own, or the scans written anew without identifiers."""

import datetime
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
import SimpleITK as sitk
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian

from LungRecoveryLib import dicom, images
from LungRecoveryLib.report.dicom.identity import Identity, body_part, equipment, uid

_LOWEST_HU = -1024


@dataclass(frozen=True)
class Origin:
    """Where a time point's scan lies: a file or DICOM folder and, of several series there, the key of the one taken."""

    path: Path
    series: str | None = None

    def image(self) -> sitk.Image:
        """The scan in HU."""
        return images.read_scan(self.path, self.series).image

    def headers(self) -> list[Dataset]:
        """The DICOM headers of the scan in the order of its slices; empty for a file of another format."""
        if self.path.is_dir():
            found = dicom.find_series(self.path, self.path.name)
            (series,) = [s for s in found if self.series is None or s.is_named(self.series)]
        elif images.looks_like_dicom(self.path):
            series = dicom.read_file_series(self.path, self.path.name)
        else:
            return []
        return [pydicom.dcmread(h.path, stop_before_pixels=True) for h in series.headers]


def usable(headers: list[Dataset]) -> bool:
    """Whether objects can refer to these images: they carry the UIDs that a reference needs."""
    needed = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "FrameOfReferenceUID", "Rows")
    return bool(headers) and all(all(header.get(name) for name in needed) for header in headers)


def referenced(headers: list[Dataset], identity: Identity) -> list[Dataset]:
    """The scanner's headers, with the patient as every object of the study names it."""
    for header in headers:
        study = {name: header.get(name) for name in ("StudyInstanceUID", "StudyDate", "StudyTime")}
        identity.describe(header)
        for name, value in study.items():
            setattr(header, name, value)
    return headers


def written(
    image: sitk.Image, identity: Identity, key: str, label: str, number: int, day: datetime.date, folder: Path
) -> list[Dataset]:
    """Write a scan as a CT series of single slices into a folder; returns the headers without their voxels.

    The voxels stay where and as they are; axes are swapped or turned round so that slices are axial.
    """
    axial = sitk.DICOMOrient(image, "LPS")
    folder.mkdir(parents=True)
    array = sitk.GetArrayViewFromImage(axial)
    headers = []
    for index, header in enumerate(_slices(axial, identity, key, label, number, day)):
        stored = np.clip(array[index], _LOWEST_HU, 32767 + _LOWEST_HU).astype(np.int16) - np.int16(_LOWEST_HU)
        header.PixelData = stored.astype("<u2").tobytes()
        save(header, folder / f"{index + 1:04d}.dcm")
        del header.PixelData
        headers.append(header)
    return headers


def _slices(
    axial: sitk.Image, identity: Identity, key: str, label: str, number: int, day: datetime.date
) -> Iterator[Dataset]:
    axes = np.array(axial.GetDirection()).reshape(3, 3)
    columns, rows, count = axial.GetSize()
    spacing = axial.GetSpacing()
    for index in range(count):
        header = Dataset()
        identity.describe(header)
        equipment(header)
        body_part(header)
        header.SOPClassUID = CTImageStorage
        header.SOPInstanceUID = uid(identity.key, key, "slice", index)
        header.SeriesInstanceUID = uid(identity.key, key, "series")
        header.FrameOfReferenceUID = uid(identity.key, key, "frame")
        header.PositionReferenceIndicator = ""
        header.Modality = "CT"
        header.SeriesNumber, header.InstanceNumber, header.AcquisitionNumber = number, index + 1, 1
        header.SeriesDescription = f"{label}: the scan, copied"[:64]
        header.SeriesDate = header.ContentDate = header.AcquisitionDate = day.strftime("%Y%m%d")
        header.SeriesTime = header.ContentTime = header.AcquisitionTime = "000000"
        header.ImageType = ["DERIVED", "SECONDARY", "AXIAL"]
        header.DerivationDescription = "Copied without identifiers"
        header.KVP = None
        header.PatientPosition = "HFS"
        header.ImagePositionPatient = [_decimal(v) for v in axial.TransformIndexToPhysicalPoint((0, 0, index))]
        header.ImageOrientationPatient = [_decimal(v) for v in (*axes[:, 0], *axes[:, 1])]
        header.PixelSpacing = [_decimal(spacing[1]), _decimal(spacing[0])]
        header.SliceThickness = _decimal(spacing[2])
        header.Rows, header.Columns = rows, columns
        header.SamplesPerPixel, header.PhotometricInterpretation = 1, "MONOCHROME2"
        header.BitsAllocated, header.BitsStored, header.HighBit, header.PixelRepresentation = 16, 16, 15, 0
        header.RescaleIntercept, header.RescaleSlope, header.RescaleType = _LOWEST_HU, 1, "HU"
        header.WindowCenter, header.WindowWidth = -500, 1500
        header.BurnedInAnnotation = "NO"
        yield header


def _decimal(value: float) -> str:
    """A number as a decimal string of at most 16 characters (PS3.5, value representation DS)."""
    return pydicom.valuerep.format_number_as_ds(float(value))


def save(dataset: Dataset, path: Path) -> None:
    """Write an object as a DICOM file."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    meta.ImplementationClassUID = uid("implementation")
    meta.ImplementationVersionName = "LUNGRECOVERY"
    dataset.file_meta = meta
    if "SpecificCharacterSet" not in dataset:
        dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.save_as(path, enforce_file_format=True)
