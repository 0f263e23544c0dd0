"""The report as one self-contained HTML page: no script, nothing loaded from elsewhere."""

from collections.abc import Mapping

from jinja2 import Environment, PackageLoader, StrictUndefined

from LungRecoveryLib.report import checks, content, lesion_tables, radiomics_table, tables, text
from LungRecoveryLib.report.pictures import Figures
from LungRecoveryLib.report.style import NOTICE
from LungRecoveryLib.results import StudyResult


def page(study: StudyResult, figures: Figures, uris: Mapping[str, Mapping[str, str]]) -> str:
    """The HTML of a report.

    `uris` gives for each figure's name the data URI of its picture as "light" and, where it has another for dark pages,
    "dark". All text is escaped.
    """
    environment = Environment(
        loader=PackageLoader("LungRecoveryLib.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("report.html").render(
        study=study,
        figures=figures,
        uris=uris,
        notice=NOTICE,
        text=text,
        tables=tables,
        lesion_tables=lesion_tables,
        radiomics_table=radiomics_table,
        checks=checks,
        content=content,
        last=study.timepoints[-1],
        state=state(study),
    )


def state(study: StudyResult) -> str:
    """How the head of the page looks: the class at the last date, or "unreliable"."""
    last = study.timepoints[-1]
    if not last.reliable:
        return "unreliable"
    return text.get(last.scores, text.WHOLE, "class") or "none"
