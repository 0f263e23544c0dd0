"""Which figures a study's report has: reads the layers that are there, cuts the slices, and says what each shows."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from matplotlib.figure import FigureBase

from LungRecoveryLib.errors import BadInput
from LungRecoveryLib.grids import AIR_HU, grid_of
from LungRecoveryLib.image_files import read_layer
from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.recovery.change_classes import joint_histogram
from LungRecoveryLib.report import charts, figures, style, text, trends
from LungRecoveryLib.report.figures import DENSITY_SCALE, VOLUME_SCALE, Film, Series
from LungRecoveryLib.report.response import RESPONSE_HEIGHT, denser_and_lighter, draw_response
from LungRecoveryLib.report.slices import Plane, lung_box, place_of_change, planes_through
from LungRecoveryLib.results import StudyResult, TimePointResult

MOST_COLUMNS = 5  # of the picture of the course
_NOWHERE = -3000.0  # HU outside the scan: black in any window


@dataclass(frozen=True)
class Drawing:
    """A figure of the report: its file's name, words about it, its height in inches, and how it is drawn."""

    name: str
    title: str
    caption: str
    alt: str
    height: float
    draw: Callable[[FigureBase, style.Theme], None]
    on_black: bool = False


@dataclass(frozen=True)
class Figures:
    """All figures of a report: charts, the picture of the course, and those of each follow-up by its folder's name."""

    charts: tuple[Drawing, ...]
    course: tuple[Drawing, ...]
    followups: dict[str, tuple[Drawing, ...]]

    def __iter__(self):
        yield from (*self.charts, *self.course)
        for drawings in self.followups.values():
            yield from drawings


def collect(study: StudyResult, folder: Path, progress: Progress = no_progress) -> Figures:
    """Read a study's layers and prepare its figures; a layer that is absent leaves out what would show it.

    Raises BadInput for a layer that `study.json` names and that cannot be read.
    """
    lungs = _read(study.baseline, folder, "lungs")
    baseline = _read(study.baseline, folder, "ct")
    if lungs is None or baseline is None or not sitk.GetArrayViewFromImage(lungs).any():
        return Figures(_charts(study), (), {})
    box = lung_box(lungs)
    per_followup: dict[str, tuple[Drawing, ...]] = {}
    changes: list[sitk.Image] = []
    for i, timepoint in enumerate(study.followups):
        here = part(progress, 0.8 * i / len(study.followups), 0.8 * (i + 1) / len(study.followups))
        here("report", 0.0, timepoint.label)
        layers = {name: _read(timepoint, folder, name) for name in ("warped", "jacobian", "density_change")}
        change = layers["density_change"]
        point = place_of_change([change] if change is not None else [], lungs)
        planes = tuple(planes_through(point, box))
        drawings = [_slices(study, timepoint, planes, point, baseline, lungs, layers)]
        if layers["warped"] is not None:
            here("report", 0.5, timepoint.label)
            drawings.append(_registration(timepoint, folder, planes, baseline, lungs, layers["warped"]))
            if layers["jacobian"] is not None:
                drawings.append(_response(study, timepoint, baseline, lungs, layers))
        per_followup[timepoint.folder] = tuple(drawings)
        if change is not None:
            changes.append(sitk.Shrink(change, [min(2, n) for n in change.GetSize()]))
    progress("report", 0.85, "course")
    course = _course(study, folder, place_of_change(changes, lungs), box, baseline)
    return Figures(_charts(study), (course,), per_followup)


def _read(timepoint: TimePointResult, folder: Path, layer: str) -> sitk.Image | None:
    """A layer of a time point; None when the study does not have it."""
    if layer not in timepoint.files:
        return None
    return read_layer(timepoint.layer(folder, layer))


def _grey(plane: Plane, image: sitk.Image, transform: sitk.Transform | None = None) -> np.ndarray:
    """Grey values of a CT in a plane; black outside the scan."""
    return style.grey_levels(plane.cut(image, _NOWHERE, transform))


