from __future__ import annotations

from datetime import timedelta

import pytest

from store import adapters, conversations, notices, people, runs
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Person, now


def test_a_new_run_is_preparing_and_knows_what_it_was_begun_with(store: Store) -> None:
    settings = {"finetune": {"rank": 16}, "learning": {"redact": True}}
    begun = runs.begin(store, "familiar", "by hand", settings, place="telegram:-100")
    run = runs.get(store, begun.id)
    assert (run.name, run.place, run.trigger, run.state) == ("familiar", "telegram:-100", "by hand", "preparing")
    assert (run.verdict, run.version, run.finished_at, run.settings) == ("", None, None, settings)


def test_what_is_noted_of_a_run_is_added_to_what_is_known(store: Store) -> None:
    number = runs.begin(store, "familiar", "by hand", {}).id
    runs.note(store, number, state="training", fingerprint="f00", numbers={"examples": 7})
    runs.note(store, number, version=3, numbers={"seconds": {"training": 1.5}, "你": "好"})
    run = runs.get(store, number)
    assert (run.state, run.fingerprint, run.version) == ("training", "f00", 3)
    assert run.numbers == {"examples": 7, "seconds": {"training": 1.5}, "你": "好"}
    assert run.updated_at >= run.started_at


def test_a_run_ends_once_and_is_told_of_once(store: Store) -> None:
    number = runs.begin(store, "familiar", "schedule", {}).id
    runs.end(store, number, "failed", "No memory.", notice=("learning.failed", {"run": number}))
    runs.end(store, number, "promoted", "All is well.", notice=("learning.promoted", {"run": number}))
    run = runs.get(store, number)
    assert (run.state, run.verdict, run.said) == ("ended", "failed", "No memory.")
    assert run.finished_at is not None
    assert [(each.key, each.args) for each in notices.waiting(store)] == [("learning.failed", {"run": number})]


def test_a_run_that_is_resumed_is_no_longer_over(store: Store) -> None:
    number = runs.begin(store, "familiar", "by hand", {}).id
    runs.end(store, number, "failed", "No memory.")
    runs.note(store, number, state="training")
    run = runs.get(store, number)
    assert (run.state, run.verdict, run.said, run.finished_at) == ("training", "", "", None)
    assert [each.id for each in runs.unfinished(store)] == [number]


def test_runs_are_told_apart_by_whether_they_are_over_and_by_name(store: Store) -> None:
    first, second, group = (runs.begin(store, name, "by hand", {}).id for name in ("familiar", "familiar", "legal"))
    runs.end(store, first, "rejected", "It was worse.")
    assert [each.id for each in runs.listing(store)] == [group, second, first]
    assert [each.id for each in runs.listing(store, limit=1)] == [group]
    assert [each.id for each in runs.unfinished(store)] == [group, second]
    assert [each.id for each in runs.unfinished(store, "familiar")] == [second]
    assert [each.id for each in runs.ended(store)] == [first]
    assert runs.ended(store, "legal") == []


def test_the_last_scheduled_run_is_not_one_by_hand(store: Store) -> None:
    assert runs.last_scheduled(store) is None
    scheduled = runs.begin(store, "familiar", "schedule", {})
    runs.begin(store, "familiar", "by hand", {})
    last = runs.last_scheduled(store)
    assert last is not None
    assert last.id == scheduled.id


def test_an_unknown_run_is_not_found(store: Store) -> None:
    for call in (
        lambda: runs.get(store, 9),
        lambda: runs.note(store, 9, state="training"),
        lambda: runs.end(store, 9, "failed", ""),
    ):
        with pytest.raises(NotFound):
            call()


# What a copy may no longer quote


def test_a_deleted_conversation_is_gone_and_one_that_is_there_is_not(
    store: Store, ada: Person, talk: Conversation
) -> None:
    other = conversations.start(store, ada.id, "terminal", "familiar")
    at = now()
    assert runs.gone(store, [talk.id, other.id], at) == set()
    conversations.delete(store, other.id, ada.id)
    assert runs.gone(store, [talk.id, other.id, other.id, 999], at) == {other.id, 999}
    assert runs.gone(store, [], at) == set()


def test_a_conversation_that_quoted_somebody_who_is_forgotten_is_gone_from_older_copies(
    store: Store, ada: Person, bob: Person
) -> None:
    bobs = conversations.start(store, bob.id, "telegram", "familiar")
    conversations.add_user(store, bobs.id, None, "what of it?", sent="Ada: ...\n\nwhat of it?", quoted=[ada.id])
    before = now()
    people.forget(store, ada.id)
    assert runs.gone(store, [bobs.id], before) == {bobs.id}
    assert runs.gone(store, [bobs.id], now() + timedelta(seconds=1)) == set(), "a later copy never held the words"


def test_thousands_of_conversations_can_be_asked_about(store: Store, ada: Person) -> None:
    with store.writing() as session:
        session.add_all([Conversation(person_id=ada.id, channel="terminal") for _ in range(1200)])
    assert runs.gone(store, range(1, 1301), now()) == set(range(1201, 1301))


# What an adapter is


def test_an_adapter_is_a_lora_unless_it_is_a_whole_model(store: Store) -> None:
    adapters.register(store, "familiar", 1, "familiar/1", "tiny", "f00", 4)
    adapters.register(store, "familiar", 2, "familiar/2", "tiny", "f00", 0, kind="model")
    assert [each.kind for each in adapters.all_adapters(store)] == ["lora", "model"]
