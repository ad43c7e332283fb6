"""PDF: paragraphs out of lines, headings, running heads, Chinese, passwords, scans."""

from __future__ import annotations

from pathlib import Path

import pytest

from knowledge.errors import DocumentDamaged, DocumentEmpty, DocumentEncrypted, DocumentTooSlow
from knowledge.reading import Reader
from settings import Knowledge
from tests.knowledge.reading.conftest import ReadContent
from tests.knowledge.reading.making import Said, encrypted_pdf, pdf, save, scan


def lines(texts: list[str], *, top: float = 700, size: float = 11) -> list[Said]:
    return [Said(text, 70, top - 14 * index, size) for index, text in enumerate(texts)]


BODY = [
    "The first line of this paragraph is long enough to reach the margin of the page,",
    "and the second goes on to say that bread needs an oven of two hundred and thirty",
    "degrees.",
]


def test_lines_become_paragraphs_and_large_lines_headings(read: ReadContent) -> None:
    content = pdf([[Said("Baking bread", 70, 760, 20), *lines(BODY), *lines(BODY, top=630)]])
    document = read("a.pdf", content)
    assert [(block.kind, block.text, block.page) for block in document.blocks] == [
        ("heading", "Baking bread", 1),
        ("paragraph", " ".join(BODY), 1),
        ("paragraph", " ".join(BODY), 1),
    ]
    assert (document.title, document.kind, document.pages) == ("Baking bread", "pdf", 1)


def test_each_block_knows_its_page_and_running_heads_and_feet_are_gone(read: ReadContent) -> None:
    pages = []
    for number in range(1, 6):
        said = f"Only page number {number} says this about its own subject, whatever that may be."
        around = [Said("Annual report of the bakery", 70, 800), Said(f"- {number} -", 290, 30)]
        pages.append([around[0], Said(f"{said} And it goes on.", 70, 700), around[1]])
    document = read("a.pdf", pdf(pages, title="Report 2026"))
    assert [block.page for block in document.blocks] == [1, 2, 3, 4, 5]
    assert not any("Annual report" in block.text or "- 3 -" in block.text for block in document.blocks)
    assert document.title == "Report 2026"


def test_the_rows_of_a_table_stay_on_lines_of_their_own(read: ReadContent) -> None:
    rows = ["Flour 500 g", "Water 350 g", "Salt 10 g"]
    document = read("a.pdf", pdf([[*lines(BODY), *lines(rows, top=600)]]))
    assert document.blocks[-1].text == "\n".join(rows)


def test_bullets_become_one_list(read: ReadContent) -> None:
    document = read("a.pdf", pdf([[*lines(BODY), *lines(["• flour of rye", "• water", "• salt"], top=600)]]))
    assert (document.blocks[-1].kind, document.blocks[-1].text) == ("list", "- flour of rye\n- water\n- salt")


def test_chinese_lines_are_joined_without_spaces(read: ReadContent) -> None:
    long = ["面包需要在二百三十度的烤箱里烤四十分钟，这是每一个面包师都知道的事情，也是", "最重要的一步。"]
    document = read("面包.pdf", pdf([lines(long)], title="烤面包", chinese=True))
    assert document.title == "烤面包"
    assert document.blocks[0].text == "".join(long)


def test_a_pdf_with_a_password_is_refused_as_such(read: ReadContent) -> None:
    with pytest.raises(DocumentEncrypted, match=r"^secret\.pdf: it needs a password"):
        read("secret.pdf", encrypted_pdf())


def test_a_pdf_that_needs_no_password_is_read_though_it_is_encrypted(read: ReadContent) -> None:
    with pytest.raises(DocumentEmpty):  # opened with the empty password, and without text
        read("open.pdf", encrypted_pdf(b""))


def test_a_pdf_without_its_end_is_read_as_far_as_it_goes_or_refused(read: ReadContent) -> None:
    whole = pdf([lines(BODY)])
    assert read("a.pdf", whole[: whole.rindex(b"xref")]).blocks[0].text == " ".join(BODY)
    with pytest.raises(DocumentDamaged, match=r"^a\.pdf: it is cut or damaged"):
        read("a.pdf", whole[:100])


def test_a_scanned_page_between_others_is_recognised_and_noted(read_scan: ReadContent) -> None:
    picture = scan(["Invoice number 4711", "The bakery owes two hundred", "euros for flour."])
    document = read_scan("scan.pdf", pdf([lines(BODY), []], pictures=[b"", picture]))
    recognised = " ".join(block.text for block in document.blocks if block.page == 2)
    assert "Invoice number 4711" in recognised
    assert "two hundred" in recognised
    assert document.notes == ("page 2 is a picture, its text was recognised and may have mistakes",)


def test_scans_beyond_the_limit_are_named(tmp_path: Path) -> None:
    picture = scan(["Invoice"])
    path = save(tmp_path, "a", pdf([lines(BODY), [], [], []], pictures=[b"", picture, picture, picture]))
    with Reader(Knowledge(ocr_pages=0), workers=1) as reader:
        document = reader.read(path, "a.pdf")
        assert document.notes == ("pages 2-4 are pictures that were not read (knowledge.ocr_pages is 0)",)
        only_scans = save(tmp_path, "b", pdf([[]], pictures=[picture]))
        with pytest.raises(DocumentEmpty, match="page 1 is a picture that was not read"):
            reader.read(only_scans, "b.pdf")


def test_a_picture_is_read_when_there_is_text_in_it(read_scan: ReadContent) -> None:
    document = read_scan("receipt.png", scan(["Receipt from the bakery", "Total 12.50"], kind="PNG"))
    assert "Receipt from the bakery" in document.blocks[0].text
    assert "12.50" in " ".join(block.text for block in document.blocks)


def test_a_picture_without_text_is_empty(read_scan: ReadContent) -> None:
    with pytest.raises(DocumentEmpty, match=r"^sky\.jpg: there is no text in it"):
        read_scan("sky.jpg", scan([]))


def test_scans_that_cannot_be_recognised_do_not_take_the_text_with_them(tmp_path: Path) -> None:
    path = save(tmp_path, "a", pdf([lines(BODY), []], pictures=[b"", scan(["Invoice"])]))
    with Reader(Knowledge(parse_memory_mb=256), workers=1) as reader:  # too little for the models
        document = reader.read(path, "a.pdf")
        assert document.blocks[0].text == " ".join(BODY)
        assert document.notes[0].startswith("page 2 is a picture that was not read (recognising their text failed")
        with pytest.raises(DocumentTooSlow, match=r"^receipt\.png: .*256 MB of memory"):
            reader.read(save(tmp_path, "b", scan(["Invoice"], kind="PNG")), "receipt.png")