def _unreliable(timepoint: TimePointResult) -> str:
    if timepoint.reliable:
        return ""
    return f"{text.UNRELIABLE.upper()}: {text.title(timepoint)}, {text.why_unreliable(timepoint)}"


def _slices(
    study: StudyResult,
    timepoint: TimePointResult,
    planes: tuple[Plane, ...],
    point: np.ndarray,
    baseline: sitk.Image,
    lungs: sitk.Image,
    layers: dict[str, sitk.Image | None],
) -> Drawing:
    """Baseline, follow-up and the two maps in three planes."""
    series = [
        Series(
            "Baseline CT",
            tuple(_grey(p, baseline) for p in planes),
            subtitle="" if study.baseline.label.lower() == "baseline" else text.title(study.baseline),
        )
    ]
    under = series[0].pictures
    if layers["warped"] is not None:
        pictures = tuple(_grey(p, layers["warped"]) for p in planes)
        series.append(
            Series("Follow-up CT", pictures, None, f"{text.title(timepoint)}, laid on baseline", not timepoint.reliable)
        )
    maps = (
        ("jacobian", "Volume change", 1.0, figures.volume_to_unit, VOLUME_SCALE),
        ("density_change", "Density change", 0.0, figures.density_to_unit, DENSITY_SCALE),
    )
    for name, title, neutral, to_unit, scale in maps:
        image = layers[name]
        if image is not None:
            pictures = tuple(
                figures.overlay(grey, to_unit(plane.cut(image, neutral)), plane.cut_mask(lungs), scale.colours)
                for plane, grey in zip(planes, under, strict=True)
            )
            series.append(Series(title, pictures, scale, scale.title, not timepoint.reliable))
    film = Film(planes, tuple(series), point, _unreliable(timepoint))
    where = "largest density change" if layers["density_change"] is not None else "middle of the lung"
    at = ", ".join(f"{p.name} {p.position}" for p in planes)
    shown = ", ".join(s.title.lower().replace("ct", "CT") for s in series)
    return Drawing(
        f"{timepoint.folder}_slices",
        f"{text.title(timepoint)}: slices and maps",
        f"Slices through the {where} ({at}; patient coordinates, yellow ticks). Radiological view: the patient's "
        "right is on the left of the picture, head up. Colours lie on the baseline CT, only inside the lung; where "
        "nothing changed the CT shows through. Lung window, level −600, width 1500 HU.",
        f"{_unreliable(timepoint) + '. ' if not timepoint.reliable else ''}Axial, coronal and sagittal slices of "
        f"{shown} at {text.title(timepoint)}. {text.summary(study, timepoint)}",
        film.height,
        film.draw,
        on_black=True,
    )


def _registration(
    timepoint: TimePointResult,
    folder: Path,
    planes: tuple[Plane, ...],
    baseline: sitk.Image,
    lungs: sitk.Image,
    warped: sitk.Image,
) -> Drawing:
    """Checkerboards of baseline and follow-up before and after registration."""
    under = [_grey(p, baseline) for p in planes]
    boards = []
    unwarp = _unwarp(timepoint, folder, lungs)
    if unwarp is not None:
        boards.append(("Before", "shift only", [_grey(p, warped, unwarp) for p in planes]))
    boards.append(("After", "registered", [_grey(p, warped) for p in planes]))
    film = Film(
        planes,
        tuple(
            Series(
                title,
                tuple(figures.checker_picture(a, b) for a, b in zip(under, pictures, strict=True)),
                None,
                subtitle,
                not timepoint.reliable,
            )
            for title, subtitle, pictures in boards
        ),
        unreliable=_unreliable(timepoint),
        planes_across=True,
        highest=3.8,
    )
    how = "Before (only the centres of the lungs brought together) and after" if len(boards) == 2 else "After"
    return Drawing(
        f"{timepoint.folder}_registration",
        f"{text.title(timepoint)}: check of the registration",
        f"{how} registration: squares of the baseline (warm tint) and the follow-up (cool tint) in turn. Vessels, "
        "fissures and the pleura should run on from square to square after registration.",
        f"Checkerboards of baseline and {text.title(timepoint)}, {how[0].lower() + how[1:]} registration. "
        f"{text.verdict_sentence(timepoint)}",
        film.height,
        film.draw,
        on_black=True,
    )


