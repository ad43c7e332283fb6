from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import conversations, posts
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Message, Person

Say = Callable[..., Message]
Answer = Callable[..., Message]


def places(store: Store, message: Message) -> list[tuple[str, str, int]]:
    return [(each.chat, each.external_id, each.part) for each in posts.posts_of(store, "telegram", message.id)]


def found(store: Store, *where: str) -> int | None:
    message = posts.message_at(store, "telegram", *where)
    return message and message.id


def test_a_message_is_found_by_any_of_its_parts(store: Store, talk: Conversation, say: Say, answer: Answer) -> None:
    reply = answer(say(talk, "hello"), "a long one")
    posts.record(store, "telegram", "42", reply.id, ["101", "99"])
    assert posts.message_at(store, "telegram", "42", "101").content == "a long one"
    assert found(store, "42", "99") == reply.id
    assert places(store, reply) == [("42", "101", 0), ("42", "99", 1)]


def test_what_is_none_of_ours_is_not_found(store: Store, talk: Conversation, say: Say) -> None:
    posts.record(store, "telegram", "42", say(talk, "hello").id, ["101"])
    assert found(store, "42", "102") is None
    assert found(store, "43", "101") is None
    assert posts.message_at(store, "api", "42", "101") is None


def test_somebody_elses_message_is_not_found_for_me(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say
) -> None:
    message = say(talk, "Ada's")
    posts.record(store, "telegram", "-100", message.id, ["101"])
    assert posts.message_at(store, "telegram", "-100", "101", ada.id).id == message.id
    assert posts.message_at(store, "telegram", "-100", "101", bob.id) is None


def test_leafing_through_the_replies_shows_one_after_another_in_the_same_place(
    store: Store, talk: Conversation, say: Say, answer: Answer
) -> None:
    question = say(talk, "hello")
    first, second = answer(question, "first"), answer(question, "second")
    posts.record(store, "telegram", "42", first.id, ["101"])
    posts.record(store, "telegram", "42", second.id, ["101", "102"])
    assert (found(store, "42", "101"), found(store, "42", "102")) == (second.id, second.id)
    assert places(store, first) == []
    posts.record(store, "telegram", "42", first.id, ["101"])
    assert found(store, "42", "101") == first.id
    assert places(store, first) == [("42", "101", 0)]


def test_a_message_that_became_shorter_stands_nowhere_it_no_longer_stands(
    store: Store, talk: Conversation, say: Say
) -> None:
    message = say(talk, "hello")
    posts.record(store, "telegram", "42", message.id, ["101", "102", "103"])
    posts.record(store, "telegram", "42", message.id, ["103", "101"])
    assert places(store, message) == [("42", "103", 0), ("42", "101", 1)]
    posts.record(store, "telegram", "42", message.id, [])
    assert places(store, message) == []


def test_other_chats_and_channels_are_left_alone(store: Store, talk: Conversation, say: Say) -> None:
    message, other = say(talk, "hello"), say(talk, "again")
    posts.record(store, "telegram", "42", message.id, ["101"])
    posts.record(store, "telegram", "43", message.id, ["101"])
    posts.record(store, "api", "42", message.id, ["101"])
    posts.record(store, "telegram", "42", other.id, ["101"])
    assert (found(store, "42", "101"), found(store, "43", "101")) == (other.id, message.id)
    assert posts.message_at(store, "api", "42", "101").id == message.id


def test_a_part_that_is_named_twice_is_there_once(store: Store, talk: Conversation, say: Say) -> None:
    message = say(talk, "hello")
    posts.record(store, "telegram", "42", message.id, ["101", "102", "101"])
    assert places(store, message) == [("42", "101", 0), ("42", "102", 1)]


def test_what_is_not_there_has_no_posts(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    message = say(talk, "hello")
    posts.record(store, "telegram", "42", message.id, ["101"])
    conversations.delete(store, talk.id, ada.id)
    assert found(store, "42", "101") is None
    for external_ids in (["101"], []):
        with pytest.raises(NotFound):
            posts.record(store, "telegram", "42", message.id, external_ids)


def test_two_that_are_shown_in_one_place_at_once_do_not_fail(
    store: Store, talk: Conversation, say: Say, answer: Answer, at_once: Callable[..., list[Any]]
) -> None:
    question = say(talk, "hello")
    replies = [answer(question, str(number)).id for number in range(6)]
    for _ in range(5):
        show = [lambda reply=reply: posts.record(store, "telegram", "42", reply, ["101", "102"]) for reply in replies]
        assert at_once(*show) == [None] * 6
        assert found(store, "42", "101") in replies
