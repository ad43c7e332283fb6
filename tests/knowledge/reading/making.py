"""Files of every format, written as programs write them, so that the tests read real ones."""

from __future__ import annotations

import hashlib
import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from xml.sax.saxutils import escape

WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
OFFICE_TYPE = "application/vnd.openxmlformats-officedocument.wordprocessingml"
RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
DOCUMENT_RELATION = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PADDING = bytes.fromhex("28BF4E5E4E758A4164004E56FFFA01082E2E00B6D0683E802F0CA9FE6453697A")


@dataclass(frozen=True)
class Said:
    """One line of a PDF's page, in points from its lower left corner."""

    text: str
    x: float
    y: float
    size: float = 11


def pdf(
    pages: list[list[Said]], *, title: str = "", chinese: bool = False, pictures: list[bytes] | None = None
) -> bytes:
    """With `pictures`, page i is the JPEG i, whole, and what is said on it besides."""
    objects: list[bytes] = [b"", b"", _fonts(chinese)]
    kids = []
    for index, lines in enumerate(pages):
        drawn = b"".join(_drawn(line, chinese) for line in lines)
        resources = b"/Font 3 0 R"
        if pictures and pictures[index]:
            objects.append(_picture(pictures[index]))
            drawn += b"q 595 0 0 329 0 400 cm /Im Do Q\n"
            resources = b"/Font 3 0 R /XObject << /Im %d 0 R >>" % len(objects)
        objects.append(b"<< /Length %d >>\nstream\n%s\nendstream" % (len(drawn), drawn))
        page = b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Resources << %s >> /Contents %d 0 R >>"
        objects.append(page % (resources, len(objects)))
        kids.append(b"%d 0 R" % len(objects))
    objects[0] = b"<< /Type /Catalog /Pages 2 0 R >>"
    objects[1] = b"<< /Type /Pages /Kids [%s] /Count %d >>" % (b" ".join(kids), len(kids))
    objects.append(b"<< /Title <FEFF%s> >>" % title.encode("utf-16-be").hex().encode())
    return _pdf_of(objects, b"/Info %d 0 R" % len(objects))


def encrypted_pdf(password: bytes = b"secret") -> bytes:
    """With the standard handler of PDF 1.3, RC4 of 40 bits: the user's password opens it (ISO 32000-1, 7.6.3)."""
    padded = (password + PADDING)[:32]
    owner = _rc4(hashlib.md5(padded).digest()[:5], padded)
    identity = b"0123456789abcdef"
    key = hashlib.md5(padded + owner + (-4).to_bytes(4, "little", signed=True) + identity).digest()[:5]
    user = _rc4(key, PADDING)
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] >>",
        b"<< /Filter /Standard /V 1 /R 2 /P -4 /O <%s> /U <%s> >>" % (owner.hex().encode(), user.hex().encode()),
    ]
    return _pdf_of(objects, b"/Encrypt 4 0 R /ID [<%s> <%s>]" % ((identity.hex().encode(),) * 2))


def _rc4(key: bytes, data: bytes) -> bytes:
    state = list(range(256))
    j = 0
    for i in range(256):
        j = (j + state[i] + key[i % len(key)]) % 256
        state[i], state[j] = state[j], state[i]
    i = j = 0
    out = bytearray()
    for byte in data:
        i = (i + 1) % 256
        j = (j + state[i]) % 256
        state[i], state[j] = state[j], state[i]
        out.append(byte ^ state[(state[i] + state[j]) % 256])
    return bytes(out)


def _fonts(chinese: bool) -> bytes:
    if not chinese:
        return b"<< /F << /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >> >>"
    descendant = (
        b"<< /Type /Font /Subtype /CIDFontType0 /BaseFont /STSong-Light /DW 1000 /CIDSystemInfo << /Registry (Adobe)"
        b" /Ordering (GB1) /Supplement 4 >> /FontDescriptor << /Type /FontDescriptor /FontName /STSong-Light /Flags 6"
        b" /FontBBox [-25 -254 1000 880] /ItalicAngle 0 /Ascent 880 /Descent -120 /CapHeight 880 /StemV 93 >> >>"
    )
    return (
        b"<< /F << /Type /Font /Subtype /Type0 /BaseFont /STSong-Light /Encoding /UniGB-UCS2-H /DescendantFonts ["
        + descendant
        + b"] >> >>"
    )