def _response(
    study: StudyResult,
    timepoint: TimePointResult,
    baseline: sitk.Image,
    lungs: sitk.Image,
    layers: dict[str, sitk.Image | None],
) -> Drawing:
    """The densities of corresponding voxels of both dates against each other."""
    warped, jacobian = layers["warped"], layers["jacobian"]
    seen = (sitk.GetArrayViewFromImage(lungs) > 0) & (sitk.GetArrayViewFromImage(warped) > AIR_HU)
    shares = joint_histogram(baseline, warped, jacobian, seen)
    denser, lighter = (text.percent(value, 1) for value in denser_and_lighter(shares))
    mark = "" if timepoint.reliable else f" {text.UNRELIABLE}."
    return Drawing(
        f"{timepoint.folder}_response",
        f"{text.title(timepoint)}: response of the lung, voxel by voxel",
        "How often each pair of densities occurs, in bins of 20 HU. Pairs are voxels that correspond by the "
        "registration, so the picture is as good as it is; the follow-up's density is that at the baseline's volume "
        "(times the Jacobian), so that a deeper breath alone stays on the diagonal. Volumes and densities in the "
        f"tables come from each scan's own voxels instead. Dashed: limits of the density bands.{mark}",
        f"Joint histogram of baseline and {text.title(timepoint)}: {denser} of the lung is denser by more than 100 HU, "
        f"{lighter} less dense.{mark}",
        RESPONSE_HEIGHT,
        lambda figure, theme: draw_response(figure, study, timepoint, shares, theme),
    )


def _unwarp(timepoint: TimePointResult, folder: Path, lungs: sitk.Image) -> sitk.Transform | None:
    """The transform that takes the warped follow-up back to where it was, but for the lungs' centres.

    The study keeps no follow-up CT, only its copy on the baseline's grid: follow-up(q) = warped(inverse(q)). A shift of
    the table is no news for the reader, so q is moved by the distance between the lungs' centres first.
    """
    followup_lungs = _read(timepoint, folder, "lungs")
    if followup_lungs is None or "inverse_transform" not in timepoint.files:
        return None
    path = timepoint.layer(folder, "inverse_transform")
    try:
        inverse = sitk.ReadTransform(str(path))
    except RuntimeError:
        raise BadInput(
            f"{timepoint.files['inverse_transform']} of the study cannot be read: analyse the scans again"
        ) from None
    shift = _centre(followup_lungs) - _centre(lungs)
    return sitk.CompositeTransform([inverse, sitk.TranslationTransform(3, shift.tolist())])


def _centre(mask: sitk.Image) -> np.ndarray:
    """The centre of mass (3,) of a mask, LPS mm."""
    array = sitk.GetArrayViewFromImage(mask) != 0
    index = []
    for axis in (2, 1, 0):
        n = array.sum(axis=tuple(a for a in range(3) if a != axis), dtype=np.int64)
        index.append(float((n * np.arange(len(n))).sum() / max(n.sum(), 1)))
    return grid_of(mask).points(np.array(index)[None])[0]


