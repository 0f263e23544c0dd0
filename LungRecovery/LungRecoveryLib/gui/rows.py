"""The time points as the user lists them: kept in the module's parameter node, checked in words a radiologist knows."""

import datetime
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from slicer.i18n import tr as _

from LungRecoveryLib.errors import BadInput

PATIENT_HASH = "LungRecovery.PatientHash"
"""Where `loading` keeps the hash that the reader of DICOM folders made of the patient ID."""
_KEY = "timePoints"
_LEAST_SLICES = 5
_AIR_HU = -700.0


@dataclass
class Row:
    """A line of the table: the volume node, what the user typed, and the node of the lungs (None: to be segmented).

    `when` is a date as YYYY-MM-DD, a number of days ("30" or "day 30"), or empty.
    """

    volume: Any
    label: str = ""
    when: str = ""
    lungs: Any = None

    @property
    def date(self) -> datetime.date | None:
        """The date, where `when` is one."""
        try:
            return datetime.date.fromisoformat(self.when.strip())
        except ValueError:
            return None

    @property
    def day(self) -> float | None:
        """The number of days, where `when` is one."""
        found = re.fullmatch(r"(?:day\s*)?(-?\d+(?:\.\d+)?)", self.when.strip(), re.IGNORECASE)
        return float(found[1]) if found else None


def read_rows(node: Any) -> list[Row]:
    """The rows kept in a parameter node; those whose volume has left the scene are left out."""
    rows = []
    for item in json.loads(node.GetParameter(_KEY) or "[]"):
        volume = node.GetNodeReference(f"{_KEY}.{item['key']}.volume")
        if volume is not None:
            lungs = node.GetNodeReference(f"{_KEY}.{item['key']}.lungs")
            rows.append(Row(volume, item["label"], item["when"], lungs))
    return rows


def write_rows(node: Any, rows: Sequence[Row]) -> None:
    """Keep rows in a parameter node: nodes as references, which survive saving and loading the scene."""
    before = node.StartModify()
    try:
        for item in json.loads(node.GetParameter(_KEY) or "[]"):
            for role in ("volume", "lungs"):
                node.RemoveNodeReferenceIDs(f"{_KEY}.{item['key']}.{role}")
        items = [{"key": str(i), "label": row.label, "when": row.when} for i, row in enumerate(rows)]
        for item, row in zip(items, rows, strict=True):
            for role, referenced in (("volume", row.volume), ("lungs", row.lungs)):
                if referenced is not None:
                    node.SetNodeReferenceID(f"{_KEY}.{item['key']}.{role}", referenced.GetID())
        node.SetParameter(_KEY, json.dumps(items))
    finally:
        node.EndModify(before)


def days_of(rows: Sequence[Row]) -> list[float | None]:
    """Days since the first row, from dates or from numbers; all None where any is missing."""
    if rows and all(row.date for row in rows):
        return [float((row.date - rows[0].date).days) for row in rows]
    if rows and all(row.day is not None for row in rows):
        return [row.day - rows[0].day for row in rows]
    return [None] * len(rows)


def labels_of(rows: Sequence[Row]) -> list[str]:
    """What each time point is called: as typed, else baseline, then day N or follow-up N."""
    labels = []
    for index, (row, day) in enumerate(zip(rows, days_of(rows), strict=True)):
        plain = f"day {day:g}" if day is not None else f"follow-up {index}"
        label = row.label.strip() or ("baseline" if index == 0 else plain)
        stem, number = label, 2
        while not row.label.strip() and label.lower() in (known.lower() for known in labels):
            label, number = f"{stem} ({number})", number + 1
        labels.append(label)
    return labels


def order_of(rows: Sequence[Row]) -> list[int] | None:
    """The positions of the rows by date or day; None where not all have one of the same kind."""
    for key in ("date", "day"):
        values = [getattr(row, key) for row in rows]
        if rows and all(value is not None for value in values):
            return sorted(range(len(rows)), key=lambda i: values[i])
    return None


def check_rows(rows: Sequence[Row], allow_different_patients: bool = False) -> None:
    """Raise BadInput, in one sentence, for the first thing that stands in the way of an analysis of these rows."""
    if not rows:
        raise BadInput(_("Add the baseline CT and at least one follow-up."))
    for row in rows:
        _check_volume(row.volume)
    seen: dict[str, str] = {}
    for row in rows:
        if row.volume.GetID() in seen:
            raise BadInput(_("{name} is listed twice: remove one of its rows.").format(name=row.volume.GetName()))
        seen[row.volume.GetID()] = row.volume.GetName()
    if len(rows) < 2:
        raise BadInput(_("Add at least one follow-up: the baseline alone cannot be compared."))
    for row in rows:
        _check_lungs(row)
    _check_times(rows)
    _check_labels(labels_of(rows))
    patients = {patient for row in rows if (patient := patient_id(row.volume))}
    if len(patients) > 1 and not allow_different_patients:
        raise BadInput(
            _(
                "The scans belong to different patients. If it is the same person, tick “{option}” in More settings."
            ).format(option=_("Accept scans whose patient IDs differ"))
        )


