"""The scans of a job, read and checked before any slow work: order and days, labels, lung masks, landmarks."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path

import numpy as np
import SimpleITK as sitk

from LungRecoveryLib import evaluate, grids, images
from LungRecoveryLib.anatomy import lungs as anatomy_lungs
from LungRecoveryLib.anatomy.label_tables import given_lungs
from LungRecoveryLib.anatomy.lobes import Lobes
from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.job import Job, TimePoint, with_labels
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.results import BASELINE, folder_name

_SIDES = {anatomy_lungs.RIGHT: "right", anatomy_lungs.LEFT: "left"}
# Least share of a mask that makes a side count, and least share of the largest section that makes a lung count as cut.
_SIDE_SHARE = 0.05
_CUT_SHARE = 0.25


@dataclass
class Visit:
    """A time point with its scan: the final label, days since the baseline (None: unknown) and its folder's name.

    `lungs` (1 right, 2 left, on the scan's grid) and `scan` are released by the study when they are no longer needed;
    `lobes` are those that came with the lungs.
    """

    label: str
    folder: str
    days: float | None
    scan: images.Scan | None
    lungs: sitk.Image | None = None
    lungs_source: str = "segmented"
    lobes: Lobes | None = None
    lesions_source: str = "segmented"
    landmarks: evaluate.LandmarkPairs | None = None
    warnings: list[str] = field(default_factory=list)
    path: Path | None = None


def read_visits(job: Job, progress: Progress = no_progress) -> tuple[list[Visit], list[str]]:
    """The visits of a job, the baseline first, and warnings about the whole; nothing is segmented yet.

    Raises BadInput for every input that cannot be used.
    """
    for timepoint in job.timepoints:
        for path in (timepoint.path, timepoint.lungs, timepoint.landmarks):
            if path is not None and not path.exists():
                raise BadInput(f"{path}: does not exist; correct the path")
    paths = [timepoint.path for timepoint in job.timepoints]
    series = {i: t.series for i, t in enumerate(job.timepoints) if t.series is not None}
    scans = images.read_scans(paths, series, job.allow_different_patients, part(progress, 0.0, 0.9))
    timepoints, order, warnings = order_by_days(job.timepoints, [scan.date for scan in scans])
    timepoints = with_labels(timepoints)
    names = {scans[i].name: timepoint.label for timepoint, i in zip(timepoints, order, strict=True)}
    visits: list[Visit] = []
    for timepoint, index in zip(timepoints, order, strict=True):
        folder = folder_name(timepoint.label, [visit.folder for visit in visits]) if visits else BASELINE
        scan = scans[index]
        visit = Visit(timepoint.label, folder, timepoint.days, scan, path=timepoint.path)
        visit.warnings = [_without_names(w.removeprefix(f"{scan.name}: "), names) for w in scan.warnings]
        if timepoint.lungs is not None:
            visit.lungs, visit.lobes = given_lungs(timepoint.lungs, scan.image, job.labels)
            visit.lungs_source = "given"
        if timepoint.landmarks is not None:
            visit.landmarks = evaluate.read_landmarks(timepoint.landmarks)
        visits.append(visit)
    return visits, warnings


def _without_names(text: str, names: dict[str, str]) -> str:
    """A text with the names of files and folders, which may tell the patient's, replaced by the labels."""
    for name in sorted(filter(None, names), key=len, reverse=True):
        text = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", names[name], text)
    return text


def order_by_days(
    timepoints: Sequence[TimePoint], dates: Sequence[date | None]
) -> tuple[tuple[TimePoint, ...], list[int], list[str]]:
    """Time points in order with days since the baseline, the index each had, and warnings.

    Given days stand, and may not contradict the dates by more than a day. Without them the dates put the scans in order
    where all are known. Raises BadInput for contradictions, naming the scan.
    """
    order = list(range(len(timepoints)))
    warnings: list[str] = []
    days = _days(timepoints, dates)
    if all(day is not None for day in days):
        order.sort(key=lambda i: days[i])
    if order[0] != 0:
        first, earliest = timepoints[0], timepoints[order[0]]
        if (first.label or "").lower() == BASELINE:
            raise BadInput(
                f"{first.path.name} is labelled baseline but dated after {earliest.path.name}: swap the labels"
            )
    if order != sorted(order):
        warnings.append("the scans were put in the order of their dates; the earliest is the baseline")
    start = days[order[0]]
    ordered = tuple(
        replace(timepoints[i], days=None if days[i] is None or start is None else days[i] - start) for i in order
    )
    if all(item.days is None for item in ordered[1:]):
        ordered = tuple(replace(item, days=None) for item in ordered)
        warnings.append("the scans have no dates: the trajectory is drawn over the visits, without days (give --days)")
    return ordered, order, warnings


def _days(timepoints: Sequence[TimePoint], dates: Sequence[date | None]) -> list[float | None]:
    """Days since the first scan, from what was given and from the dates; None where neither tells."""
    first = dates[0]
    dated = [None if d is None or first is None else float((d - first).days) for d in dates]
    if timepoints[0].days is None:  # then no scan has given days: the job was checked
        known = [d for d in dates if d is not None]
        if len(known) < len(dates) and known != sorted(known):
            raise BadInput(
                "the scans are not in the order of their dates, and some have none: name them in order, or give --days"
            )
        return dated
    days: list[float | None] = []
    for timepoint, from_date in zip(timepoints, dated, strict=True):
        given = None if timepoint.days is None else timepoint.days - timepoints[0].days
        if given is not None and from_date is not None and abs(given - from_date) > 1:
            raise BadInput(
                f"{timepoint.path.name} is dated {from_date:.0f} days after {timepoints[0].path.name}, but --days says "
                f"{given:g}: correct --days or leave it out"
            )
        days.append(from_date if given is None else given)
    return days


@contextmanager
def about(name: str) -> Iterator[None]:
    """Put the name of a file before the message of a BadInput that the block raises."""
    try:
        yield
    except BadInput as error:
        raise BadInput(f"{name}: {error}") from error


def check_overlap(baseline: Visit, followup: Visit) -> None:
    """Raise BadInput where two crops cannot show the same lung: another side, or another height in the same space.

    The side of a lung that is alone in its field is a guess. Where two such guesses differ but both lungs lie in the
    same place, the follow-up takes the baseline's side, with a warning.
    """
    sides = [_sides(visit.lungs) for visit in (baseline, followup)]
    if not sides[0] & sides[1] and _same_place(baseline.lungs, followup.lungs):
        (side,) = sides[0]
        followup.lungs = (followup.lungs != 0) * side
        followup.warnings.append(f"which lung it shows was not certain; taken as the {_SIDES[side]} one, as before")
    elif not sides[0] & sides[1]:
        shown = [" and ".join(_SIDES[side] for side in sorted(s)) for s in sides]
        raise BadInput(
            f"{followup.scan.name}: shows the {shown[1]} lung but the baseline {baseline.scan.name} shows the "
            f"{shown[0]} lung; give scans that show the same lung"
        )
    heights = [_height(visit.lungs) for visit in (baseline, followup)]
    for (low, high, cut_below, _), (other_low, other_high, _, other_cut_above) in (heights, heights[::-1]):
        if cut_below and other_cut_above and (low >= other_high or other_low >= high):
            raise BadInput(
                f"{followup.scan.name}: shows another part of the lung than the baseline {baseline.scan.name}; "
                "give scans that show the same part"
            )


def _sides(lungs: sitk.Image) -> set[int]:
    counts = np.bincount(sitk.GetArrayViewFromImage(lungs).ravel(), minlength=3)
    return {side for side in _SIDES if counts[side] > _SIDE_SHARE * counts[1:].sum()}


def _same_place(a: sitk.Image, b: sitk.Image) -> bool:
    """Whether the boxes around two lungs overlap by more than half of the smaller one along each LPS axis."""
    spans = []
    for lungs in (a, b):
        box = grids.crop_to_mask(lungs, 0.0)
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in box.size])).reshape(3, -1).T
        points = box.points(corners)
        spans.append((points.min(axis=0), points.max(axis=0)))
    (low, high), (other_low, other_high) = spans
    common = np.minimum(high, other_high) - np.maximum(low, other_low)
    return bool(np.all(common > 0.5 * np.minimum(high - low, other_high - other_low)))


def _height(lungs: sitk.Image) -> tuple[float, float, bool, bool]:
    """Lowest and highest LPS z of a lung mask in mm, and whether the field cuts it below and above."""
    grid = grids.grid_of(lungs)
    axis = int(np.argmax(np.abs(grid.axes[2])))  # the index axis that runs up the patient
    array = sitk.GetArrayViewFromImage(lungs) != 0
    area = array.sum(axis=tuple(a for a in range(3) if a != 2 - axis))
    within = np.flatnonzero(area)
    ends = np.tile((np.array(grid.size) - 1) / 2.0, (2, 1))
    ends[:, axis] = within[0], within[-1]
    heights = grid.points(ends)[:, 2]
    cut = (area[0] > _CUT_SHARE * area.max(), area[-1] > _CUT_SHARE * area.max())
    upwards = heights[0] <= heights[1]
    low, high = (float(h) for h in (heights if upwards else heights[::-1]))
    return (low, high, *(cut if upwards else cut[::-1]))


def input_paths(job: Job) -> list[Path]:
    """Every path that a job reads."""
    return [p for t in job.timepoints for p in (t.path, t.lungs, t.landmarks) if p is not None]
