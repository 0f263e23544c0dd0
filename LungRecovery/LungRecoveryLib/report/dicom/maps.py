"""Maps as DICOM parametric maps: 16-bit voxels with their real-world values, readable as any other image."""

import highdicom as hd
import numpy as np
import SimpleITK as sitk
from pydicom.dataset import Dataset

from LungRecoveryLib.report.dicom.codes import MAPS
from LungRecoveryLib.report.dicom.identity import Identity, body_part
from LungRecoveryLib.report.dicom.volumes import into_study, maker, place

_HIGHEST = 65535


def parametric_map(
    layer: str, image: sitk.Image, lungs: sitk.Image, source: list[Dataset], identity: Identity, number: int,
    label: str, folder: str,
) -> hd.pm.ParametricMap:  # fmt: skip
    """A map of a follow-up on the baseline's grid; voxels outside the lungs are 0."""
    kind = MAPS[layer]
    values = np.where(sitk.GetArrayViewFromImage(lungs) != 0, sitk.GetArrayViewFromImage(image), 0.0)
    stored = np.clip(np.rint((values - kind.intercept) / kind.slope), 0, _HIGHEST).astype(np.uint16)
    meaning = hd.pm.RealWorldValueMapping(
        lut_label=kind.quantity.code.value[:16].upper().replace("-", "_"),
        lut_explanation=kind.quantity.code.meaning[:64],
        unit=kind.quantity.unit,
        value_range=(0, _HIGHEST),
        slope=kind.slope,
        intercept=kind.intercept,
        quantity_definition=kind.quantity.code,
    )
    centre, width = kind.window
    made = hd.pm.ParametricMap(
        source_images=source,
        pixel_array=stored,
        series_number=number,
        instance_number=1,
        contains_recognizable_visual_features=False,
        real_world_value_mappings=[meaning],
        voi_lut_transformations=[
            hd.VOILUTTransformation(
                window_center=(centre - kind.intercept) / kind.slope, window_width=width / kind.slope
            )
        ],
        content_label="MAP",
        content_description=f"{label}: {kind.name}"[:64],
        series_description=f"{label}: {kind.name}"[:64],
        transfer_syntax_uid="1.2.840.10008.1.2.1",
        **identity.uids("map", layer, folder),
        **maker(),
        **place(image),
    )
    into_study(made, identity)
    body_part(made)
    return made
