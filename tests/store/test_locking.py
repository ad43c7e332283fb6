"""Who waits for a lock holds none that the one who is waited for may want next. Only PostgreSQL locks single rows."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, select

from store import conversations, feedback, inbox, people, posts
from store.errors import NotFound
from store.people import Forgotten
from store.session import Store
from store.tables import Conversation, Inbox, Message, Person, Post, Rating

WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND wait_event_type = 'Lock'
"""


@pytest.fixture
def url(postgres_url: str) -> str:
    return postgres_url


@dataclass
class Scene:
    """Ada has a conversation with one question, one rated reply and an arrival; Bob has one in which he quotes her."""

    store: Store
    ada: Person
    bob: Person
    talk: Conversation
    bobs: Conversation
    question: Message
    reply: Message
    arrival: int


@pytest.fixture
def scene(store: Store, ada: Person, bob: Person, talk: Conversation) -> Scene:
    arrival = inbox.receive(store, "terminal", "1", {"text": "hello"}, external_id="ada")
    question = conversations.add_user(store, talk.id, None, "hello", arrivals=[arrival])
    reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="hi")
    reply = conversations.add_reply(store, reply)
    posts.record(store, "terminal", "screen", reply.id, ["1"])
    feedback.rate(store, reply.id, ada.id, 1)
    bobs = conversations.start(store, bob.id, "terminal", "familiar")
    conversations.add_user(store, bobs.id, None, "so?", sent="Ada wrote", quoted=[ada.id])
    return Scene(store, ada, bob, talk, bobs, question, reply, arrival)


def another_reply(scene: Scene) -> Message:
    return Message(conversation_id=scene.talk.id, parent_id=scene.question.id, role="assistant", content="hi")


WAIT_FOR_THE_PERSON: dict[str, Callable[[Scene], Any]] = {
    "a message": lambda at: conversations.add_user(at.store, at.talk.id, None, "more", arrivals=[at.arrival]),
    "a quotation": lambda at: conversations.add_user(at.store, at.bobs.id, None, "so?", sent="x", quoted=[at.ada.id]),
    "a rating": lambda at: feedback.rate(at.store, at.reply.id, at.ada.id, -1),
    "a correction": lambda at: feedback.correct(at.store, at.reply.id, at.ada.id, "hello"),
    "an arrival": lambda at: inbox.receive(at.store, "terminal", "2", {}, external_id="ada"),
    "attaching an arrival": lambda at: inbox.attach(at.store, [at.arrival], at.ada.id),
    "forgetting": lambda at: people.forget(at.store, at.ada.id),
    "forgetting who quoted": lambda at: people.forget(at.store, at.bob.id),
}
WAIT_FOR_THE_CONVERSATION: dict[str, Callable[[Scene], Any]] = {
    "a message": lambda at: conversations.add_user(at.store, at.talk.id, None, "more", arrivals=[at.arrival]),
    "a reply": lambda at: conversations.add_reply(at.store, another_reply(at), arrivals=[at.arrival]),
    "deleting": lambda at: conversations.delete(at.store, at.talk.id, at.ada.id),
    "forgetting": lambda at: people.forget(at.store, at.ada.id),
}


@pytest.fixture
def in_background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as background:
        yield background


def wait_until_it_waits(store: Store) -> None:
    give_up = time.monotonic() + 8
    waits = 0
    while not waits and time.monotonic() < give_up:
        with store.reading() as session:
            waits = session.connection().execute(text(WAITING)).scalar_one()
    assert waits == 1, "it does not wait for who holds the lock"


def lock_all(session: Session, *tables: type[Any]) -> None:
    """Raises StoreLocked when somebody else has locked one of these rows."""
    for table in tables:
        session.exec(select(table).with_for_update(nowait=True)).all()


@pytest.mark.parametrize("action", WAIT_FOR_THE_PERSON.values(), ids=WAIT_FOR_THE_PERSON.keys())
def test_who_waits_for_a_person_has_locked_nothing_else(
    scene: Scene, action: Callable[[Scene], Any], in_background: ThreadPoolExecutor
) -> None:
    with scene.store.writing() as session:
        held = scene.bob if action is WAIT_FOR_THE_PERSON["forgetting who quoted"] else scene.ada
        session.get(Person, held.id, with_for_update=True)
        waiting = in_background.submit(action, scene)
        wait_until_it_waits(scene.store)
        lock_all(session, Conversation, Message, Inbox, Post, Rating)
    waiting.result(timeout=10)


@pytest.mark.parametrize("action", WAIT_FOR_THE_CONVERSATION.values(), ids=WAIT_FOR_THE_CONVERSATION.keys())
def test_who_waits_for_a_conversation_has_locked_nothing_that_hangs_on_it(
    scene: Scene, action: Callable[[Scene], Any], in_background: ThreadPoolExecutor
) -> None:
    with scene.store.writing() as session:
        session.get(Conversation, scene.talk.id, with_for_update=True)
        waiting = in_background.submit(action, scene)
        wait_until_it_waits(scene.store)
        lock_all(session, Message, Inbox, Post, Rating)
    waiting.result(timeout=10)


def test_who_is_forgotten_waits_for_who_quoted_them(scene: Scene, in_background: ThreadPoolExecutor) -> None:
    with scene.store.writing() as session:
        session.get(Person, scene.bob.id, with_for_update=True)
        waiting = in_background.submit(people.forget, scene.store, scene.ada.id)
        wait_until_it_waits(scene.store)
        lock_all(session, Conversation, Message, Inbox, Post, Rating)
    assert isinstance(waiting.result(timeout=10), Forgotten)


def test_what_arrives_while_its_sender_is_forgotten_is_kept_as_a_strangers(
    scene: Scene, in_background: ThreadPoolExecutor
) -> None:
    with scene.store.writing() as session:
        person = session.get(Person, scene.ada.id, with_for_update=True)
        waiting = in_background.submit(inbox.receive, scene.store, "terminal", "2", {}, external_id="ada")
        wait_until_it_waits(scene.store)
        session.delete(session.get(Conversation, scene.talk.id))
        session.delete(person)
    number = waiting.result(timeout=10)
    assert [(each.id, each.person_id) for each in inbox.waiting(scene.store, "terminal")] == [(number, None)]


def test_a_post_of_a_message_that_is_being_deleted_is_not_found(
    scene: Scene, in_background: ThreadPoolExecutor
) -> None:
    with scene.store.writing() as session:
        message = session.get(Message, scene.reply.id, with_for_update=True)
        waiting = in_background.submit(posts.record, scene.store, "terminal", "screen", message.id, ["1", "2"])
        wait_until_it_waits(scene.store)
        lock_all(session, Post)
        session.delete(message)
    with pytest.raises(NotFound):
        waiting.result(timeout=10)
