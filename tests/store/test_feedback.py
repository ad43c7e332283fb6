from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from store import conversations, people
from store.errors import NotAReply, NotFound, StoreError
from store.feedback import Feedback, correct, feedback, rate, rating_of, unrate
from store.session import Store
from store.tables import Conversation, Message, Person


@pytest.fixture
def question(talk: Conversation, say: Callable[..., Message]) -> Message:
    return say(talk, "What is the capital of Australia?")


@pytest.fixture
def reply(question: Message, answer: Callable[..., Message]) -> Message:
    return answer(question, "Sydney.")


def test_a_reply_has_no_feedback_at_first(store: Store, ada: Person, reply: Message) -> None:
    assert feedback(store, reply.id, ada.id) == Feedback(rating=None, correction=None)


def test_a_second_rating_replaces_the_first(store: Store, ada: Person, reply: Message) -> None:
    rate(store, reply.id, ada.id, 1)
    rate(store, reply.id, ada.id, -1)
    assert feedback(store, reply.id, ada.id).rating == -1
    assert (people.stats(store, ada.id).rated_up, people.stats(store, ada.id).rated_down) == (0, 1)


def test_a_rating_can_be_asked_for_alone(store: Store, ada: Person, bob: Person, reply: Message) -> None:
    assert rating_of(store, reply.id, ada.id) is None
    rate(store, reply.id, ada.id, -1)
    assert rating_of(store, reply.id, ada.id) == -1
    rate(store, reply.id, ada.id, 1)
    assert rating_of(store, reply.id, ada.id) == 1
    assert rating_of(store, reply.id, bob.id) is None
    assert rating_of(store, 99, ada.id) is None


def test_a_rating_can_be_taken_back(store: Store, ada: Person, reply: Message) -> None:
    rate(store, reply.id, ada.id, 1)
    correct(store, reply.id, ada.id, "Canberra.")
    unrate(store, reply.id, ada.id)
    unrate(store, reply.id, ada.id)
    assert feedback(store, reply.id, ada.id) == Feedback(rating=None, correction="Canberra.")


def test_a_second_correction_replaces_the_first(store: Store, ada: Person, reply: Message) -> None:
    correct(store, reply.id, ada.id, "Melbourne.")
    correct(store, reply.id, ada.id, "Canberra.")
    assert feedback(store, reply.id, ada.id).correction == "Canberra."
    assert people.stats(store, ada.id).corrected == 1


def test_siblings_are_rated_apart(
    store: Store, ada: Person, question: Message, reply: Message, answer: Callable[..., Message]
) -> None:
    better = answer(question, "Canberra.")
    rate(store, reply.id, ada.id, -1)
    rate(store, better.id, ada.id, 1)
    assert feedback(store, reply.id, ada.id).rating == -1
    assert feedback(store, better.id, ada.id).rating == 1


@pytest.mark.parametrize("value", [0, 2, -2])
def test_a_rating_is_up_or_down(store: Store, ada: Person, reply: Message, value: int) -> None:
    with pytest.raises(ValueError, match="1 or -1"):
        rate(store, reply.id, ada.id, value)
    assert feedback(store, reply.id, ada.id).rating is None


def test_only_replies_can_be_rated_and_corrected(store: Store, ada: Person, question: Message) -> None:
    for attempt in (
        lambda: rate(store, question.id, ada.id, 1),
        lambda: unrate(store, question.id, ada.id),
        lambda: correct(store, question.id, ada.id, "x"),
    ):
        with pytest.raises(NotAReply, match="only replies"):
            attempt()
    assert feedback(store, question.id, ada.id) == Feedback(rating=None, correction=None)


def test_a_wrong_target_can_be_caught_as_a_value_error_too(store: Store, ada: Person, question: Message) -> None:
    with pytest.raises(ValueError, match="only replies"):
        rate(store, question.id, ada.id, 1)


def test_somebody_elses_reply_is_not_found(store: Store, ada: Person, bob: Person, reply: Message) -> None:
    for attempt in (
        lambda: rate(store, reply.id, bob.id, 1),
        lambda: unrate(store, reply.id, bob.id),
        lambda: correct(store, reply.id, bob.id, "x"),
        lambda: feedback(store, reply.id, bob.id),
        lambda: rate(store, 99, ada.id, 1),
    ):
        with pytest.raises(NotFound):
            attempt()
    assert feedback(store, reply.id, ada.id) == Feedback(rating=None, correction=None)


def test_two_ratings_at_once_leave_one(store: Store, ada: Person, reply: Message) -> None:
    at_once = threading.Barrier(6)
    failed: list[StoreError] = []

    def press(value: int) -> None:
        at_once.wait()
        try:
            rate(store, reply.id, ada.id, value)
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=press, args=(value,)) for value in (1, -1) * 3]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    counted = people.stats(store, ada.id)
    assert counted.rated_up + counted.rated_down == 1


def test_feedback_goes_with_its_conversation(store: Store, ada: Person, talk: Conversation, reply: Message) -> None:
    rate(store, reply.id, ada.id, 1)
    conversations.delete(store, talk.id, ada.id)
    assert people.stats(store, ada.id).rated_up == 0
