"""What segmentations and parametric maps share: the place of a volume's frames, and their maker."""

import copy
from typing import Any

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import DataElement, Dataset

from LungRecoveryLib import __version__
from LungRecoveryLib.report.dicom.identity import MANUFACTURER, MODEL, Identity, uid


def place(image: sitk.Image) -> dict[str, Any]:
    """Where the frames of a volume lie, slice by slice, as highdicom's constructors take it."""
    axes = np.array(image.GetDirection()).reshape(3, 3)
    x, y, z = image.GetSpacing()
    origins = [image.TransformIndexToPhysicalPoint((0, 0, k)) for k in range(image.GetDepth())]
    return {
        "pixel_measures": hd.PixelMeasuresSequence((y, x), z, spacing_between_slices=z),
        "plane_orientation": hd.PlaneOrientationSequence("PATIENT", [*axes[:, 0], *axes[:, 1]]),
        "plane_positions": [hd.PlanePositionSequence("PATIENT", origin) for origin in origins],
    }


def maker() -> dict[str, str]:
    """What made the objects, as highdicom's constructors take it."""
    return {
        "manufacturer": MANUFACTURER,
        "manufacturer_model_name": MODEL,
        "software_versions": __version__,
        "device_serial_number": "1",
    }


def algorithm() -> hd.AlgorithmIdentificationSequence:
    """The program that segmented, as an algorithm's identification."""
    return hd.AlgorithmIdentificationSequence(
        MODEL, hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"), __version__
    )


def into_study(dataset: Dataset, identity: Identity) -> None:
    """Move an object made on source images into the study, its references to images of other studies kept as such."""
    before = dataset.StudyInstanceUID
    for tag in list(dataset.keys()):  # highdicom shares these elements with the source image
        dataset[tag] = copy.copy(dataset[tag])
    identity.describe(dataset)
    _make_reproducible(dataset, identity)
    day = identity.day.strftime("%Y%m%d")
    dataset.ContentDate = dataset.SeriesDate = dataset.InstanceCreationDate = day
    dataset.ContentTime = dataset.SeriesTime = dataset.InstanceCreationTime = "000000"
    if before == identity.study_uid or "ReferencedSeriesSequence" not in dataset:
        return
    other = Dataset()
    other.StudyInstanceUID = before
    other.ReferencedSeriesSequence = dataset.ReferencedSeriesSequence
    dataset.StudiesContainingOtherReferencedInstancesSequence = [other]
    del dataset.ReferencedSeriesSequence


def _make_reproducible(dataset: Dataset, identity: Identity) -> None:
    """Replace what highdicom draws at random or takes from the clock."""

    def replace(within: Dataset, element: DataElement) -> None:
        if element.keyword == "DimensionOrganizationUID":
            element.value = uid(identity.key, "dimensions", dataset.SOPInstanceUID)
        elif element.keyword in ("ContributionDateTime", "ObservationDateTime"):
            element.value = identity.day.strftime("%Y%m%d000000")

    dataset.walk(replace)
