"""Text, tables and figures that flow down the A4 pages of a PDF; each page carries the notice and its number."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cache
from io import BytesIO
from pathlib import Path
from xml.sax.saxutils import escape

import matplotlib
from PIL import Image as Picture
from reportlab import rl_config
from reportlab.lib.enums import TA_LEFT, TA_RIGHT
from reportlab.lib.pagesizes import A4
from reportlab.lib.styles import ParagraphStyle
from reportlab.lib.units import inch
from reportlab.pdfbase import pdfmetrics
from reportlab.pdfbase.ttfonts import TTFont
from reportlab.pdfgen.canvas import Canvas
from reportlab.platypus import (
    CondPageBreak,
    Flowable,
    Image,
    KeepTogether,
    PageBreakIfNotEmpty,
    Paragraph,
    SimpleDocTemplate,
    Spacer,
)
from reportlab.platypus import Table as Grid

from LungRecoveryLib.report import render, style
from LungRecoveryLib.report.pictures import Drawing
from LungRecoveryLib.report.style import LIGHT, NOTICE
from LungRecoveryLib.report.tables import LEFT, Column, Row, Table

WIDTH, HEIGHT = A4
TEXT_WIDTH = style.PAGE_WIDTH * inch
MARGIN = (WIDTH - TEXT_WIDTH) / 2
_TOP, _BOTTOM = 0.95 * inch, 0.85 * inch
_TEXT_HEIGHT = HEIGHT - _TOP - _BOTTOM
_LEADING = 1.42
_CELL_PAD = 0.05 * inch  # at each side of a cell
_LEVEL = 0.12 * inch  # by which a row's level indents it
_MARK = "#fbe7a8"
_NOTE = 6.4  # points: size of the small print in a cell
_MOST_COLUMNS = 9
_WHOLE = 5.0 * inch  # tables up to this height are kept on one page
_NORMAL, _BOLD = "DejaVuSans", "DejaVuSans-Bold"


@cache
def _register_fonts() -> None:
    """The fonts that ship with matplotlib, so that the page looks the same everywhere."""
    for name in (_NORMAL, _BOLD):
        pdfmetrics.registerFont(TTFont(name, Path(matplotlib.get_data_path(), "fonts", "ttf", f"{name}.ttf")))


@cache
def _style(
    size: float,
    bold: bool = False,
    color: str = LIGHT.ink,
    leading: float = _LEADING,
    indent: float = 0.0,
    right: bool = False,
    before: float = 0.0,
    after: float = 0.0,
    bullet: float | None = None,
) -> ParagraphStyle:
    font = _BOLD if bold else _NORMAL
    return ParagraphStyle(
        "text",
        fontName=font,
        fontSize=size,
        leading=size * leading,
        textColor=color,
        alignment=TA_RIGHT if right else TA_LEFT,
        leftIndent=indent,
        spaceBefore=before,
        spaceAfter=after,
        bulletIndent=bullet or 0.0,
        bulletFontName=font,
        bulletFontSize=size,
    )


def _text(words: str, look: ParagraphStyle, mark: str | None = None) -> Paragraph:
    return Paragraph(escape(" ".join(words.split())), look, bulletText=mark)


class Document:
    """A PDF in the making; `images` are the figures that it shows, drawn, by their names. Lengths are points."""

    def __init__(self, title: str, images: Mapping[str, Picture.Image]):
        _register_fonts()
        self.title = title
        self._images = images
        self._headings: list[Flowable] = []  # that wait for what they head
        self._story: list[Flowable] = []

    def new_page(self) -> None:
        """Begin a page, unless the current one is empty."""
        self._story.append(PageBreakIfNotEmpty())

    def space(self, height: float) -> None:
        """Leave some space, none at the top of a page."""
        self._story.append(Spacer(0, height))

    def heading(self, words: str, level: int = 2) -> None:
        """A heading, which stays on the page of what follows it."""
        size = {1: 15.0, 2: 12.5, 3: 9.5}[level]
        before, after = {1: (0, 9), 2: (22, 6.5), 3: (12, 4)}[level]
        self._headings.append(_text(words, _style(size, bold=True, leading=1.3, before=before, after=after)))

    def _add(self, *made: Flowable) -> None:
        """Put something below its headings: on one page with them, or only its beginning where it is long."""
        height = sum(flowable.wrap(TEXT_WIDTH, _TEXT_HEIGHT)[1] for flowable in made)
        if len(made) > 1 or height < _WHOLE:
            self._story.append(KeepTogether([*self._headings, *made]))
        else:
            self._story += [CondPageBreak(1.2 * inch), *self._headings, *made]
        self._headings = []

    def paragraph(
        self, words: str, size: float = 8.5, color: str = LIGHT.ink, after: float = 5.0, mark: str | None = None
    ) -> None:
        """A paragraph; `mark` is a symbol that hangs before it."""
        look = _style(size, color=color, after=after, indent=0.2 * inch if mark else 0.0)
        self._add(_text(words, look, mark))

    def boxed(self, title: str, sentences: Sequence[str]) -> None:
        """Sentences under a title in a tinted box."""
        rows = [[_text(title, _style(8.5, bold=True))]]
        rows += [[_text(s, _style(8.0, indent=0.16 * inch), "•")] for s in sentences]
        looks = [("BACKGROUND", (0, 0), (-1, -1), "#fff6dc"), ("BOX", (0, 0), (-1, -1), 0.6, "#e0b23a")]
        looks += [("LEFTPADDING", (0, 0), (-1, -1), 10), ("RIGHTPADDING", (0, 0), (-1, -1), 10)]
        looks += [("TOPPADDING", (0, 0), (-1, -1), 1.5), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
        looks += [("TOPPADDING", (0, 0), (-1, 0), 6), ("BOTTOMPADDING", (0, -1), (-1, -1), 7)]
        self._add(Grid(rows, colWidths=[TEXT_WIDTH], style=looks, spaceAfter=10, spaceBefore=4))

    def lines(self, title: str, pairs: Sequence[tuple[str, str]], size: float = 8.0) -> None:
        """A list of names and values under a title."""
        if not pairs:
            return
        self.heading(title, 3)
        left = min(2.3 * inch, max(_width_of(key, size) for key, _ in pairs) + 0.2 * inch)
        rows = [[_text(key, _style(size, color=LIGHT.muted)), _text(value, _style(size))] for key, value in pairs]
        looks = [("LEFTPADDING", (0, 0), (-1, -1), 0), ("RIGHTPADDING", (1, 0), (1, -1), 0)]
        looks += [("TOPPADDING", (0, 0), (-1, -1), 0), ("BOTTOMPADDING", (0, 0), (-1, -1), 1.5)]
        looks += [("VALIGN", (0, 0), (-1, -1), "TOP")]
        self._add(Grid(rows, colWidths=[left, TEXT_WIDTH - left], style=looks, spaceAfter=4))

    def figure(self, drawing: Drawing) -> None:
        """A figure with its title and its caption."""
        self.heading(drawing.title, 3)
        file = BytesIO(render.encoded(self._images[drawing.name], drawing.on_black))
        image = Image(file, TEXT_WIDTH, drawing.height * inch)
        self._add(image, _text(drawing.caption, _style(7.2, color=LIGHT.muted, before=4, after=7)))

    def table(self, table: Table, size: float = 7.8) -> None:
        """A table with its notes; its head is repeated where it runs over a page, and too many columns are split up."""
        for piece in _pieces(table):
            self.heading(piece.title, 3)
            self._add(_grid(piece, size if len(piece.columns) <= 8 else size - 0.5))
        for note in table.notes:
            self.paragraph(note, 7.2, LIGHT.muted, after=2)
        self.space(4)

    def save(self, path: Path) -> None:
        """Number the pages and write them, without a date or an author in the file."""
        template = SimpleDocTemplate(
            str(path),
            pagesize=A4,
            leftMargin=MARGIN - 6,  # a frame pads its content by so much
            rightMargin=MARGIN - 6,
            topMargin=_TOP - 6,
            bottomMargin=_BOTTOM - 6,
            title=self.title,
            subject=NOTICE,
            author="LungRecovery",
            creator="LungRecovery",
            producer="LungRecovery",
            invariant=1,
            lang="en",
        )
        rl_config.useA85 = 0  # images as bytes, not as text of a quarter more
        template.build(self._story, canvasmaker=_Pages)


class _Pages(Canvas):
    """Pages that are written when their number is known."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self._finished: list[dict] = []

    def showPage(self) -> None:
        """Keep the page for `save`."""
        self._finished.append(dict(self.__dict__))
        self._startPage()

    def save(self) -> None:
        """Write every page with its head and its foot."""
        for number, page in enumerate(self._finished, start=1):
            self.__dict__.update(page)
            self._furniture(number, len(self._finished))
            super().showPage()
        super().save()

    def _furniture(self, number: int, count: int) -> None:
        right = MARGIN + TEXT_WIDTH
        self.setStrokeColor(LIGHT.grid)
        self.setLineWidth(0.5)
        for y in (HEIGHT - 0.68 * inch, 0.62 * inch):
            self.line(MARGIN, y, right, y)
        self.setFillColor(LIGHT.ink)
        self.setFont(_BOLD, 7.5)
        self.drawString(MARGIN, HEIGHT - 0.6 * inch, self._doc.info.title)
        self.setFillColor(LIGHT.muted)
        self.setFont(_NORMAL, 7.5)
        self.drawRightString(right, HEIGHT - 0.6 * inch, NOTICE)
        self.setFont(_NORMAL, 7.0)
        self.drawString(MARGIN, 0.46 * inch, NOTICE)
        self.drawRightString(right, 0.46 * inch, f"Page {number} of {count}")


