"""A reply while it is being written: nothing breaks, and little changes back and forth."""

from __future__ import annotations

import random
from itertools import accumulate, pairwise

import pytest

from bot.telegram.rendering import render
from tests.bot.telegram.parts import faults, shown
from tests.bot.telegram.replies import REPLIES


def growing(source: str) -> list[str]:
    """What is shown after each character, where it differs from what was shown before it."""
    frames = [shown(source[:end], unfinished=True) for end in range(1, len(source) + 1)]
    return [frame for before, frame in pairwise(["", *frames]) if frame != before]


@pytest.mark.parametrize("name", REPLIES)
def test_every_beginning_of_a_reply_can_be_sent(name: str):
    source = REPLIES[name]
    for end in range(1, len(source)):
        parts = render(source[:end], unfinished=True)
        assert [fault for part in parts for fault in faults(part)] == []
        assert parts or not source[:end].strip()


@pytest.mark.parametrize("name", [name for name in REPLIES if not name.startswith("unclosed")])
def test_a_whole_reply_looks_the_same_when_it_is_finished(name: str):
    assert render(REPLIES[name] + "\n\n", unfinished=True) == render(REPLIES[name])


@pytest.mark.parametrize(
    ("source", "frames"),
    [
        ("a **b** c", ["a", "a b", "a <bold>b</bold>", "a <bold>b</bold> c"]),
        ("*b*", ["*", "b", "<italic>b</italic>"]),
        ("a `b`", ["a", "a b", "a <code>b</code>"]),
        ("这**是**", ["这", "这是", "这<bold>是</bold>"]),
        ("这**（是**的", ["这", "这（", "这（是", "这<bold>（是</bold>", "这<bold>（是</bold>的"]),
        ("a ~~b~~", ["a", "a b", "a <strikethrough>b</strikethrough>"]),
        ("a ***b***", ["a", "a b", "a <bold><italic>b</italic></bold>"]),
    ],
)
def test_an_open_mark_is_not_shown_and_nothing_moves_when_it_is_closed(source: str, frames: list[str]):
    assert growing(source) == frames


@pytest.mark.parametrize("source", ["5*3 = 15", "snake_case_name", "~100 people", "2 * 3", "a\\*b", "`*` is"])
def test_what_is_no_mark_is_shown_at_once(source: str):
    assert growing(source)[-1] == shown(source)
    first = source.replace("\\", "").replace("`", "")[:3].rstrip()
    assert any(frame.replace("<code>", "").replace("</code>", "").startswith(first) for frame in growing(source)[:4])


def test_a_mark_that_was_never_closed_is_shown_when_its_paragraph_ends():
    assert shown("a **b", unfinished=True) == "a b"
    assert shown("a **b\n\n", unfinished=True) == "a **b"
    assert shown("a **b\n\nc", unfinished=True) == "a **b\n\nc"
    assert shown("a **b") == "a **b"


def test_half_a_link_is_its_text():
    link = "see [the docs](https://example.com/a_(b)) now"
    assert growing(link)[-1] == "see <text_link https://example.com/a_(b)>the docs</text_link> now"
    assert not any("http" in frame and "<text_link" not in frame for frame in growing(link))
    assert shown("see [the docs](https://exam", unfinished=True) == "see the docs"
    assert shown("as in [1] and [2]", unfinished=True) == "as in [1] and [2]"


def test_an_open_fence_is_code_and_a_closing_one_never_is():
    frames = growing("a\n\n```py\nx = 1\n```\n\nb")
    assert all("`" not in frame for frame in frames)
    assert "a\n\n<pre py>x = 1</pre>" in frames
    assert frames[-1] == "a\n\n<pre py>x = 1</pre>\n\nb"


def test_the_beginning_of_an_item_does_not_turn_the_line_before_it_into_a_heading():
    for source in ("Items:\n- one\n- two", "Sum\n= 3", "Steps:\n1. one", "Said\n> this"):
        assert not any("<bold>" in frame for frame in growing(source))


def test_a_table_is_shown_when_it_is_known_to_be_one():
    frames = growing("See:\n\n| a | b |\n|---|---|\n| 1 | 2 |\n| 33 | 4 |")
    assert frames[:4] == ["S", "Se", "See", "See:"]
    assert all(frame.startswith("See:\n\n<pre>a") for frame in frames[4:])


def test_a_line_with_bars_that_is_no_table_is_shown_when_the_next_begins():
    assert shown("a\n\n|x| is", unfinished=True) == "a"
    assert shown("a\n\n|x| is\nthe", unfinished=True) == "a\n\n|x| is\nthe"


@pytest.mark.parametrize("source", ["**", "```", "- ", "| a |", "1.", "[x]("])
def test_a_beginning_that_means_nothing_yet_is_shown_as_it_is(source: str):
    (part,) = render(source, unfinished=True)
    assert part.text.strip()


def test_messages_before_the_last_stay_while_the_reply_grows():
    words = random.Random(3)
    pieces = ["some words ", "a **bold** one, ", "`code` ", "一些中文。", "A sentence. ", "\n\n", "\n- item ", "😀 "]
    pieces += ["\n\n```py\n" + "x = 1\n" * 12 + "```\n\n", "\n\n> a quote\n\n", "\n\n## Heading\n\n"]
    ends = accumulate(words.choice(pieces) for _ in range(200))
    shown_before = []
    for source in ends:
        parts = render(source, unfinished=True, max_units=300)
        assert parts[: len(shown_before) - 1] == shown_before[:-1]
        shown_before = parts
    assert len(shown_before) > 5
    assert render(source, max_units=300)[:-1] == shown_before[:-1]
