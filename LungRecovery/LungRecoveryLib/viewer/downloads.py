"""The study's files for the browser: a list made from the study, looked up by name and never by path."""

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from LungRecoveryLib.report import text
from LungRecoveryLib.results import (
    FIGURES,
    RADIOMICS_FILE,
    REGIONS_FILE,
    REPORT_HTML,
    REPORT_PDF,
    SCORES_FILE,
    STUDY_FILE,
    TRAJECTORY_FILE,
    StudyResult,
)

ROUTE = "/files/"
_SHOWN = (".html", ".pdf", ".png")  # by the browser itself; everything else is saved
# The report is a page of its own: it may reach neither the viewer nor anything else.
_REPORT_POLICY = "sandbox allow-popups; default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:"
_TOP = {
    REPORT_HTML: "Report",
    REPORT_PDF: "Report as PDF",
    SCORES_FILE: "Scores",
    REGIONS_FILE: "Measures of every region",
    TRAJECTORY_FILE: "Course over time",
    RADIOMICS_FILE: "Radiomic features",
    STUDY_FILE: "Everything, for programs",
}

_TITLES = {"ct": "CT", "hu_change": "HU change", "warped": "CT, laid on the baseline"}


@dataclass(frozen=True)
class File:
    """A file of the study as the page offers it: `name` is what a request asks for."""

    name: str
    title: str
    group: str
    path: Path


def study_files(folder: Path, result: StudyResult) -> dict[str, File]:
    """Every file of a study that lies on disk, by name, in the order in which they are offered."""
    found = [File(name, title, "Report and tables", Path(folder) / name) for name, title in _TOP.items()]
    for timepoint in result.timepoints:
        for layer, place in timepoint.files.items():
            title = _TITLES.get(layer) or layer.replace("_", " ").capitalize()
            found.append(File(place, title, text.title(timepoint), timepoint.layer(folder, layer)))
    figures = sorted((Path(folder) / FIGURES).glob("*.png"))
    found += [File(f"{FIGURES}/{p.name}", p.stem.replace("_", " ").capitalize(), "Figures", p) for p in figures]
    return {file.name: file for file in found if file.path.is_file()}


def for_page(files: dict[str, File]) -> list[dict]:
    """The files in groups, as the page lists them."""
    groups: dict[str, list[dict]] = {}
    for file in files.values():
        entry = {"name": file.name, "title": file.title, "size": _size(file.path), "address": f"files/{file.name}"}
        entry["shown"] = file.path.suffix in _SHOWN
        groups.setdefault(file.group, []).append(entry)
    return [{"title": title, "files": entries} for title, entries in groups.items()]


class Downloads:
    """Answers requests for the study's files; `files` changes when a study is shown."""

    def __init__(self) -> None:
        self.files: dict[str, File] = {}

    def routes(self) -> list[web.RouteDef]:
        """What the server has to route here."""
        return [web.get(ROUTE + "{name:.+}", self._answer)]

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        file = self.files.get(request.match_info["name"])
        if file is None:
            return web.Response(status=404, text="The study has no such file.")
        if not file.path.is_file():
            return web.Response(status=404, text="This file of the study is gone: analyse the scans again.")
        headers = {"Content-Disposition": f'attachment; filename="{file.name.replace("/", "-")}"'}
        if file.path.suffix in _SHOWN:
            headers = {"Content-Security-Policy": _REPORT_POLICY} if file.path.suffix == ".html" else {}
        return web.FileResponse(file.path, headers=headers)


def _size(path: Path) -> str:
    size = path.stat().st_size
    return f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{max(1, round(size / 1e3))} kB"
