"""The report as a PDF on A4, with the same words, tables and figures as the HTML page."""

from collections.abc import Mapping
from pathlib import Path

from PIL import Image

from LungRecoveryLib.progress import Progress, no_progress
from LungRecoveryLib.report import checks, content, lesion_tables, radiomics_table, tables, text
from LungRecoveryLib.report.pages import Document
from LungRecoveryLib.report.pictures import Figures
from LungRecoveryLib.report.style import LIGHT
from LungRecoveryLib.results import StudyResult, TimePointResult

TITLE = "LungRecovery report"


def write(
    study: StudyResult,
    figures: Figures,
    images: Mapping[str, Image.Image],
    path: Path,
    progress: Progress = no_progress,
) -> None:
    """Write the PDF of a report; `images` are its figures, drawn, by their names."""
    document = Document(TITLE, images)
    _summary(document, study, figures)
    _scores(document, study)
    _density(document, study, figures)
    for i, timepoint in enumerate(study.followups):
        progress("report", 0.5 * i / len(study.followups), f"{path.name}: {timepoint.label}")
        _followup(document, study, timepoint, figures)
    _method(document, study)
    document.heading("Density by region", 2)
    for timepoint in study.timepoints:
        document.table(tables.density_by_region(study, timepoint))
    progress("report", 0.6, path.name)
    document.save(path)


def _summary(document: Document, study: StudyResult, figures: Figures) -> None:
    document.heading(text.overall(study), 1)
    document.paragraph(
        "  ·  ".join(f"{key}: {value}" for key, value in content.facts(study)), 7.4, LIGHT.muted, after=7
    )
    document.heading("Summary", 2)
    for t in study.timepoints:
        name = text.get(t.scores, text.WHOLE, "class")
        mark = "⚠" if not t.reliable else "·" if t.baseline else text.CLASS_SYMBOL.get(name or "", "·")
        document.paragraph(text.summary(study, t), mark=mark)
    warned = content.warnings(study)
    if warned:
        document.space(6)
        document.boxed("Please note", [f"{who}: {sentence}" for who, sentence in warned])
    for drawing in figures.charts:
        if drawing.name == "trajectory":
            document.figure(drawing)
    document.table(tables.scores_by_time(study))
    for drawing in figures.course:
        document.figure(drawing)


def _scores(document: Document, study: StudyResult) -> None:
    document.heading("Scores in detail", 2)
    document.lines("The scores in words", tables.score_explanations(study))
    course = tables.trajectory_table(study)
    if course:
        document.table(course)
    if study.followups:
        if tables.has_recovery(study):
            document.table(tables.recovery_by_region(study))
        document.table(tables.jacobian_by_region(study))
    if study.comparisons:
        document.table(tables.comparisons(study))
    document.heading("How to read this", 3)
    for sentence in content.how_to_read(study):
        document.paragraph(sentence, 7.8, mark="•", after=2)


def _density(document: Document, study: StudyResult, figures: Figures) -> None:
    document.heading("Density and volume", 2)
    for drawing in figures.charts:
        if drawing.name != "trajectory":
            document.figure(drawing)
    document.table(tables.density_over_time(study))
    sick, severity = lesion_tables.lesions_over_time(study), lesion_tables.severity(study)
    _tables(document, sick, severity, radiomics_table.features_over_time(study))


def _tables(document: Document, *made: tables.Table | None) -> None:
    """The tables that there are."""
    for table in made:
        if table is not None:
            document.table(table)


def _followup(document: Document, study: StudyResult, timepoint: TimePointResult, figures: Figures) -> None:
    document.new_page()
    mark = "" if timepoint.reliable else f" {text.UNRELIABLE}"
    document.heading(f"{text.title(timepoint)}{mark}", 2)
    for sentence in text.account(study, timepoint):
        document.paragraph(sentence)
    for drawing in figures.followups.get(timepoint.folder, ()):
        document.figure(drawing)
    document.table(tables.regions_of(study, timepoint))
    followed = (lesion_tables.fates, lesion_tables.classes, lesion_tables.band_changes)
    _tables(document, *(made(study, timepoint) for made in followed))
    for note in content.registration_notes(timepoint):
        document.paragraph(note, 7.5, LIGHT.muted)


def _method(document: Document, study: StudyResult) -> None:
    document.heading("Quality and method", 2)
    if study.followups:
        document.table(checks.quality_table(study))
    document.table(checks.sources(study))
    document.lines("Settings", content.settings_lines(study))
    document.lines("Versions", content.version_lines(study))
    document.lines("Not part of this study", content.absent_lines(study))
    document.lines("Time taken", content.timing_lines(study))
