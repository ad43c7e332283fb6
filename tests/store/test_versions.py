"""What people may know of the adapters that answer them, and to whom it is said that their corrections are used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import adapters, canaries, conversations, feedback, lineage, people, runs, versions
from store.session import Store
from store.tables import Conversation, Message, Person


def corrected(store: Store, talk: Conversation, person: Person) -> None:
    """They said how a reply should have been."""
    question = conversations.add_user(store, talk.id, None, "Where is the key?")
    reply = conversations.add_reply(
        store, Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="I do not know.")
    )
    feedback.correct(store, reply.id, person.id, "In the blue pot.")


def learned(store: Store, talk: Conversation, version: int = 1, *, run: int | None = None) -> None:
    """A version that learned from this conversation."""
    row = adapters.register(store, "familiar", version, f"familiar/{version}", "small", "f00", 8)
    lineage.trained_on(store, row.id, [talk.id])
    if run is not None:
        runs.note(store, run, version=version)


def begun(store: Store) -> int:
    number = runs.begin(store, "familiar", "by hand", {}).id
    assert number is not None
    return number


def test_a_version_tells_where_it_comes_from_and_whether_it_is_in_force(store: Store) -> None:
    for version in (1, 2, 3):
        row = adapters.register(store, "familiar", version, f"familiar/{version}", "small", "f00", 8)
        adapters.mark_loaded(store, row.id, version > 1)
    adapters.activate(store, "familiar", 2)
    canaries.begin(store, "familiar", 3, 2, 0.25)
    run, again = begun(store), begun(store)
    runs.note(store, run, version=2)
    runs.note(store, again, version=2)
    first, second, third = versions.versions(store)
    assert [each.served_name for each in (first, second, third)] == ["familiar@1", "familiar@2", "familiar@3"]
    assert (first.loaded, first.in_force, first.run, first.share) == (False, False, None, None)
    assert (second.loaded, second.in_force, second.run, second.share) == (True, True, run, None)
    assert (third.in_force, third.share) == (False, 0.25)
    assert second.made_at == adapters.get(store, "familiar", 2).created_at
    assert versions.version(store, "familiar@3") == third
    assert versions.version(store, "familiar@4") is None


def test_who_corrected_a_reply_that_was_learned_from_is_told_once(
    store: Store, ada: Person, talk: Conversation
) -> None:
    corrected(store, talk, ada)
    run = begun(store)
    learned(store, talk, run=run)
    assert versions.tell_once(store, ada.id, "familiar@1") == 1
    assert versions.tell_once(store, ada.id, "familiar@1") is None
    learned(store, talk, 2, run=begun(store))
    assert versions.tell_once(store, ada.id, "familiar@2") is None, "it is said once a person, not once a version"


def test_nobody_is_told_of_a_version_that_learned_nothing_from_them(
    store: Store, ada: Person, bob: Person, talk: Conversation
) -> None:
    corrected(store, talk, ada)
    learned(store, talk)
    assert versions.tell_once(store, bob.id, "familiar@1") is None
    for other in ("familiar@2", "house@1", "familiar", "", "familiar@x"):
        assert versions.tell_once(store, ada.id, other) is None
    assert versions.tell_once(store, ada.id, "familiar@1") == 1, "the others have not used it up"


def test_a_conversation_that_was_learned_from_but_not_corrected_is_nothing_to_tell(
    store: Store, ada: Person, talk: Conversation
) -> None:
    conversations.add_user(store, talk.id, None, "Where is the key?")
    learned(store, talk)
    assert versions.tell_once(store, ada.id, "familiar@1") is None


@pytest.mark.parametrize("by_a_run", [True, False])
def test_what_was_corrected_after_it_had_learned_does_not_count(
    store: Store, ada: Person, talk: Conversation, by_a_run: bool
) -> None:
    if by_a_run:
        run = begun(store)
        corrected(store, talk, ada)  # while it was trained
        learned(store, talk, run=run)
    else:
        learned(store, talk)
        corrected(store, talk, ada)
    assert versions.tell_once(store, ada.id, "familiar@1") is None


def test_what_is_forgotten_is_not_spoken_of(store: Store, ada: Person, talk: Conversation) -> None:
    corrected(store, talk, ada)
    learned(store, talk)
    kept = conversations.start(store, ada.id, "terminal", "familiar")
    corrected(store, kept, ada)
    conversations.delete(store, talk.id, ada.id)
    assert versions.tell_once(store, ada.id, "familiar@1") is None
    people.forget(store, ada.id)
    assert versions.tell_once(store, ada.id, "familiar@1") is None


def test_two_replies_at_once_tell_it_once(
    store: Store, ada: Person, talk: Conversation, at_once: Callable[..., list[Any]]
) -> None:
    corrected(store, talk, ada)
    learned(store, talk)
    asking = [lambda: versions.tell_once(store, ada.id, "familiar@1")] * 4
    assert sorted(at_once(*asking), key=str) == [1, None, None, None]
