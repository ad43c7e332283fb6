"""Which format a file really is: by its content first, then by its name.

A name that promises another binary format than the content is (a program named .pdf) is refused and told what it is:
reading it anyway would hide a mix-up, and parsers attacked with what they do not expect are how files do harm.
"""

from __future__ import annotations

from pathlib import Path, PurePath
from typing import Literal

from knowledge.errors import DocumentDamaged, DocumentEncrypted, DocumentUnknownType
from knowledge.reading import archives
from knowledge.reading.text import LANGUAGES, SAMPLE_BYTES, decode

Format = Literal[
    "text", "markdown", "code", "html", "csv", "mail", "pdf", "docx", "pptx", "xlsx", "epub", "image"
]  # fmt: skip

IMAGES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".bmp", ".tif", ".tiff"})
BINARY: dict[str, Format] = {
    ".pdf": "pdf", ".docx": "docx", ".docm": "docx", ".pptx": "pptx", ".pptm": "pptx", ".ppsx": "pptx",
    ".xlsx": "xlsx", ".xlsm": "xlsx", ".epub": "epub", **dict.fromkeys(IMAGES, "image"),
}  # fmt: skip
TEXTUAL: dict[str, Format] = {
    ".md": "markdown", ".markdown": "markdown", ".mdx": "markdown", ".qmd": "markdown", ".rmd": "markdown",
    ".txt": "text", ".text": "text", ".log": "text", ".rst": "text", ".adoc": "text", ".org": "text", ".tex": "text",
    ".srt": "text", ".vtt": "text", ".html": "html", ".htm": "html", ".xhtml": "html", ".csv": "csv", ".tsv": "csv",
    ".eml": "mail", **dict.fromkeys(LANGUAGES, "code"),
}  # fmt: skip
SUPPORTED = frozenset(BINARY) | frozenset(TEXTUAL)

MIMES: dict[str, Format] = {
    "text/html": "html", "application/xhtml+xml": "html", "text/markdown": "markdown", "text/csv": "csv",
    "text/tab-separated-values": "csv", "message/rfc822": "mail",
}  # fmt: skip
IN_ZIP: tuple[tuple[str, Format], ...] = (
    ("word/document.xml", "docx"), ("ppt/presentation.xml", "pptx"), ("xl/workbook.xml", "xlsx"),
    ("META-INF/container.xml", "epub"),
)  # fmt: skip
PICTURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"BM", b"II*\0", b"MM\0*")
NAMED: dict[Format, str] = {
    "pdf": "a PDF", "docx": "a Word document", "pptx": "a PowerPoint file", "xlsx": "an Excel file",
    "epub": "an EPUB book", "image": "a picture",
}  # fmt: skip
OTHERS = (
    (b"MZ", "a Windows program"), (b"\x7fELF", "a program"), (b"\xca\xfe\xba\xbe", "a program"),
    (b"\xcf\xfa\xed\xfe", "a program"), (b"GIF8", "a GIF picture"), (b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (b"Rar!", "a RAR archive"), (b"\x1f\x8b", "a gzip archive"), (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"), (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"SQLite format 3\0", "a SQLite database"),
    (b"{\\rtf", "an RTF file; save it as .docx"), (b"%!PS", "a PostScript file; make a PDF of it"), (b"ID3", "a sound"),
    (b"OggS", "a sound"), (b"fLaC", "a sound"), (b"\x1aE\xdf\xa3", "a video"), (b"\0asm", "a program"),
)  # fmt: skip
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
OLE_STREAMS = (
    ("WordDocument", "an old Word file; save it as .docx"), ("Workbook", "an old Excel file; save it as .xlsx"),
    ("PowerPoint Document", "an old PowerPoint file; save it as .pptx"),
    ("__substg1.0", "an Outlook message; save it as .eml"),
)  # fmt: skip
HEAD_BYTES = SAMPLE_BYTES
PDF_WITHIN = 1024  # bytes of anything may stand before a PDF's mark


def detect(path: Path, name: str, mime: str = "") -> Format:
    """Raises DocumentDamaged (its name is false), DocumentEncrypted, DocumentUnknownType."""
    suffix = PurePath(name).suffix.lower()
    with path.open("rb") as file:
        head = file.read(HEAD_BYTES)
    binary = _binary(path, head, name)
    promised = BINARY.get(suffix) or TEXTUAL.get(suffix)
    if binary and promised in (None, binary):
        return binary
    if binary:
        raise DocumentDamaged(name, f"it is called {suffix}, but it is {NAMED[binary]}")
    if suffix in BINARY:
        what = "text" if decode(head) is not None else "cut, damaged or something else"
        raise DocumentDamaged(name, f"it is called {suffix}, but it is {what}")
    if promised:
        return promised
    return _text_without_suffix(head, name, mime)


def _binary(path: Path, head: bytes, name: str) -> Format | None:
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return _in_zip(path, name)
    if head.startswith(OLE):
        return _in_ole(path, name)
    if head.startswith(PICTURES) or (head.startswith(b"RIFF") and head[8:12] == b"WEBP"):
        return None if head.startswith(b"BM") and decode(head) is not None else "image"
    for magic, what in OTHERS:
        if head.startswith(magic) and (len(magic) > 3 or decode(head) is None):
            _refuse(name, what)
    if head[4:8] == b"ftyp" or (head.startswith(b"RIFF") and head[8:12] in (b"WAVE", b"AVI ")):
        _refuse(name, "a sound or a video")
    if b"%PDF-" in head[:PDF_WITHIN] and not _is_text_about_pdf(head, name):
        return "pdf"
    return None


def _is_text_about_pdf(head: bytes, name: str) -> bool:
    return not head.startswith(b"%PDF-") and PurePath(name).suffix.lower() in TEXTUAL


def _refuse(name: str, what: str) -> None:
    suffix = PurePath(name).suffix.lower()
    if suffix in SUPPORTED:
        raise DocumentDamaged(name, f"it is called {suffix}, but it is {what}")
    raise DocumentUnknownType(name, f"it is {what}")


def _in_zip(path: Path, name: str) -> Format | None:
    names = {member.filename for member in archives.members(path, name)}
    for member, kind in IN_ZIP:
        if member in names:
            return kind
    if any(member.startswith("content.xml") for member in names):
        _refuse(name, "an OpenDocument file; save it as .docx, .xlsx or .pptx")
    _refuse(name, "a zip archive; hand over the files in it")
    return None


def _in_ole(path: Path, name: str) -> Format | None:
    content = path.read_bytes()
    if "EncryptedPackage".encode("utf-16-le") in content:
        raise DocumentEncrypted(name, "it needs a password; save a copy without one")
    for stream, what in OLE_STREAMS:
        if stream.encode("utf-16-le") in content:
            _refuse(name, what)
    _refuse(name, "an old Office file; save it as .docx, .xlsx or .pptx")
    return None


def _text_without_suffix(head: bytes, name: str, mime: str) -> Format:
    if decode(head) is None:
        raise DocumentUnknownType(name, "it is of no kind that can be read")
    if known := MIMES.get(mime.split(";")[0].strip().lower()):
        return known
    beginning = head[:1024].lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    return "html" if beginning.startswith((b"<!doctype html", b"<html")) else "text"