def _course(
    study: StudyResult, folder: Path, point: np.ndarray, box: tuple[np.ndarray, np.ndarray], baseline: sitk.Image
) -> Drawing:
    """The same two slices at every date."""
    planes = tuple(p for p in planes_through(point, box) if p.name != "sagittal")
    shown = charts.some([t for t in study.timepoints if t.baseline or "warped" in t.files], MOST_COLUMNS)
    series = []
    for t in shown:  # read again rather than kept: native maps are large
        image = baseline if t.baseline else _read(t, folder, "warped")
        subtitle = "" if t.baseline else "laid on baseline" if t.reliable else "unreliable"
        title = text.title(t) if t.reliable else f"⚠ {text.title(t)}"
        series.append(Series(title, tuple(_grey(p, image) for p in planes), None, subtitle, not t.reliable))
    bad = [text.title(t) for t in shown if not t.reliable]
    film = Film(planes, tuple(series), point)
    at = " and ".join(f"{p.name} {p.position}" for p in planes)
    left_out = "" if len(shown) == len(study.timepoints) else " Not every time point is shown."
    mark = f" {text.UNRELIABLE}: {', '.join(bad)}, whose registration failed." if bad else ""
    return Drawing(
        "course",
        "The same place over time",
        f"The slices ({at}) through the place that changed most over all dates, each follow-up laid on the baseline "
        f"by its registration.{left_out}{mark} Lung window, level −600, width 1500 HU.",
        f"Axial and coronal CT slices at {', '.join(text.title(t) for t in shown)}.{mark} {text.overall(study)}",
        film.height,
        film.draw,
        on_black=True,
    )


def _charts(study: StudyResult) -> tuple[Drawing, ...]:
    drawings = []
    bad = [text.title(t) for t in study.timepoints if not t.reliable]
    mark = f" {text.UNRELIABLE}: {', '.join(bad)}." if bad else ""
    scores = charts.series_of(study, tuple(text.SCORES))
    if scores:
        values = "; ".join(
            f"{text.SCORES[name].title} " + ", ".join(text.number(p["value"], 2) for p in s["points"])
            for name, s in scores.items()
        )
        drawings.append(
            Drawing(
                "trajectory",
                "Scores over time",
                "Scores of the whole lung at each date. Tissue recovery says how much of the abnormal lung has "
                f"cleared; the Jacobian scores say how much of the lung kept its volume.{mark}",
                f"Chart of the scores over time. {values}.{mark}",
                charts.TRAJECTORY_HEIGHT,
                lambda figure, theme: charts.draw_trajectory(figure, study, theme),
            )
        )
    measures = charts.series_of(study, charts.SMALL_MULTIPLES)
    if measures:
        values = "; ".join(
            f"{trends.measure_of(s).title} "
            + ", ".join(trends.measure_of(s).show(p["value"], unit=True) for p in s["points"])
            for s in measures.values()
        )
        drawings.append(
            Drawing(
                "density",
                "Density and volume over time",
                f"Measured in each scan's own voxels; bars and shade are 95 % intervals.{mark and ' ✕ hollow:' + mark}",
                f"Charts over time. {values}.",
                charts.measures_height(len(measures)),
                lambda figure, theme: charts.draw_measures(figure, study, theme),
            )
        )
    thirds = [r for r in study.regions if r.split("_")[1:] in (["upper"], ["middle"], ["lower"])]
    if any(text.get(t.density, r, "abnormal_percent") is not None for t in study.timepoints for r in thirds):
        values = "; ".join(
            f"{text.title(t)}: "
            + ", ".join(
                f"{study.regions[r]} {text.percent(text.get(t.density, r, 'abnormal_percent'))}" for r in thirds
            )
            for t in charts.some(study.timepoints, charts.MOST_SCHEMES)
        )
        drawings.append(
            Drawing(
                "regions",
                "Abnormal lung by region",
                "Per cent of each third of each lung that is abnormal (−700 to +100 HU without vessels), measured in "
                "each scan itself; the darker, the more. The patient's right (R) is on the left.",
                f"Schemes of the lungs with the abnormal share of each third. {values}.",
                charts.REGIONS_HEIGHT,
                lambda figure, theme: charts.draw_regions(figure, study, theme),
            )
        )
    if any(text.get(t.density, text.WHOLE, "bands_percent") for t in study.timepoints):
        drawings.append(
            Drawing(
                "bands",
                "What the lung is made of",
                "Share of the whole lung in each band of density, in per cent; shares below 4 % are not labelled.",
                "Bars of the share of the lung in each density band at each date, with the numbers of the density "
                "table.",
                charts.BANDS_HEIGHT,
                lambda figure, theme: charts.draw_bands(figure, study, theme),
            )
        )
    return tuple(drawings)
