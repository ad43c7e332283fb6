"""Files that are cut, false, huge, locked, gone, or made to do harm: each is refused by name, and the next is read."""

from __future__ import annotations

import io
import os
import random
import struct
import zipfile
from pathlib import Path

import pytest

from knowledge.errors import (
    DocumentDamaged,
    DocumentEmpty,
    DocumentEncrypted,
    DocumentRefused,
    DocumentTooLarge,
    DocumentUnknownType,
)
from knowledge.reading import SUPPORTED, Reader
from tests.knowledge.reading.conftest import ReadContent
from tests.knowledge.reading.making import Said, docx, epub, mail, paragraph, pdf, pptx, save, scan, xlsx, zipped

WHOLE = {
    "a.docx": docx(paragraph("Bread needs an oven.") * 50),
    "a.xlsx": xlsx({"Sales": [["day", "loaves"], *([[n, n * 2] for n in range(50)])]}),
    "a.pptx": pptx([("Bread", ["flour", "water"])]),
    "a.epub": epub({"one.xhtml": "<p>It was late.</p>" * 50}, title="Days"),
    "a.pdf": pdf([[Said("Bread needs an oven.", 70, 700)]]),
    "a.eml": mail("Hi", "Bread needs an oven.", html="<p>Bread</p>", attachment="x"),
    "a.html": b"<html><body><table><tr><td>a<td>b</table><p>Bread needs an oven.</p></body></html>",
}
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lolz [<!ENTITY a "lol">'
    + "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    + "]>"
)
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1000)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_that_is_cut_anywhere_is_read_in_part_or_refused_by_name(read: ReadContent, name: str) -> None:
    whole = WHOLE[name]
    refused = []
    read(name, whole)
    for twelfth in range(1, 12):
        try:
            read(name, whole[: len(whole) * twelfth // 12])
        except DocumentRefused as error:
            refused.append(error)
    assert all(error.name == name and not isinstance(error, DocumentUnknownType) for error in refused)
    read(name, whole)


@pytest.mark.parametrize("name", WHOLE)
def test_a_file_with_wrong_bytes_in_it_is_read_or_refused_by_name(read: ReadContent, name: str) -> None:
    dice = random.Random(name)
    refused = []
    for _ in range(12):
        content = bytearray(WHOLE[name])
        for _ in range(dice.choice((1, 5, 50))):
            content[dice.randrange(len(content))] = dice.randrange(256)
        try:
            read(name, bytes(content))
        except DocumentRefused as error:
            refused.append(error)
    assert all(error.name == name for error in refused)
    read(name, WHOLE[name])


@pytest.mark.parametrize("suffix", sorted(SUPPORTED))
def test_random_bytes_are_refused_under_every_name(read: ReadContent, suffix: str) -> None:
    with pytest.raises((DocumentDamaged, DocumentEmpty), match=rf"^noise\{suffix}: "):
        read(f"noise{suffix}", random.Random(suffix).randbytes(5000))


@pytest.mark.parametrize(
    ("name", "content", "is_really"),
    [
        ("a.pdf", b"MZ\x90\x00" + bytes(100), "a Windows program"),
        ("a.pdf", scan([], kind="PNG"), "a picture"),
        ("a.pdf", b"<html><body>Not found</body></html>", "text"),
        ("a.docx", WHOLE["a.pdf"], "a PDF"),
        ("a.docx", WHOLE["a.xlsx"], "an Excel file"),
        ("a.txt", WHOLE["a.docx"], "a Word document"),
        ("a.png", WHOLE["a.pdf"], "a PDF"),
        ("a.md", b"\x7fELF\x02\x01\x01" + bytes(100), "a program"),
        ("a.docx", zipped({"photo.jpg": b"x"}), "a zip archive"),
        ("a.docx", OLE + "WordDocument".encode("utf-16-le"), "an old Word file; save it as .docx"),
        ("a.pptx", b"\x1f\x8b\x08\x00" + bytes(50), "a gzip archive"),
    ],
)
def test_a_file_of_a_false_type_is_refused_with_what_it_is(
    read: ReadContent, name: str, content: bytes, is_really: str
) -> None:
    with pytest.raises(DocumentDamaged) as refused:
        read(name, content)
    assert refused.value.reason.startswith(f"it is called .{name.split('.')[1]}, but it is {is_really}")


@pytest.mark.parametrize(
    ("name", "content", "is_really"),
    [
        ("a.zip", zipped({"photo.jpg": b"x"}), "a zip archive"),
        ("a.doc", OLE + "WordDocument".encode("utf-16-le"), "an old Word file"),
        ("a.odt", zipped({"mimetype": b"x", "content.xml": b"<x/>"}), "an OpenDocument file"),
        ("a.rtf", b"{\\rtf1 hello}", "an RTF file"),
        ("a.mp4", b"\x00\x00\x00\x20ftypisom" + bytes(50), "a sound or a video"),
        ("a.bin", random.Random(1).randbytes(3000), "of no kind that can be read"),
    ],
)
def test_what_no_parser_reads_is_named(read: ReadContent, name: str, content: bytes, is_really: str) -> None:
    with pytest.raises(DocumentUnknownType, match=rf"^{name}: it is {is_really}"):
        read(name, content)


@pytest.mark.parametrize("name", [name for name in WHOLE if name not in ("a.html", "a.eml")])
def test_a_file_without_a_suffix_is_known_by_its_content(read: ReadContent, name: str) -> None:
    assert read("document", WHOLE[name]).kind == name.split(".")[1]
    assert read("2401.12345", WHOLE[name], "application/octet-stream").kind == name.split(".")[1]


def test_text_without_a_suffix_is_what_its_sender_calls_it(read: ReadContent) -> None:
    assert read("page.aspx", b"<p>x</p>", "text/html; charset=utf-8").kind == "html"
    assert read("page", b"<!DOCTYPE html><p>x</p>").kind == "html"
    assert read("README", b"x").kind == "text"


def test_an_encrypted_office_file_is_refused_as_such(read: ReadContent) -> None:
    with pytest.raises(DocumentEncrypted, match=r"^a\.docx: it needs a password"):
        read("a.docx", OLE + "EncryptedPackage".encode("utf-16-le"))


def test_an_encrypted_zip_member_is_refused_as_such(read: ReadContent) -> None:
    content = bytearray(WHOLE["a.docx"])
    place = content.rindex(b"PK\x01\x02")
    content[place + 8] |= 1
    with pytest.raises(DocumentEncrypted):
        read("a.docx", bytes(content))


def test_a_zip_bomb_is_refused_before_it_is_unpacked(read: ReadContent) -> None:
    bomb = docx("", extra={"word/media/zeros.xml": bytes(50_000_000)})
    assert len(bomb) < 100_000
    with pytest.raises(DocumentTooLarge, match=r"^a\.docx: unpacked it would have 50 MB.*zip bomb"):
        read("a.docx", bomb)


def test_a_zip_bomb_that_lies_about_its_size_is_not_believed(read: ReadContent) -> None:
    bomb = bytearray(docx("", extra={"word/document.xml": b"<a>" + bytes(50_000_000)}))
    for mark, place in ((b"PK\x01\x02", 24), (b"PK\x03\x04", 22)):
        start = 0
        while (start := bomb.find(mark, start)) >= 0:
            struct.pack_into("<I", bomb, start + place, 1000)
            start += 4
    with pytest.raises(DocumentDamaged, match=r"^a\.docx"):
        read("a.docx", bytes(bomb))


def test_a_zip_of_a_hundred_thousand_files_is_refused(read: ReadContent) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("word/document.xml", "<a/>")
        for number in range(25_000):
            archive.writestr(str(number), b"")
    with pytest.raises(DocumentTooLarge, match="25001 files"):
        read("a.docx", out.getvalue())


@pytest.mark.parametrize("part", ["word/document.xml", "word/styles.xml", "docProps/core.xml"])
def test_entities_in_an_office_file_are_not_expanded(read: ReadContent, part: str) -> None:
    with pytest.raises(DocumentDamaged, match=rf"{part} in it declares entities"):
        read("a.docx", docx(paragraph("x"), extra={part: f"{LAUGHS}<a>&j;</a>".encode()}))


def test_entities_in_a_book_or_a_page_are_not_expanded(read: ReadContent) -> None:
    container = {"META-INF/container.xml": f"{LAUGHS}<a>&j;</a>".encode()}
    with pytest.raises(DocumentDamaged, match=r"container\.xml in it is damaged"):
        read("a.epub", epub({"one.xhtml": "<p>x</p>"}, title="t", extra=container))
    page = read("a.xhtml", f"{LAUGHS}<html><body><p>Before &j; after</p></body></html>")
    assert sum(len(block.text) for block in page.blocks) < 5000
    text = read("a.xml", f"{LAUGHS}<a>&j;</a>")
    assert text.blocks[0].text.endswith("<a>&j;</a>")


def test_a_file_outside_is_not_drawn_in(read: ReadContent, tmp_path: Path) -> None:
    secret = save(tmp_path, "secret", "the secret")
    doctype = f'<!DOCTYPE html [<!ENTITY x SYSTEM "file://{secret}">]>'
    page = f'{doctype}<html><body><p>Here: &x;</p><iframe src="file://{secret}"></iframe></body></html>'
    assert "the secret" not in " ".join(block.text for block in read("a.xhtml", page).blocks)


def test_an_empty_file_is_refused_without_a_process(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentEmpty, match=r"^a\.pdf: it is empty$"):
        reader.read(save(tmp_path, "a", b""), "a.pdf")


def test_a_file_over_the_limit_is_refused_before_it_is_read(reader: Reader, tmp_path: Path) -> None:
    path = save(tmp_path, "a", b"")
    os.truncate(path, 60_000_000)
    with pytest.raises(DocumentTooLarge, match=r"^a\.txt: it has 60\.0 MB, more than the 50 MB.*max_file_mb"):
        reader.read(path, "a.txt")


def test_what_is_not_there_or_not_a_file_is_refused(reader: Reader, tmp_path: Path) -> None:
    with pytest.raises(DocumentRefused, match=r"^a\.txt: it cannot be opened"):
        reader.read(tmp_path / "gone", "a.txt")
    with pytest.raises(DocumentRefused, match="it is not a file"):
        reader.read(tmp_path, "folder")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(DocumentRefused, match="it is not a file"):
        reader.read(tmp_path / "pipe", "pipe")


def test_a_file_that_vanishes_while_it_waits_is_refused(tmp_path: Path) -> None:
    from knowledge.reading.limits import Limits
    from knowledge.reading.parse import parse

    limits = Limits(max_bytes=1000, timeout_s=1, memory_mb=256, ocr_pages=0)
    with pytest.raises(DocumentRefused, match=r"^a\.txt: it is gone$"):
        parse(str(tmp_path / "gone"), "a.txt", "", limits, lambda: None)


@pytest.mark.parametrize("name", ["猫.txt", "a\nb.txt", "🍞.md", "x" * 255 + ".txt", ".txt", "\udcff.txt"])
def test_any_name_will_do(read: ReadContent, name: str) -> None:
    assert read(name, b"text").title.strip()
    with pytest.raises(DocumentEmpty) as refused:
        read(name, b" ")
    assert refused.value.name == name


@pytest.mark.parametrize(
    "text",
    ["[" * 50_000, "> " * 5_000 + "x", "*a **b " * 20_000, "`" * 50_001, "- " * 3_000 + "x", "- " * 80 + "x"],
    ids=["brackets", "quotes", "stars", "ticks", "lists", "list"],
)
def test_markdown_made_to_be_slow_is_read(read: ReadContent, text: str) -> None:
    document = read("a.md", text + "\n\nthe end")
    assert document.blocks[-1].text.endswith("the end")
    assert ("x" in document.blocks[0].text) == ("x" in text)


def test_a_line_of_ten_megabytes_is_read(read: ReadContent) -> None:
    assert len(read("a.txt", "猫" * 3_000_000).blocks[0].text) == 3_000_000
