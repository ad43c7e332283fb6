"""What a person can do on any channel, beyond sending messages: branches, conversations, who answers, what is kept."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path

import pytest

from bot.assistant import Assistant
from bot.chat import LONGEST_TEXT, Chat
from bot.errors import ChatError
from bot.events import Event, Failed, Finished, Token
from bot.kept import Privacy
from settings import Assistant as AssistantSettings
from settings import Learning, Persona, Settings
from store import adapters, feedback, lineage, sealed
from store.session import Store
from store.tables import Adapter
from tests.fakes.vllm import FakeVllm, Hold, Refusal, Reply


@pytest.fixture
async def chat(assistant: Assistant) -> Chat:
    return await Chat.open(assistant, channel="terminal", external_id="ada", name="Ada", language="en")


async def last_of(turn: AsyncGenerator[Event]) -> Event:
    async with aclosing(turn) as events:
        return [event async for event in events][-1]


async def said(chat: Chat, *texts: str) -> None:
    for text in texts:
        assert isinstance(await last_of(chat.send(text)), Finished)


async def shown(chat: Chat) -> list[str]:
    return [message.content for message in await chat.history()]


def with_settings(given: Assistant, **sections: object) -> Assistant:
    return Assistant(given.store, given.client, given.settings.model_copy(update=sections))


@pytest.fixture
def loaded_adapter(store: Store, vllm: FakeVllm) -> str:
    row = adapters.register(store, "familiar", 3, "familiar/3", "base", "0" * 32, 16)
    adapters.mark_loaded(store, row.id, True)
    adapters.register(store, "familiar", 4, "familiar/4", "base", "0" * 32, 16)
    vllm.adapters["familiar@3"] = "familiar/3"
    return "familiar@3"


# Sending


async def test_opening_a_chat_leaves_no_conversation_behind(chat):
    await chat.new()
    await chat.history()
    await chat.use_persona("classifier")
    assert await chat.listing() == []
    assert chat.conversation is None


async def test_the_first_message_begins_the_conversation_and_names_it(chat, vllm):
    vllm.script(Reply("Hello", "!"))
    await said(chat, "Good morning\nto you")
    assert await shown(chat) == ["Good morning\nto you", "Hello!"]
    assert chat.conversation.title == "Good morning"
    assert [(listed.title, listed.messages) for listed in await chat.listing()] == [("Good morning", 2)]


async def test_two_first_messages_at_once_begin_one_conversation(chat):
    await asyncio.gather(said(chat, "One"), said(chat, "Two"))
    assert len(await chat.listing()) == 1
    assert len(await chat.history()) == 4


async def test_space_around_a_message_is_not_sent(chat, vllm):
    await said(chat, "\n  Hi there \n")
    assert vllm.chats[0].body["messages"][-1]["content"] == "Hi there"


@pytest.mark.parametrize(
    ("text", "key"), [("", "empty_text"), (" \n ", "empty_text"), ("x" * (LONGEST_TEXT + 1), "text_too_long")]
)
async def test_a_text_that_cannot_be_sent_is_refused_before_anything_is_kept(chat, text, key):
    await said(chat, "Hi")
    for attempt in (lambda: last_of(chat.send(text)), lambda: last_of(chat.edit(text)), lambda: chat.correct(text)):
        with pytest.raises(ChatError) as caught:
            await attempt()
        assert caught.value.key == key
    assert await shown(chat) == ["Hi", "Hello there!"]


async def test_closing_a_chat_in_mid_reply_keeps_what_was_shown(chat, vllm):
    vllm.script(Reply("Once", Hold()))
    async with aclosing(chat.send("Tell")) as events:
        assert await anext(events) == Token("Once")
    assert await shown(chat) == ["Tell", "Once"]


async def test_a_message_typed_with_half_a_character_does_not_break_the_chat(chat, vllm):
    await said(chat, "half an emoji \ud83d and a NUL \0.")
    assert vllm.chats[0].body["messages"][-1]["content"] == "half an emoji � and a NUL �."


async def test_a_conversation_left_in_mid_reply_stays_left(chat, vllm):
    hold = Hold()
    vllm.script(Reply("Once", hold))
    reading = asyncio.create_task(last_of(chat.send("Tell")))
    await hold.reached.wait()
    await chat.new()
    hold.release.set()
    await reading
    assert chat.conversation is None
    assert [listed.messages for listed in await chat.listing()] == [2]


async def test_a_conversation_deleted_elsewhere_is_told_and_a_new_one_can_be_begun(chat, assistant):
    await said(chat, "Hi")
    elsewhere = await Chat.open(assistant, channel="terminal", external_id="ada", latest=True)
    await elsewhere.forget(everything=False)
    assert (await last_of(chat.send("Still there?"))).kind == "not_found"
    with pytest.raises(ChatError, match="not_found"):
        await chat.undo()
    await chat.new()
    await said(chat, "Anew")


# Branches


async def test_a_retry_shows_another_reply_and_keeps_the_first(chat, vllm):
    vllm.script(Reply("One."), Reply("Two."))
    await said(chat, "Hi")
    last = await last_of(chat.retry())
    assert isinstance(last, Finished)
    assert last.siblings == 2
    assert await shown(chat) == ["Hi", "Two."]
    replies, index = await chat.alternatives()
    assert ([reply.content for reply in replies], index) == (["One.", "Two."], 1)


async def test_another_reply_can_be_chosen_and_gone_on_from(chat, vllm):
    vllm.script(Reply("One."), Reply("Two."))
    await said(chat, "Hi")
    await last_of(chat.retry())
    assert (await chat.choose(0)).content == "One."
    assert (await chat.alternatives())[1] == 0
    await said(chat, "Go on")
    assert await shown(chat) == ["Hi", "One.", "Go on", "Hello there!"]
    assert vllm.chats[2].body["messages"][2]["content"] == "One."


@pytest.mark.parametrize("index", [-1, 1])
async def test_a_reply_that_is_not_there_cannot_be_chosen(chat, index):
    await said(chat, "Hi")
    with pytest.raises(ChatError) as caught:
        await chat.choose(index)
    assert (caught.value.key, caught.value.values) == ("no_such_reply", {"number": index + 1, "count": 1})


async def test_a_retry_that_fails_leaves_the_reply_there_was(chat, vllm):
    await said(chat, "Hi")
    vllm.script(Refusal(503))
    assert isinstance(await last_of(chat.retry()), Failed)
    assert await shown(chat) == ["Hi", "Hello there!"]


async def test_a_message_without_a_reply_can_be_retried_by_whoever_opens_the_chat_next(chat, assistant, vllm):
    vllm.script(Refusal(503))
    assert isinstance(await last_of(chat.send("Hi")), Failed)
    assert await chat.alternatives() == ([], 0)
    again = await Chat.open(assistant, channel="terminal", external_id="ada", latest=True)
    assert isinstance(await last_of(again.retry()), Finished)
    assert await shown(again) == ["Hi", "Hello there!"]


async def test_an_edited_message_branches_and_the_first_wording_stays_in_the_log(chat, vllm):
    await said(chat, "One", "Tow")
    await last_of(chat.edit("Two"))
    assert (await shown(chat))[::2] == ["One", "Two"]
    assert [message["content"] for message in vllm.chats[2].body["messages"]][1::2] == ["One", "Two"]
    kept = [message["content"] for message in (await chat.kept.export())["conversations"][0]["messages"]]
    assert "Tow" in kept


async def test_undo_steps_back_before_the_last_message_and_gives_its_text_back(chat):
    await said(chat, "One", "Two")
    assert await chat.undo() == "Two"
    assert await shown(chat) == ["One", "Hello there!"]
    assert await chat.undo() == "One"
    assert await shown(chat) == []
    with pytest.raises(ChatError, match="nothing_to_undo"):
        await chat.undo()
    await said(chat, "Anew")
    assert await shown(chat) == ["Anew", "Hello there!"]


async def test_there_is_nothing_to_change_in_a_new_conversation(chat):
    for attempt, key in [
        (lambda: last_of(chat.retry()), "nothing_to_retry"),
        (lambda: last_of(chat.edit("x")), "nothing_to_edit"),
        (chat.undo, "nothing_to_undo"),
        (lambda: chat.rate(1), "nothing_to_rate"),
        (lambda: chat.correct("x"), "nothing_to_correct"),
        (lambda: chat.forget(everything=False), "nothing_to_forget"),
        (lambda: chat.choose(0), "no_such_reply"),
    ]:
        with pytest.raises(ChatError) as caught:
            await attempt()
        assert caught.value.key == key
    assert await chat.alternatives() == ([], 0)
    assert await chat.listing() == []


# Conversations


async def test_the_latest_conversation_of_the_channel_is_gone_on_with(chat, assistant):
    await said(chat, "Earlier")
    await chat.new()
    await said(chat, "Later")
    elsewhere = await Chat.open(assistant, channel="telegram", external_id="ada", latest=True)
    again = await Chat.open(assistant, channel="terminal", external_id="ada", latest=True)
    assert elsewhere.conversation is None
    assert await shown(again) == ["Later", "Hello there!"]


async def test_an_earlier_conversation_can_be_opened_by_its_number(chat, assistant):
    await said(chat, "Earlier")
    earlier = chat.conversation.id
    await chat.new()
    await said(chat, "Later")
    assert (await chat.open_conversation(earlier)).title == "Earlier"
    await said(chat, "Further")
    assert (await shown(chat))[::2] == ["Earlier", "Further"]
    at_once = await Chat.open(assistant, channel="terminal", external_id="ada", conversation=earlier)
    assert (await shown(at_once))[::2] == ["Earlier", "Further"]


async def test_somebody_elses_conversation_cannot_be_opened_found_or_told_from_none(chat, assistant):
    await said(chat, "My secret")
    theirs = chat.conversation.id
    eve = await Chat.open(assistant, channel="terminal", external_id="eve")
    for number in (theirs, 999, 10**30):
        with pytest.raises(ChatError) as caught:
            await eve.open_conversation(number)
        assert (caught.value.key, caught.value.values) == ("no_such_conversation", {"number": number})
        with pytest.raises(ChatError, match="no_such_conversation"):
            await Chat.open(assistant, channel="terminal", external_id="eve", conversation=number)
    assert eve.conversation is None
    assert await eve.search("secret") == []
    assert await eve.listing() == []
    assert "secret" not in json.dumps(await eve.kept.export())


async def test_words_are_found_in_messages_and_replies(chat, vllm):
    vllm.script(Reply("Cats purr."))
    await said(chat, "What do 猫 do?")
    assert [hit.conversation_id for hit in await chat.search("PURR")] == [chat.conversation.id]
    assert len(await chat.search("猫")) == 1
    with pytest.raises(ChatError, match="nothing_to_search"):
        await chat.search("  ")


# Who answers


async def test_a_new_conversation_has_the_persona_that_was_asked_for(chat, vllm):
    await chat.new("classifier")
    assert chat.persona.name == "classifier"
    await said(chat, "Lovely.")
    assert vllm.chats[0].body["messages"][0]["content"] == "Label the text."
    await chat.new()
    assert chat.persona.name == "familiar"


async def test_the_persona_can_change_within_a_conversation(chat, vllm):
    await said(chat, "Hi")
    await chat.use_persona("classifier")
    assert [(choice.name, choice.chosen) for choice in await chat.personas()] == [
        ("familiar", False),
        ("classifier", True),
        ("diary", False),
    ]
    await said(chat, "Lovely.")
    assert vllm.chats[1].body["messages"][0]["content"] == "Label the text."


async def test_a_persona_that_is_not_there_is_refused_with_those_that_are(chat):
    for attempt in (lambda: chat.new("pirate"), lambda: chat.use_persona("pirate")):
        with pytest.raises(ChatError) as caught:
            await attempt()
        assert caught.value.key == "no_such_persona"
        assert caught.value.values == {"name": "pirate", "known": "familiar, classifier, diary"}


async def test_the_models_are_the_one_in_force_the_base_and_every_loaded_adapter(chat, loaded_adapter):
    choices = await chat.models()
    assert [(choice.name, choice.chosen) for choice in choices] == [
        ("auto", True),
        ("base", False),
        ("familiar@3", False),
    ]
    assert "there is none" in choices[0].note


async def test_auto_says_which_adapter_is_in_force(chat, store, loaded_adapter):
    adapters.activate(store, "familiar", 3)
    assert "familiar@3" in (await chat.models())[0].note


async def test_auto_says_that_the_persona_has_an_adapter_of_its_own(assistant, loaded_adapter):
    persona = Persona(name="familiar", system="s", adapter="familiar@3")
    chat = await Chat.open(with_settings(assistant, persona=(persona,)), channel="terminal", external_id="ada")
    assert "persona" in (await chat.models())[0].note


@pytest.mark.parametrize("begun", [False, True])
async def test_a_chosen_model_answers_from_the_next_reply_on(chat, vllm, loaded_adapter, begun):
    if begun:
        await said(chat, "Hi")
    await chat.use_model("familiar@3")
    assert chat.model == "familiar@3"
    last = await last_of(chat.send("Hi"))
    assert isinstance(last, Finished)
    assert last.adapter == "familiar@3"
    assert chat.model == "familiar@3"
    await chat.use_model("auto")
    assert chat.model == "auto"
    assert (await last_of(chat.send("Hi"))).adapter == ""


@pytest.mark.parametrize("name", ["gpt", "familiar@4", "familiar@3@3", ""])
async def test_a_model_that_is_not_loaded_is_refused_with_those_that_are(chat, loaded_adapter, name):
    with pytest.raises(ChatError) as caught:
        await chat.use_model(name)
    assert caught.value.key == "no_such_model"
    assert caught.value.values["known"] == "auto, base, familiar@3"


async def test_a_chosen_adapter_that_is_gone_is_shown_as_gone(chat, store, loaded_adapter):
    await chat.use_model("familiar@3")
    adapters.mark_loaded(store, adapters.get(store, "familiar", 3).id, False)
    last = (await chat.models())[-1]
    assert (last.name, last.chosen, last.note) == ("familiar@3", True, chat.texts.t("model.gone"))


# What the person thinks


async def test_a_rating_and_a_correction_belong_to_the_last_reply_shown(chat, store, vllm):
    vllm.script(Reply("One."), Reply("Two."))
    await said(chat, "Hi")
    await last_of(chat.retry())
    await chat.rate(-1)
    await chat.rate(1)
    await chat.correct(" Better. ")
    one, two = (await chat.alternatives())[0]
    assert feedback.feedback(store, two.id, chat.person.id) == feedback.Feedback(1, "Better.")
    assert feedback.feedback(store, one.id, chat.person.id) == feedback.Feedback(None, None)


async def test_a_reply_can_be_rated_after_a_message_that_failed(chat, store, vllm):
    await said(chat, "Hi")
    vllm.script(Refusal(503))
    await last_of(chat.send("And?"))
    await chat.rate(1)
    assert (await chat.kept.stats()).rated_up == 1


async def test_the_statistics_count_what_has_come_together(chat):
    await said(chat, "Hi", "Again")
    await chat.rate(1)
    stats = await chat.kept.stats()
    assert (stats.conversations, stats.messages, stats.replies, stats.rated_up) == (1, 2, 2, 1)


# What is kept


async def test_the_export_holds_everything_and_is_json(chat):
    await said(chat, "Hi")
    await chat.correct("Better.")
    await chat.kept.consent("yes")
    exported = json.dumps(await chat.kept.export())
    assert all(word in exported for word in ("Hi", "Hello there!", "Better.", "Be brief.", "yes", "ada"))


async def test_a_forgotten_conversation_is_gone_and_a_new_one_follows(chat, assistant):
    await said(chat, "Keep this")
    await chat.new()
    await said(chat, "Secret")
    assert await chat.forget(everything=False) is None
    assert chat.conversation is None
    assert [listed.title for listed in await chat.listing()] == ["Keep this"]
    await said(chat, "Anew")
    assert await shown(chat) == ["Anew", "Hello there!"]


async def test_somebody_who_is_forgotten_leaves_nothing_and_comes_back_as_a_stranger(chat, store, database: Path):
    await said(chat, "Secret", "And more")
    await chat.kept.consent("yes")
    forgotten = await chat.forget(everything=True)
    assert (forgotten.conversations, forgotten.messages) == (1, 4)
    rows = sqlite3.connect(database)
    for table in ("person", "identity", "consent", "conversation", "message"):
        assert rows.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,), table
    assert (await chat.kept.privacy()).choice is None
    await said(chat, "Hello again")
    assert await shown(chat) == ["Hello again", "Hello there!"]


@pytest.mark.parametrize("everything", [True, False])
@pytest.mark.parametrize("days", [0, 7])
async def test_what_an_adapter_learned_is_sealed_only_where_the_operator_has_it_so_and_the_person_is_told(
    assistant, store, everything: bool, days: int
):
    told = with_settings(assistant, learning=Learning(sealed_days=days))
    chat = await Chat.open(told, channel="terminal", external_id="ada")
    await said(chat, "Secret")
    number = chat.conversation.id
    with store.writing() as session:
        adapter = Adapter(name="house", version=1, folder="", base="", base_fingerprint="", rank=4, active=True)
        session.add(adapter)
    lineage.trained_on(store, adapter.id, [number])
    for question in ("ask.forget", "ask.forget_all", "consent.forget_which"):
        asked = chat.before_forgetting(question)
        assert asked.startswith(chat.texts.t(question))
        assert ("stays sealed" in asked, "at most: 7." in asked) == (days == 7, days == 7)
    assert (await chat.kept.privacy()).sealed_days == days
    await chat.forget(everything)
    assert sealed.conversations(store, [number]) == ({number} if days else set())


async def test_somebody_who_is_forgotten_never_sees_what_a_newcomer_writes(chat, assistant):
    await said(chat, "Secret")
    await chat.forget(everything=True)
    newcomer = await Chat.open(assistant, channel="terminal", external_id="bob")
    await said(newcomer, "Bob's own")
    assert await chat.listing() == []
    assert "Bob" not in json.dumps(await chat.kept.export())


@pytest.mark.parametrize(
    ("policy", "choice", "learns"),
    [
        ("ask", None, False),
        ("ask", "yes", True),
        ("ask", "no", False),
        ("all", None, True),
        ("all", "no", False),
        ("none", "yes", False),
    ],
)
async def test_learning_needs_both_the_operator_and_the_person(assistant, policy, choice, learns):
    chat = await Chat.open(
        with_settings(assistant, learning=Learning(consent=policy)), channel="terminal", external_id="ada"
    )
    if choice:
        await chat.kept.consent("no" if choice == "yes" else "yes")
        await chat.kept.consent(choice)
    assert await chat.kept.privacy() == Privacy(policy, choice, learns)


# Familiar's own words, and a store that does not answer


@pytest.mark.parametrize(
    ("fixed", "first", "now", "language"),
    [("auto", "", "", "en"), ("auto", "zh-CN", "", "zh"), ("auto", "zh", "en", "zh"), ("en", "zh", "zh", "en")],
)
async def test_familiar_speaks_the_operators_language_else_the_persons(assistant, fixed, first, now, language):
    assistant = with_settings(assistant, assistant=AssistantSettings(language=fixed))
    await Chat.open(assistant, channel="terminal", external_id="ada", language=first)
    assert (await Chat.open(assistant, channel="terminal", external_id="ada", language=now)).texts.language == language


async def test_a_store_that_does_not_answer_is_told_as_such(chat, database: Path):
    await said(chat, "Hi")
    other = sqlite3.connect(database, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(ChatError) as caught:
        await chat.rate(1)
    other.close()
    assert caught.value.key == "store_locked"
    assert chat.texts.problem(caught.value)
    await chat.rate(1)


async def test_a_chat_fits_the_settings_as_they_are_shipped(assistant):
    chat = await Chat.open(
        Assistant(assistant.store, assistant.client, Settings()), channel="terminal", external_id="ada"
    )
    await said(chat, "Hi")
