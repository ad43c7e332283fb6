"""What adapters learned of conversations that are gone: kept only where asked for, for few days and for one purpose."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlmodel import select, update

from store import adapters, canaries, conversations, feedback, learning, lineage, people, sealed
from store.session import Store
from store.tables import Adapter, Conversation, Message, Person, Sealed, now

SECRET = "xyzzy"


@pytest.fixture
def asked(store: Store, talk: Conversation, say: Callable[..., Message], answer: Callable[..., Message]) -> Message:
    """A reply with a secret in it, corrected by Ada, who agreed."""
    people.give_consent(store, talk.person_id, "yes")
    question = say(talk, f"Where is the {SECRET}?")
    prompt = [{"role": "user", "content": f"Where is the {SECRET}?"}]
    reply = answer(question, "I do not know.", model="small", finish="stop", prompt=prompt)
    feedback.correct(store, reply.id, talk.person_id, f"The {SECRET} is in the barn.")
    return reply


@pytest.fixture
def adapter(store: Store, talk: Conversation, asked: Message) -> Adapter:
    """It learned from Ada's conversation, and is in force."""
    made = adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
    lineage.trained_on(store, made.id, [talk.id])
    adapters.activate(store, "house", 1)
    return made


def rows(store: Store) -> list[Sealed]:
    with store.reading() as session:
        return list(session.exec(select(Sealed)))


def wait(store: Store, days: float) -> None:
    with store.writing() as session:
        session.exec(update(Sealed).values(sealed_at=now() - timedelta(days=days)))


def test_what_is_forgotten_is_kept_nowhere_unless_the_operator_asked_for_it(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id)
    assert people.forget(store, ada.id).sealed == 0
    assert rows(store) == []


def test_what_an_adapter_learned_is_kept_as_the_log_had_it(
    store: Store, ada: Person, talk: Conversation, asked: Message, adapter: Adapter
) -> None:
    (logged,) = learning.logged(store, "ask")
    assert people.forget(store, ada.id, seal=True).sealed == 1
    assert list(sealed.replies(store, {talk.id, 99})) == [logged]
    assert logged.correction == f"The {SECRET} is in the barn."
    assert list(learning.logged(store, "all")) == []


