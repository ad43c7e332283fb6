"""Loops and refusals are told from replies that only look so."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finetune.degenerate import empty, looping, refusal

SENTENCE = "The office opens at nine and closes at six on weekdays."
LOOPS = [
    "I think that " * 12,
    "Well, here is the thing. " + "It is what it is. " * 10,
    f"{SENTENCE} " * 5,
    "Answer: " + "no " * 40,
    "ha" * 200,
    "好" * 40,
    "办公室九点开门，六点关门。" * 6,
    "首先，" + "我们需要考虑这个问题，" * 8 + "我们需要考",
    "The list:\n" + "- item\n" * 30,
    "Loop begins " + "and it goes on and on and " * 6 + "then it ends quite normally.",
    f"{SENTENCE}\nOne more thing.\n" * 6 + "That was all.",
    "0, " * 60,
]
NO_LOOPS = [
    "",
    "No.",
    "no, no, no!",
    "哈哈哈哈哈",
    SENTENCE,
    "| Day | Opens | Closes |\n| --- | --- | --- |\n"
    + "\n".join(
        f"| {day} | {opens}:00 | {opens + 9}:30 |"
        for opens, day in enumerate(["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"], 6)
    ),
    "1. Open the door.\n2. Open the window.\n3. Open the box.\n4. Open the tin.\n5. Open your eyes.",
    "=" * 300,
    "Title\n" + "-" * 200 + "\nText",
    "```python\n" + "\n".join(f"x[{number}] = compute(x[{number - 1}], y)" for number in range(1, 20)) + "\n```",
    "Row, row, row your boat,\nGently down the stream,\nMerrily, merrily, merrily, merrily,\nLife is but a dream.",
    "会议在周三下午三点举行，地点是二楼的大会议室。请提前十分钟到场，并带上你的笔记本电脑和充电器。",
]


@pytest.mark.parametrize("text", LOOPS, ids=lambda text: text[:24])
def test_a_loop_is_one(text: str) -> None:
    assert looping(text)


@pytest.mark.parametrize("text", NO_LOOPS, ids=lambda text: text[:24])
def test_a_text_that_repeats_for_a_reason_is_no_loop(text: str) -> None:
    assert not looping(text)


@given(st.lists(st.sampled_from(["alpha", "beta", "gamma", "delta", "epsilon"]), min_size=1, max_size=20))
def test_whatever_is_said_over_and_over_is_a_loop_and_once_is_none(words: list[str]) -> None:
    unit = " ".join([*words, "omega"])
    assert looping(f"Well. {unit} " + f"{unit} " * 24)
    assert not looping(" ".join(dict.fromkeys(words)))


def test_a_long_text_is_looked_at_quickly_and_is_no_loop() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnop", k=6)) for _ in range(4000)]
    assert not looping(" ".join(draw.choices(words, k=60_000)))


REFUSALS = [
    "I'm sorry, but I can't help with that.",
    "I’m sorry, I cannot assist with this request.",
    "Sorry, I am unable to provide that.",
    "As an AI language model, I do not have opinions on this.",
    "I cannot provide medical advice for your case. Please see a doctor.",
    "Unfortunately, I'm not able to do this.",
    "I must decline.",
    "抱歉，我无法回答这个问题。",
    "对不起，我不能提供这样的信息。",
    "作为一个人工智能，我无法给出个人意见。",
    "很抱歉，这个请求我不能完成。",
    "我无法为您提供这方面的帮助。",
]
NO_REFUSALS = [
    "Sorry for the wait! The office opens at nine.",
    "I can't believe how good this is.",
    "You can't park there after six.",
    "If you cannot come, call us.",
    "I'm sorry to hear that. Do you want to talk about it?",
    "The documents do not say. " + "More text follows here. " * 20 + "I'm sorry, but I can't help with that.",
    "抱歉让你久等了。办公室九点开门。",
    "你不能在这里停车。",
    "如果无法参加，请提前告知。",
    "",
]


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_is_one(text: str) -> None:
    assert refusal(text)


@pytest.mark.parametrize("text", NO_REFUSALS, ids=lambda text: text[:24])
def test_what_only_sounds_like_a_refusal_is_none(text: str) -> None:
    assert not refusal(text)


def test_what_cannot_be_seen_is_empty() -> None:
    assert all(empty(text) for text in ("", "  \n\t", "\u200b\u200b", "\x00", "\ufeff"))
    assert not any(empty(text) for text in ("a", "。", "👍", "-"))
