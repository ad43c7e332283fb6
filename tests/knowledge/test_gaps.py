"""Questions that mean much the same stand together in the list of what is missing, and no others."""

from __future__ import annotations

import itertools

import pytest

from knowledge.embedding.bundled import BundledEmbedder
from knowledge.gaps import grouped

TIDE = ["When is high tide?", "At what time is high tide today?", "high tide, when?"]
FERRY = ["When does the ferry to Skerry leave?", "What time does the Skerry ferry depart?"]
PASSWORD = ["How do I change my password?", "How can I reset my password?"]
REFUND = ["怎么申请退款？", "如何办理退款？"]
ROOM = ["会议室怎么预订？", "预订会议室要怎么做？"]
ON_ONE_SUBJECT = [
    "How deep is the harbour?",
    "Where can I eat in the harbour?",
    "图书馆几点关门？",
    "图书馆的打印机在哪里？",
]
ALONE = ["Who pays for the parking?", "Who designed the museum?", "停车费多少钱？", "食堂的菜单在哪里？"]


def together(questions: list[str], embedder: BundledEmbedder) -> list[list[str]]:
    return [[questions[index] for index in group.members] for group in grouped(questions, embedder)]


@pytest.mark.parametrize("alike", [TIDE, FERRY, PASSWORD, REFUND, ROOM], ids=lambda alike: alike[0])
def test_alike_questions_are_one_group_whoever_came_first(bundled: BundledEmbedder, alike: list[str]) -> None:
    for order in itertools.permutations(alike):
        assert together(list(order), bundled) == [list(order)]


def test_unlike_questions_are_kept_apart_in_the_order_they_came(bundled: BundledEmbedder) -> None:
    unlike = [TIDE[0], FERRY[0], PASSWORD[0], REFUND[0], ROOM[0], *ALONE, *ON_ONE_SUBJECT]
    assert together(unlike, bundled) == [[question] for question in unlike]


def test_the_largest_group_comes_first_and_is_named_by_its_first_question(bundled: BundledEmbedder) -> None:
    asked = [ALONE[0], REFUND[0], TIDE[0], ALONE[2], TIDE[1], REFUND[1], TIDE[2]]
    assert together(asked, bundled) == [TIDE, REFUND, [ALONE[0]], [ALONE[2]]]


def test_the_same_question_asked_again_and_again_is_one_group(bundled: BundledEmbedder) -> None:
    assert together([TIDE[0]] * 3 + [REFUND[0]] * 2, bundled) == [[TIDE[0]] * 3, [REFUND[0]] * 2]
    assert together(["?!", "?!", "", ""], bundled) == [["?!", "?!", "", ""]], "what says nothing is one too"


def test_the_same_words_in_another_order_are_the_same_question(bundled: BundledEmbedder) -> None:
    asked = ["parking fee visitors museum", "museum visitors parking fee"]
    assert together(asked, bundled) == [asked]


def test_one_question_is_a_group_and_none_are_none(bundled: BundledEmbedder) -> None:
    assert together([TIDE[0]], bundled) == [[TIDE[0]]]
    assert together([], bundled) == []


@pytest.mark.parametrize("question", ["", "?", "😀", "\ud800", "\x00", "a" * 20_000, "中" * 5_000])
def test_whatever_somebody_wrote_can_be_grouped(bundled: BundledEmbedder, question: str) -> None:
    assert sorted(itertools.chain(*together([question, TIDE[0]], bundled))) == sorted([question, TIDE[0]])
