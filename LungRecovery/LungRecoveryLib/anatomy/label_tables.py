"""Lungs and lobes that another program has segmented: what its labels mean."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from .. import images
from ..errors import BadInput
from ..grids import grid_of, resample_mask, to_image
from .lobes import LOBE_NAMES, Lobes
from .lungs import label_sides
from .sides import LEFT, RIGHT

# The labels of other programs by the names that TotalSegmentator gives to the structures.
TABLES: dict[str, dict[int, str]] = {
    "totalsegmentator": {
        10: "lung_upper_lobe_left",
        11: "lung_lower_lobe_left",
        12: "lung_upper_lobe_right",
        13: "lung_middle_lobe_right",
        14: "lung_lower_lobe_right",
    },
    "lungmask-r231": {1: "lung_right", 2: "lung_left"},
    "lungmask-ltrclobes": {
        1: "lung_upper_lobe_left",
        2: "lung_lower_lobe_left",
        3: "lung_upper_lobe_right",
        4: "lung_middle_lobe_right",
        5: "lung_lower_lobe_right",
    },
}
_LUNGS = {"lung_right": RIGHT, "lung_left": LEFT}
_LOBES = {
    f"lung_{third}_lobe_{side}": label
    for label, (side, third) in ((label, name.split()[:2]) for label, name in LOBE_NAMES.items())
}


def given_lungs(path: Path, scan: sitk.Image, labels: str | None = None) -> tuple[sitk.Image, Lobes | None]:
    """The lungs (1 right, 2 left, uint8) of a mask's file on the grid of `scan`, and its lobes where it names them.

    Without `labels` the mask is any that :func:`.lungs.label_sides` takes. `labels` is the name of one of TABLES, or a
    JSON file {"10": "lung_upper_lobe_left", ...} with TotalSegmentator's names or lung_right and lung_left; labels
    that the table does not name count as no lung. Raises BadInput for a mask or a table that cannot be used.
    """
    if labels is None:
        mask = images.read_mask(path, scan)
        try:
            return label_sides(mask, scan), None
        except BadInput as error:
            raise BadInput(f"{path.name}: {error}") from error
    table = label_table(labels)
    mask = images.read_image(path)
    if mask.GetDimension() != 3 or mask.GetNumberOfComponentsPerPixel() != 1:
        raise BadInput(f"{path}: is no label map of one value a voxel; export it as one, or leave out --labels")
    return _lungs_and_lobes(resample_mask(mask, grid_of(scan)), table, str(path))


def label_table(labels: str) -> dict[int, str]:
    """A table of labels by its name or from its JSON file; BadInput where there is none or it names nothing known."""
    known = TABLES.get(labels.lower())
    if known is not None:
        return known
    if not labels.lower().endswith(".json"):
        raise BadInput(f"there is no table of labels {labels!r}: choose {', '.join(TABLES)}, or name a JSON file")
    try:
        content = json.loads(Path(labels).read_text(encoding="utf-8-sig"))
        table = {int(value): str(name) for value, name in content.items()}
    except (OSError, ValueError, AttributeError) as error:
        raise BadInput(f"{labels} is no table of labels ({error}): write it as {{label: structure}} in JSON") from None
    if not set(table.values()) & {*_LUNGS, *_LOBES}:
        raise BadInput(f"{labels} names neither lung nor lobe: name some of {', '.join((*_LUNGS, *_LOBES))}")
    return table


def _lungs_and_lobes(mask: sitk.Image, table: Mapping[int, str], name: str) -> tuple[sitk.Image, Lobes | None]:
    """The sides and, where the mask has any, the lobes of a label map on its grid."""
    values = np.rint(sitk.GetArrayViewFromImage(mask)).astype(np.int64)
    lungs, lobes = (np.zeros(values.shape, np.uint8) for _ in range(2))
    for value, structure in table.items():
        here = values == value
        if structure in _LUNGS:
            lungs[here] = _LUNGS[structure]
        elif structure in _LOBES:
            lobes[here] = _LOBES[structure]
            lungs[here] = RIGHT if structure.endswith("_right") else LEFT
    if not lungs.any():
        raise BadInput(f"{name}: has no lung by the given labels where its scan lies; give its scan and its own table")
    return to_image(lungs, mask), Lobes(to_image(lobes, mask)) if lobes.any() else None
