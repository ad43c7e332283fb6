from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from subprocess import Popen
from typing import Any

import pytest

from store import conversations, inbox, people
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Inbox, Message, Person, now


def keys(arrivals: list[Inbox]) -> list[str]:
    return [arrival.key for arrival in arrivals]


def row(store: Store, inbox_id: int) -> Inbox:
    with store.reading() as session:
        return session.get_one(Inbox, inbox_id)


def reply_to(message: Message, text: str = "Certainly.") -> Message:
    return Message(conversation_id=message.conversation_id, parent_id=message.id, role="assistant", content=text)


def test_what_arrives_twice_is_there_once(store: Store) -> None:
    number = inbox.receive(store, "telegram", "7", {"text": "hello"})
    assert inbox.receive(store, "telegram", "7", {"text": "hello, edited"}) is None
    assert [(each.id, each.payload) for each in inbox.waiting(store, "telegram")] == [(number, {"text": "hello"})]


def test_what_was_handled_is_still_recognised_and_waits_no_longer(store: Store) -> None:
    number = inbox.receive(store, "telegram", "7", {"text": "hello"})
    inbox.done(store, [number])
    assert inbox.receive(store, "telegram", "7", {"text": "hello"}) is None
    assert inbox.waiting(store, "telegram") == []


def test_the_same_key_on_another_channel_is_something_else(store: Store) -> None:
    assert inbox.receive(store, "telegram", "7", {}) != inbox.receive(store, "api", "7", {})
    assert [each.channel for each in inbox.waiting(store, "api")] == ["api"]


def test_what_waits_is_listed_in_the_order_in_which_it_arrived(store: Store) -> None:
    for key in ("c", "a", "b"):
        inbox.receive(store, "telegram", key, {})
    assert keys(inbox.waiting(store, "telegram")) == ["c", "a", "b"]


def test_the_arrivals_of_a_turn_name_its_message_and_its_reply_and_then_hold_no_text(
    store: Store, ada: Person, talk: Conversation
) -> None:
    pieces = [inbox.receive(store, "telegram", key, {"text": key}) for key in ("one", "two")]
    other = inbox.receive(store, "telegram", "three", {"text": "three"})
    message = conversations.add_user(store, talk.id, None, "one\ntwo", arrivals=pieces)
    waits = inbox.waiting(store, "telegram")
    assert [(each.message_id, each.person_id) for each in waits] == [(message.id, ada.id)] * 2 + [(None, None)]
    reply = conversations.add_reply(store, reply_to(message), arrivals=pieces)
    for piece in pieces:
        inbox.note(store, piece, draft="Cert")
    inbox.done(store, pieces)
    for piece in pieces:
        arrival = row(store, piece)
        assert (arrival.state, arrival.payload, arrival.progress) == ("done", {}, {})
        assert (arrival.message_id, arrival.reply_id, arrival.person_id) == (message.id, reply.id, ada.id)
    assert [(each.id, each.payload) for each in inbox.waiting(store, "telegram")] == [(other, {"text": "three"})]


def test_a_message_that_was_not_kept_is_not_named_by_its_arrivals(store: Store, talk: Conversation) -> None:
    number = inbox.receive(store, "telegram", "7", {"text": "hello"})
    with pytest.raises(NotFound):
        conversations.add_user(store, talk.id, 99, "hello", arrivals=[number])
    assert [(each.message_id, each.person_id) for each in inbox.waiting(store, "telegram")] == [(None, None)]


def test_what_was_forgotten_meanwhile_stops_neither_the_message_nor_the_reply(store: Store, talk: Conversation) -> None:
    message = conversations.add_user(store, talk.id, None, "hello", arrivals=[98, 99])
    conversations.add_reply(store, reply_to(message), arrivals=[98, 99])
    inbox.note(store, 99, sent="5")
    inbox.done(store, [98, 99])
    inbox.done(store, [])
    assert inbox.waiting(store, "telegram") == []


def test_notes_are_added_to_each_other_and_the_newest_of_a_name_counts(store: Store) -> None:
    number = inbox.receive(store, "telegram", "7", {"text": "hello"})
    other = inbox.receive(store, "telegram", "8", {"text": "hello"})
    assert row(store, number).progress == {}
    inbox.note(store, number, sent=["5"], status="5")
    inbox.note(store, number, sent=["5", "6"])
    assert row(store, number).progress == {"sent": ["5", "6"], "status": "5"}
    assert row(store, number).payload == {"text": "hello"}
    assert row(store, other).progress == {}


def test_notes_made_at_once_are_all_kept(store: Store, at_once: Callable[..., list[Any]]) -> None:
    number = inbox.receive(store, "telegram", "7", {})
    actions = [lambda name=name: inbox.note(store, number, **{name: True}) for name in "abcdefgh"]
    assert at_once(*actions) == [None] * 8
    assert row(store, number).progress == dict.fromkeys("abcdefgh", True)


