"""Words of one person that stand in another's prompts go when that person is forgotten; everything else stays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from store import conversations, people
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Message, Person, Quotation

Say = Callable[..., Message]
Answer = Callable[..., Message]

SECRET = "xyzzy"
SENT = f"Ada wrote: {SECRET}\n\nIs that so?"


@pytest.fixture
def bobs(store: Store, bob: Person) -> Conversation:
    return conversations.start(store, bob.id, "telegram", "familiar", "-100")


@pytest.fixture
def quote(store: Store, ada: Person, bobs: Conversation) -> Message:
    """A message of Bob's that quotes Ada."""
    return conversations.add_user(store, bobs.id, None, "Is that so?", sent=SENT, quoted=[ada.id])


def prompt(*texts: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text} for text in texts]


def reread(store: Store, message: Message, person: Person) -> Message:
    return conversations.message(store, message.id, person.id)


def test_a_quoted_text_is_kept_as_it_was_sent(store: Store, bob: Person, quote: Message) -> None:
    assert (reread(store, quote, bob).content, reread(store, quote, bob).sent) == ("Is that so?", SENT)


def test_forgetting_takes_their_words_out_of_anothers_message_and_of_every_prompt_after_it(
    store: Store, ada: Person, bob: Person, bobs: Conversation, quote: Message, say: Say, answer: Answer
) -> None:
    first = answer(quote, "It is.", prompt=prompt(SENT))
    sibling = answer(quote, "It is not.", prompt=prompt(SENT))
    later = answer(say(bobs, "Why?", parent=first), "So it is.", prompt=prompt(SENT, "Why?"))
    people.forget(store, ada.id)
    assert reread(store, quote, bob).sent == ""
    for reply, text in ((first, "It is."), (sibling, "It is not."), (later, "So it is.")):
        assert (reread(store, reply, bob).content, reread(store, reply, bob).prompt) == (text, [])


def test_prompts_that_never_held_their_words_stay(
    store: Store, ada: Person, bob: Person, bobs: Conversation, say: Say, answer: Answer
) -> None:
    opening = answer(say(bobs, "Hello"), "Hi", prompt=prompt("Hello"))
    quote = conversations.add_user(store, bobs.id, opening.id, "Is that so?", sent=SENT, quoted=[ada.id])
    answer(quote, "It is.", prompt=prompt("Hello", SENT))
    beside = answer(say(bobs, "Else?", parent=opening), "No.", prompt=prompt("Hello", "Else?"))
    elsewhere = conversations.start(store, bob.id, "telegram", "familiar")
    sent = conversations.add_user(store, elsewhere.id, None, "Hm", sent="[1] A passage.\n\nHm")
    other = answer(sent, "Hm?", prompt=prompt("[1] A passage.\n\nHm"))
    people.forget(store, ada.id)
    assert reread(store, opening, bob).prompt == prompt("Hello")
    assert reread(store, beside, bob).prompt == prompt("Hello", "Else?")
    assert reread(store, other, bob).prompt == prompt("[1] A passage.\n\nHm")
    assert reread(store, sent, bob).sent == "[1] A passage.\n\nHm"


def test_somebody_else_who_is_forgotten_takes_nothing_along(store: Store, bob: Person, quote: Message) -> None:
    people.forget(store, people.person_for(store, "terminal", "carol").id)
    assert reread(store, quote, bob).sent == SENT


def test_forgetting_only_the_conversations_takes_the_words_out_too(
    store: Store, ada: Person, bob: Person, quote: Message, answer: Answer
) -> None:
    reply = answer(quote, "It is.", prompt=prompt(SENT))
    people.forget(store, ada.id, keep_person=True)
    assert (reread(store, quote, bob).sent, reread(store, reply, bob).prompt) == ("", [])
    assert people.export(store, ada.id)["quotations"] == []


def test_a_reply_that_was_begun_before_the_forgetting_does_not_bring_the_words_back(
    store: Store, ada: Person, bob: Person, bobs: Conversation, quote: Message, say: Say, answer: Answer
) -> None:
    people.forget(store, ada.id)
    late = answer(quote, "It is.", prompt=prompt(SENT))
    assert (late.content, reread(store, late, bob).prompt) == ("It is.", [])
    fresh = answer(say(bobs, "Go on", parent=late), "I do.", prompt=prompt("Is that so?", "Go on"))
    assert reread(store, fresh, bob).prompt == prompt("Is that so?", "Go on")


def test_words_of_somebody_already_forgotten_are_not_written_down(
    store: Store, ada: Person, bob: Person, bobs: Conversation
) -> None:
    carol = people.person_for(store, "terminal", "carol")
    people.forget(store, ada.id)
    message = conversations.add_user(store, bobs.id, None, "Is that so?", sent=SENT, quoted=[carol.id, ada.id])
    assert (message.content, message.sent) == ("Is that so?", "")
    assert reread(store, message, bob).sent == ""


def test_quoting_oneself_or_somebody_twice_is_no_obstacle(
    store: Store, ada: Person, bob: Person, bobs: Conversation
) -> None:
    conversations.add_user(store, bobs.id, None, "Is that so?", sent=SENT, quoted=[ada.id, bob.id, ada.id])
    assert len(people.export(store, ada.id)["quotations"]) == 1
    assert people.export(store, bob.id)["quotations"] == []


def test_a_message_that_was_not_kept_quotes_nobody(store: Store, ada: Person, bobs: Conversation) -> None:
    with pytest.raises(NotFound):
        conversations.add_user(store, bobs.id, 99, "Is that so?", sent=SENT, quoted=[ada.id])
    assert people.export(store, ada.id)["quotations"] == []


def test_a_quote_at_the_root_of_thousands_of_messages_is_taken_out_of_all_their_prompts(
    store: Store, ada: Person, bob: Person, long_branch: list[Message]
) -> None:
    """The branch is Ada's; its first message quotes Bob."""
    root = long_branch[0]
    with store.writing() as session:
        session.get_one(Message, root.id).sent = SENT
        session.get_one(Message, long_branch[-1].id).role = "assistant"
        session.get_one(Message, long_branch[-1].id).prompt = prompt(SENT)
        session.add(Quotation(message_id=root.id, person_id=bob.id))
    people.forget(store, bob.id)
    assert reread(store, root, ada).sent == ""
    assert reread(store, long_branch[-1], ada).prompt == []


def test_two_who_quoted_each_other_may_be_forgotten_at_once(store: Store, at_once: Callable[..., list[Any]]) -> None:
    for number in range(8):
        pair = [people.person_for(store, "telegram", f"{name} {number}") for name in ("one", "two")]
        for one, other in (pair, reversed(pair)):
            talk = conversations.start(store, one.id, "telegram", "familiar")
            conversations.add_user(store, talk.id, None, "Is that so?", sent=SENT, quoted=[other.id])
        forgotten = at_once(*[lambda each=each: people.forget(store, each.id).messages for each in pair])
        assert forgotten == [1, 1]


def test_quoting_somebody_while_they_are_forgotten_keeps_no_word_of_theirs(
    store: Store, bob: Person, bobs: Conversation, at_once: Callable[..., list[Any]]
) -> None:
    for number in range(8):
        ada = people.person_for(store, "telegram", f"ada {number}")
        message, _ = at_once(
            lambda ada=ada: conversations.add_user(store, bobs.id, None, "So?", sent=SENT, quoted=[ada.id]),
            lambda ada=ada: people.forget(store, ada.id),
        )
        assert reread(store, message, bob).sent == ""
