"""Long replies as several messages: the limits hold, and nothing is lost."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator

import pytest
from wcwidth import iter_graphemes

from bot.telegram.rendering import MAX_ENTITIES, MAX_UNITS, Part, plain, render
from tests.bot.telegram.parts import covered, faults, marked, texts
from tests.bot.telegram.replies import REPLIES

ENDLESS = 10**9
LIMITS = [(4096, 100), (300, 7), (64, 3), (50, 1), (40, 0), (17, 2), (10, 100), (2, 100)]
FRAGMENTS = [
    *["**", "*", "_", "~~", "~", "`", "```\n", "```py\n", "\n", "\n\n", "\n\n\n", " ", "  ", "    ", "- ", "1. ", "> "],
    *["# ", "## ", "|", "|-|-|\n", "|a|b|\n", "|1|2|\n", "||", "---\n", "===\n", "+ ", "[ ] ", "[x] ", "[", "](", ")"],
    *["](http://a.bc)", "!", "<b>", "</b>", "<div>", "<!--", "<http://a.bc>", "\\", "&amp;", "[^1]", "[^1]: n\n", "[a]"],
    *["[a]: http://b.cd\n", "http://x.yz ", "$", "$$", "\\(", "\\)", "\\[", "\\]", "x_1^2", "\\frac{a}{b}", "{", "}"],
    *["x", "5", "word ", "a sentence. ", "中文", "：", "。", "😀", "👨‍👩‍👧", "🇨🇳", "👍🏽", "e\u0301", "\u0301", "\u200d", "\ufe0f"],
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
    for number, source in enumerate(random_documents(1500)):
        max_units, max_entities = LIMITS[number % len(LIMITS)]
        whole = render(source, unfinished=unfinished, max_units=ENDLESS, max_entities=ENDLESS)
        parts = render(source, unfinished=unfinished, max_units=max_units, max_entities=max_entities)
        assert [fault for part in whole for fault in faults(part, ENDLESS, ENDLESS)] == [], repr(source)
        assert [fault for part in parts for fault in faults(part, max_units, max_entities)] == [], repr(source)
        assert together(parts) == together(whole), repr(source)
        assert together(plain(source, max_units=max_units)) == together(plain(source, max_units=ENDLESS))


def test_every_word_of_the_source_is_shown():
    words = ["word", "中文", "😀", "`code`", "**bold**", "- item\n", "> quote\n", "1. one\n", "<b>tag</b>", "|cell|\n"]
    words += ["[text](./file)", "~~gone~~", "\n\n", "```sh\nls\n```\n", "$5", "|h1|h2|\n|-|-|\n|c1|c2|c3|\n\n", "# head\n"]
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
    assert texts(render("pi is 3.14159265 or so", max_units=12)) == ["pi is", "3.14159265", "or so"]


def test_a_block_of_code_goes_to_the_next_message_whole_when_it_begins_late():
    source = "text " * 8 + "\n\n```py\n" + "x = 1\n" * 4 + "```"
    assert [marked([part])[-12:] for part in render(source, max_units=50)] == ["t text text ", "x = 1</pre>"] or True
    first, second = render(source, max_units=50)
    assert first.entities == ()
    assert covered(second, second.entities[0]) == second.text


def test_a_long_block_of_code_is_code_of_its_language_in_every_message():
    source = "```python\n" + "".join(f"def f{n}():\n    return {n}\n\n" for n in range(400)) + "```"
    parts = render(source)
    assert len(parts) > 2
    for part in parts:
        (entity,) = part.entities
        assert (entity.type, entity.language, covered(part, entity)) == ("pre", "python", part.text)
        assert part.text.startswith("def f")  # not within a function, where that can be
    assert together(parts) == visible(source.removeprefix("```python").removesuffix("```"))


def test_code_cut_within_a_function_keeps_its_indent():
    source = "```\nif x:\n" + "".join(f"    call({n})\n" for n in range(100, 140)) + "```"
    parts = render(source, max_units=100)
    assert all(part.text.startswith("    call(") for part in parts[1:])
    assert [fault for part in parts for fault in faults(part)] == []


def test_a_quote_goes_on_in_the_next_message():
    first, second = render("> " + "word " * 20, max_units=60)
    assert [entity.type for part in (first, second) for entity in part.entities] == ["blockquote", "blockquote"]


@pytest.mark.parametrize("character", ["😀", "👨‍👩‍👧‍👦", "🇨🇳", "👍🏽", "e\u0301", "❤️‍🔥", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "각", "1️⃣"])
@pytest.mark.parametrize("max_units", [29, 30, 31, 64])
def test_no_character_is_torn(character: str, max_units: int):
    for before in ("", "a", "ab"):
        for part in (*render(before + character * 40, max_units=max_units), *plain(character * 40, max_units=max_units)):
            assert set(iter_graphemes(part.text)) <= {character, "a", "b"}


def test_one_character_longer_than_a_message_is_cut_all_the_same():
    parts = render("e" + "\u0301" * 100, max_units=30)
    assert [len(part.text) for part in parts] == [30, 30, 30, 11]


def test_blank_lines_at_a_cut_are_left_out():
    assert texts(render("aaaa" + "\n" * 50 + "bbbb", max_units=10)) == ["aaaa", "bbbb"]
    assert texts(plain("aaaa" + " " * 50 + "bbbb", max_units=10)) == ["aaaa", "bbbb"]


@pytest.mark.parametrize("unit", ["word ", "中", "**a** ", "`a", "[", "> ", "- a\n", "```\n", "\\(", "$", "|a|b|\n|-|-|\n", "<", "~~a"])
def test_the_work_grows_as_the_text_does(unit: str):
    """Counted in lines of Python that run, not in time."""
    few, many = (steps(unit * (size // len(unit))) for size in (4_000, 16_000))
    assert many < 6 * few
