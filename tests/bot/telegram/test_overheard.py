"""What was said in groups is in memory for a short while, and no more of it than was asked for."""

from __future__ import annotations

from bot.telegram.overheard import KEPT_S, LONGEST_TEXT, MOST_LANES, Lane, Overheard, Said

TEAM: Lane = (-1001, None)
PLANS: Lane = (-1001, 45)
OTHERS: Lane = (-1002, None)


class Clock:
    def __init__(self) -> None:
        self.at = 1_790_000_000.0

    def __call__(self) -> float:
        return self.at


def said(message_id: int, text: str = "hi", user_id: int = 101, at: float = 1_790_000_000) -> Said:
    return Said(message_id, user_id, "Ada", text, at)


def texts(overheard: Overheard, lane: Lane, before: int = 1_000_000) -> list[str]:
    return [each.text for each in overheard.before(lane, before)]


def test_the_last_messages_of_each_place_are_kept() -> None:
    overheard = Overheard(2, Clock())
    for message_id, text in enumerate(["one", "two", "three"]):
        overheard.hear(TEAM, said(message_id, text))
    overheard.hear(PLANS, said(3, "in a topic"))
    assert texts(overheard, TEAM) == ["two", "three"]
    assert texts(overheard, PLANS) == ["in a topic"]
    assert texts(overheard, OTHERS) == []


def test_only_what_was_said_before_counts_whatever_the_order_it_came_in() -> None:
    overheard = Overheard(5, Clock())
    for message_id in (3, 1, 2):
        overheard.hear(TEAM, said(message_id, str(message_id)))
    assert texts(overheard, TEAM, before=3) == ["1", "2"]


def test_nothing_is_kept_where_nothing_is_asked_for() -> None:
    overheard = Overheard(0, Clock())
    overheard.hear(TEAM, said(1))
    assert len(overheard) == 0


def test_an_edit_changes_what_is_kept_and_brings_nothing_back() -> None:
    overheard = Overheard(1, Clock())
    overheard.hear(TEAM, said(1, "one"))
    overheard.hear(TEAM, said(2, "two"))
    overheard.hear(TEAM, said(1, "one, reworded"), edited=True)
    overheard.hear(TEAM, said(2, "two, reworded"), edited=True)
    assert texts(overheard, TEAM) == ["two, reworded"]


def test_a_long_text_is_cut() -> None:
    overheard = Overheard(1, Clock())
    overheard.hear(TEAM, said(1, "长" * 4096))
    assert texts(overheard, TEAM) == ["长" * (LONGEST_TEXT - 1) + "…"]


def test_what_is_older_than_an_hour_is_dropped_everywhere_as_soon_as_anything_is_said() -> None:
    clock = Clock()
    overheard = Overheard(5, clock)
    overheard.hear(OTHERS, said(1, "old"))
    clock.at += KEPT_S
    overheard.hear(TEAM, said(1, "on the hour", at=clock.at))
    assert len(overheard) == 2
    clock.at += 1
    overheard.hear(TEAM, said(2, "new", at=clock.at))
    assert len(overheard) == 2
    clock.at += KEPT_S
    assert texts(overheard, TEAM) == ["new"]


def test_what_comes_an_hour_late_is_not_kept() -> None:
    clock = Clock()
    overheard = Overheard(5, clock)
    overheard.hear(TEAM, said(1, at=clock.at - KEPT_S - 1))
    assert len(overheard) == 0


def test_of_too_many_places_the_one_that_was_silent_for_longest_is_dropped() -> None:
    overheard = Overheard(5, Clock())
    for chat in range(MOST_LANES):
        overheard.hear((chat, None), said(1))
    overheard.hear((0, None), said(2))
    overheard.hear((MOST_LANES, None), said(1))
    assert len(texts(overheard, (0, None))) == 2
    assert texts(overheard, (1, None)) == []
    assert len(overheard) == MOST_LANES + 1


def test_a_group_and_a_person_can_be_dropped() -> None:
    overheard = Overheard(5, Clock())
    overheard.hear(TEAM, said(1, "Ada's"))
    overheard.hear(TEAM, said(2, "Bo's", user_id=102))
    overheard.hear(PLANS, said(3, "Ada's"))
    overheard.hear(OTHERS, said(1, "Ada's"))
    overheard.forget(101)
    assert texts(overheard, TEAM) == ["Bo's"]
    assert len(overheard) == 1
    overheard.hear(OTHERS, said(2))
    overheard.leave(-1001)
    assert texts(overheard, TEAM) == []
    assert len(overheard) == 1