def _check_volume(volume: Any) -> None:
    name, image = volume.GetName(), volume.GetImageData()
    if image is None or min(image.GetDimensions()) < 1 or image.GetPointData().GetScalars() is None:
        raise BadInput(_("{name} has no voxels: load the scan again.").format(name=name))
    if image.GetNumberOfScalarComponents() != 1:
        raise BadInput(_("{name} is a colour or vector image: choose a CT.").format(name=name))
    if min(image.GetDimensions()) < _LEAST_SLICES:
        raise BadInput(
            _("{name} has too few slices ({slices}): choose the whole scan.").format(
                name=name, slices=min(image.GetDimensions())
            )
        )
    low, high = image.GetScalarRange()
    if low == high or low > _AIR_HU:
        raise BadInput(
            _(
                "{name} is not a chest CT in Hounsfield units: its values run from {low:g} to {high:g}, but air is "
                "at -1000 HU. Choose a CT, or export it again in Hounsfield units."
            ).format(name=name, low=low, high=high)
        )
    check_transform(volume)


def check_transform(node: Any) -> None:
    """Raise BadInput where a node lies under a transform that bends it."""
    parent = node.GetParentTransformNode()
    if parent is not None and not parent.IsTransformToWorldLinear():
        raise BadInput(
            _(
                "{name} lies under the transform {transform}, which is not linear: take it out of that transform, or "
                "harden it in the module Transforms."
            ).format(name=node.GetName(), transform=parent.GetName())
        )


def _check_lungs(row: Row) -> None:
    if row.lungs is None:
        return
    check_transform(row.lungs)
    if row.lungs.IsA("vtkMRMLSegmentationNode"):
        empty = row.lungs.GetSegmentation().GetNumberOfSegments() == 0
    else:
        empty = row.lungs.GetImageData() is None
    if empty:
        raise BadInput(
            _("The lungs {name} are empty: draw them, or choose none to have them segmented.").format(
                name=row.lungs.GetName()
            )
        )


def _check_times(rows: Sequence[Row]) -> None:
    for row in rows:
        if row.when.strip() and row.date is None and row.day is None:
            raise BadInput(
                _("“{text}” is neither a date nor a day: write a date as 2021-03-24 or a number of days.").format(
                    text=row.when.strip()
                )
            )
    given = [row for row in rows if row.when.strip()]
    if given and order_of(rows) is None:
        if len(given) < len(rows):
            raise BadInput(_("Some time points have a date and some have none: give all of them, or none."))
        raise BadInput(_("Some time points have a date and some a number of days: use one of the two."))
    order = order_of(rows)
    if order is not None and order[0] != 0:
        raise BadInput(_("The baseline is not the earliest scan: press “{button}”.").format(button=_("Order by date")))


def _check_labels(labels: Sequence[str]) -> None:
    lowered = [label.lower() for label in labels]
    for index, label in enumerate(labels):
        if not label.isprintable() or len(label) > 60:
            raise BadInput(_("The label “{label}” is too long or cannot be printed.").format(label=label[:60]))
        if label.lower() in lowered[:index]:
            raise BadInput(_("The label “{label}” is used twice: give each time point its own.").format(label=label))
        if index and label.lower() == "baseline":
            raise BadInput(_("Only the first time point may be called baseline."))


def study_date(volume: Any) -> str:
    """The date of a volume's DICOM study as YYYY-MM-DD, from the subject hierarchy; empty where there is none."""
    text = _attribute_above(volume, "DICOM.StudyDate")
    found = re.fullmatch(r"(\d{4})-?(\d{2})-?(\d{2})", text)
    return "-".join(found.groups()) if found else ""


def patient_id(volume: Any) -> str:
    """A hash of a volume's DICOM patient ID, from the subject hierarchy; empty where there is none."""
    known = _attribute_above(volume, PATIENT_HASH)
    identity = _attribute_above(volume, "DICOM.PatientID")
    return known or (hashlib.sha256(f"LungRecovery|{identity}".encode()).hexdigest() if identity else "")


def _attribute_above(node: Any, name: str) -> str:
    """An attribute of the node's item in the subject hierarchy or of the closest item above that has it."""
    import slicer

    if node.GetScene() is None:
        return ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(node.GetScene())
    item = hierarchy.GetItemByDataNode(node)
    while item not in (hierarchy.GetInvalidItemID(), hierarchy.GetSceneItemID()):
        if hierarchy.HasItemAttribute(item, name):
            return hierarchy.GetItemAttribute(item, name).strip()
        item = hierarchy.GetItemParent(item)
    return ""
