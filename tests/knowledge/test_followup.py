from __future__ import annotations

import pytest

from knowledge.followup import LONGEST, REACH, needs_history, standalone


@pytest.mark.parametrize(
    "question",
    ["and on Sundays?", "What about children?", "Why?", "Who founded it?", "Opening hours?", "And Berlin?", "how much?",
     "Which one is cheaper?", "Is that true?", "When was he born?", "那星期天呢？", "他是誰？", "為什麼呢？",
     "有多少？", "它在哪裡？", "那麼在哪裡可以買票？", "还有吗？", "狗呢？"],
)  # fmt: skip
def test_a_question_that_leans_on_the_one_before_is_noticed(question: str) -> None:
    assert needs_history(question)


@pytest.mark.parametrize(
    "question",
    ["Why is the sky blue?", "How do I reset my password?", "What is photosynthesis?", "Who was Ada Lovelace?",
     "What did Luther use as accompaniment to his hymns when he taught?", "吉他是什麼樂器？", "其他國家的首都在哪裡？",
     "退貨政策是什麼？", "如何重設密碼？", "Explain inflation.", "", "???", "😀"],
)  # fmt: skip
def test_a_question_that_stands_by_itself_is_left_alone(question: str) -> None:
    assert not needs_history(question)
    assert standalone(question, ["When is the museum open?"]) == question


def test_the_question_before_is_put_in_front() -> None:
    assert (
        standalone("And on Sundays?", ["Hi.", "When is the museum open?"]) == "When is the museum open? And on Sundays?"
    )
    assert standalone("那星期天呢？", ["博物館幾點開放？"]) == "博物館幾點開放？ 那星期天呢？"


def test_a_chain_of_follow_ups_reaches_back_to_the_question_that_began_it() -> None:
    history = ["Who is Bob?", "When is the museum open?", "And on Sundays?"]
    assert standalone("And for children?", history) == "When is the museum open? And on Sundays? And for children?"


def test_it_reaches_only_so_far_back() -> None:
    asked = standalone("and?", [f"and {number}?" for number in range(20)])
    assert asked.count("and") == REACH + 1


def test_without_history_a_question_stays_as_it_is() -> None:
    assert standalone("and on Sundays?", []) == "and on Sundays?"
    assert standalone("and on Sundays?", ["  "]) == "and on Sundays?"


def test_a_page_pasted_before_is_not_searched_again_in_full() -> None:
    assert len(standalone("and why?", ["word " * 10_000])) <= LONGEST + 20
