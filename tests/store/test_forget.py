from __future__ import annotations

import logging
import random
from collections.abc import Callable
from datetime import date
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
from sqlmodel import SQLModel, select

from store import access, adapters, conversations, feedback, inbox, lineage, people, places, posts, usage
from store.errors import NotFound
from store.people import Forgotten
from store.session import Store
from store.tables import Conversation, Message, Person


def live(store: Store, name: str) -> Person:
    """A person of whom there is something in every table that can hold something of a person."""
    person = people.person_for(store, "telegram", name, name=name)
    people.note_asked(store, person.id)
    people.give_consent(store, person.id, "yes")
    for number in range(2):
        talk = conversations.start(store, person.id, "telegram", "familiar", f"group of {name}")
        text = {"text": f"{name}'s message"}
        arrivals = [
            inbox.receive(store, "telegram", f"{name} {number}", text, external_id=name),
            inbox.receive(store, "telegram", f"unknown {name} {number}", text),
        ]
        message = conversations.add_user(
            store, talk.id, None, f"{name}'s message", sent=f"{name}'s passage", arrivals=arrivals
        )
        inbox.note(store, arrivals[0], text=f"{name}'s reply")
        reply = Message(
            conversation_id=talk.id,
            parent_id=message.id,
            role="assistant",
            content=f"reply to {name}",
            prompt=[{"role": "user", "content": f"{name}'s message"}],
        )
        pressed = inbox.receive(store, "telegram", f"pressed {name} {number}", {"text": f"reply to {name}"})
        reply = conversations.add_reply(store, reply, arrivals=[*arrivals, pressed])
        inbox.done(store, arrivals[:number])
        posts.record(store, "telegram", f"group of {name}", reply.id, [f"{name} {number}"])
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


BY_THE_CHANNELS_NUMBER = {"access", "usage"}  # these stay, see people.forget
# Quotations and what is sealed: in the tests of these. Canaries, notices and runs hold no words of people.
OF_NOBODY = {"adapter", "canary", "notice", "place", "quotation", "run", "sealed", "trained_on"}


def test_nothing_of_a_forgotten_person_is_left_and_everybody_elses_is_as_before(store: Store) -> None:
    adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
    places.place(store, "telegram", "-100", "Team")
    live(store, "Bob")
    before = everything(store)
    ada = live(store, "Ada")
    changed = {table for table, rows in everything(store).items() if rows != before[table]}
    assert changed == set(before) - OF_NOBODY - BY_THE_CHANNELS_NUMBER

    forgotten = people.forget(store, ada.id)

    assert forgotten == Forgotten(conversations=2, messages=4, ratings=2, corrections=2, inbox=6, adapters=())
    assert everything(store) == before


def test_no_word_of_a_forgotten_person_stands_in_any_table(store: Store, bob: Person) -> None:
    secret = "xyzzy"
    adapter = adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
    access.request(store, "telegram", "42", secret, "K7QX")
    access.decide(store, "telegram", "42", "allowed", name=secret)
    ada = people.person_for(store, "telegram", "42", name=secret)
    inbox.receive(store, "telegram", "waits", {"text": secret}, external_id="42")
    usage.add(store, "telegram", "42", date(2026, 1, 2), tokens=5)
    prompt = [{"role": "user", "content": secret}]
    for owner, quoted in ((ada, []), (bob, [ada.id])):
        talk = conversations.start(store, owner.id, "telegram", "familiar")
        lineage.trained_on(store, adapter.id, [talk.id])
        content = secret if owner is ada else "Is that so?"
        question = conversations.add_user(store, talk.id, None, content, sent=secret, quoted=quoted)
        reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="Yes.", prompt=prompt)
        reply = conversations.add_reply(store, reply)
        posts.record(store, "telegram", str(owner.id), reply.id, ["7"])
    feedback.correct(store, conversations.latest(store, ada.id, "telegram").head_id, ada.id, secret)
    holding = {table for table, rows in everything(store).items() if secret in str(rows)}
    assert holding == {"access", "conversation", "correction", "inbox", "message", "person"}

    assert people.forget(store, ada.id).adapters == ("house@1",)

    assert {table for table, rows in everything(store).items() if secret in str(rows)} == set()
    assert [each.content for each in conversations.path(store, reply.id)] == ["Is that so?", "Yes."]