def _width_of(words: str, size: float, bold: bool = False) -> float:
    return pdfmetrics.stringWidth(words, _BOLD if bold else _NORMAL, size)


def _grid(table: Table, size: float) -> Grid:
    """A table that runs over pages and repeats its head."""
    levels = any(row.level for row in table.rows)
    rows = [[_head(column, size - 0.5) for column in table.columns]]
    looks = [
        ("LEFTPADDING", (0, 0), (-1, -1), _CELL_PAD),
        ("LEFTPADDING", (0, 0), (0, -1), 0),
        ("RIGHTPADDING", (0, 0), (-1, -1), _CELL_PAD),
        ("TOPPADDING", (0, 0), (-1, -1), 1.2),
        ("BOTTOMPADDING", (0, 0), (-1, -1), 2.2),
        ("VALIGN", (0, 0), (-1, 0), "BOTTOM"),
        ("VALIGN", (0, 1), (-1, -1), "TOP"),
        ("LINEBELOW", (0, 0), (-1, 0), 0.8, LIGHT.muted),
        ("LINEBELOW", (0, 1), (-1, -1), 0.5, LIGHT.grid),
    ]
    for number, row in enumerate(table.rows, start=1):
        rows.append(_cells(row, table.columns, size, levels))
        if row.unreliable:
            looks.append(("BACKGROUND", (0, number), (-1, number), _MARK))
    return Grid(rows, colWidths=_widths(table, size), style=looks, repeatRows=1, spaceAfter=5)


