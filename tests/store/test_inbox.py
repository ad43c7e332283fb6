from __future__ import annotations

import threading
from collections.abc import Callable
from subprocess import Popen

import pytest

from store import inbox
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Inbox, Message, Person


def keys(arrivals: list[Inbox]) -> list[str]:
    return [arrival.key for arrival in arrivals]


def test_what_arrives_twice_is_there_once(store: Store) -> None:
    assert inbox.receive(store, "telegram", "7", {"text": "hello"}) is True
    assert inbox.receive(store, "telegram", "7", {"text": "hello, edited"}) is False
    assert [each.payload for each in inbox.waiting(store, "telegram")] == [{"text": "hello"}]


def test_what_was_handled_is_still_recognised(store: Store) -> None:
    inbox.receive(store, "telegram", "7", {"text": "hello"})
    inbox.done(store, inbox.take(store, "telegram").id)
    assert inbox.receive(store, "telegram", "7", {"text": "hello"}) is False
    assert inbox.take(store, "telegram") is None


def test_the_same_key_on_another_channel_is_something_else(store: Store) -> None:
    assert inbox.receive(store, "telegram", "7", {})
    assert inbox.receive(store, "api", "7", {})
    assert inbox.take(store, "api").channel == "api"
    assert inbox.take(store, "api") is None


def test_the_one_that_waited_longest_is_taken_first(store: Store) -> None:
    for key in ("c", "a", "b"):
        inbox.receive(store, "telegram", key, {})
    assert keys(inbox.waiting(store, "telegram")) == ["c", "a", "b"]
    assert keys([inbox.take(store, "telegram") for _ in range(3)]) == ["c", "a", "b"]
    assert inbox.take(store, "telegram") is None


def test_a_done_arrival_names_its_message_and_holds_its_text_no_longer(
    store: Store, ada: Person, talk: Conversation, say: Callable[..., Message]
) -> None:
    inbox.receive(store, "telegram", "7", {"text": "hello"}, person_id=ada.id)
    arrival = inbox.take(store, "telegram")
    assert (arrival.payload, arrival.person_id) == ({"text": "hello"}, ada.id)
    message = say(talk, "hello")
    inbox.done(store, arrival.id, message.id)
    with store.reading() as session:
        row = session.get(Inbox, arrival.id)
    assert (row.state, row.message_id, row.payload) == ("done", message.id, {})


def test_what_was_taken_before_a_restart_waits_again_in_its_old_order(url: str) -> None:
    with Store(url) as store:
        for key in "abcd":
            inbox.receive(store, "telegram", key, {"text": key})
        inbox.receive(store, "api", "a", {})
        inbox.take(store, "api")
        inbox.done(store, inbox.take(store, "telegram").id)
        inbox.take(store, "telegram")
        inbox.take(store, "telegram")
    with Store(url) as store:
        assert inbox.give_back(store, "telegram") == 2
        assert keys(inbox.waiting(store, "telegram")) == ["b", "c", "d"]
        assert inbox.take(store, "telegram").payload == {"text": "b"}
        assert inbox.waiting(store, "api") == []
        assert inbox.give_back(store, "telegram") == 1


RECEIVE_AND_SAY_SO = """
import sys, time
from store.session import Store
from store import inbox
store = Store(sys.argv[1]).open()
inbox.receive(store, "telegram", "7", {"text": "hello"})
inbox.take(store, "telegram")
print("taken", flush=True)
time.sleep(60)
"""


def test_what_a_killed_process_had_taken_is_not_lost(url: str, another_process: Callable[..., Popen[str]]) -> None:
    process = another_process(RECEIVE_AND_SAY_SO, url)
    assert process.stdout.readline() == "taken\n"
    process.kill()
    process.wait()
    with Store(url) as store:
        assert inbox.give_back(store, "telegram") == 1
        assert inbox.take(store, "telegram").payload == {"text": "hello"}


def test_no_two_takers_get_the_same(store: Store) -> None:
    expected = [str(number) for number in range(40)]
    for key in expected:
        inbox.receive(store, "telegram", key, {})
    at_once = threading.Barrier(8)
    taken: list[str] = []

    def take_all() -> None:
        at_once.wait()
        while (arrival := inbox.take(store, "telegram")) is not None:
            taken.append(arrival.key)

    threads = [threading.Thread(target=take_all) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken, key=int) == expected


def test_the_same_key_at_once_is_received_once(store: Store) -> None:
    at_once = threading.Barrier(8)
    received: list[bool] = []

    def deliver() -> None:
        at_once.wait()
        received.append(inbox.receive(store, "telegram", "7", {}))

    threads = [threading.Thread(target=deliver) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(received) == [False] * 7 + [True]


def test_an_arrival_of_somebody_who_is_not_there_is_refused(store: Store) -> None:
    with pytest.raises(NotFound):
        inbox.receive(store, "telegram", "7", {}, person_id=99)
    assert inbox.receive(store, "telegram", "7", {}) is True


def test_what_never_arrived_cannot_be_done(store: Store) -> None:
    with pytest.raises(NotFound):
        inbox.done(store, 99)
