"""Text, Markdown, code and tables of text, in the encodings that people's programs write."""

from __future__ import annotations

import pytest

from knowledge.errors import DocumentDamaged
from knowledge.reading.text import decode
from tests.knowledge.reading.conftest import ReadContent

SIMPLIFIED = "猫在下午睡觉。它们的主人在上班，晚上才回来。\n\n第二段说的是狗，不是猫。"
TRADITIONAL = "貓在下午睡覺。牠們的主人在上班，晚上才回來。\n\n第二段說的是狗，不是貓。"


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "gb18030"])
def test_simplified_chinese_is_read_in_every_encoding(read: ReadContent, encoding: str) -> None:
    document = read("猫.txt", SIMPLIFIED.encode(encoding))
    assert [block.text for block in document.blocks] == SIMPLIFIED.split("\n\n")
    assert document.title == "猫"


def test_traditional_chinese_is_read_in_big5(read: ReadContent) -> None:
    assert read("a.txt", TRADITIONAL.encode("big5", "ignore")).blocks[1].text == "第二段說的是狗，不是貓。"


@pytest.mark.parametrize(
    ("text", "encoding"),
    [("他们在这里。", "gb18030"), ("面包的做法：和面，然后在烤箱里烤。", "gb18030"), ("他們在這裡。", "big5")],
)
def test_a_note_of_a_few_chinese_words_is_not_taken_for_korean(text: str, encoding: str) -> None:
    assert decode(text.encode(encoding)) == text


@pytest.mark.parametrize("encoding", ["cp1252", "utf-16-le", "utf-16"])
def test_western_letters_are_read_in_every_encoding(read: ReadContent, encoding: str) -> None:
    text = "Der Bär läuft über die Brücke, weil er Honig möchte. Das tut er täglich, außer sonntags."
    assert read("a.txt", text.encode(encoding)).blocks[0].text == text


def test_japanese_of_seven_bits_is_read_when_its_sender_names_it(read: ReadContent) -> None:
    assert read("a.txt", "猫です".encode("iso-2022-jp"), "text/plain; charset=iso-2022-jp").blocks[0].text == "猫です"


def test_a_file_that_is_cut_within_a_character_loses_only_that() -> None:
    assert decode("猫狗".encode()[:-1]) == "猫"
    assert (decode(SIMPLIFIED.encode("gb18030")[:-1]) or "").startswith(SIMPLIFIED[:-2])


@pytest.mark.parametrize("content", [bytes(range(256)) * 20, b"\x00" * 100, b"text\x00\x01\x02" * 50])
def test_a_binary_file_that_is_named_like_text_is_refused(read: ReadContent, content: bytes) -> None:
    for name in ("a.txt", "a.md", "a.py", "a.csv"):
        with pytest.raises(DocumentDamaged, match="it is not text"):
            read(name, content)


def test_what_databases_choke_on_is_taken_out(read: ReadContent) -> None:
    assert read("a.txt", "a\x07 b\u200bc \ufeffd 👩‍👩‍👧" + " e" * 60).blocks[0].text == "a bc d 👩‍👩‍👧" + " e" * 60


def test_markdown_keeps_headings_lists_tables_and_code(read: ReadContent) -> None:
    text = """---
title: "The handbook"
tags: [a]
---
# Ovens

Preheat *slowly*, see [here](https://example.org).

1. open
   - gently
2. close

| part | grams |
| --- | ---: |
| flour \\| rye | 500 |

```python
def bake():
    return "bread"
```

## Doors
Shut.
"""
    document = read("notes.md", text)
    assert document.title == "The handbook"
    assert [(block.kind, block.level, block.text) for block in document.blocks] == [
        ("heading", 1, "Ovens"),
        ("paragraph", 0, "Preheat slowly, see here."),
        ("list", 0, "1. open\n  - gently\n2. close"),
        ("table", 0, "| part | grams |\n| flour \\| rye | 500 |"),
        ("code", 0, 'def bake():\n    return "bread"'),
        ("heading", 2, "Doors"),
        ("paragraph", 0, "Shut."),
    ]
    assert document.blocks[4].language == "python"


def test_code_within_a_list_stays_code(read: ReadContent) -> None:
    document = read("a.md", "- run\n\n  ```sh\n  make it\n  ```\n- rest\n")
    assert [(block.kind, block.text) for block in document.blocks] == [
        ("paragraph", "run"),
        ("code", "make it"),
        ("paragraph", "rest"),
    ]


def test_without_a_title_the_highest_heading_near_the_beginning_is_one(read: ReadContent) -> None:
    assert read("a.md", "intro\n\n### Small\n\n# Great\n\ntext").title == "Great"
    assert read("annual_report-final.txt", "text").title == "Annual report final"
    assert read("2026-11-23.txt", "text").title == "2026-11-23"


def test_code_is_one_block_with_its_language_and_its_file_name_as_title(read: ReadContent) -> None:
    document = read("src/main.py", "\n\n    x = 1\nif x:\n\tpass\n")
    assert document.title == "main.py"
    assert (document.kind, document.blocks[0].language) == ("code", "python")
    assert document.blocks[0].text == "    x = 1\nif x:\n\tpass"


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.csv", 'name,age\n"Bär, Al",3\nBo,4\n'),
        ("a.csv", 'name;age\n"Bär, Al";3\nBo;4\n'),
        ("a.tsv", "name\tage\nBär, Al\t3\nBo\t4\n"),
        ("a.csv", "name|age\r\nBär, Al|3\r\n\r\nBo|4\r\n"),
    ],
)
def test_a_table_of_text_is_read_whatever_separates_its_cells(read: ReadContent, name: str, text: str) -> None:
    assert [block.text for block in read(name, text).blocks] == ["| name | age |\n| Bär, Al | 3 |\n| Bo | 4 |"]


def test_a_table_in_the_encoding_of_a_chinese_spreadsheet_is_read(read: ReadContent) -> None:
    text = "姓名,年龄,说明\n小明,3,他是我们的学生，在上学\n小红,4,她不在这里\n"
    assert read("a.csv", text.encode("gb18030")).blocks[0].text.endswith("| 小红 | 4 | 她不在这里 |")


def test_a_cell_with_lines_and_bars_stays_in_its_row(read: ReadContent) -> None:
    assert read("a.csv", 'a,b\n"two\nlines","x|y"\n').blocks[0].text == "| a | b |\n| two lines | x\\|y |"