def test_what_is_done_takes_no_more_notes(store: Store) -> None:
    number = inbox.receive(store, "telegram", "7", {})
    inbox.done(store, [number])
    inbox.note(store, number, text="late")
    assert row(store, number).progress == {}


RECEIVE_AND_SAY_SO = """
import sys, time
from store.session import Store
from store import inbox
store = Store(sys.argv[1]).open()
for key in "abc":
    number = inbox.receive(store, "telegram", key, {"text": key})
    if key == "a":
        inbox.done(store, [number])
inbox.note(store, number, sent="5")
print("received", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_received_and_not_done_waits_with_its_notes(
    url: str, another_process: Callable[..., Popen[str]]
) -> None:
    process = another_process(RECEIVE_AND_SAY_SO, url)
    assert process.stdout.readline() == "received\n"
    process.kill()
    process.wait()
    with Store(url) as store:
        waits = [(each.payload, each.progress) for each in inbox.waiting(store, "telegram")]
        assert waits == [({"text": "b"}, {}), ({"text": "c"}, {"sent": "5"})]
        assert inbox.receive(store, "telegram", "a", {}) is None


def test_the_same_key_at_once_is_received_once(store: Store, at_once: Callable[..., list[Any]]) -> None:
    received = at_once(*[lambda: inbox.receive(store, "telegram", "7", {})] * 8)
    (waits,) = inbox.waiting(store, "telegram")
    assert sorted(received, key=str) == [waits.id] + [None] * 7


def test_an_arrival_of_somebody_known_is_theirs_from_the_start(store: Store) -> None:
    ada = people.person_for(store, "telegram", "42")
    people.person_for(store, "api", "43")
    inbox.receive(store, "telegram", "1", {}, external_id="42")
    inbox.receive(store, "telegram", "2", {}, external_id="43")
    inbox.receive(store, "telegram", "3", {})
    assert [each.person_id for each in inbox.waiting(store, "telegram")] == [ada.id, None, None]


def test_an_arrival_of_a_stranger_becomes_theirs_when_they_are_known(store: Store, ada: Person, bob: Person) -> None:
    people.person_for(store, "telegram", "42")
    known = inbox.receive(store, "telegram", "1", {}, external_id="42")
    strange = inbox.receive(store, "telegram", "2", {}, external_id="99")
    inbox.receive(store, "telegram", "3", {}, external_id="99")
    inbox.attach(store, [known, strange, 1000], bob.id)
    assert [each.person_id == bob.id for each in inbox.waiting(store, "telegram")] == [False, True, False]
    with pytest.raises(NotFound):
        inbox.attach(store, [strange], 99)


def test_old_arrivals_that_are_done_are_pruned_and_waiting_ones_never(store: Store) -> None:
    inbox.done(store, [inbox.receive(store, "api", "1", {})])
    inbox.done(store, [inbox.receive(store, "telegram", "1", {})])
    inbox.receive(store, "telegram", "2", {"text": "still waiting"})
    between = now()
    later = inbox.receive(store, "telegram", "3", {})
    inbox.done(store, [later])
    with store.writing() as session:
        session.get_one(Inbox, later).received_at = between + timedelta(seconds=1)
    assert inbox.prune(store, "telegram", datetime(2020, 1, 1, tzinfo=UTC)) == 0
    assert inbox.prune(store, "telegram", between) == 1
    assert inbox.receive(store, "telegram", "1", {}) is not None, "pruned, it is new again"
    assert inbox.receive(store, "telegram", "3", {}) is None
    assert inbox.receive(store, "api", "1", {}) is None
    assert keys(inbox.waiting(store, "telegram")) == ["2", "1"]


def test_what_arrived_of_a_deleted_conversation_is_done(store: Store, ada: Person, talk: Conversation) -> None:
    number = inbox.receive(store, "telegram", "7", {"text": "hello"})
    inbox.note(store, number, status="5")
    pressed = inbox.receive(store, "telegram", "8", {"button": "under a reply"})
    other = inbox.receive(store, "telegram", "9", {"text": "bye"})
    message = conversations.add_user(store, talk.id, None, "hello", arrivals=[number])
    conversations.add_reply(store, reply_to(message), arrivals=[pressed])
    conversations.delete(store, talk.id, ada.id)
    assert [each.id for each in inbox.waiting(store, "telegram")] == [other]
    assert row(store, pressed).payload == {}
    assert (row(store, number).payload, row(store, number).progress) == ({}, {})


def test_a_very_large_arrival_comes_back_whole(store: Store) -> None:
    payload = {"text": "长 text 😀 " * 100_000, "nested": [{"deep": [1, None, True, 2.5]}]}
    inbox.receive(store, "telegram", "7", payload)
    assert inbox.waiting(store, "telegram")[0].payload == payload
