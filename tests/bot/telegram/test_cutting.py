"""Long replies as several messages: the limits hold, and nothing is lost."""

from __future__ import annotations

import random
import re
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any

import pytest
from wcwidth import iter_graphemes

from bot.telegram.rendering import MAX_ENTITIES, MAX_UNITS, Part, plain, render
from tests.bot.telegram.parts import covered, faults, texts
from tests.bot.telegram.replies import REPLIES

ENDLESS = 10**9
LIMITS = [(4096, 100), (300, 7), (64, 3), (50, 1), (40, 0), (17, 2), (10, 100), (2, 100)]
FRAGMENTS = [
    *["**", "*", "_", "~~", "~", "`", "```\n", "```py\n", "\n", "\n\n", "\n\n\n", " ", "  ", "    ", "- ", "1. ", "> "],
    *["# ", "## ", "|", "|-|-|\n", "|a|b|\n", "|1|2|\n", "||", "---\n", "===\n", "+ ", "[ ] ", "[x] ", "[", "](", ")"],
    *[
        "](http://a.bc)",
        "!",
        "<b>",
        "</b>",
        "<div>",
        "<!--",
        "<http://a.bc>",
        "\\",
        "&amp;",
        "[^1]",
        "[^1]: n\n",
        "[a]",
    ],
    *["[a]: http://b.cd\n", "http://x.yz ", "$", "$$", "\\(", "\\)", "\\[", "\\]", "x_1^2", "\\frac{a}{b}", "{", "}"],
    *[
        "x",
        "5",
        "word ",
        "a sentence. ",
        "中文",
        "：",
        "。",
        "😀",
        "👨‍👩‍👧",
        "🇨🇳",
        "👍🏽",
        "e\u0301",
        "\u0301",
        "\u200d",
        "\ufe0f",
    ],
    *["\x00", "\x1b", "\ud800", "\t", "\r\n", "\r", "\u3000", "\u00a0", "\u2028", "\u202e", "\u200b"],
    "def f():\n    return 1\n",
]


def random_documents(count: int) -> Iterator[str]:
    for seed in range(count):
        source = random.Random(seed)
        yield "".join(source.choice(FRAGMENTS) for _ in range(source.choice([3, 10, 40, 150])))


def visible(text: str) -> str:
    return re.sub("[\\s\u200b-\u200f\u2800\ufeff\ufffc]", "", text)


def together(parts: list[Part]) -> str:
    return visible("".join(texts(parts)))


@pytest.mark.parametrize("unfinished", [False, True])
def test_any_text_fits_the_limits_and_nothing_is_lost(unfinished: bool):
    for number, source in enumerate(random_documents(800)):
        max_units, max_entities = LIMITS[number % len(LIMITS)]
        whole = render(source, unfinished=unfinished, max_units=ENDLESS, max_entities=ENDLESS)
        parts = render(source, unfinished=unfinished, max_units=max_units, max_entities=max_entities)
        assert [fault for part in whole for fault in faults(part, ENDLESS, ENDLESS)] == [], repr(source)
        assert [fault for part in parts for fault in faults(part, max_units, max_entities)] == [], repr(source)
        assert together(parts) == together(whole), repr(source)
        assert together(plain(source, max_units=max_units)) == together(plain(source, max_units=ENDLESS))


def test_every_word_of_the_source_is_shown():
    words = ["word", "中文", "😀", "`code`", "**bold**", "- item\n", "> quote\n", "1. one\n", "<b>tag</b>", "|cell|\n"]
    words += [
        "[text](./file)",
        "~~gone~~",
        "\n\n",
        "```sh\nls\n```\n",
        "$5",
        "|h1|h2|\n|-|-|\n|c1|c2|c3|\n\n",
        "# head\n",
    ]
    for seed in range(500):
        source = random.Random(seed)
        text = " ".join(source.choice(words) for _ in range(20))
        said = together(render(text, max_units=50))
        for word in re.findall(r"\w+|😀", re.sub("```sh", "", text)):
            assert word in said, repr(text)


@pytest.mark.parametrize("name", REPLIES)
@pytest.mark.parametrize(("max_units", "max_entities"), [(200, 100), (40, 100), (4096, 2)])
def test_typical_replies_fit_any_limit(name: str, max_units: int, max_entities: int):
    parts = render(REPLIES[name], max_units=max_units, max_entities=max_entities)
    assert [fault for part in parts for fault in faults(part, max_units, max_entities)] == []
    assert together(parts) == together(render(REPLIES[name]))


