"""Any text that can be typed is kept; what a database cannot hold is replaced, on both databases alike."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date

import pytest

from store import access, conversations, feedback, inbox, people, places, posts, usage
from store.session import Store
from store.tables import Conversation, Message, Person


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \t\n ",
        "🧑🏽‍🚀 👩‍👩‍👧‍👦 🇨🇳",
        "你好，世界 𠮷",
        "e\u0301 ﷽ \u202e\ufeff",
        "'; DROP TABLE message; --",
        ":name %s %(name)s {0} \\ \\u0000",
        "\x01\x1b[31m\x7f\r\n",
    ],
)
def test_text_comes_back_as_it_was_given(
    store: Store, ada: Person, talk: Conversation, answer: Callable[..., Message], text: str
) -> None:
    question = conversations.add_user(store, talk.id, None, text, sent=text)
    reply = answer(question, text, prompt=[{"role": "user", "content": text}], sampling={"stop": [text]})
    question, reply = (conversations.message(store, each.id, ada.id) for each in (question, reply))
    assert (question.content, question.sent, reply.content) == (text, text, text)
    assert reply.prompt == [{"role": "user", "content": text}]
    assert reply.sampling == {"stop": [text]}


def test_a_megabyte_of_text_comes_back_whole(
    store: Store, ada: Person, talk: Conversation, answer: Callable[..., Message]
) -> None:
    text = "长 text 😀 " * 120_000
    assert len(text.encode()) > 1_000_000
    reply = answer(conversations.add_user(store, talk.id, None, text), text, prompt=[{"role": "user", "content": text}])
    assert conversations.message(store, reply.id, ada.id).content == text
    assert conversations.message(store, reply.id, ada.id).prompt[0]["content"] == text
    assert [each.content for each in conversations.path(store, reply.id)] == [text, text]
    assert len(conversations.search(store, ada.id, "TEXT 长")) == 2


@pytest.mark.parametrize("unstorable", ["\x00", "\ud83d"])
def test_what_no_database_holds_is_replaced_everywhere(
    store: Store, ada: Person, talk: Conversation, answer: Callable[..., Message], unstorable: str
) -> None:
    given, kept = f"a{unstorable}b", "a\ufffdb"
    question = conversations.add_user(store, talk.id, None, given, sent=given)
    reply = answer(question, given, prompt=[{"role": "user", "content": given}], sampling={given: [given]}, error=given)
    feedback.correct(store, reply.id, ada.id, given)
    feedback.correct(store, reply.id, ada.id, given)
    people.set_name(store, ada.id, given)
    conversations.configure(store, talk.id, persona=given)
    assert inbox.receive(store, given, given, {"text": given})
    assert inbox.receive(store, given, given, {"text": given}) is None

    assert (question.content, question.sent, reply.content) == (kept, kept, kept), "what is returned is what is kept"
    reply = conversations.message(store, reply.id, ada.id)
    assert (reply.content, reply.error, reply.prompt[0]["content"]) == (kept, kept, kept)
    assert reply.sampling == {kept: [kept]}
    assert feedback.feedback(store, reply.id, ada.id).correction == kept
    assert conversations.get(store, talk.id, ada.id).title == kept
    assert conversations.get(store, talk.id, ada.id).persona == kept
    assert people.export(store, ada.id)["person"]["name"] == kept
    assert [each.payload for each in inbox.waiting(store, given)] == [{"text": kept}]
    assert [hit.message_id for hit in conversations.search(store, ada.id, given)] == [reply.id, question.id]
    inbox.note(store, inbox.waiting(store, given)[0].id, **{given: given})
    assert [each.progress for each in inbox.waiting(store, given)] == [{kept: kept}]
    posts.record(store, given, given, reply.id, [given])
    assert posts.message_at(store, given, given, given).id == reply.id
    assert access.request(store, given, given, given, "K7QX").name == kept
    assert access.standing(store, given, given).external_id == kept
    assert places.place(store, given, given, given).title == kept
    assert places.place(store, given, given, given).title == kept
    usage.add(store, given, given, date(2026, 1, 2), tokens=1)
    usage.add(store, given, given, date(2026, 1, 2), tokens=2)
    assert usage.used(store, given, given, date(2026, 1, 2)).tokens == 3
    someone = people.person_for(store, given, given)
    assert people.person_for(store, given, given).id == someone.id
    assert conversations.start(store, ada.id, given, "familiar").id == conversations.latest(store, ada.id, given).id
