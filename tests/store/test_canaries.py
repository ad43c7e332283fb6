from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import canaries, conversations, feedback, notices
from store.errors import NotFound
from store.session import Store
from store.tables import Canary, Conversation, Message, Person


@pytest.fixture
def canary(store: Store) -> Canary:
    return canaries.begin(store, "familiar", 2, 1, 0.3)


def test_of_a_name_one_canary_is_under_way(store: Store, canary: Canary) -> None:
    going = canaries.under_way(store, "familiar")
    assert going is not None
    assert (going.version, going.before_version, going.share) == (2, 1, 0.3)
    assert canaries.under_way(store, "legal") is None
    other = canaries.begin(store, "legal", 1, None, 0.5)
    assert [each.id for each in canaries.all_under_way(store)] == [canary.id, other.id]


def test_the_same_canary_begun_again_is_the_one_that_it_is(store: Store, canary: Canary) -> None:
    assert canaries.begin(store, "familiar", 2, 1, 0.3).id == canary.id


def test_a_newer_canary_takes_the_place_of_the_one_before(store: Store, canary: Canary) -> None:
    newer = canaries.begin(store, "familiar", 3, 1, 0.3)
    assert [each.id for each in canaries.all_under_way(store)] == [newer.id]
    with store.reading() as session:
        replaced = session.get(Canary, canary.id)
    assert replaced is not None
    assert replaced.outcome == "replaced"


def test_a_canary_ends_once_and_is_told_of_once(store: Store, canary: Canary) -> None:
    assert canaries.end(store, canary.id, "rolled_back", notice=("learning.canary_rolled_back", {"adapter": "a@2"}))
    assert not canaries.end(store, canary.id, "promoted", notice=("learning.canary_promoted", {}))
    assert canaries.under_way(store, "familiar") is None
    newest = canaries.newest(store, "familiar")
    assert newest is not None
    assert newest.outcome == "rolled_back"
    assert [each.key for each in notices.waiting(store)] == ["learning.canary_rolled_back"]
    with pytest.raises(NotFound):
        canaries.end(store, 99, "promoted")


def test_two_canaries_begun_at_once_leave_one(store: Store, at_once: Callable[..., list[Any]]) -> None:
    for version in range(1, 9):
        at_once(
            lambda version=version: canaries.begin(store, "familiar", version, None, 0.3),
            lambda version=version: canaries.begin(store, "familiar", version + 100, None, 0.3),
        )
        assert len(canaries.all_under_way(store)) == 1


# Who gets it


def test_a_conversation_stays_with_what_it_got_and_the_share_is_about_right(canary: Canary) -> None:
    lots = [canaries.takes(canary, number) for number in range(10_000)]
    assert lots == [canaries.takes(canary, number) for number in range(10_000)]
    assert 2_800 < sum(lots) < 3_200


def test_another_canary_is_for_others(canary: Canary) -> None:
    other = Canary(id=canary.id + 1, name="familiar", version=3, share=0.3)
    both = sum(canaries.takes(canary, number) and canaries.takes(other, number) for number in range(10_000))
    assert 750 < both < 1_050  # 9 in 100, if the two have nothing to do with each other


def test_of_a_small_share_few_get_it_and_of_none_nobody(canary: Canary) -> None:
    canary.share = 0.0
    assert not any(canaries.takes(canary, number) for number in range(1000))


# What they think of it


@pytest.fixture
def rated(
    store: Store, ada: Person, say: Callable[..., Message], answer: Callable[..., Message]
) -> Callable[[str, int], int]:
    """rated(adapter, value): the number of a new conversation with a reply by this adapter, rated so."""

    def rate(adapter: str, value: int, **of_the_talk: str) -> int:
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        with store.writing() as session:
            session.get_one(Conversation, talk.id).adapter = of_the_talk.get("chosen", "")
        reply = answer(say(talk, "hello"), model="tiny", adapter=adapter)
        feedback.rate(store, reply.id, ada.id, value)
        return talk.id

    return rate


def test_ratings_of_both_versions_are_told_apart(
    store: Store, canary: Canary, rated: Callable[[str, int], int]
) -> None:
    new, old, _ = rated("familiar@2", 1), rated("familiar@1", -1), rated("familiar@7", 1)
    assert [(each.conversation_id, each.new, each.value) for each in canaries.ratings(store, canary)] == [
        (new, True, 1),
        (old, False, -1),
    ]


def test_beside_the_base_model_its_replies_are_the_old_ones(store: Store, rated: Callable[[str, int], int]) -> None:
    canary = canaries.begin(store, "familiar", 1, None, 0.3)
    rated("", 1)
    assert [each.new for each in canaries.ratings(store, canary)] == [False]


def test_what_was_said_before_the_canary_does_not_count(store: Store, rated: Callable[[str, int], int]) -> None:
    rated("familiar@1", 1)
    canary = canaries.begin(store, "familiar", 2, 1, 0.3)
    assert canaries.ratings(store, canary) == []


def test_who_chose_an_adapter_did_not_get_it_by_lot(store: Store, canary: Canary, rated: Callable[..., int]) -> None:
    rated("familiar@2", 1, chosen="familiar@2")
    assert canaries.ratings(store, canary) == []
    rated("familiar@2", 1, chosen="familiar")
    assert len(canaries.ratings(store, canary)) == 1
