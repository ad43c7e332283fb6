"""The one function that runs where it may be killed: a file becomes a ParsedDocument, or is refused with the reason."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from knowledge.errors import DocumentDamaged, DocumentEmpty, DocumentRefused, DocumentTooLarge
from knowledge.parsed import Block, ParsedDocument
from knowledge.reading import archives
from knowledge.reading.content import Content, pretty_name, sensible
from knowledge.reading.formats import Format, detect
from knowledge.reading.limits import MEGABYTE, Limits

ZIPPED = ("docx", "pptx", "xlsx", "epub")
OFFICE = ("docx", "pptx", "xlsx")
NO_MEMORY = re.compile(
    r"bad_?alloc|failed to map segment|cannot allocate memory|out of memory", re.I
)  # of C++ and loaders
UNWANTED = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\u00ad\u200b\u2060\ufeff\ufffe\uffff\ud800-\udfff]")


def parse(path: str, name: str, mime: str, limits: Limits, alive: Callable[[], None]) -> ParsedDocument:
    """Raises DocumentRefused's family. `alive` is called after each page whose text had to be recognised."""
    file = Path(path)
    try:
        kind = detect(file, name, mime)
        content = _content(kind, file, name, mime, limits, alive)
    except (DocumentRefused, MemoryError):
        raise
    except OSError as error:
        if not file.exists():
            raise DocumentRefused(name, "it is gone") from error
        raise DocumentDamaged(name, f"it cannot be read ({error.strerror or error})") from error
    except RecursionError as error:
        raise DocumentDamaged(name, "things in it are nested too deep") from error
    except Exception as error:
        if NO_MEMORY.search(str(error)):
            raise MemoryError from error
        said = str(error).strip().splitlines() or [""]
        raise DocumentDamaged(name, f"it cannot be read as {kind} ({type(error).__name__}: {said[0][:200]})") from error
    return _document(content, kind, name, limits)


def _content(
    kind: Format, path: Path, name: str, mime: str, limits: Limits, alive: Callable[[], None]
) -> Content:  # imports stand where they are needed: a worker that reads text should not hold a PDF library
    if kind in ZIPPED:
        archives.check(path, name, limits)
    if kind in OFFICE:
        archives.refuse_entities(path, name)
    if kind == "pdf":
        from knowledge.reading.pdf import read_pdf

        return read_pdf(path, name, limits, alive)
    if kind == "image":
        from knowledge.reading.scans import read_image

        return read_image(path, name, limits)
    if kind == "epub":
        from knowledge.reading.epub import read_epub

        return read_epub(path, name)
    if kind == "docx":
        from knowledge.reading.office import read_docx

        return read_docx(path, name)
    if kind == "pptx":
        from knowledge.reading.office import read_pptx

        return read_pptx(path, name)
    if kind == "xlsx":
        from knowledge.reading.sheets import read_xlsx

        return read_xlsx(path, name, limits)
    return _textual(kind, path, name, mime, limits)


def _textual(kind: Format, path: Path, name: str, mime: str, limits: Limits) -> Content:
    from knowledge.reading import html, mail, sheets, text

    with path.open("rb") as file:
        data = file.read(limits.max_bytes + 1)
    if len(data) > limits.max_bytes:
        raise DocumentTooLarge(name, f"it has more than {limits.max_bytes / MEGABYTE:g} MB (knowledge.max_file_mb)")
    read = {
        "html": html.read_html,
        "mail": mail.read_mail,
        "csv": sheets.read_csv,
        "markdown": text.read_markdown,
        "code": text.read_code,
    }.get(kind, text.read_text)
    return read(data, name, mime)


def _document(content: Content, kind: str, name: str, limits: Limits) -> ParsedDocument:
    blocks, notes = [], list(content.notes)
    left = limits.characters
    for block in content.blocks:
        text = _clean(block.text, code=block.kind == "code")
        if not text:
            continue
        if len(text) > left:
            notes.append(f"only the first {limits.characters / MEGABYTE:g} million characters were read")
            blocks += [replace(block, text=text[:left].rstrip())] if text[:left].strip() else []
            break
        left -= len(text)
        blocks.append(replace(block, text=text))
    if not any(block.kind != "heading" for block in blocks) and not _says_something(blocks):
        reason = "there is no text in it" + "".join(f"; {note}" for note in notes)
        raise DocumentEmpty(name, reason)
    title = sensible(_clean(content.title)) or _first_heading(blocks) or _clean(pretty_name(name)) or "Document"
    return ParsedDocument(title, kind, tuple(blocks), content.pages, tuple(notes))


def _says_something(blocks: list[Block]) -> bool:
    return any(character.isalnum() for block in blocks for character in block.text)


def _first_heading(blocks: list[Block]) -> str:
    """One of the highest level that stands near the beginning: what comes later names a part."""
    headings = [block for block in blocks[:10] if block.kind == "heading"]
    highest = min((block.level for block in headings), default=0)
    return next((sensible(block.text) for block in headings if block.level == highest), "")


def _clean(text: str, *, code: bool = False) -> str:
    """Without what a database or a terminal would choke on, and one way to write each character."""
    text = UNWANTED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    if code:
        return text.strip("\n").rstrip()
    return unicodedata.normalize("NFC", text).strip()
