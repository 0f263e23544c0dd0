"""Masks as DICOM segmentations with standard codes."""

from collections.abc import Mapping

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from LungRecoveryLib.report.dicom.codes import SEGMENTS, Segment
from LungRecoveryLib.report.dicom.identity import Identity, body_part, uid
from LungRecoveryLib.report.dicom.volumes import algorithm, into_study, maker, place


def segmentation(
    masks: Mapping[str, sitk.Image], source: list[Dataset], identity: Identity, number: int, label: str, *parts: str
) -> tuple[hd.seg.Segmentation, dict[tuple[str, int], int]] | None:
    """The masks of one time point, which lie on one grid, as one object; None where all of them are empty.

    `masks` maps layers ("lungs", "lobes", "lesions") to label maps. Returns the object and {(layer, value): segment}.
    """
    chosen: list[tuple[str, int, Segment]] = []
    planes = []
    for layer, image in masks.items():
        array = sitk.GetArrayViewFromImage(image)
        for value, segment in SEGMENTS[layer].items():
            if np.any(array == value):
                chosen.append((layer, value, segment))
                planes.append(array == value)
    if not chosen:
        return None
    descriptions = [
        hd.seg.SegmentDescription(
            segment_number=i,
            segment_label=segment.name,
            segmented_property_category=segment.category,
            segmented_property_type=segment.kind,
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm(),
            tracking_uid=uid(identity.key, "segment", *parts, layer, value),
            tracking_id=f"{label}: {segment.name}",
            anatomic_regions=[segment.region] if segment.region else None,
            display_color=hd.color.CIELabColor.from_rgb(*segment.colour),
        )
        for i, (layer, value, segment) in enumerate(chosen, start=1)
    ]
    made = hd.seg.Segmentation(
        source_images=source,
        pixel_array=np.stack(planes, axis=-1).astype(np.uint8),
        segmentation_type="BINARY",
        segment_descriptions=descriptions,
        series_number=number,
        instance_number=1,
        content_label="LUNGS",
        content_description=f"{label}: masks"[:64],
        series_description=f"{label}: masks"[:64],
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **identity.uids("segmentation", *parts),
        **maker(),
        **place(next(iter(masks.values()))),
    )
    into_study(made, identity)
    body_part(made)
    return made, {(layer, value): i for i, (layer, value, _) in enumerate(chosen, start=1)}