def test_a_message_is_full_at_4096_units_and_100_entities():
    assert [len(part.text) for part in render("x" * MAX_UNITS)] == [MAX_UNITS]
    assert [len(part.text) for part in render("x" * (MAX_UNITS + 1))] == [MAX_UNITS, 1]
    assert [len(part.text) for part in render("😀" * MAX_UNITS)] == [MAX_UNITS // 2] * 2
    assert [len(part.entities) for part in render("**x** " * MAX_ENTITIES)] == [MAX_ENTITIES]
    counts = [len(part.entities) for part in render("**x** " * 250)]
    assert sum(counts) == 250
    assert max(counts) == MAX_ENTITIES


def test_two_styles_that_the_server_would_cut_in_three_count_as_three():
    (part,) = render("**a *b* c**")
    assert len(part.entities) == 3
    assert [len(part.entities) for part in render("**a *b* c** " * 34)] != [102]


def test_the_cut_is_between_paragraphs_before_it_is_between_lines():
    assert texts(render("aaaa bbbb\ncccc\n\ndddd\neeee", max_units=22)) == ["aaaa bbbb\ncccc", "dddd\neeee"]
    assert texts(render("aaaa\nbbbb\ncccc\ndddd", max_units=12)) == ["aaaa\nbbbb", "cccc\ndddd"]


def test_the_cut_is_after_a_sentence_before_it_is_after_a_word():
    assert texts(render("One two. Three four five six", max_units=14)) == ["One two.", "Three four", "five six"]
    assert texts(render("一二三四。五六七八九十", max_units=8)) == ["一二三四。", "五六七八九十"]
    assert texts(render("a number like 3.14 or so", max_units=17)) == ["a number like", "3.14 or so"]


def test_a_block_of_code_goes_to_the_next_message_whole_when_it_begins_late():
    source = "text " * 8 + "\n\n```py\n" + "x = 1\n\n" * 3 + "```"
    first, second = render(source, max_units=50)
    assert first.entities == ()
    assert covered(second, second.entities[0]) == second.text


def test_a_long_block_of_code_is_code_of_its_language_in_every_message():
    source = "```python\n" + "".join(f"def f{n}():\n    x = {n}\n    return x\n" for n in range(400)) + "```"
    parts = [*render(source), *render(source, max_units=200)]
    assert len(parts) > 50
    for part in parts:
        (entity,) = part.entities
        assert (entity.type, entity.language, covered(part, entity)) == ("pre", "python", part.text)
        assert part.text.startswith("def f")  # not within a function, where that can be
    assert together(parts) == 2 * visible(source.removeprefix("```python").removesuffix("```"))


def test_code_cut_within_a_function_keeps_its_indent():
    source = "```\nif x:\n" + "".join(f"    call({n})\n" for n in range(100, 140)) + "```"
    parts = render(source, max_units=100)
    assert all(part.text.startswith("    call(") for part in parts[1:])
    assert [fault for part in parts for fault in faults(part)] == []


def test_a_long_line_of_code_is_cut_after_a_word():
    parts = render("```\n" + "word " * 40 + "\n  end\n```", max_units=28)
    assert all(part.text.startswith("word") for part in parts[:-1])
    assert parts[-1].text == "  end"


def test_a_quote_goes_on_in_the_next_message():
    first, second = render("> " + "word " * 20, max_units=60)
    assert [entity.type for part in (first, second) for entity in part.entities] == ["blockquote", "blockquote"]


@pytest.mark.parametrize("character", ["😀", "👨‍👩‍👧‍👦", "🇨🇳", "👍🏽", "e\u0301", "❤️‍🔥", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "각", "1️⃣"])
@pytest.mark.parametrize("max_units", [29, 30, 31, 64])
def test_no_character_is_torn(character: str, max_units: int):
    for before in ("", "a", "ab"):
        for part in (
            *render(before + character * 40, max_units=max_units),
            *plain(character * 40, max_units=max_units),
        ):
            assert set(iter_graphemes(part.text)) <= {character, "a", "b"}


def test_a_mark_stays_with_the_punctuation_that_it_stands_on():
    assert texts(render("一二三四。\u0301五六七", max_units=7)) == ["一二三四。\u0301五", "六七"]


def test_one_character_longer_than_a_message_is_cut_all_the_same():
    parts = render("e" + "\u0301" * 100, max_units=30)
    assert [len(part.text) for part in parts] == [30, 30, 30, 11]


def test_blanks_at_the_end_take_no_room():
    assert texts(plain("aaaa bbbb  \n\n", max_units=9)) == ["aaaa bbbb"]
    assert texts(render("- aaaa\n- bbbb\n", max_units=13)) == ["• aaaa\n• bbbb"]


def test_blank_lines_at_a_cut_are_left_out():
    assert texts(render("aaaa\n\n\n\nbbbb", max_units=8)) == ["aaaa", "bbbb"]
    assert texts(plain("aaaa" + "\n" * 50 + "bbbb", max_units=10)) == ["aaaa", "bbbb"]
    assert texts(plain("aaaa" + " " * 50 + "bbbb", max_units=10)) == ["aaaa", "bbbb"]


def test_a_megabyte_is_cut_like_any_text():
    parts = [*render("word " * 200_000), *render("😀" * 100_000)]
    assert [fault for part in parts for fault in faults(part)] == []
    assert together(parts) == "word" * 200_000 + "😀" * 100_000


UNITS = [
    "word ",
    "中",
    "**a** ",
    "**注：**意",
    "`a",
    "[",
    "> ",
    "- a\n",
    "```\n",
    "\\(",
    "$x_1$ ",
    "<b>",
    "~~a",
    "|1|2|\n",
    "\n",
]


@pytest.mark.parametrize("unit", UNITS)
@pytest.mark.parametrize("unfinished", [False, True])
def test_the_work_grows_no_faster_than_the_text(unit: str, unfinished: bool):
    head = "|a|b|\n|-|-|\n" if "|" in unit else ""
    few, many = (lines_run(head + unit * count, unfinished) for count in (200, 800))
    assert many < 6 * few


def lines_run(source: str, unfinished: bool) -> int:
    """How many lines of Python it takes to render this: a measure that does not depend on the machine."""
    count = 0

    def count_line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal count
        count += event == "line"
        return count_line

    before = sys.gettrace()
    sys.settrace(count_line)
    try:
        render(source, unfinished=unfinished)
    finally:
        sys.settrace(before)
    return count
