"""The report of a study: one HTML page, a PDF and the figures as PNG."""

import warnings
from pathlib import Path

from LungRecoveryLib.progress import Progress, no_progress, part
from LungRecoveryLib.results import FIGURES, REPORT_HTML, REPORT_PDF, read_study


def write_report(folder: Path, progress: Progress = no_progress) -> None:
    """Write `report.html`, `report.pdf` and `figures/*.png` into the folder of a study.

    Reads `study.json` and the layers it names; a layer that is absent leaves out the figures that would show it. The
    page needs nothing beside itself. Neither names, dates nor paths stand in the report.

    Raises BadInput where the folder holds no readable study.
    """
    from LungRecoveryLib.report import html, pdf, pictures, render, style  # who needs its words alone needs no drawing

    folder = Path(folder)
    study = read_study(folder)
    with style.drawing(), warnings.catch_warnings():
        # A label in a script that the font lacks is shown as boxes in the figures; the page itself has it right.
        warnings.filterwarnings("ignore", message="Glyph .* missing from")
        figures = pictures.collect(study, folder, part(progress, 0.0, 0.4))
        every = list(figures)
        (folder / FIGURES).mkdir(exist_ok=True)
        images, uris = {}, {}
        for i, drawing in enumerate(every):
            progress("report", 0.4 + 0.35 * i / len(every), drawing.name)
            image = images[drawing.name] = render.draw(drawing)
            render.save_png(image, folder / FIGURES / f"{drawing.name}.png")
            uris[drawing.name] = {"light": render.data_uri(image, drawing.on_black)}
            if not drawing.on_black:
                uris[drawing.name]["dark"] = render.data_uri(render.draw(drawing, style.DARK), False)
        progress("report", 0.75, REPORT_HTML)
        (folder / REPORT_HTML).write_text(html.page(study, figures, uris), encoding="utf-8")
        pdf.write(study, figures, images, folder / REPORT_PDF, part(progress, 0.8, 1.0))
    progress("report", 1.0)


__all__ = ["write_report"]
