"""What is kept of people: being asked, seeing it, having it, having it deleted."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any
from zipfile import ZipFile

import pytest
from sqlmodel import SQLModel, select

from bot.errors import ChatError
from bot.telegram import rights
from settings import Learning
from store import adapters, inbox, lineage, people
from store.catalogue import owners
from store.session import Store
from store.tables import Conversation, Person
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import Hold, Reply, eventually
from tests.telegram_server import Chat, Shown

QUESTION = "May I learn from our conversations?"
DELETED = "Everything about you is deleted."
ASKING = Learning(consent="ask")
SECRET = "quokka"


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


async def said(chat: Chat, text: str) -> Shown:
    await chat.wait_for(lambda: text in chat.last.text)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


async def talked(talk: Talk, chat: Chat, question: str, answer: str) -> Shown:
    talk.vllm.script(Reply(answer))
    chat.send(question)
    await chat.wait_for(lambda: chat.last.text == answer and chat.last.keyboard)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


def labels(shown: Shown) -> list[str]:
    return [text for row in shown.keyboard for text, _ in row]


def consent(talk: Talk, chat: Chat) -> str | None:
    person = people.with_identity(talk.store, "telegram", str(chat.id))
    return people.consent(talk.store, person.id or 0) if person else None


def everything_in(store: Store) -> str:
    """Every value of every row of every table."""
    with store.reading() as session:
        rows = [
            row for table in SQLModel.metadata.sorted_tables for row in session.connection().execute(table.select())
        ]
    return "\n".join(str(tuple(row)) for row in rows)


async def forgotten(chat: Chat) -> Shown:
    """The person has everything deleted."""
    chat.command("/forget all")
    asked = await said(chat, "Delete everything about you for good")
    chat.press(asked, "Everything about me")
    await chat.wait_for(lambda: DELETED in asked.text)
    return asked


async def all_is_handled(talk: Talk) -> None:
    await eventually(lambda: not talk.server.pending and not inbox.waiting(talk.store, "telegram"))


# Being asked


@pytest.mark.parametrize("learning", [ASKING])
@pytest.mark.parametrize("first", ["/start", "Hello"])
async def test_the_first_contact_asks_once_and_explains(talk: Talk, ada: Chat, first: str) -> None:
    ada.send(first)
    asked = await said(ada, QUESTION)
    assert "/privacy" in asked.text
    assert labels(asked) == ["Yes, learn from them", "No", "Later"]
    assert ada.replies[0].text.startswith("Hello")  # the answer comes before the question
    await talked(talk, ada, "Two", "Second")
    ada.command("/start")
    await said(ada, "Hello Ada!")
    await all_is_handled(talk)
    assert sum(QUESTION in message.text for message in ada.replies) == 1


@pytest.mark.parametrize("learning", [ASKING])
@pytest.mark.parametrize(
    ("language", "question"), [("zh-hans", "我可以从我们的对话里学习吗"), ("de", QUESTION), ("", QUESTION)]
)
async def test_the_question_is_in_the_language_of_the_person(talk: Talk, language: str, question: str) -> None:
    chat = talk.private(language=language)
    chat.send("Hello")
    await said(chat, question)


@pytest.mark.parametrize("learning", [Learning(consent="all"), Learning(consent="none")])
async def test_where_the_operator_has_decided_nobody_is_asked(talk: Talk, ada: Chat) -> None:
    ada.command("/start")
    await talked(talk, ada, "Hello", "Hi")
    await all_is_handled(talk)
    assert not any(QUESTION in message.text for message in ada.replies)


@pytest.mark.parametrize("learning", [ASKING])
async def test_in_a_group_nobody_is_asked(talk: Talk, ada: Chat) -> None:
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person], bot_admin=True)
    await talked(talk, group, "@familiar_bot Hello", "Hi")
    await all_is_handled(talk)
    assert len(group.replies) == 1
    ada.send("Hello")
    await said(ada, QUESTION)


@pytest.mark.parametrize("learning", [ASKING])
@pytest.mark.parametrize(
    ("button", "choice", "answer"),
    [("Yes", "yes", "Thank you!"), ("No", "no", "Fine."), ("Later", None, "I will not ask again")],
)
async def test_the_answer_takes_the_place_of_the_question(
    talk: Talk, ada: Chat, button: str, choice: str | None, answer: str
) -> None:
    ada.command("/start")
    asked = await said(ada, QUESTION)
    ada.press(asked, button)
    await ada.wait_for(lambda: answer in asked.text)
    assert asked.keyboard == []
    assert consent(talk, ada) == choice
    await talked(talk, ada, "Hello", "Hi")
    await all_is_handled(talk)
    assert not any(QUESTION in message.text for message in ada.replies)


@pytest.mark.parametrize("learning", [ASKING])
async def test_two_answers_at_once_count_in_their_order(talk: Talk, ada: Chat) -> None:
    ada.command("/start")
    asked = await said(ada, QUESTION)
    ada.press(asked, "Yes")
    ada.press(asked, "No")
    await ada.wait_for(lambda: "Fine." in asked.text)
    assert consent(talk, ada) == "no"


# Seeing it


@pytest.mark.parametrize("learning", [ASKING])
async def test_privacy_shows_what_is_kept_and_changes_it(talk: Talk, ada: Chat) -> None:
    ada.command("/privacy")
    shown = await said(ada, "What is kept")
    assert "You have not been asked yet." in shown.text
    assert "not used for learning" in shown.text
    ada.press(shown, "Yes")
    await ada.wait_for(lambda: "Thank you!" in shown.text)
    ada.command("/privacy")
    assert "may be used for learning" in (await said(ada, "What is kept")).text


@pytest.mark.parametrize("learning", [ASKING])
@pytest.mark.parametrize(
    ("words", "choice"), [("yes", "yes"), ("YES", "yes"), ("no", "no"), ("同意", "yes"), ("不", "no")]
)
async def test_privacy_takes_a_word(talk: Talk, ada: Chat, words: str, choice: str) -> None:
    ada.command(f"/privacy {words}")
    await said(ada, "Thank you!" if choice == "yes" else "Fine.")
    assert consent(talk, ada) == choice


@pytest.mark.parametrize("learning", [ASKING])
async def test_privacy_takes_no_other_word(talk: Talk, ada: Chat) -> None:
    ada.command("/privacy maybe")
    await said(ada, "/privacy yes or /privacy no")
    assert consent(talk, ada) is None


@pytest.mark.parametrize(
    ("learning", "words", "buttons"),
    [(Learning(consent="all"), "unless you say no", 3), (Learning(consent="none"), "switched learning off", 0)],
)
async def test_privacy_says_what_the_operator_has_decided(ada: Chat, words: str, buttons: int) -> None:
    ada.command("/privacy")
    assert len(labels(await said(ada, words))) == buttons


@pytest.mark.parametrize("command", ["/privacy", "/privacy yes", "/export", "/forget", "/forget all"])
async def test_in_a_group_all_of_this_is_left_for_the_private_chat(talk: Talk, ada: Chat, command: str) -> None:
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person])
    group.command(command, sender=ada.person)
    shown = await said(group, "in our private chat")
    assert not shown.keyboard
    assert not shown.document


# Having it


async def test_the_export_is_a_json_document_of_everything(talk: Talk, ada: Chat) -> None:
    reply = await talked(talk, ada, "你好 👋", "Hi")
    ada.press(reply, "👍")
    await ada.wait_for(lambda: "👍 ✓" in labels(reply))
    ada.command("/correct Good day")
    await said(ada, "your version is noted")
    ada.command("/export")
    shown = await said(ada, "everything that is stored about you")
    assert shown.document is not None
    assert shown.document.name.endswith(".json")
    exported = json.loads(shown.document.data)
    (conversation,) = exported["conversations"]
    assert [message["content"] for message in conversation["messages"]] == ["你好 👋", "Hi"]
    assert conversation["messages"][1]["ratings"][0]["value"] == 1
    assert conversation["messages"][1]["corrections"][0]["text"] == "Good day"
    assert exported["identities"][0]["external_id"] == "101"


async def test_the_export_of_somebody_new_holds_who_they_are(ada: Chat) -> None:
    ada.command("/export")
    shown = await said(ada, "everything that is stored about you")
    assert shown.document is not None
    assert json.loads(shown.document.data)["person"]["name"] == "Ada"


async def test_the_export_names_the_documents(talk: Talk, ada: Chat) -> None:
    talk.channel.library = library = FakeLibrary()
    await talked(talk, ada, "Hello", "Hi")
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    library.keep(owners.person(person.id or 0), "笔记.txt", "text/plain", b"One\nTwo")
    library.keep(owners.person((person.id or 0) + 1), "theirs.txt", "text/plain", b"Three")
    ada.command("/export")
    shown = await said(ada, "everything that is stored about you")
    assert shown.document is not None
    (document,) = json.loads(shown.document.data)["documents"]
    assert (document["name"], document["passages"]) == ("笔记.txt", 2)


async def test_an_export_that_is_too_large_for_telegram_is_packed(
    talk: Talk, ada: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    await talked(talk, ada, SECRET * 600, "Hi")
    monkeypatch.setattr(rights, "LARGEST_FILE", 5000)
    ada.command("/export")
    shown = await said(ada, "everything that is stored about you")
    assert shown.document is not None
    with ZipFile(BytesIO(shown.document.data)) as archive:
        (name,) = archive.namelist()
        assert SECRET in archive.read(name).decode()
    monkeypatch.setattr(rights, "LARGEST_FILE", 10)
    ada.command("/export")
    await said(ada, "too large to be sent here")


# Having it deleted


async def test_nothing_is_deleted_before_a_button_is_pressed(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Hello", "Hi")
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    assert labels(asked) == ["This conversation", "Everything about me", "Nothing, keep it all"]
    assert len(talk.branch(ada)) == 2
    ada.press(asked, "Nothing")
    await ada.wait_for(lambda: asked.text == "Nothing was deleted.")
    assert len(talk.branch(ada)) == 2
    assert asked.keyboard == []


@pytest.mark.parametrize("learning", [Learning(sealed_days=7)])
async def test_who_is_asked_is_told_of_what_stays_sealed(ada: Chat) -> None:
    for command, begins in (
        ("/forget", "What shall be"),
        ("/forget all", "Delete everything"),
        ("/privacy", "What is"),
    ):
        ada.command(command)
        assert "stays sealed for one purpose" in (await said(ada, begins)).text


async def test_somebody_with_no_conversation_is_not_offered_to_delete_it(ada: Chat) -> None:
    ada.command("/forget")
    assert labels(await said(ada, "What shall be deleted")) == ["Everything about me", "Nothing, keep it all"]


async def test_this_conversation_is_deleted_and_a_new_one_follows(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "About cats", "Meow")
    ada.command("/new")
    await said(ada, "A new conversation")
    await talked(talk, ada, f"About a {SECRET}", "Cute")
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    ada.press(asked, "This conversation")
    await ada.wait_for(lambda: asked.text == "This conversation is deleted.")
    kept = everything_in(talk.store)
    assert SECRET not in kept
    assert "About cats" in kept
    await talked(talk, ada, "What now?", "Now this")
    assert talk.prompt() == ["What now?"]


async def test_deleting_an_earlier_conversation_leaves_the_one_that_goes_on(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, f"About a {SECRET}", "Cute")
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    ada.command("/new")
    await said(ada, "A new conversation")
    await talked(talk, ada, "About cats", "Meow")
    ada.press(asked, "This conversation")
    await ada.wait_for(lambda: asked.text == "This conversation is deleted.")
    assert SECRET not in everything_in(talk.store)
    await talked(talk, ada, "And?", "Purr")
    assert talk.prompt() == ["About cats", "Meow", "And?"]


async def test_what_was_taken_back_can_be_deleted(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, f"About a {SECRET}", "Cute")
    ada.command("/undo")
    await said(ada, "Taken back")
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    ada.press(asked, "This conversation")
    await ada.wait_for(lambda: asked.text == "This conversation is deleted.")
    assert SECRET not in everything_in(talk.store)


async def test_a_conversation_that_is_deleted_twice_is_said_to_be_gone(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Hello", "Hi")
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    ada.press(asked, "This conversation")
    ada.press(asked, "This conversation")
    await ada.wait_for(lambda: any("You have no conversation" in text for text, _ in ada.answers))
    assert asked.text == "This conversation is deleted."


async def test_nobody_deletes_the_conversation_of_somebody_else(talk: Talk, ada: Chat) -> None:
    bo = talk.private(102, "Bo")
    await talked(talk, bo, "Hello", "Hi")
    number = talk.branch(bo)[0].conversation_id
    ada.command("/forget")
    asked = await said(ada, "What shall be deleted")
    assert ada.person is not None
    for data in (f"forget:this:{number}", f"forget:this:{'9' * 50}", "forget:this:", "forget:", "forget:bo"):
        talk.server.pressed(ada, asked, data, ada.person)
    await all_is_handled(talk)
    assert len(talk.branch(bo)) == 2


@pytest.mark.parametrize("learning", [ASKING])
async def test_everything_is_deleted_without_a_trace_and_the_person_is_asked_anew(talk: Talk) -> None:
    ada = talk.private(name=f"Ada {SECRET}")
    bo = talk.private(102, "Bo")
    bo.send("Mine stays")
    await said(bo, QUESTION)
    talk.vllm.script(Reply(f"A {SECRET}!"))
    ada.send(f"I like a {SECRET}")
    asked = await said(ada, QUESTION)
    ada.press(asked, "Yes")
    await ada.wait_for(lambda: "Thank you!" in asked.text)
    ada.press(ada.replies[0], "👍")
    await ada.wait_for(lambda: "👍 ✓" in labels(ada.replies[0]))
    ada.command(f"/correct Better a {SECRET}", reply_to=ada.replies[0])
    await said(ada, "your version is noted")
    assert SECRET in everything_in(talk.store)
    told = await forgotten(ada)
    assert "Conversations: 1, messages: 2" in told.text
    assert told.keyboard == []
    await all_is_handled(talk)
    assert SECRET not in everything_in(talk.store)
    assert people.with_identity(talk.store, "telegram", "101") is None
    assert len(talk.branch(bo)) == 2
    ada.send("Hello again")
    await said(ada, QUESTION)
    assert consent(talk, ada) is None
    assert talk.prompt() == ["Hello again"]


async def test_the_adapters_that_learned_from_it_are_named(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Hello", "Hi")
    adapter = adapters.register(talk.store, "tutor", 1, "tutor/1", "base", "f00", 8)
    lineage.trained_on(talk.store, adapter.id or 0, [talk.branch(ada)[0].conversation_id])
    assert "tutor@1" in (await forgotten(ada)).text
    assert [each.adapter for each in lineage.to_leave_out(talk.store)] == ["tutor@1"]


async def test_documents_are_deleted_with_everything(talk: Talk, ada: Chat) -> None:
    talk.channel.library = library = FakeLibrary()
    await talked(talk, ada, "Hello", "Hi")
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    library.keep(owners.person(person.id or 0), "notes.txt", "text/plain", b"One\nTwo")
    library.keep(owners.person((person.id or 0) + 1), "theirs.txt", "text/plain", b"Three")
    await forgotten(ada)
    assert [held.document.name for held in library.held.values()] == ["theirs.txt"]


async def test_what_they_handed_over_for_a_group_is_deleted_too_and_what_others_did_is_not(
    talk: Talk, ada: Chat
) -> None:
    talk.channel.library = library = FakeLibrary()
    await talked(talk, ada, "Hello", "Hi")
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    assert person.id is not None
    library.keep(owners.group("telegram", "-1001"), "of-ada.txt", "text/plain", b"One", person.id)
    library.keep(owners.group("telegram", "-1001"), "of-bo.txt", "text/plain", b"Two", person.id + 1)
    await forgotten(ada)
    assert [held.document.name for held in library.held.values()] == ["of-bo.txt"]


async def test_where_the_documents_cannot_be_deleted_nothing_is(talk: Talk, ada: Chat) -> None:
    talk.channel.library = library = FakeLibrary()
    await talked(talk, ada, f"About a {SECRET}", "Cute")
    ada.command("/forget all")
    asked = await said(ada, "Delete everything")
    hold = Hold()
    talk.vllm.script(Reply("Growing", hold, " up"))
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person], bot_admin=True)
    group.send("@familiar_bot go on")
    await hold.reached.wait()
    library.down = ChatError("knowledge_failed", detail="The disk is full.")
    ada.press(asked, "Everything about me")
    await ada.wait_for(lambda: "The disk is full." in ada.answers[-1][0])
    hold.release.set()
    await said(group, "Growing up")
    assert [message.content for message in talk.branch(ada)] == [f"About a {SECRET}", "Cute"]
    library.down = None
    ada.press(asked, "Everything about me")
    await ada.wait_for(lambda: DELETED in asked.text)
    assert SECRET not in everything_in(talk.store)


async def test_what_is_being_written_in_a_group_and_what_waits_there_goes_with_everything(
    talk: Talk, ada: Chat
) -> None:
    """The private chat does not wait for the group, so both are under way when everything is deleted."""
    hold = Hold()
    talk.vllm.script(Reply("Growing", hold, " never"))
    bo = talk.server.user(102, "Bo", language_code="en")
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person, bo], bot_admin=True)
    group.send(f"@familiar_bot tell me of a {SECRET}", sender=ada.person)
    await said(group, "Growing")
    group.send(f"@familiar_bot and another {SECRET}", sender=ada.person)
    group.send("@familiar_bot and me?", sender=bo)
    await eventually(lambda: talk.channel.inbox.waiting == 3)
    await forgotten(ada)
    await group.wait_for(lambda: [message.text for message in group.replies] == ["Hello there!"])
    await all_is_handled(talk)
    assert talk.prompt() == ["and me?"]
    assert len(talk.vllm.chats) == 2
    assert SECRET not in everything_in(talk.store)
    assert people.with_identity(talk.store, "telegram", "101") is None


async def test_what_is_written_after_everything_was_deleted_is_answered(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Hello", "Hi")
    ada.command("/forget all")
    asked = await said(ada, "Delete everything")
    ada.press(asked, "Everything about me")
    await talked(talk, ada, "Still there?", "Yes")
    assert DELETED in asked.text
    assert talk.prompt() == ["Still there?"]


async def test_after_a_restart_nothing_of_what_was_deleted_comes_back(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, f"About a {SECRET}", "Cute")
    await forgotten(ada)
    await talk.restart()
    await talked(talk, ada, "Hello", "Hi")
    assert SECRET not in everything_in(talk.store)
    assert talk.prompt() == ["Hello"]


async def test_nothing_is_deleted_while_the_store_does_not_answer(
    talk: Talk, ada: Chat, monkeypatch: pytest.MonkeyPatch
) -> None:
    from store.errors import StoreLocked

    def locked(*_: Any, **__: Any) -> Any:
        raise StoreLocked("in use")

    await talked(talk, ada, "Hello", "Hi")
    ada.command("/forget all")
    asked = await said(ada, "Delete everything")
    monkeypatch.setattr(people, "forget", locked)
    ada.press(asked, "Everything about me")
    await ada.wait_for(lambda: any("in use by another program" in text for text, _ in ada.answers))
    monkeypatch.undo()
    ada.press(asked, "Everything about me")
    await ada.wait_for(lambda: DELETED in asked.text)
    with talk.store.reading() as session:
        assert list(session.exec(select(Person))) == []
        assert list(session.exec(select(Conversation))) == []
