"""What would teach the wrong thing, or the same thing twice, is taken out, and counted."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any

import pytest

from finetune.clean import Cleaned, cleaned
from finetune.examples import Example
from finetune.languages import differ, script
from settings import Finetune, Learning
from tests.finetune.made_log import example

DAY = datetime(2026, 5, 1, tzinfo=UTC)


def clean(*examples: Example, max_tokens: int = 1024, **learning: Any) -> Cleaned:
    return cleaned(examples, lambda text: len(text.split()), Finetune(max_tokens=max_tokens), Learning(**learning))


def test_good_examples_stay_in_their_order() -> None:
    examples = (example("When do you open?", "At nine."), example("办公室几点开门？", "九点开门。", "log:2"))
    assert clean(*examples) == Cleaned(examples, {})


def test_loops_and_empty_replies_are_left_out_also_when_somebody_rated_them_up() -> None:
    got = clean(
        example("What is it?", "It is what it is. " * 12),
        example("Hello?", " \u200b"),
        example("为什么？", "因为我们需要考虑这个问题，" * 8, why="corrected"),
    )
    assert got == Cleaned((), {"empty": 1, "loops": 2})


def test_what_does_not_fit_even_without_its_history_is_left_out() -> None:
    long = " ".join(f"word{number}" for number in range(100))
    history = ({"role": "user", "content": long}, {"role": "assistant", "content": long})
    newest = example("When do you open?", "At nine.")
    with_history = Example((*history, *newest.messages), (0.0, 0.0, *newest.weights), newest.why, newest.source)
    assert clean(with_history, max_tokens=64).examples == (with_history,)
    assert clean(example(long, "At nine."), max_tokens=64).left_out == {"overlong": 1}
    assert clean(example("When do you open?", long), max_tokens=64).left_out == {"overlong": 1}
    system = ({"role": "system", "content": long}, *newest.messages)
    assert clean(Example(system, (0.0, 0.0, 1.0), newest.why, newest.source), max_tokens=64).left_out == {"overlong": 1}


def test_a_reply_in_another_language_is_left_out_unless_somebody_approved_it() -> None:
    mismatched = {"question": "办公室几点开门？", "reply": "The office opens at nine."}
    assert clean(example(**mismatched, why="unremarked")).left_out == {"other_language": 1}
    assert clean(example(**mismatched, why="chosen")).left_out == {"other_language": 1}
    for why in ("rated_up", "corrected"):
        assert len(clean(example(**mismatched, why=why)).examples) == 1


def test_passages_in_another_language_than_the_question_are_no_mismatch() -> None:
    frame = "以下是文档。\n\n[1] Rules\n> " + "The office opens at nine. " * 20 + "\n\n请回答。\n\n问题："
    assert len(clean(example(frame + "几点开门？", "九点开门。", why="unremarked")).examples) == 1


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("How are you today?", "我很好，谢谢你！"),
        ("今天天气怎么样？", "It will rain in the afternoon."),
        ("Когда вы открываетесь?", "We open at nine."),
        ("何時に開きますか？", "我们九点开门，六点关门。"),
        (
            "Could you tell me when the next train to the city leaves from here, and what tickets for two of us are?",
            "Le prochain train pour la ville part à neuf heures et quart, et le billet coûte douze euros à la gare.",
        ),
    ],
)
def test_another_language_is_told(question: str, reply: str) -> None:
    assert differ(question, reply)


@pytest.mark.parametrize(
    ("question", "reply"),
    [
        ("How do I say thank you in Chinese?", "谢谢。"),
        ("把“谢谢”翻译成英文", "Thank you."),
        ("Traduce: good morning", "Buenos días"),
        ("用 Python 怎么排序？", "用 `sorted`：\n```python\nsorted(items, key=lambda item: item.name)\n```"),
        ("WiFi密码是多少？", "密码是 <SECRET_1>，见 https://example.org/help/wifi-and-passwords"),
        ("OK?", "好"),
        ("👍", "谢谢你！"),
        ("What is the email?", "It is <EMAIL_1>."),
        ("Wann?", "At nine."),
        ("何時に開きますか？", "午前九時に開きます。"),
    ],
)
def test_what_was_asked_for_and_what_is_in_doubt_is_no_mismatch(question: str, reply: str) -> None:
    assert not differ(question, reply)


def test_a_text_is_of_the_script_that_most_of_it_is_in() -> None:
    assert [script(text) for text in ("hello there", "你们的 WiFi", "東京に行きます", "Привет всем", "123 …", "")] == [
        "latin",
        "han",
        "kana",
        "cyrillic",
        "",
        "",
    ]


# The same thing twice

QUESTION, REPLY = "Where is the key of the bicycle shed kept?", "It hangs on the hook behind the kitchen door."


def test_of_the_same_the_one_that_counts_most_stays_and_of_these_the_newest() -> None:
    old, new = (example(QUESTION, REPLY, f"log:{day}", at=DAY.replace(day=day)) for day in (1, 2))
    heavy = example(QUESTION, REPLY, "log:3", at=DAY, why="corrected", weight=2.0)
    assert clean(old, new) == Cleaned((new,), {"duplicate": 1})
    assert clean(old, heavy, new) == Cleaned((heavy,), {"duplicate": 2})


def test_case_width_and_white_space_make_no_difference() -> None:
    other = example(f"  {QUESTION.upper()}\n", REPLY.replace(" ", "  "), "log:2")
    assert clean(example(QUESTION, REPLY), other).left_out == {"duplicate": 1}
    assert clean(example("几点开门?", "９点"), example("几点开门？", "9点", "log:2")).left_out == {"duplicate": 1}


def test_nearly_the_same_is_left_out_as_far_as_the_setting_says() -> None:
    pair = example(QUESTION, REPLY), example(QUESTION + " Please.", REPLY + " :)", "log:2")
    assert clean(*pair).left_out == {"near_duplicate": 1}
    assert clean(*pair, near_duplicate=0.95).left_out == {}
    assert clean(*pair, near_duplicate=0.0).left_out == {}
    assert clean(pair[0], pair[0], near_duplicate=0.0).left_out == {"duplicate": 1}


def test_the_same_answer_to_another_question_stays_and_so_does_another_answer_to_the_same() -> None:
    got = clean(
        example("Is the office open on Monday?", "Yes."),
        example("May I bring my dog to work?", "Yes.", "log:2"),
        example("May I bring my dog to work?", "Only on Fridays, and on a leash.", "log:3"),
    )
    assert got.left_out == {}


def test_replies_of_one_conversation_are_not_the_same_because_of_their_common_history() -> None:
    history = tuple(
        {"role": role, "content": f"{role} said this and that, for the {turn}th time"}
        for turn in range(20)
        for role in ("user", "assistant")
    )
    turns = [example("And the garden?", "It is open."), example("Who waters it?", "Anybody who passes.")]
    examples = [
        Example((*history, *each.messages), (*[0.0] * 40, *each.weights), each.why, each.source) for each in turns
    ]
    assert clean(*examples).left_out == {}


def test_planted_near_duplicates_are_found_among_a_thousand_texts() -> None:
    draw = random.Random(0)
    words = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=draw.randint(2, 9))) for _ in range(2000)]
    texts = [" ".join(draw.choices(words, k=60)) for _ in range(1000)]
    planted = []
    for text in texts[:100]:
        changed = text.split()
        changed[draw.randrange(60)] = draw.choice(words)
        planted.append(" ".join(changed))
    examples = [example("Tell me", text, f"log:{number}") for number, text in enumerate([*texts, *planted])]
    got = clean(*examples)
    assert got.left_out == {"near_duplicate": 100}
    assert len(got.examples) == 1000
