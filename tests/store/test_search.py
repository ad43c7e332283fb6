from __future__ import annotations

from collections.abc import Callable

import pytest

from store import conversations
from store.conversations import Hit
from store.session import Store
from store.tables import Conversation, Message, Person

Say = Callable[..., Message]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("The Quick Brown Fox", "quick"),
        ("the quick brown fox", "QUICK Fox"),
        ("Ärger mit Öl", "ärger"),
        ("ärger mit öl", "ÄRGER ÖL"),
        ("Hauptstraße", "HAUPTSTRASSE"),
        ("ΟΔΥΣΣΕΥΣ", "οδυσσευς"),
        ("Привет, мир", "ПРИВЕТ"),
        ("我想去北京旅游", "北京"),
        ("我想去北京旅游", "旅游 北京"),
        ("我想去北京旅游，and Shanghai", "shanghai 北京"),
        ("it is 100% sure", "100%"),
        ("a file_name here", "file_name"),
        ('she said "it\'s so"', "\"it's"),
        ("C:\\temp\\new", "c:\\temp"),
        ("好的 👍🏽", "👍🏽"),
    ],
)
def test_words_are_found_in_any_case_and_script(
    store: Store, ada: Person, talk: Conversation, say: Say, text: str, words: str
) -> None:
    message = say(talk, text)
    say(talk, "something else")
    assert [hit.message_id for hit in conversations.search(store, ada.id, words)] == [message.id]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("it is 100 sure", "100%"),
        ("a fileXname here", "file_name"),
        ("only the first", "first second"),
        ("上海", "北京"),
        ("anything", "%"),
        ("anything", "_"),
        ("anything", "' OR 1=1 --"),
    ],
)
def test_what_is_not_there_is_not_found(
    store: Store, ada: Person, talk: Conversation, say: Say, text: str, words: str
) -> None:
    say(talk, text)
    assert conversations.search(store, ada.id, words) == []


@pytest.mark.parametrize("words", ["", "  ", "\n"])
def test_no_words_find_nothing(store: Store, ada: Person, talk: Conversation, say: Say, words: str) -> None:
    say(talk, "anything")
    assert conversations.search(store, ada.id, words) == []


def test_replies_and_every_branch_are_searched(
    store: Store, ada: Person, talk: Conversation, say: Say, answer: Callable[..., Message]
) -> None:
    question = say(talk, "where?")
    answer(question, "in Paris")
    answer(question, "in paris, too")
    assert len(conversations.search(store, ada.id, "Paris")) == 2


def test_a_hit_shows_where_it_is_and_the_words_around_it(
    store: Store, ada: Person, talk: Conversation, say: Say
) -> None:
    say(talk, "About ducks")
    message = say(talk, "filler " * 50 + "a duck\n\nin a pond " + "filler " * 50)
    (hit, _) = conversations.search(store, ada.id, "DUCK")
    assert (hit.conversation_id, hit.message_id, hit.title) == (talk.id, message.id, "About ducks")
    assert "a duck in a pond" in hit.excerpt
    assert hit.excerpt.startswith("…")
    assert hit.excerpt.endswith("…")
    assert len(hit.excerpt) <= conversations.EXCERPT_CHARACTERS + 2


def test_a_short_text_is_shown_whole(store: Store, ada: Person, talk: Conversation, say: Say) -> None:
    message = say(talk, "one\ntwo")
    assert conversations.search(store, ada.id, "two") == [Hit(talk.id, message.id, "one", "one two")]


def test_the_excerpt_is_right_after_letters_that_grow_when_folded(
    store: Store, ada: Person, talk: Conversation, say: Say
) -> None:
    say(talk, "ß" * 300 + " needle " + "ß" * 300)
    (hit,) = conversations.search(store, ada.id, "needle")
    assert "needle" in hit.excerpt


def test_the_newest_come_first_and_no_more_than_asked_for(store: Store, ada: Person, say: Say) -> None:
    old, new = (conversations.start(store, ada.id, "terminal", "familiar") for _ in range(2))
    first, second, third = say(old, "duck 1"), say(new, "duck 2"), say(new, "duck 3")
    assert [hit.message_id for hit in conversations.search(store, ada.id, "duck")] == [third.id, second.id, first.id]
    assert [hit.message_id for hit in conversations.search(store, ada.id, "duck", limit=2)] == [third.id, second.id]
    assert conversations.search(store, ada.id, "duck", limit=0) == []


def test_only_ones_own_conversations_are_searched(
    store: Store, ada: Person, bob: Person, talk: Conversation, say: Say
) -> None:
    say(talk, "Ada's duck")
    say(conversations.start(store, bob.id, "terminal", "familiar"), "Bob's duck")
    assert [hit.excerpt for hit in conversations.search(store, bob.id, "duck")] == ["Bob's duck"]
