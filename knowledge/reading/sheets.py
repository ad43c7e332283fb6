"""Excel, CSV and TSV: each sheet a heading and one table; a lone cell above it is a line of text, not a header."""

from __future__ import annotations

import csv
import datetime as dt
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from knowledge.errors import DocumentDamaged
from knowledge.parsed import Block
from knowledge.reading.content import Content
from knowledge.reading.limits import Limits
from knowledge.reading.markup import table_rows
from knowledge.reading.text import decode

SNIFFED = 65536  # characters
DELIMITERS = ",;\t|"
WIDEST = 1000  # columns


def read_xlsx(path: Path, name: str, limits: Limits) -> Content:
    from openpyxl import load_workbook
    from openpyxl.utils.exceptions import InvalidFileException

    with path.open("rb") as file:  # openpyxl judges a path by its suffix, which a file that was handed over may lack
        try:
            workbook = load_workbook(file, read_only=True, data_only=True, keep_links=False)
        except (InvalidFileException, KeyError, ValueError) as error:
            raise DocumentDamaged(name, "it is cut or damaged (parts of it are missing)") from error
        blocks: list[Block] = []
        notes: list[str] = []
        left = limits.characters
        for number, sheet in enumerate(workbook.worksheets, 1):
            if hasattr(sheet, "reset_dimensions"):
                sheet.reset_dimensions()  # what it says of its size is often false
            rows = ([_said(value) for value in row[:WIDEST]] for row in sheet.iter_rows(values_only=True))
            kept, left = _within(rows, left)
            if left <= 0:
                notes.append(f"only part of sheet {number} was read, it is too large")
            if table := _table(kept, number):
                blocks += [Block("heading", sheet.title.strip() or f"Sheet {number}", level=1, page=number), *table]
            if left <= 0:
                break
        return Content(blocks, title=workbook.properties.title or "", pages=len(workbook.worksheets), notes=notes)


def _within(rows: Iterable[list[str]], characters: int) -> tuple[list[list[str]], int]:
    """The rows that say something, without the empty cells at their ends, until so many characters are used up."""
    kept = []
    for row in rows:
        while row and not row[-1]:
            row.pop()
        if not row:
            continue
        kept.append(row)
        characters -= sum(map(len, row)) + 3 * len(row)
        if characters <= 0:
            break
    return kept, characters


def _said(value: Any) -> str:
    """A cell as Excel shows it, more or less."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).upper()
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 1e15 else f"{value:.12g}"
    if isinstance(value, dt.datetime) and value.time() == dt.time():
        return value.date().isoformat()
    return " ".join(str(value).split())


def _table(rows: list[list[str]], page: int | None) -> list[Block]:
    blocks = []
    width = max(map(len, rows), default=0)
    while rows and width > 1 and sum(map(bool, rows[0])) == 1 and len(rows) > 1:
        blocks.append(Block("paragraph", next(filter(None, rows[0])), page=page))
        rows = rows[1:]
    if not rows:
        return blocks
    rows = [row + [""] * (width - len(row)) for row in rows]
    filled = [column for column in range(width) if any(row[column] for row in rows)]
    if len(filled) == 1:
        return [*blocks, Block("paragraph", "\n".join(row[filled[0]] for row in rows), page=page)]
    return [*blocks, Block("table", table_rows([[row[column] for column in filled] for row in rows]), page=page)]


def read_csv(data: bytes, name: str, mime: str) -> Content:
    text = decode(data, mime)
    if text is None:
        raise DocumentDamaged(name, "it is not text, whatever its name says")
    delimiter = "\t" if name.lower().endswith(".tsv") else _delimiter(text)
    rows = ([" ".join(cell.split()) for cell in row[:WIDEST]] for row in _rows(text, delimiter))
    kept, _ = _within(rows, len(data) * 4 + SNIFFED)
    return Content(_table(kept, None))


def _rows(text: str, delimiter: str) -> Iterator[list[str]]:
    csv.field_size_limit(2**31 - 1)
    yield from csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)


def _delimiter(text: str) -> str:
    """The one that cuts the first lines into equally many cells, most cells first (csv.Sniffer takes letters)."""
    sample = text[:SNIFFED]
    lines = sample.splitlines()[:50]
    if len(text) > SNIFFED and len(lines) > 1:
        lines.pop()
    best, most = ",", 1.0
    for delimiter in DELIMITERS:
        widths = [len(row) for row in csv.reader(lines, delimiter=delimiter) if row]
        if not widths:
            continue
        usual = max(set(widths), key=widths.count)
        score = usual * widths.count(usual) / len(widths)
        if usual > 1 and score > most:
            best, most = delimiter, score
    return best
