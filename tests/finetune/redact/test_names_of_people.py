"""Names from profiles: the whole, its parts, and what is only a word."""

from __future__ import annotations

import pytest

from finetune.redact import Redactor, own_names
from tests.finetune.redact.conftest import Redact


@pytest.mark.parametrize(
    ("name", "text", "redacted"),
    [
        ("Alice Muster", "Alice Muster, alice and MUSTER; Muster, Alice", "<NAME_1>, <NAME_1> and <NAME_1>; <NAME_1>"),
        ("Alice Muster", "Alice B. Muster signed", "<NAME_1> signed"),
        ("🌸 Alice 🌸", "I'm Alice🌸!", "I'm <NAME_1>🌸!"),
        ("alice_m", "@alice_m wrote, alice_m answered", "@<NAME_1> wrote, <NAME_1> answered"),
        ("José", "José, José and Jose", "<NAME_1>, <NAME_1> and <NAME_1>"),
        ("O'Neil", "Ask O'Neil's lawyer", "Ask <NAME_1>'s lawyer"),
        ("Anna-Lena", "Anna-Lena isn't Anna", "<NAME_1> isn't Anna"),
        ("Иван Примеров", "Иван и Примеров", "<NAME_1> и <NAME_1>"),
        ("王小明", "我叫王小明，叫我小明就好，王先生也行", "我叫<NAME_1>，叫我<NAME_1>就好，<NAME_1>先生也行"),
        ("陳大文", "陳大文同學你好", "<NAME_1>同學你好"),
        ("欧阳小样", "欧阳老师和小样", "<NAME_1>老师和<NAME_1>"),
        ("Xiaoming Wang", "Wang Xiaoming = Xiaoming Wang", "<NAME_1> = <NAME_1>"),
        ("김민수", "김민수입니다", "<NAME_1>입니다"),
        ("Ａｌｉｃｅ", "alice", "<NAME_1>"),
    ],
)
def test_a_person_is_found_as_people_write(redact: Redact, name: str, text: str, redacted: str) -> None:
    assert redact(text, name) == redacted


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("Ann", "The annual plan of Annapolis, Joann and annex_ann2"),
        ("Will", "Will it rain? I will see. Free will!"),
        ("Will", "Yes, I will."),
        ("May Day", "In May, on a fine day"),
        ("高兴", "他很高兴，高兴极了"),
        ("王健康", "健康最重要"),
        ("王明", "王国里明天放假"),
        ("A", "A plan, a man"),
        ("明", "明天"),
        ("", "Nobody is here"),
        ("🌸🌸", "🌸🌸"),
        ("42", "42 is the answer"),
        ("user", "the user is new"),
        ("Me", "me and you"),
        ("用户", "用户很多"),
        ("van der", "a van and a der"),
        (".*", "anything (at all) [here]"),
    ],
)
def test_what_is_a_word_or_part_of_one_stays(redact: Redact, name: str, text: str) -> None:
    assert redact(text, name) == text


@pytest.mark.parametrize(
    ("name", "text", "redacted"),
    [
        ("Will", "I'm Will. Will you help?", "I'm <NAME_1>. Will you help?"),
        ("Mark Muster", "Dear Mark,\nplease mark this", "Dear <NAME_1>,\nplease mark this"),
        ("Rose", "Thanks, Rose!", "Thanks, <NAME_1>!"),
        ("高兴", "我叫高兴，很高兴", "我叫<NAME_1>，很高兴"),
        ("Li", "My name is Li", "My name is <NAME_1>"),
    ],
)
def test_a_name_that_is_a_word_counts_where_somebody_says_who_he_is(
    redact: Redact, name: str, text: str, redacted: str
) -> None:
    assert redact(text, name) == redacted


def test_two_people_are_two_placeholders_and_a_nickname_is_its_owners(redactor: Redactor) -> None:
    redacted, counts = redactor.conversation(["Alice met Bob. Muster paid."], ["Bob Sample", "Alice Muster", "alice"])
    assert redacted == ["<NAME_1> met <NAME_2>. <NAME_1> paid."]
    assert counts == {"NAME": 3}


def test_names_nobody_could_be_found_by_make_no_search_at_all() -> None:
    assert own_names.finder(["", "A", "🌸", "user", "12345"]) is None


def test_a_name_of_ten_thousand_letters_is_no_trouble(redact: Redact) -> None:
    assert redact("hello", "x" * 10_000) == "hello"
