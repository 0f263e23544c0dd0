"""Whose the objects are, when they were made, and their UIDs."""

import datetime
import hashlib
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset
from pydicom.uid import UID

from LungRecoveryLib import RESEARCH_USE_ONLY, __version__

MANUFACTURER = "LungRecovery"
MODEL = "LungRecovery"
NOTICE = RESEARCH_USE_ONLY
# A date for objects without identifiers: the baseline's day is called this, a follow-up's lies as many days later.
NEUTRAL_DAY = datetime.date(2000, 1, 1)
_NAMESPACE = uuid.uuid5(uuid.NAMESPACE_DNS, "lungrecovery")
_PATIENT = ("PatientName", "PatientID", "PatientBirthDate", "PatientSex")


def uid(*parts: object) -> UID:
    """A UID made from `parts` alone (2.25 and a name-based UUID, PS3.5 B.2): the same parts give the same UID."""
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '|'.join(map(str, parts))).int}")


def content_hash(image: sitk.Image) -> str:
    """A hash of a scan's voxels and grid."""
    digest = hashlib.sha256(np.ascontiguousarray(sitk.GetArrayViewFromImage(image)))
    digest.update(repr((image.GetSize(), image.GetSpacing(), image.GetOrigin(), image.GetDirection())).encode())
    return digest.hexdigest()


@dataclass(frozen=True)
class Identity:
    """The patient and the study that all objects belong to.

    `key` is what the UIDs come from. `patient` holds the attributes of the patient module; they are the scans' own
    where `kept`, else a pseudonym made from the baseline's voxels, which nobody without the scan can link to a person.
    """

    key: str
    patient: dict[str, str]
    day: datetime.date
    kept: bool

    @property
    def study_uid(self) -> UID:
        return uid(self.key, "study")

    def describe(self, dataset: Dataset) -> None:
        """Set the patient and the study of an object."""
        for name in _PATIENT:
            setattr(dataset, name, self.patient.get(name, ""))
        if not self.kept:
            dataset.PatientIdentityRemoved = "YES"
            dataset.DeidentificationMethod = "Made without identifiers; dates count from 2000-01-01"
            dataset.LongitudinalTemporalInformationModified = "MODIFIED"
        dataset.StudyInstanceUID = self.study_uid
        dataset.StudyDate = self.day.strftime("%Y%m%d")
        dataset.StudyTime = "000000"
        dataset.StudyID = "LUNGRECOVERY"
        dataset.StudyDescription = "Lung recovery after COVID-19"
        dataset.AccessionNumber = ""
        dataset.ReferringPhysicianName = ""

    def series(self, dataset: Dataset, number: int, description: str, *parts: object) -> None:
        """Set the series and the instance UID of an object that is alone in its series; `parts` name it."""
        dataset.SeriesInstanceUID = uid(self.key, "series", *parts)
        dataset.SOPInstanceUID = uid(self.key, "instance", *parts)
        dataset.SeriesNumber = number
        dataset.InstanceNumber = 1
        dataset.SeriesDescription = description[:64]
        dataset.SeriesDate = dataset.ContentDate = self.day.strftime("%Y%m%d")
        dataset.SeriesTime = dataset.ContentTime = "000000"

    def uids(self, *parts: object) -> dict[str, Any]:
        """The UIDs of an object as highdicom's constructors take them."""
        return {
            "series_instance_uid": uid(self.key, "series", *parts),
            "sop_instance_uid": uid(self.key, "instance", *parts),
        }


def equipment(dataset: Dataset) -> None:
    """Set what made an object."""
    dataset.Manufacturer = MANUFACTURER
    dataset.ManufacturerModelName = MODEL
    dataset.SoftwareVersions = __version__
    dataset.DeviceSerialNumber = "1"


def identity_of(key: str, header: Dataset | None, pseudonym: str, day: datetime.date | None) -> Identity:
    """The identity of a study.

    `header` is a header of the baseline whose identifiers are to be kept (None: remove them), `pseudonym` what stands
    for the patient otherwise, `day` when the last scan was made (None: unknown).
    """
    if header is not None:
        patient = {name: str(header.get(name, "") or "") for name in _PATIENT}
        return Identity(key, patient, day or NEUTRAL_DAY, True)
    name = f"LR-{pseudonym[:12].upper()}"
    return Identity(key, {"PatientName": f"{name}^", "PatientID": name}, day or NEUTRAL_DAY, False)


def body_part(dataset: Dataset) -> None:
    """Set what an image shows; the chest is unpaired, so that no laterality is due."""
    dataset.BodyPartExamined = "CHEST"
