"""Word, PowerPoint, Excel, EPUB and mail."""

from __future__ import annotations

import datetime as dt

import pytest

from knowledge.errors import DocumentDamaged, DocumentEmpty, DocumentEncrypted
from tests.knowledge.reading.conftest import ReadContent
from tests.knowledge.reading.making import docx, epub, heading, mail, paragraph, pptx, table, xlsx, zipped


def test_a_word_document_keeps_headings_and_whole_tables(read: ReadContent) -> None:
    body = heading("面包") + paragraph("面包需要烤箱。") + heading("配料", 2) + table([["料", "克"], ["面粉", "500"]])
    document = read("面包.docx", docx(body + paragraph("完 & 了")))
    assert [(block.kind, block.level, block.text) for block in document.blocks] == [
        ("heading", 1, "面包"),
        ("paragraph", 0, "面包需要烤箱。"),
        ("heading", 2, "配料"),
        ("table", 0, "| 料 | 克 |\n| 面粉 | 500 |"),
        ("paragraph", 0, "完 & 了"),
    ]
    assert (document.title, document.kind) == ("面包", "docx")


def test_a_word_document_s_own_title_comes_first_unless_a_program_made_it(read: ReadContent) -> None:
    body = heading("Chapter one") + paragraph("Text.")
    assert read("a.docx", docx(body, title="Bread & butter")).title == "Bread & butter"
    assert read("a.docx", docx(body, title="Microsoft Word - draft3.doc")).title == "Chapter one"
    assert read("a.docx", docx(body, title="Untitled 1")).title == "Chapter one"


def test_equations_are_not_lost(read: ReadContent) -> None:
    math = "http://schemas.openxmlformats.org/officeDocument/2006/math"
    run = f'<m:oMath xmlns:m="{math}"><m:r><m:t>E=mc</m:t></m:r></m:oMath>'
    document = read("a.docx", docx(paragraph("Einstein:") + f"<w:p>{run}</w:p>"))
    assert "E=mc" in " ".join(block.text for block in document.blocks)


def test_slides_are_pages_with_titles_bullets_tables_and_notes(read: ReadContent) -> None:
    slides = [("Bread", ["flour", "water"]), ("Butter", ["cream"])]
    document = read("a.pptx", pptx(slides, notes="Say thanks.", rows=[["cow", "litres"], ["Berta", "20"]]))
    assert [(block.kind, block.text, block.page) for block in document.blocks] == [
        ("heading", "Bread", 1),
        ("list", "- flour\n- water", 1),
        ("heading", "Butter", 2),
        ("paragraph", "cream", 2),
        ("table", "| cow | litres |\n| Berta | 20 |", 2),
        ("paragraph", "Say thanks.", 2),
    ]
    assert (document.title, document.pages) == ("Bread", 2)


def test_a_workbook_has_a_table_a_sheet_with_cells_as_excel_shows_them(read: ReadContent) -> None:
    rows: list[list[object]] = [
        ["Bakery of the village"],
        [],
        ["day", "loaves", "price", None],
        [dt.datetime(2026, 11, 23), 40.0, 3.5, None],
        [None, None, None, None],
        ["Sunday", True, "a | b", None],
    ]
    document = read("sales.xlsx", xlsx({"Sales": rows, "Empty": [], "Staff": [["name", "age"], ["Bo", 7]]}))
    assert [(block.kind, block.text, block.page) for block in document.blocks] == [
        ("heading", "Sales", 1),
        ("paragraph", "Bakery of the village", 1),
        ("table", "| day | loaves | price |\n| 2026-11-23 | 40 | 3.5 |\n| Sunday | TRUE | a \\| b |", 1),
        ("heading", "Staff", 3),
        ("table", "| name | age |\n| Bo | 7 |", 3),
    ]
    assert document.pages == 3


def test_a_book_is_read_in_the_order_of_its_spine(read: ReadContent) -> None:
    chapters = {"two.xhtml": "<h1>Dawn</h1><p>It was early.</p>", "one.xhtml": "<h1>Dusk</h1><p>It was late.</p>"}
    document = read("a.epub", epub(chapters, title="Days"))
    assert [block.text for block in document.blocks] == ["Dawn", "It was early.", "Dusk", "It was late."]
    assert (document.title, document.kind) == ("Days", "epub")


def test_a_book_with_a_missing_chapter_is_read_without_it_and_says_so(read: ReadContent) -> None:
    import io
    import zipfile

    whole = epub({"one.xhtml": "<p>Here.</p>", "two.xhtml": "<p>Lost.</p>"}, title="Days")
    with zipfile.ZipFile(io.BytesIO(whole)) as archive:
        parts = {member: archive.read(member) for member in archive.namelist() if "two" not in member}
    document = read("a.epub", zipped(parts))
    assert [block.text for block in document.blocks] == ["Here."]
    assert document.notes == ("OEBPS/two.xhtml is missing in it",)


def test_a_book_that_its_shop_locked_is_refused(read: ReadContent) -> None:
    namespaces = 'xmlns="urn:oasis:names:tc:opendocument:xmlns:container" xmlns:enc="http://www.w3.org/2001/04/xmlenc#"'
    lock = (
        f"<encryption {namespaces}><enc:EncryptedData>"
        '<enc:EncryptionMethod Algorithm="http://www.w3.org/2001/04/xmlenc#aes128-cbc"/></enc:EncryptedData></encryption>'
    )
    with pytest.raises(DocumentEncrypted, match="DRM"):
        read("a.epub", epub({"one.xhtml": "<p>x</p>"}, title="t", extra={"META-INF/encryption.xml": lock.encode()}))


def test_a_mail_says_who_wrote_when_and_what_and_names_its_attachments(read: ReadContent) -> None:
    document = read("a.eml", mail("Grüße aus 北京", "Dear Bob,\n\nthe bread is done.\n", attachment="bread.zip"))
    assert document.title == "Grüße aus 北京"
    assert "From: Ann <ann@example.org>" in document.blocks[0].text
    assert [block.text for block in document.blocks[1:]] == ["Dear Bob,", "the bread is done.", "- bread.zip"]
    assert document.notes == ("attachments were not read: bread.zip",)


def test_the_plain_part_of_a_mail_is_read_and_else_the_html_part(read: ReadContent) -> None:
    both = read("a.eml", mail("Hi there", "plain words", html="<p>html words</p>"))
    assert [block.text for block in both.blocks[1:]] == ["plain words"]
    html = b"From: a@b.c\r\nSubject: Offer\r\nContent-Type: text/html; charset=gbk\r\n\r\n" + (
        "<table><tr><td><p>我们的新面包</p></td></tr></table>".encode("gbk")
    )
    assert [block.text for block in read("a.eml", html).blocks[1:]] == ["我们的新面包"]


def test_what_is_no_mail_is_refused(read: ReadContent) -> None:
    with pytest.raises(DocumentDamaged, match="not an e-mail"):
        read("a.eml", "just some words\n\nand more")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.docx", docx("")),
        ("a.xlsx", xlsx({"Sheet": []})),
        ("a.epub", epub({"one.xhtml": "<p> </p>"}, title="Nothing")),
        ("a.txt", b" \n\t\n"),
        ("a.md", b"---\ntitle: x\n---\n"),
        ("a.csv", b",,\n,,\n"),
        ("a.html", b"<p></p>"),
    ],
)
def test_a_file_without_text_is_empty(read: ReadContent, name: str, content: bytes) -> None:
    with pytest.raises(DocumentEmpty, match="there is no text in it"):
        read(name, content)