def test_forgetting_neither_unblocks_nor_refills(store: Store) -> None:
    ada, bob = live(store, "Ada"), live(store, "Bob")
    for each in ("Ada", "Bob"):
        access.decide(store, "telegram", each, "blocked", "admin", name=each)
        usage.add(store, "telegram", each, date(2026, 1, 2), messages=3, tokens=500)
    people.forget(store, ada.id)
    left = access.standing(store, "telegram", "Ada")
    assert (left.state, left.role, left.name) == ("blocked", "admin", "")
    assert access.standing(store, "telegram", "Bob").name == "Bob"
    assert usage.used(store, "telegram", "Ada", date(2026, 1, 2)).tokens == 500
    people.forget(store, bob.id, keep_person=True)
    assert access.standing(store, "telegram", "Bob").name == "Bob", "who they are is kept"


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
    assert forgotten == Forgotten(conversations=2, messages=4, ratings=2, corrections=2, inbox=6, adapters=())
    assert people.person_for(store, "telegram", "Ada").id == ada.id
    assert people.consent(store, ada.id) == "no"
    left = {table for table, rows in everything(store).items() if rows}
    assert left == {"person", "identity", "consent"}


def test_forgetting_somebody_without_conversations_forgets_nothing_else(store: Store, ada: Person) -> None:
    assert people.forget(store, ada.id) == Forgotten(0, 0, 0, 0, 0, ())
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


def busy_with(store: Store, ada: Person, bobs: Conversation) -> list[Callable[[], Any]]:
    """All that may go on with Ada while she is forgotten."""
    own = conversations.latest(store, ada.id, "telegram", f"group of {ada.name}")
    reply = conversations.message(store, own.head_id, ada.id)
    arrival = inbox.receive(store, "telegram", f"more of {ada.name}", {}, external_id=ada.name)
    late = Message(conversation_id=own.id, parent_id=reply.parent_id, role="assistant", content="late")
    return [
        lambda: conversations.add_user(store, own.id, own.head_id, "more", arrivals=[arrival]),
        lambda: conversations.add_reply(store, late, arrivals=[arrival]),
        lambda: conversations.add_user(store, bobs.id, None, "So?", sent="Ada wrote", quoted=[ada.id]),
        lambda: feedback.rate(store, reply.id, ada.id, -1),
        lambda: posts.record(store, "telegram", ada.name, reply.id, ["1"]),
        lambda: inbox.attach(store, [arrival], ada.id),
        lambda: inbox.receive(store, "telegram", f"still more of {ada.name}", {}, external_id=ada.name),
        lambda: conversations.delete(store, own.id, ada.id),
    ]


def test_whatever_else_is_going_on_a_forgetting_succeeds_and_is_whole(
    store: Store, bob: Person, at_once: Callable[..., list[Any]]
) -> None:
    """All take their locks in the same order, else two wait for each other, and PostgreSQL undoes one of them."""
    bobs = conversations.start(store, bob.id, "telegram", "familiar")
    for number in range(8):
        ada = live(store, f"Ada {number}")
        outcomes = at_once(partial(people.forget, store, ada.id), *busy_with(store, ada, bobs))
        assert [each for each in outcomes if isinstance(each, Exception) and not isinstance(each, NotFound)] == []
        assert isinstance(outcomes[0], Forgotten)
        assert people.with_identity(store, "telegram", ada.name) is None
    left = everything(store)
    assert not any("Ada" in row for table in set(left) - {"inbox"} for row in left[table])
    assert not any("reply" in row or "message" in row for row in left["inbox"]), "what is left has no payload"


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
