"""Numbers in a reply: those of passages stand, others go, in whatever pieces they come; and whom a reply rests on."""

from __future__ import annotations

import random

import pytest

from bot.citations import Citations, attributed

HARBOUR = "The harbour of Port Ellery was dredged in 1998 to a depth of eleven metres."
MUSEUM = "The lighthouse museum opens at nine on weekdays and at ten on Sundays."
TIDES = "潮汐表显示，埃勒里港的高潮在早上六点。"


def shown(reply: str, given: int, pieces: int | None = None) -> tuple[str, list[int]]:
    citations = Citations(given)
    if pieces is None:
        text = "".join(citations.feed(character) for character in reply)
    else:
        cuts = sorted(random.Random(pieces).sample(range(len(reply) + 1), min(pieces, len(reply))))
        parts = [reply[start:end] for start, end in zip([0, *cuts], [*cuts, len(reply)], strict=True)]
        text = "".join(map(citations.feed, parts))
    return text + citations.end(), citations.cited


@pytest.mark.parametrize(
    ("reply", "expected", "cited"),
    [
        ("Eleven metres [1].", "Eleven metres [1].", [1]),
        ("Eleven metres [3].", "Eleven metres.", []),
        ("Eleven [1, 7] and ten [2,1].", "Eleven [1] and ten [2][1].", [1, 2]),
        ("Both [1][2][9].", "Both [1][2].", [1, 2]),
        ("十一米【1】，九点【5】。", "十一米[1]，九点。", [1]),
        ("See [^2].", "See [2].", [2]),
        ("No number [0] here.", "No number here.", []),
        ("A [link] stays, and [12a] too.", "A [link] stays, and [12a] too.", []),
        ("Open [", "Open [", []),
        ("Open [1", "Open [1", []),
        ("`x[7]` and a[9]", "`x[7]` and a", []),
        ("```\nx = a[7]\n```\nso [2]", "```\nx = a[7]\n```\nso [2]", [2]),
        ("~~~\na[7]\n~~~\nb[7]", "~~~\na[7]\n~~~\nb", []),
        ("a ` b [1]\nc [1]", "a ` b [1]\nc [1]", [1]),
    ],
)
def test_only_numbers_of_passages_that_were_given_stay(reply: str, expected: str, cited: list[int]) -> None:
    for pieces in (None, 0, 1, 3, 5):
        assert shown(reply, 2, pieces) == (expected, cited), pieces


def test_a_reply_without_passages_is_passed_on_as_it_comes() -> None:
    citations = Citations(0)
    assert citations.feed("a[7] [") == "a[7] ["
    assert citations.end() == ""


def test_a_bracket_is_held_back_no_longer_than_it_may_be_a_mark() -> None:
    citations = Citations(2)
    assert citations.feed("so [") == "so"
    assert citations.feed("a]") == " [a]"


def test_a_reply_that_names_nothing_is_attributed_to_the_passage_that_says_it() -> None:
    passages = [MUSEUM, HARBOUR, TIDES]
    assert attributed("It was dredged to eleven metres.", "How deep is the harbour?", passages) == [2]
    assert attributed("高潮在早上六点。", "高潮是几点？", passages) == [3]
    assert attributed("It opens at ten on Sundays. It was dredged in 1998.", "When?", passages) == [1, 2]


def test_what_no_passage_says_is_attributed_to_none() -> None:
    passages = [MUSEUM, HARBOUR]
    assert attributed("The mayor is called Wilhelmina Oakes.", "Who is the mayor?", passages) == []
    assert attributed("The documents do not say.", "Who is the mayor?", passages) == []
    assert attributed("How deep is the harbour?", "How deep is the harbour?", passages) == []
    assert attributed("", "?", passages) == []