def _drawn(line: Said, chinese: bool) -> bytes:
    encoded = line.text.encode("utf-16-be" if chinese else "cp1252").hex().encode()
    return b"BT /F %g Tf %g %g Td <%s> Tj ET\n" % (line.size, line.x, line.y, encoded)


def _picture(jpeg: bytes) -> bytes:
    from PIL import Image

    width, height = Image.open(io.BytesIO(jpeg)).size
    head = b"<< /Type /XObject /Subtype /Image /Width %d /Height %d /ColorSpace /DeviceRGB /BitsPerComponent 8"
    return head % (width, height) + b" /Filter /DCTDecode /Length %d >>\nstream\n%s\nendstream" % (len(jpeg), jpeg)


def _pdf_of(objects: list[bytes], trailer: bytes) -> bytes:
    out = bytearray(b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n")
    places = []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    table = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    out += b"".join(b"%010d 00000 n \n" % place for place in places)
    out += b"trailer\n<< /Size %d /Root 1 0 R %s >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, trailer, table)
    return bytes(out)


def scan(lines: list[str], *, kind: str = "JPEG") -> bytes:
    """A page that a scanner would have made: letters as a picture."""
    from PIL import Image, ImageDraw, ImageFont

    picture = Image.new("RGB", (760, 420), "white")
    draw = ImageDraw.Draw(picture)
    for index, line in enumerate(lines):
        draw.text((40, 50 + 90 * index), line, fill="black", font=ImageFont.load_default(size=40))
    out = io.BytesIO()
    picture.save(out, kind)
    return out.getvalue()


def docx(body: str, *, title: str = "", extra: dict[str, bytes] | None = None) -> bytes:
    """`body` is what stands in w:body, made of `heading`, `paragraph` and `table`."""
    overrides = (
        f'<Override PartName="/word/document.xml" ContentType="{OFFICE_TYPE}.document.main+xml"/>'
        f'<Override PartName="/word/styles.xml" ContentType="{OFFICE_TYPE}.styles+xml"/>'
    )
    styles = "".join(
        f'<w:style w:type="paragraph" w:styleId="Heading{level}"><w:name w:val="heading {level}"/></w:style>'
        for level in (1, 2, 3)
    )
    parts: dict[str, bytes] = {
        "[Content_Types].xml": (
            '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types">'
            '<Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/>'
            f'<Default Extension="xml" ContentType="application/xml"/>{overrides}</Types>'
        ).encode(),
        "_rels/.rels": _relations("officeDocument", "word/document.xml"),
        "word/_rels/document.xml.rels": _relations("styles", "styles.xml"),
        "word/styles.xml": f'<w:styles xmlns:w="{WORD}">{styles}</w:styles>'.encode(),
        "word/document.xml": f'<w:document xmlns:w="{WORD}"><w:body>{body}</w:body></w:document>'.encode(),
    }
    if title:
        core = 'xmlns:cp="http://schemas.openxmlformats.org/package/2006/metadata/core-properties"'
        named = f'<dc:title xmlns:dc="http://purl.org/dc/elements/1.1/">{escape(title)}</dc:title>'
        parts["docProps/core.xml"] = f"<cp:coreProperties {core}>{named}</cp:coreProperties>".encode()
    return zipped(parts | (extra or {}))


def heading(text: str, level: int = 1) -> str:
    return f'<w:p><w:pPr><w:pStyle w:val="Heading{level}"/></w:pPr>{_run(text)}</w:p>'


def paragraph(text: str) -> str:
    return f"<w:p>{_run(text)}</w:p>"


def table(rows: list[list[str]]) -> str:
    cells = ["".join(f"<w:tc>{paragraph(cell)}</w:tc>" for cell in row) for row in rows]
    return "<w:tbl>" + "".join(f"<w:tr>{row}</w:tr>" for row in cells) + "</w:tbl>"


def _run(text: str) -> str:
    return f'<w:r><w:t xml:space="preserve">{escape(text)}</w:t></w:r>'


def _relations(kind: str, target: str) -> bytes:
    relation = f'<Relationship Id="rId1" Type="{DOCUMENT_RELATION}/{kind}" Target="{target}"/>'
    return f'<Relationships xmlns="{RELATIONS}">{relation}</Relationships>'.encode()


def zipped(parts: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for member, content in parts.items():
            archive.writestr(member, content)
    return out.getvalue()


def xlsx(sheets: Mapping[str, Sequence[Sequence[object]]]) -> bytes:
    from openpyxl import Workbook

    workbook = Workbook()
    workbook.remove(workbook.active)
    for title, rows in sheets.items():
        sheet = workbook.create_sheet(title)
        for row in rows:
            sheet.append(list(row))
    out = io.BytesIO()
    workbook.save(out)
    return out.getvalue()


def pptx(slides: list[tuple[str, list[str]]], *, notes: str = "", rows: list[list[str]] | None = None) -> bytes:
    """Slides of a title and bullets; `notes` and a table of `rows` on the last."""
    from pptx import Presentation
    from pptx.util import Inches

    presentation = Presentation()
    for title, bullets in slides:
        slide = presentation.slides.add_slide(presentation.slide_layouts[1])
        slide.shapes.title.text = title
        slide.placeholders[1].text = "\n".join(bullets)
    if notes:
        slide.notes_slide.notes_text_frame.text = notes
    if rows:
        place = (Inches(1), Inches(5), Inches(6), Inches(1))
        frame = slide.shapes.add_table(len(rows), len(rows[0]), *place)
        for y, row in enumerate(rows):
            for x, cell in enumerate(row):
                frame.table.cell(y, x).text = cell
    out = io.BytesIO()
    presentation.save(out)
    return out.getvalue()


def epub(chapters: dict[str, str], *, title: str, extra: dict[str, bytes] | None = None) -> bytes:
    """`chapters`: the body of each by its file's name, in the order of the spine."""
    items = "".join(
        f'<item id="c{i}" href="{name}" media-type="application/xhtml+xml"/>' for i, name in enumerate(chapters)
    )
    spine = "".join(f'<itemref idref="c{i}"/>' for i in range(len(chapters)))
    package = (
        '<package xmlns="http://www.idpf.org/2007/opf" version="3.0"><metadata '
        f'xmlns:dc="http://purl.org/dc/elements/1.1/"><dc:title>{escape(title)}</dc:title></metadata>'
        f"<manifest>{items}</manifest><spine>{spine}</spine></package>"
    )
    container = (
        '<container xmlns="urn:oasis:names:tc:opendocument:xmlns:container" version="1.0"><rootfiles>'
        '<rootfile full-path="OEBPS/book.opf" media-type="application/oebps-package+xml"/></rootfiles></container>'
    )
    # The spine's order is not the order in the archive.
    bodies = {
        f"OEBPS/{name}": f"<html xmlns='http://www.w3.org/1999/xhtml'><body>{body}</body></html>".encode()
        for name, body in reversed(chapters.items())
    }
    parts = {"mimetype": b"application/epub+zip", "META-INF/container.xml": container.encode()}
    return zipped(parts | bodies | {"OEBPS/book.opf": package.encode()} | (extra or {}))


def mail(subject: str, text: str, *, html: str = "", attachment: str = "") -> bytes:
    message = EmailMessage()
    message["From"], message["To"] = "Ann <ann@example.org>", "bob@example.org"
    message["Subject"], message["Date"] = subject, "Mon, 23 Nov 2026 10:00:00 +0000"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    if attachment:
        message.add_attachment(b"\x00\x01", maintype="application", subtype="octet-stream", filename=attachment)
    return message.as_bytes()


def save(folder: Path, name: str, content: bytes | str) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
