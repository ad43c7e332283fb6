"""What a reply looks like when it is drawn."""

from __future__ import annotations

import io

import pytest
from rich.text import Text

from bot.terminal.lines import terminal_console
from bot.terminal.markdown import render
from bot.terminal.wrap import wrapped


def lines(text: str, width: int = 40) -> list[str]:
    return [line.plain for line in render(text, terminal_console(io.StringIO(), terminal=True), width)]


def test_blocks_are_parted_by_one_empty_line_and_items_by_none():
    shown = lines("# Title\nText\n\n\n- a\n- b\n\n---\n> quote\n")
    assert shown == ["Title", "", "Text", "", " • a", " • b", "", "─" * 40, "", "▌ quote"]


def test_a_tenth_item_does_not_shift_the_first_nine():
    nine = lines("".join(f"{n}. item\n" for n in range(1, 10)))
    ten = lines("".join(f"{n}. item\n" for n in range(1, 11)))
    assert ten[:9] == nine
    assert ten[9] == "10. item"


def test_code_can_be_copied_as_it_is():
    shown = lines("```python\ndef f():\n    return 1\n\n\n```")
    assert shown == ["```python", "def f():", "    return 1", "", "", "```"]


def test_a_line_of_code_that_fills_the_row_is_not_broken_for_the_clipboard():
    drawn = render(f"```\n{'x' * 90}\n```", terminal_console(io.StringIO(), terminal=True), 40)
    assert [(len(line.plain), line.runs_on) for line in drawn[1:4]] == [(40, True), (40, True), (10, False)]


def test_no_line_ends_in_spaces_and_none_is_wider_than_the_screen():
    for width in (20, 33, 80):
        for line in lines("- **a** long item " * 9 + "\n\n| a | b |\n|-|-|\n| cell " * 3, width):
            assert line == line.rstrip()
            assert len(line) <= width


@pytest.mark.parametrize("hidden", ["<div>", "<br>", "<think>", "![image](u.png)"])
def test_what_the_model_wrote_is_shown_even_if_a_browser_would_hide_it(hidden):
    shown = " ".join(lines(f"before {hidden} after\n\n{hidden}\n"))
    assert shown.count(hidden.strip("![])").partition("]")[0].strip("<>")) == 2


def test_a_link_shows_its_address_once():
    assert lines("[text](http://a.b) <http://c.d> [http://e.f](http://e.f)", 80) == [
        "text (http://a.b) http://c.d http://e.f"
    ]


def test_line_breaks_of_a_poem_stay():
    assert lines("roses are red\nviolets are blue") == ["roses are red", "violets are blue"]


def test_a_narrow_table_folds_what_it_cannot_show():
    shown = "".join(lines("| name | x |\n|---|---|\n| extraordinarilylongword | 1 |\n", 20))
    assert "extraordinarilylongword" in shown.replace(" ", "").replace("1", "")


def test_chinese_breaks_anywhere_but_before_closing_marks():
    text = "这是一个很长的句子，里面有“引号”，还有 Python 和（括号）。"
    for width in range(8, 30):
        pieces = [piece.plain for piece in wrapped(Text(text), width)]
        assert "".join(pieces).replace(" ", "") == text.replace(" ", "")
        assert not [piece for piece in pieces if piece[0] in "，。”）" or piece[-1] in "“（"]
        assert max(piece.cell_len for piece in map(Text, pieces)) <= width


def test_chinese_fills_the_lines():
    assert [piece.plain for piece in wrapped(Text("用 Python 写一个程序来处理数据"), 16)] == [
        "用 Python 写一个",
        "程序来处理数据",
    ]


def test_apostrophes_and_long_words():
    assert [piece.plain for piece in wrapped(Text("I don’t know Donaudampfschiff"), 10)] == [
        "I don’t",
        "know",
        "Donaudampf",
        "schiff",
    ]
