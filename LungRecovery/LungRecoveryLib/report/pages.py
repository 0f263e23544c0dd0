"""A small page setter on matplotlib: text, tables and figures flow down A4 pages that carry the notice and a number."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from matplotlib.backends.backend_pdf import FigureCanvasPdf, PdfPages
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from LungRecoveryLib.report import style
from LungRecoveryLib.report.pictures import Drawing
from LungRecoveryLib.report.style import LIGHT, NOTICE
from LungRecoveryLib.report.tables import LEFT, Column, Row, Table

WIDTH, HEIGHT = 210 / 25.4, 297 / 25.4  # A4, inches
MARGIN = (WIDTH - style.PAGE_WIDTH) / 2
_TOP, _BOTTOM = 0.95, HEIGHT - 0.85  # where the text of a page begins and ends
_LEADING = 1.42
_CELL_PAD = 0.05  # inches at each side of a cell
_MARK = "#fbe7a8"
_NOTE = 6.4  # points: size of the small print in a cell
_MOST_COLUMNS = 9
_WHOLE = 5.0  # inches: tables up to this height are kept on one page


@cache
def _font(weight: str):
    return get_font(findfont(FontProperties(family="DejaVu Sans", weight=weight)))


@cache
def width_of(words: str, size: float, weight: str = "normal") -> float:
    """The width of a line of text in inches."""
    font = _font(weight)
    font.set_size(size, 72)
    font.set_text(words, 0.0)
    return font.get_width_height()[0] / 64 / 72


def wrap(words: str, size: float, width: float, weight: str = "normal") -> list[str]:
    """Break text into lines no wider than `width` inches; a word that is wider alone is cut."""
    lines: list[str] = []
    line = ""
    for word in words.replace("\n", " ").split(" "):
        while width_of(word, size, weight) > width and len(word) > 1:
            cut = next(n for n in range(len(word) - 1, 0, -1) if n == 1 or width_of(word[:n], size, weight) <= width)
            lines += [line] if line else []
            lines.append(word[:cut])
            line, word = "", word[cut:]
        candidate = f"{line} {word}" if line else word
        if line and width_of(candidate, size, weight) > width:
            lines.append(line)
            line = word
        else:
            line = candidate
    return [*lines, line]


class Document:
    """Pages of a PDF in the making. Lengths are inches, `y` counts from the top of the page."""

    def __init__(self, title: str):
        self.title = title
        self.pages: list[Figure] = []
        self.y = _BOTTOM
        self.new_page()

    def new_page(self) -> None:
        """Begin a page."""
        self.pages.append(Figure(figsize=(WIDTH, HEIGHT), facecolor="white"))
        self.y = _TOP

    @property
    def empty(self) -> bool:
        """Whether nothing stands on the current page yet."""
        return self.y <= _TOP

    def room(self, height: float) -> None:
        """Begin a new page unless `height` is left on this one."""
        if self.y + height > _BOTTOM and not self.empty:
            self.new_page()

    def space(self, height: float) -> None:
        """Leave some space, none at the top of a page."""
        if not self.empty:
            self.y += height

    def heading(self, words: str, level: int = 2, keep: float = 1.0) -> None:
        """A heading, kept together with at least `keep` inches of what follows."""
        size = {1: 15.0, 2: 12.5, 3: 9.5}[level]
        lines = wrap(words, size, style.PAGE_WIDTH, "bold")
        height = len(lines) * size * 1.3 / 72
        self.room(height + keep)
        self.space({1: 0.0, 2: 0.3, 3: 0.16}[level])
        self._lines(lines, MARGIN, size, "bold", leading=1.3)
        self.y += {1: 0.12, 2: 0.09, 3: 0.05}[level]

    def paragraph(
        self,
        words: str,
        size: float = 8.5,
        color: str = LIGHT.ink,
        indent: float = 0.0,
        after: float = 0.07,
        mark: str = "",
    ) -> None:
        """A paragraph; `mark` is a symbol that hangs before it."""
        left = MARGIN + indent + (0.2 if mark else 0.0)
        lines = wrap(words, size, MARGIN + style.PAGE_WIDTH - left)
        self.room(min(len(lines), 3) * size * _LEADING / 72)
        if mark:
            self._text(MARGIN + indent, self.y, mark, size, color=color)
        self._lines(lines, left, size, color=color)
        self.y += after

    def boxed(self, title: str, sentences: Sequence[str]) -> None:
        """Sentences under a title in a tinted box."""
        size, inner = 8.0, style.PAGE_WIDTH - 0.55
        lines = [wrap(s, size, inner) for s in sentences]
        step = size * _LEADING / 72
        while lines:
            taken, height = [], 0.38
            self.room(height + len(lines[0]) * step)
            while lines and (not taken or self.y + height + len(lines[0]) * step + 0.05 < _BOTTOM):
                taken.append(lines.pop(0))
                height += len(taken[-1]) * step + 0.03
            self._box(MARGIN, self.y, style.PAGE_WIDTH, height, "#fff6dc", "#e0b23a")
            self.y += 0.1
            self._text(MARGIN + 0.14, self.y, title, 8.5, "bold")
            self.y += 0.2
            for sentence in taken:
                self._text(MARGIN + 0.14, self.y, "•", size)
                self._lines(sentence, MARGIN + 0.3, size)
                self.y += 0.03
            self.y += 0.16

    def lines(self, title: str, pairs: Sequence[tuple[str, str]], size: float = 8.0) -> None:
        """A list of names and values under a title."""
        if not pairs:
            return
        self.heading(title, 3, keep=0.4)
        left = min(2.3, max(width_of(key, size) for key, _ in pairs) + 0.2)
        for key, value in pairs:
            names = wrap(key, size, left - 0.1)
            values = wrap(value, size, style.PAGE_WIDTH - left)
            height = max(len(names), len(values)) * size * _LEADING / 72
            self.room(height)
            top = self.y
            self._lines(names, MARGIN, size, color=LIGHT.muted)
            self.y = top
            self._lines(values, MARGIN + left, size)
            self.y = top + height + 0.02
        self.y += 0.06

    def figure(self, drawing: Drawing) -> None:
        """A figure with its title and its caption."""
        caption = wrap(drawing.caption, 7.2, style.PAGE_WIDTH)
        height = drawing.height + 0.1 + len(caption) * 7.2 * _LEADING / 72
        self.heading(drawing.title, 3, keep=height)
        page = self.pages[-1]
        bottom = HEIGHT - self.y - drawing.height
        grid = page.add_gridspec(
            3,
            3,
            width_ratios=(MARGIN, style.PAGE_WIDTH, MARGIN),
            height_ratios=(self.y, drawing.height, bottom),
            wspace=0,
            hspace=0,
        )
        drawing.draw(page.add_subfigure(grid[1, 1]), LIGHT)
        self.y += drawing.height + 0.08
        self._lines(caption, MARGIN, 7.2, color=LIGHT.muted)
        self.y += 0.1

    def table(self, table: Table, size: float = 7.8) -> None:
        """A table with its notes; its head is repeated where it runs over a page, and too many columns are split up."""
        for piece in _pieces(table):
            self._one_table(piece, size)
        for note in table.notes:
            self.paragraph(note, 7.2, LIGHT.muted, after=0.03)
        self.y += 0.06

    def _one_table(self, table: Table, size: float) -> None:
        columns = table.columns
        size = size if len(columns) <= 8 else size - 0.5
        widths = _widths(table, size)
        levels = any(row.level for row in table.rows)
        head = [wrap(c.title, size - 0.5, w - 2 * _CELL_PAD, "bold") for c, w in zip(columns, widths, strict=True)]
        rows = [_set_row(row, columns, widths, size) for row in table.rows]
        whole = 0.6 + sum(height for _, height in rows)
        self.heading(table.title, 3, keep=whole if whole < _WHOLE else 0.8 + sum(height for _, height in rows[:2]))
        self._table_head(columns, widths, head, size)
        for (cells, height), row in zip(rows, table.rows, strict=True):
            if self.y + height > _BOTTOM:
                self.new_page()
                self._table_head(columns, widths, head, size)
            self._table_row(cells, height, row, columns, widths, size, levels)
        self.y += 0.07

    def save(self, path: Path) -> None:
        """Number the pages and write them, without a date or an author in the file."""
        metadata = {
            "Title": self.title,
            "Subject": NOTICE,
            "CreationDate": None,
            "Creator": "LungRecovery",
            "Producer": None,
        }
        with PdfPages(path, metadata=metadata) as pdf:
            for i, page in enumerate(self.pages):
                self._furniture(page, i + 1)
                FigureCanvasPdf(page)
                pdf.savefig(page, dpi=style.DPI)

    def _furniture(self, page: Figure, number: int) -> None:
        right = MARGIN + style.PAGE_WIDTH
        self._put(page, MARGIN, 0.5, self.title, 7.5, "bold", LIGHT.ink)
        self._put(page, right, 0.5, NOTICE, 7.5, "normal", LIGHT.muted, "right")
        self._rule(page, 0.68, LIGHT.grid)
        self._rule(page, HEIGHT - 0.62, LIGHT.grid)
        self._put(page, MARGIN, HEIGHT - 0.54, NOTICE, 7.0, "normal", LIGHT.muted)
        self._put(
            page, right, HEIGHT - 0.54, f"Page {number} of {len(self.pages)}", 7.0, "normal", LIGHT.muted, "right"
        )

    def _table_head(self, columns: Sequence[Column], widths: list[float], head: list[list[str]], size: float) -> None:
        small = size - 0.5
        step = small * 1.3 / 72
        lines = max(len(h) + bool(c.unit) for h, c in zip(head, columns, strict=True))
        x = MARGIN
        for column, width, words in zip(columns, widths, head, strict=True):
            y = self.y + (lines - len(words) - bool(column.unit)) * step
            for k, line in enumerate([*words, *([column.unit] if column.unit else [])]):
                weight = "bold" if k < len(words) else "normal"
                self._cell(x, width, y + k * step, line, column, small, weight, LIGHT.muted, x == MARGIN)
            x += width
        self.y += lines * step + 0.04
        self._rule(self.pages[-1], self.y, LIGHT.muted, 0.8)
        self.y += 0.03

    def _table_row(
        self,
        cells: list[list[str]],
        height: float,
        row: Row,
        columns: Sequence[Column],
        widths: list[float],
        size: float,
        levels: bool,
    ) -> None:
        if row.unreliable:
            self._box(MARGIN - 0.04, self.y - 0.02, style.PAGE_WIDTH + 0.08, height, _MARK, "none")
        note = _note(row, widths)
        x = MARGIN
        for i, (column, width, words) in enumerate(zip(columns, widths, cells, strict=True)):
            weight = "bold" if levels and i == 0 and row.level == 0 else "normal"
            for k, line in enumerate(words):
                self._cell(
                    x, width, self.y + k * size * 1.32 / 72, line, column, size, weight, LIGHT.ink, i == 0, row.level
                )
            x += width
        y = self.y + len(cells[0]) * size * 1.32 / 72
        for k, line in enumerate(note):
            self._text(MARGIN, y + k * _NOTE * 1.3 / 72, line, _NOTE, color=LIGHT.muted)
        self.y += height
        self._rule(self.pages[-1], self.y - 0.025, LIGHT.grid)

    def _cell(
        self,
        x: float,
        width: float,
        y: float,
        words: str,
        column: Column,
        size: float,
        weight: str,
        color: str,
        first: bool,
        level=0,
    ) -> None:
        if column.align == LEFT:
            left = x + (0.12 * level if first else _CELL_PAD)
            self._text(left, y, words, size, weight, color)
        else:
            self._text(x + width - _CELL_PAD, y, words, size, weight, color, "right")

    def _lines(
        self,
        lines: Sequence[str],
        x: float,
        size: float,
        weight: str = "normal",
        color: str = LIGHT.ink,
        leading: float = _LEADING,
    ) -> None:
        for line in lines:
            if self.y + size / 72 > _BOTTOM:
                self.new_page()
            self._text(x, self.y, line, size, weight, color)
            self.y += size * leading / 72

    def _text(self, x: float, y: float, words: str, size: float, weight="normal", color=LIGHT.ink, ha="left") -> None:
        self._put(self.pages[-1], x, y, words, size, weight, color, ha)

    @staticmethod
    def _put(
        page: Figure, x: float, y: float, words: str, size: float, weight: str, color: str, ha: str = "left"
    ) -> None:
        # The first baseline lies a font's ascent below y.
        page.text(
            x / WIDTH,
            1 - (y + 0.93 * size / 72) / HEIGHT,
            words,
            fontsize=size,
            fontweight=weight,
            color=color,
            ha=ha,
            va="baseline",
        )

    @staticmethod
    def _rule(page: Figure, y: float, color: str, width: float = 0.5) -> None:
        ends = (MARGIN / WIDTH, (MARGIN + style.PAGE_WIDTH) / WIDTH)
        page.add_artist(Line2D(ends, (1 - y / HEIGHT,) * 2, color=color, linewidth=width))

    def _box(self, x: float, y: float, width: float, height: float, face: str, edge: str) -> None:
        self.pages[-1].add_artist(
            Rectangle(
                (x / WIDTH, 1 - (y + height) / HEIGHT),
                width / WIDTH,
                height / HEIGHT,
                facecolor=face,
                edgecolor=edge,
                linewidth=0.6,
                transform=self.pages[-1].transFigure,
                zorder=-1,
            )
        )


def _widths(table: Table, size: float) -> list[float]:
    """Widths in inches that fill the page: what words and numbers need, and the rest by the columns' weights."""
    needs, least = [], 0.0
    for i, column in enumerate(table.columns):
        need = max(width_of(word, size - 0.5, "bold") for word in column.title.split(" "))
        cells = [(row.cells[i], 0.12 * row.level if i == 0 else 0.0) for row in table.rows]
        words = max((max(width_of(w, size, "bold") for w in c.split(" ")) + indent for c, indent in cells), default=0)
        whole = max((width_of(c, size, "bold" if i == 0 else "normal") + indent for c, indent in cells), default=0)
        pad = 2 * _CELL_PAD + 0.02
        if i == 0:
            least = max(need, words) + pad
        needs.append(min(max(need, words if column.align == LEFT and i > 0 else whole) + pad, 2.2))
    spare = style.PAGE_WIDTH - sum(needs)
    if spare < 0:  # break the first column into lines before anything else
        needs[0] = max(least, needs[0] + spare)
        return [style.PAGE_WIDTH * need / sum(needs) for need in needs]
    total = sum(c.width for c in table.columns)
    return [need + spare * c.width / total for need, c in zip(needs, table.columns, strict=True)]


def _set_row(row: Row, columns: Sequence[Column], widths: list[float], size: float) -> tuple[list[list[str]], float]:
    """The lines of each cell of a row, and the row's height."""
    cells = []
    for i, (cell, width) in enumerate(zip(row.cells, widths, strict=True)):
        room = width - (_CELL_PAD if i == 0 else 2 * _CELL_PAD) - (0.12 * row.level if i == 0 else 0)
        cells.append(wrap(cell, size, room))
    body = max(len(c) for c in cells) * size * 1.32 / 72
    with_note = len(cells[0]) * size * 1.32 / 72 + len(_note(row, widths)) * _NOTE * 1.3 / 72
    return cells, max(body, with_note) + 0.055


def _note(row: Row, widths: list[float]) -> list[str]:
    return wrap(row.note, _NOTE, widths[0] - _CELL_PAD) if row.note else []


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
