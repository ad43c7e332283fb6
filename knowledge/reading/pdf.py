"""PDF, by pdfium: lines with their places and sizes; pages that are only pictures go to the recognition of text."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Any

from knowledge.errors import DocumentDamaged, DocumentEncrypted
from knowledge.reading.content import Content, sensible
from knowledge.reading.limits import Limits
from knowledge.reading.lines import SOFT_HYPHEN, Line, Page, blocks_of_pages, key_of, title_of

FEWEST_LETTERS = 4  # a page with fewer has no text of its own, at most a number
GARBLED = 0.3  # of its characters have no meaning: its fonts do not say which letters they draw
MOST_PAGES = 20_000
SCAN_DPI = 200
LONGEST_SIDE = 2600  # pixels


def read_pdf(path: Path, name: str, limits: Limits, alive: Callable[[], None]) -> Content:
    pdf = _open(path, name)
    count = min(len(pdf), MOST_PAGES)
    pages: list[Page] = []
    pictures: list[int] = []
    damaged: list[int] = []
    for number in range(1, count + 1):
        try:
            lines, is_picture = _lines(pdf, number)
        except _pdfium_error():
            damaged.append(number)
            continue
        pages.append(Page(number, tuple(lines)))
        if is_picture:
            pictures.append(number)
    if len(damaged) == count:
        raise DocumentDamaged(name, "none of its pages can be read")
    recognised = pictures[: limits.ocr_pages]
    scans, failed = _scans(pdf, recognised, alive)
    recognised = list(scans)
    pages = [scans.get(page.number, page) for page in pages]
    notes = [f"{_ranges(damaged)} cannot be read"] if damaged else []
    if unread := pictures[len(recognised) :]:
        why = failed or f"knowledge.ocr_pages is {limits.ocr_pages}"
        verb = "are pictures that were" if len(unread) > 1 else "is a picture that was"
        notes.append(f"{_ranges(unread)} {verb} not read ({why})")
    if recognised:
        verb = "are pictures, their" if len(recognised) > 1 else "is a picture, its"
        notes.append(f"{_ranges(recognised)} {verb} text was recognised and may have mistakes")
    blocks = blocks_of_pages(pages, _contents(pdf))
    title = sensible(_metadata_title(pdf)) or (title_of(pages[0]) if pages else "")
    return Content(blocks, title=title, pages=len(pdf), notes=notes)


def _pdfium_error() -> type[Exception]:
    from pypdfium2 import PdfiumError

    error: type[Exception] = PdfiumError
    return error


def _open(path: Path, name: str) -> Any:
    import pypdfium2
    from pypdfium2 import raw

    try:
        return pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as error:
        code = getattr(error, "err_code", None)
        if code == raw.FPDF_ERR_PASSWORD:
            raise DocumentEncrypted(name, "it needs a password; save a copy without one") from error
        if code == raw.FPDF_ERR_SECURITY:
            raise DocumentEncrypted(name, "it is encrypted in a way that cannot be read") from error
        raise DocumentDamaged(name, "it is cut or damaged (a PDF that cannot be opened)") from error


def _lines(pdf: Any, number: int) -> tuple[list[Line], bool]:
    """A page's lines in reading order, and whether it is a picture instead of text."""
    from pypdfium2 import raw

    page = pdf[number - 1]
    try:
        textpage = page.get_textpage()
        try:
            lines, letters, garbled = _read(textpage, page.get_height())
        finally:
            textpage.close()
        has_something = raw.FPDFPage_CountObjects(page) > 0
    finally:
        page.close()
    if letters < FEWEST_LETTERS or garbled > GARBLED * letters:
        return lines, has_something
    return lines, False


def _read(textpage: Any, height: float) -> tuple[list[Line], int, int]:
    from pypdfium2 import raw

    letters = garbled = 0
    lines: list[Line] = []
    codes: list[int] = []
    places: list[int] = []  # of each code, the index that pdfium knows it by
    unicode_at = raw.FPDFText_GetUnicode
    for index in [*range(textpage.count_chars()), -1]:
        code = unicode_at(textpage, index) if index >= 0 else 10
        if code in (10, 13):
            if line := _line(textpage, codes, places, height):
                lines.append(line)
            codes, places = [], []
        elif code:
            letters += code > 32
            garbled += code == 0xFFFD or 0xE000 <= code <= 0xF8FF or (code < 32 and code != 2)
            codes.append(code)
            places.append(index)
    return lines, letters, garbled


def _line(textpage: Any, codes: list[int], places: list[int], height: float) -> Line | None:
    raw_text = "".join(map(chr, codes)).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = " ".join(raw_text.replace("\ufffe", SOFT_HYPHEN).split(" "))
    if not text.strip(" \x02"):
        return None
    seen = [place for code, place in zip(codes, places, strict=True) if code > 32] or places
    first, middle, last = (_box(textpage, seen[at]) for at in (0, len(seen) // 2, -1))
    bottoms = sorted(box[1] for box in (first, middle, last))
    size = sorted(abs(box[3] - box[1]) for box in (first, middle, last))[1]
    return Line(" ".join(text.split(" ")).strip(), first[0], last[2], height - bottoms[1], size)


def _box(textpage: Any, index: int) -> tuple[float, float, float, float]:
    """Left, bottom, right, top, as the font's letters are, so that every line of a size has the same height."""
    from pypdfium2 import raw

    box = raw.FS_RECTF()
    if not raw.FPDFText_GetLooseCharBox(textpage, index, ctypes.byref(box)):
        return 0.0, 0.0, 0.0, 0.0
    return box.left, box.bottom, box.right, box.top


def _scans(pdf: Any, numbers: list[int], alive: Callable[[], None]) -> tuple[dict[int, Page], str]:
    """The lines of these pages as far as they could be recognised, and why no further: the rest is worth having."""
    found: dict[int, Page] = {}
    for number in numbers:
        try:
            from knowledge.reading.scans import recognise

            page = pdf[number - 1]
            scale = min(SCAN_DPI / 72, LONGEST_SIDE / max(1.0, *page.get_size()))
            picture = page.render(scale=scale).to_pil()
            page.close()
            found[number] = Page(number, tuple(recognise(picture)))
        except Exception as error:  # of four libraries, none of which says which it raises
            return found, f"recognising their text failed: {type(error).__name__}"
        alive()
    return found, ""


def _contents(pdf: Any) -> dict[tuple[int, str], int]:
    """The document's own table of contents: (page, the heading's letters) to its level."""
    levels = {}
    try:
        for bookmark in pdf.get_toc(max_depth=6):
            destination = bookmark.get_dest()
            page = destination.get_index() if destination else None
            if page is not None and (key := key_of(bookmark.get_title())):
                levels[page + 1, key] = bookmark.level + 1
    except _pdfium_error():
        return {}
    return levels


def _metadata_title(pdf: Any) -> str:
    try:
        return str(pdf.get_metadata_value("Title"))
    except (_pdfium_error(), UnicodeDecodeError):
        return ""


def _ranges(numbers: list[int]) -> str:
    """page 4; pages 1-3, 7"""
    parts: list[list[int]] = []
    for number in numbers:
        if parts and parts[-1][1] == number - 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    said = ", ".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)
    return f"page {said}" if len(numbers) == 1 else f"pages {said}"