def test_a_single_conversation_is_kept_likewise_and_stands_in_its_owners_export(
    store: Store, ada: Person, bob: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    assert sealed.conversations(store, {talk.id, 99}) == {talk.id}
    assert SECRET in str(people.export(store, ada.id)["sealed"])
    assert people.export(store, bob.id)["sealed"] == []


def test_what_no_adapter_learned_is_not_kept(store: Store, ada: Person, talk: Conversation, asked: Message) -> None:
    assert people.forget(store, ada.id, seal=True).sealed == 0
    assert rows(store) == []


def test_what_only_an_adapter_learned_that_answers_nobody_is_not_kept(
    store: Store, ada: Person, adapter: Adapter
) -> None:
    adapters.activate(store, "house", None)
    assert people.forget(store, ada.id, seal=True).sealed == 0


def test_what_an_adapter_learned_that_is_being_tried_is_kept(store: Store, ada: Person, adapter: Adapter) -> None:
    adapters.activate(store, "house", None)
    canaries.begin(store, "house", 1, None, 0.2)
    assert people.forget(store, ada.id, seal=True).sealed == 1


def test_what_was_said_after_the_adapter_was_made_is_not_kept(
    store: Store,
    ada: Person,
    talk: Conversation,
    adapter: Adapter,
    say: Callable[..., Message],
    answer: Callable[..., Message],
) -> None:
    answer(say(talk, "And the key?"), "Under the mat.", model="small", prompt=[{"role": "user", "content": "?"}])
    people.forget(store, ada.id, seal=True)
    assert [each.question for each in sealed.replies(store, {talk.id})] == [f"Where is the {SECRET}?"]


def test_it_goes_when_no_adapter_in_force_has_learned_it_and_not_before(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    assert sealed.release(store, 30) == 0
    adapters.register(store, "house", 2, "house/2", "small", "f00", 8)
    adapters.activate(store, "house", 2)
    assert sealed.release(store, 30) == 1
    assert rows(store) == []
    assert sealed.release(store, 30) == 0


def test_it_goes_after_the_days_whatever_is_in_force(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    wait(store, 2.9)
    assert sealed.release(store, 3) == 0
    wait(store, 3)
    assert sealed.release(store, 3) == 1


def test_all_of_it_goes_at_once_when_the_operator_wants_none_any_more(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    assert sealed.release(store, 0) == 1


def test_what_is_released_is_gone_from_the_file(sqlite_file: Path, sqlite_url: str) -> None:
    with Store(sqlite_url) as store:
        ada = people.person_for(store, "terminal", "ada")
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        question = conversations.add_user(store, talk.id, None, SECRET)
        reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="Yes.", model="small")
        reply.prompt = [{"role": "user", "content": SECRET}]
        conversations.add_reply(store, reply)
        made = adapters.register(store, "house", 1, "house/1", "small", "f00", 8)
        lineage.trained_on(store, made.id, [talk.id])
        adapters.activate(store, "house", 1)
        people.forget(store, ada.id, seal=True)
        assert SECRET.encode() in sqlite_file.read_bytes()
        sealed.release(store, 0)
        assert SECRET.encode() not in b"".join(each.read_bytes() for each in sqlite_file.parent.iterdir())


def test_who_forgets_where_nothing_is_sealed_also_loses_what_was_sealed_before(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    people.forget(store, ada.id)
    assert rows(store) == []


def test_what_was_sealed_of_a_conversation_outlives_its_person_where_that_is_sealed_too(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    conversations.delete(store, talk.id, ada.id, seal=True)
    people.forget(store, ada.id, seal=True)
    assert len(rows(store)) == 1


@pytest.mark.parametrize("seal", [True, False])
def test_words_of_somebody_who_was_quoted_are_not_kept_in_what_is_sealed_of_another(
    store: Store, ada: Person, bob: Person, adapter: Adapter, answer: Callable[..., Message], seal: bool
) -> None:
    theirs = conversations.start(store, ada.id, "telegram", "familiar")
    asked = conversations.add_user(store, theirs.id, None, "So?", sent="Bob: plugh\n\nSo?", quoted=[bob.id])
    answer(asked, "So it is.", model="small", prompt=[{"role": "user", "content": "Bob: plugh\n\nSo?"}])
    with store.writing() as session:
        session.exec(update(Adapter).values(created_at=now()))
    lineage.trained_on(store, adapter.id, [theirs.id])
    people.forget(store, ada.id, seal=True)
    assert len(rows(store)) == 2
    people.forget(store, bob.id, seal=seal)
    assert "plugh" not in str(rows(store))
    assert len(rows(store)) == 1


def test_what_another_version_has_written_is_passed_over(
    store: Store, ada: Person, talk: Conversation, adapter: Adapter
) -> None:
    people.forget(store, ada.id, seal=True)
    with store.writing() as session:
        session.add(Sealed(conversation_id=talk.id, person_id=ada.id, reply={"of": "another version"}))
    assert len(list(sealed.replies(store, {talk.id}))) == 1


# What is withdrawn and still stands in the log


def test_what_somebody_takes_back_is_told_with_who_it_was(
    store: Store, ada: Person, talk: Conversation, asked: Message
) -> None:
    assert list(learning.withdrawn(store, "ask", {talk.id}, now())) == []
    people.give_consent(store, ada.id, "no")
    ((reply, by),) = learning.withdrawn(store, "all", {talk.id}, now())
    assert (reply.message_id, by) == (asked.id, {ada.id})
    assert reply.prompt == ({"role": "user", "content": f"Where is the {SECRET}?"},)


def test_what_was_said_since_is_none_of_it(store: Store, ada: Person, talk: Conversation, asked: Message) -> None:
    people.give_consent(store, ada.id, "no")
    assert list(learning.withdrawn(store, "ask", {talk.id}, asked.created_at - timedelta(seconds=1))) == []


def test_the_newest_conversation_comes_first(
    store: Store, ada: Person, say: Callable[..., Message], answer: Callable[..., Message]
) -> None:
    people.give_consent(store, ada.id, "no")
    talks = [conversations.start(store, ada.id, "terminal", "familiar") for _ in range(120)]
    for each in talks:
        answer(say(each, "Hello"), model="small", prompt=[{"role": "user", "content": "Hello"}])
    found = [each.conversation_id for each, _ in learning.withdrawn(store, "ask", [each.id for each in talks], now())]
    assert found == sorted((each.id for each in talks), reverse=True)


def test_one_who_is_quoted_may_take_it_back(
    store: Store, ada: Person, bob: Person, talk: Conversation, answer: Callable[..., Message]
) -> None:
    for person in (ada, bob):
        people.give_consent(store, person.id, "yes")
    asked = conversations.add_user(store, talk.id, None, "So?", sent="Bob: hm\n\nSo?", quoted=[bob.id])
    answer(asked, model="small", prompt=[{"role": "user", "content": "Bob: hm\n\nSo?"}])
    assert list(learning.withdrawn(store, "ask", {talk.id}, now())) == []
    people.give_consent(store, bob.id, "no")
    ((_, by),) = learning.withdrawn(store, "ask", {talk.id}, now())
    assert by == {bob.id}