def _head(column: Column, size: float) -> list[Paragraph]:
    right = column.align != LEFT
    made = [_text(column.title, _style(size, bold=True, color=LIGHT.muted, leading=1.3, right=right))]
    if column.unit:
        made.append(_text(column.unit, _style(size, color=LIGHT.muted, leading=1.3, right=right)))
    return made


def _cells(row: Row, columns: Sequence[Column], size: float, levels: bool) -> list[list[Paragraph]]:
    made = []
    for i, (column, words) in enumerate(zip(columns, row.cells, strict=True)):
        bold = levels and i == 0 and row.level == 0
        indent = _LEVEL * row.level if i == 0 else 0.0
        made.append([_text(words, _style(size, bold=bold, leading=1.32, indent=indent, right=column.align != LEFT))])
    if row.note:
        made[0].append(_text(row.note, _style(_NOTE, color=LIGHT.muted, leading=1.3)))
    return made


def _widths(table: Table, size: float) -> list[float]:
    """Widths in points that fill the page: what words and numbers need, and the rest by the columns' weights."""
    needs, least = [], 0.0
    for i, column in enumerate(table.columns):
        need = max(_width_of(word, size - 0.5, True) for word in (*column.title.split(" "), column.unit))
        cells = [(row.cells[i], _LEVEL * row.level if i == 0 else 0.0) for row in table.rows]
        words = max((max(_width_of(w, size, True) for w in c.split(" ")) + indent for c, indent in cells), default=0)
        whole = max((_width_of(c, size, i == 0) + indent for c, indent in cells), default=0)
        pad = 2 * _CELL_PAD + 1.5
        if i == 0:
            least = max(need, words) + pad
        needs.append(min(max(need, words if column.align == LEFT and i > 0 else whole) + pad, 2.2 * inch))
    spare = TEXT_WIDTH - sum(needs)
    if spare < 0:  # break the first column into lines before anything else
        needs[0] = max(least, needs[0] + spare)
        return [TEXT_WIDTH * need / sum(needs) for need in needs]
    total = sum(c.width for c in table.columns)
    return [need + spare * c.width / total for need, c in zip(needs, table.columns, strict=True)]


def _pieces(table: Table) -> list[Table]:
    """A table with at most `_MOST_COLUMNS` columns as it is, else several that repeat the first column."""
    n = len(table.columns)
    if n <= _MOST_COLUMNS:
        return [table]
    step = _MOST_COLUMNS - 1
    return [
        Table(
            table.title if start == 1 else f"{table.title} (continued)",
            (table.columns[0], *table.columns[start : start + step]),
            tuple(replace(r, cells=(r.cells[0], *r.cells[start : start + step])) for r in table.rows),
        )
        for start in range(1, n, step)
    ]
