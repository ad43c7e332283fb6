from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import adapters, conversations, lineage, people
from store.errors import NotFound
from store.session import Store
from store.tables import Adapter, Conversation, Person


@pytest.fixture
def house(store: Store) -> list[Adapter]:
    """Two versions of an adapter."""
    return [adapters.register(store, "house", version, f"house/{version}", "small", "f00", 8) for version in (1, 2)]


def left_out(store: Store) -> list[tuple[str, int]]:
    return [(each.adapter, each.conversations) for each in lineage.to_leave_out(store)]


def test_an_adapter_that_learned_from_what_is_still_there_is_not_marked(
    store: Store, talk: Conversation, house: list[Adapter]
) -> None:
    lineage.trained_on(store, house[0].id, [talk.id])
    assert lineage.to_leave_out(store) == []


def test_the_adapters_that_learned_from_a_deleted_conversation_are_marked(
    store: Store, ada: Person, talk: Conversation, house: list[Adapter]
) -> None:
    other = conversations.start(store, ada.id, "terminal", "familiar")
    lineage.trained_on(store, house[0].id, [talk.id, other.id])
    lineage.trained_on(store, house[1].id, [other.id])
    conversations.delete(store, talk.id, ada.id)
    assert left_out(store) == [("house@1", 1)]
    (before,) = lineage.to_leave_out(store)
    conversations.delete(store, other.id, ada.id)
    assert left_out(store) == [("house@1", 2), ("house@2", 1)]
    assert lineage.to_leave_out(store)[0].forgotten_at > before.forgotten_at


def test_forgetting_somebody_names_and_marks_the_adapters_that_learned_from_them(
    store: Store, ada: Person, bob: Person, talk: Conversation, house: list[Adapter]
) -> None:
    bobs = conversations.start(store, bob.id, "terminal", "familiar")
    lineage.trained_on(store, house[0].id, [talk.id, bobs.id])
    lineage.trained_on(store, house[1].id, [bobs.id])
    assert people.forget(store, ada.id).adapters == ("house@1",)
    assert left_out(store) == [("house@1", 1)]
    assert people.forget(store, bob.id).adapters == ("house@1", "house@2")
    assert left_out(store) == [("house@1", 2), ("house@2", 1)]


def test_forgetting_names_what_learned_from_a_conversation_deleted_before(
    store: Store, ada: Person, talk: Conversation, house: list[Adapter]
) -> None:
    lineage.trained_on(store, house[0].id, [talk.id])
    conversations.delete(store, talk.id, ada.id)
    (marked,) = lineage.to_leave_out(store)
    assert people.forget(store, ada.id).adapters == ("house@1",)
    assert lineage.to_leave_out(store) == [marked], "it is forgotten since it was deleted"


def test_an_adapter_that_learned_from_somebody_who_quotes_the_forgotten_is_marked_too(
    store: Store, ada: Person, bob: Person, house: list[Adapter]
) -> None:
    bobs = conversations.start(store, bob.id, "telegram", "familiar")
    conversations.add_user(store, bobs.id, None, "what of it?", sent="Ada: ...\n\nwhat of it?", quoted=[ada.id])
    lineage.trained_on(store, house[1].id, [bobs.id])
    assert people.forget(store, ada.id).adapters == ("house@2",)
    assert left_out(store) == [("house@2", 1)]


def test_a_conversation_deleted_while_the_adapter_was_trained_counts_as_forgotten(
    store: Store, ada: Person, talk: Conversation, house: list[Adapter]
) -> None:
    kept = conversations.start(store, ada.id, "terminal", "familiar")
    conversations.delete(store, talk.id, ada.id)
    lineage.trained_on(store, house[0].id, iter([talk.id, kept.id]))
    assert left_out(store) == [("house@1", 1)]


def test_noting_it_twice_changes_nothing(store: Store, ada: Person, talk: Conversation, house: list[Adapter]) -> None:
    lineage.trained_on(store, house[0].id, [talk.id, talk.id])
    lineage.trained_on(store, house[0].id, [talk.id])
    assert len(people.export(store, ada.id)["trained_on"]) == 1


def test_an_adapter_may_have_learned_from_thousands(store: Store, ada: Person, house: list[Adapter]) -> None:
    with store.writing() as session:
        session.add_all([Conversation(person_id=ada.id, channel="terminal") for _ in range(1200)])
    lineage.trained_on(store, house[0].id, [each.id for each in conversations.listing(store, ada.id, limit=2000)])
    people.forget(store, ada.id)
    assert left_out(store) == [("house@1", 1200)]


def test_an_adapter_that_is_not_there_learned_nothing(store: Store, talk: Conversation) -> None:
    with pytest.raises(NotFound):
        lineage.trained_on(store, 99, [talk.id])


def test_what_is_noted_while_it_is_forgotten_is_marked(
    store: Store, ada: Person, house: list[Adapter], at_once: Callable[..., list[Any]]
) -> None:
    for _ in range(8):
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        before = sum(count for _, count in left_out(store))
        outcomes = at_once(
            lambda talk=talk: lineage.trained_on(store, house[0].id, [talk.id]),
            lambda talk=talk: conversations.delete(store, talk.id, ada.id),
        )
        assert outcomes == [None, None]
        assert sum(count for _, count in left_out(store)) == before + 1
