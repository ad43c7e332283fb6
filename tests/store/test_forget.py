from __future__ import annotations

import logging
import random
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest
from sqlmodel import SQLModel, select

from store import adapters, conversations, feedback, inbox, people
from store.errors import NotFound
from store.people import Forgotten
from store.session import Store
from store.tables import Conversation, Message, Person


def live(store: Store, name: str) -> Person:
    """A person of whom there is something in every table that can hold something of a person."""
    person = people.person_for(store, "telegram", name, name=name)
    people.give_consent(store, person.id, "yes")
    for number in range(2):
        talk = conversations.start(store, person.id, "telegram", "familiar")
        inbox.receive(store, "telegram", f"{name} {number}", {"text": f"{name}'s message"}, person_id=person.id)
        inbox.receive(store, "telegram", f"unknown {name} {number}", {"text": f"{name}'s message"})
        arrivals = [inbox.take(store, "telegram"), inbox.take(store, "telegram")]
        message = conversations.add_user(store, talk.id, None, f"{name}'s message", sent=f"{name}'s passage")
        for arrival in arrivals:
            inbox.done(store, arrival.id, message.id)
        reply = Message(
            conversation_id=talk.id,
            parent_id=message.id,
            role="assistant",
            content=f"reply to {name}",
            prompt=[{"role": "user", "content": f"{name}'s message"}],
        )
        reply = conversations.add_reply(store, reply)
        feedback.rate(store, reply.id, person.id, 1)
        feedback.correct(store, reply.id, person.id, f"{name}'s correction")
    return person


def everything(store: Store) -> dict[str, list[str]]:
    """Every row of every table, as text."""
    with store.reading() as session:
        return {
            table.name: sorted(str(tuple(row)) for row in session.connection().execute(select(table)))
            for table in SQLModel.metadata.sorted_tables
        }


def test_nothing_of_a_forgotten_person_is_left_and_everybody_elses_is_as_before(store: Store) -> None:
    adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
    live(store, "Bob")
    before = everything(store)
    ada = live(store, "Ada")
    assert all(before[table] != rows for table, rows in everything(store).items() if table != "adapter")

    forgotten = people.forget(store, ada.id)

    assert forgotten == Forgotten(conversations=2, messages=4, ratings=2, corrections=2, inbox=4)
    assert everything(store) == before


def test_a_forgotten_person_who_comes_back_is_a_stranger(store: Store) -> None:
    ada = live(store, "Ada")
    people.forget(store, ada.id)
    again = people.person_for(store, "telegram", "Ada")
    assert again.id != ada.id
    assert people.consent(store, again.id) is None


def test_forgetting_the_conversations_keeps_the_person_and_their_answers(store: Store) -> None:
    ada = live(store, "Ada")
    people.give_consent(store, ada.id, "no")
    forgotten = people.forget(store, ada.id, keep_person=True)
    assert forgotten == Forgotten(conversations=2, messages=4, ratings=2, corrections=2, inbox=4)
    assert people.person_for(store, "telegram", "Ada").id == ada.id
    assert people.consent(store, ada.id) == "no"
    left = {table for table, rows in everything(store).items() if rows}
    assert left == {"person", "identity", "consent"}


def test_forgetting_somebody_without_conversations_forgets_nothing_else(store: Store, ada: Person) -> None:
    assert people.forget(store, ada.id) == Forgotten(0, 0, 0, 0, 0)
    with pytest.raises(NotFound):
        people.forget(store, ada.id)


def test_a_reply_that_comes_after_the_forgetting_is_not_kept(
    store: Store, ada: Person, talk: Conversation, say: Callable[..., Message]
) -> None:
    question = say(talk, "hello")
    people.forget(store, ada.id, keep_person=True)
    with pytest.raises(NotFound):
        conversations.add_reply(
            store, Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="too late")
        )


def test_a_branch_of_thousands_of_messages_can_be_forgotten(
    store: Store, ada: Person, long_branch: list[Message]
) -> None:
    assert people.forget(store, ada.id).messages == len(long_branch) == 2500


def test_a_conversation_of_thousands_of_messages_can_be_deleted(
    store: Store, ada: Person, talk: Conversation, long_branch: list[Message]
) -> None:
    conversations.delete(store, talk.id, ada.id)
    assert conversations.listing(store, ada.id) == []


def bytes_on_disk(database: Path) -> bytes:
    return b"".join(file.read_bytes() for file in sorted(database.parent.iterdir()))


def test_forgotten_text_stands_nowhere_in_the_files(sqlite_file: Path, sqlite_url: str) -> None:
    """Texts of many lengths among somebody else's: SQLite moves such rows between pages and leaves copies in gaps.

    These dice are among those that show it: without writing the file anew, 33 copies are left.
    """
    dice = random.Random(4)
    with Store(sqlite_url) as store:
        ada, bob = (people.person_for(store, "terminal", name) for name in ("ada", "bob"))
        talk, other = (conversations.start(store, each.id, "terminal", "familiar") for each in (ada, bob))
        with store.writing() as session:
            for _ in range(400):
                where, word = (other, "plugh ") if dice.random() < 0.5 else (talk, "xyzzy ")
                text = word * dice.choice([1, 3, 10, 40, 100])
                session.add(Message(conversation_id=where.id, role="user", content=text))
                session.flush()
        bobs = people.export(store, bob.id)
        assert b"xyzzy" in bytes_on_disk(sqlite_file)
        people.forget(store, ada.id)
        assert b"xyzzy" not in bytes_on_disk(sqlite_file)
        assert people.export(store, bob.id) == bobs


def test_a_deleted_conversation_is_overwritten_in_the_files(sqlite_file: Path, sqlite_url: str) -> None:
    with Store(sqlite_url) as store:
        ada = people.person_for(store, "terminal", "ada")
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        conversations.add_user(store, talk.id, None, "xyzzy " * 1000)
        assert b"xyzzy" in bytes_on_disk(sqlite_file)
        conversations.delete(store, talk.id, ada.id)
        assert b"xyzzy" not in bytes_on_disk(sqlite_file)


HOLD_THE_LOCK = """
import sys
from store.session import Store
from store.tables import Person
with Store(sys.argv[1]).open() as store, store.reading() as session:
    session.get(Person, 1)
    print("reading", flush=True)
    sys.stdin.readline()
"""


def test_a_reader_elsewhere_does_not_stop_the_forgetting_only_the_cleaning(
    sqlite_url: str, another_process: Callable[..., Popen[str]], caplog: pytest.LogCaptureFixture
) -> None:
    with Store(sqlite_url, busy_timeout_s=0.2) as store:
        ada = live(store, "Ada")
        reader = another_process(HOLD_THE_LOCK, sqlite_url)
        assert reader.stdout.readline() == "reading\n"
        with caplog.at_level(logging.WARNING):
            people.forget(store, ada.id)
        assert people.person_for(store, "telegram", "Ada").id != ada.id
        assert "unused parts" in caplog.text
