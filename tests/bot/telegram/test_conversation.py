"""Beginning, asking again, taking back and rewording; finding earlier conversations; choosing who answers."""

from __future__ import annotations

from typing import Any

import pytest

from store import adapters, conversations, people
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Fault, Hold, Refusal, Reply, eventually
from tests.telegram_server import Chat, Shown

RATINGS = ["👍", "👎", "🔁"]


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


async def said(chat: Chat, text: str) -> Shown:
    """The bot's newest message, once it holds this."""
    await chat.wait_for(lambda: text in chat.last.text)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


async def answered(chat: Chat, text: str) -> Shown:
    """The bot's newest message, once it is this reply, complete."""
    await chat.wait_for(lambda: chat.last.text == text and labels(chat.last)[:3] == RATINGS)  # type: ignore
    assert chat.last is not None
    return chat.last


async def talked(talk: Talk, chat: Chat, question: str, answer: str) -> Shown:
    talk.vllm.script(Reply(answer))
    chat.send(question)
    return await answered(chat, answer)


def labels(shown: Shown) -> list[str]:
    return [text for row in shown.keyboard for text, _ in row]


def forged(talk: Talk, chat: Chat, data: str, message: Shown | None = None) -> None:
    """A press that only a client of somebody's own making sends."""
    assert chat.person is not None
    shown = message or chat.messages[-1]
    talk.server.pressed(chat, shown, data, chat.person)


# Beginning


async def test_start_greets_by_name_and_says_what_the_buttons_do(talk: Talk, ada: Chat) -> None:
    ada.command("/start")
    greeting = await said(ada, "Hello Ada! I am Familiar.")
    assert "👍" in greeting.text
    assert not talk.vllm.chats


@pytest.mark.parametrize("text", ["/START", "/start hello-from-a-link", "/start@familiar_bot"])
async def test_a_command_is_known_however_it_is_written(ada: Chat, text: str) -> None:
    ada.command(text)
    await said(ada, "Hello Ada!")


async def test_help_lists_the_commands_of_a_person_without_those_of_admins(ada: Chat) -> None:
    ada.command("/help")
    text = (await said(ada, "/retry")).text
    assert all(f"/{name} " in text for name in ("new", "retry", "undo", "edit", "correct", "privacy", "forget", "list"))
    assert not any(f"/{name} " in text for name in ("approve", "broadcast", "quit", "rate"))
    assert "/export — " in text  # a file is named in a terminal only


async def test_an_unknown_command_is_said_to_be_one(talk: Talk, ada: Chat) -> None:
    ada.command("/retyr now")
    await said(ada, "no command /retyr")
    assert not talk.vllm.chats


@pytest.mark.parametrize("text", ["/usr/bin is a path", "/帮助 我", "/ what is this"])
async def test_a_text_that_only_begins_with_a_slash_is_a_message(talk: Talk, ada: Chat, text: str) -> None:
    ada.send(text)
    await answered(ada, "Hello there!")
    assert talk.prompt() == [text]


async def test_after_new_the_earlier_messages_are_out_of_sight(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "My name is Ada", "Noted")
    ada.command("/new")
    await said(ada, "A new conversation with Familiar.")
    await talked(talk, ada, "What is my name?", "Unknown")
    assert talk.prompt() == ["What is my name?"]


@pytest.mark.parametrize("text", ["/new classifier", "/new Classifier"])
async def test_new_takes_another_persona_as_a_phone_writes_it(talk: Talk, ada: Chat, text: str) -> None:
    ada.command(text)
    await said(ada, "A new conversation with Sentiment.")
    await talked(talk, ada, "So so", "neutral")
    assert talk.vllm.chats[-1].body["messages"][0]["content"] == "Label the text."


@pytest.mark.parametrize("name", ["pirate", "海盗", "p" * 4000])
async def test_a_persona_that_is_not_there_changes_nothing_and_those_that_are_are_named(
    talk: Talk, ada: Chat, name: str
) -> None:
    await talked(talk, ada, "One", "First")
    ada.command(f"/new {name}")
    problem = await said(ada, "familiar, classifier, diary")
    assert len(problem.text) < 300
    await talked(talk, ada, "Two", "Second")
    assert talk.prompt() == ["One", "First", "Two"]


async def test_new_waits_for_the_reply_that_is_being_written(talk: Talk, ada: Chat) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Slow", hold, " answer"))
    ada.send("One")
    await hold.reached.wait()
    ada.command("/new")
    ada.send("Two")
    hold.release.set()
    await answered(ada, "Hello there!")
    said_so_far = [message.text for message in ada.replies]
    assert said_so_far == ["Slow answer", "A new conversation with Familiar.", "Hello there!"]
    assert talk.prompt() == ["Two"]


# Asking again, taking back, rewording


async def test_retry_gives_another_reply_and_keeps_the_first(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Tell me", "First")
    talk.vllm.script(Reply("Second"))
    ada.command("/retry")
    second = await answered(ada, "Second")
    assert "2/2" in labels(second)
    assert talk.prompt() == ["Tell me"]
    assert [message.content for message in talk.branch(ada)] == ["Tell me", "Second"]
    reply_id = talk.branch(ada)[-1].id or 0
    assert [reply.content for reply in conversations.siblings(talk.store, reply_id)] == ["First", "Second"]


@pytest.mark.parametrize(
    ("command", "problem"),
    [
        ("/retry", "no message to reply to yet"),
        ("/undo", "nothing to take back"),
        ("/edit new words", "no message to change yet"),
        ("/edit", "/edit <text>"),
        ("/search", "/search <words>"),
        ("/open", "/open <number>"),
        ("/open five", "“five” is not a number"),
        ("/open 7", "no conversation 7"),
        (f"/open {'9' * 4000}", "no conversation 99"),
        ("/model gpt", "There are: auto, base"),
        ("/persona pirate", "familiar, classifier, diary"),
    ],
)
async def test_a_command_that_cannot_be_carried_out_says_why(ada: Chat, command: str, problem: str) -> None:
    ada.command(command)
    shown = await said(ada, problem)
    assert len(shown.text) < 300
    assert len(ada.replies) == 1


async def test_undo_takes_back_the_last_message_and_its_reply(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    second = await talked(talk, ada, "Two", "Second")
    ada.command("/undo")
    await said(ada, "Taken back: “Two”")
    assert second.keyboard == []
    await talked(talk, ada, "Three", "Third")
    assert talk.prompt() == ["One", "First", "Three"]


async def test_undo_goes_back_to_the_beginning_and_no_further(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    await talked(talk, ada, "Two", "Second")
    for taken in ("Two", "One"):
        ada.command("/undo")
        await said(ada, f"Taken back: “{taken}”")
    ada.command("/undo")
    await said(ada, "nothing to take back")


async def test_an_undo_that_a_crash_interrupts_takes_back_one_message(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    await talked(talk, ada, "Two", "Second")
    talk.server.fail(method="sendMessage", times=1000)
    ada.command("/undo")
    await eventually(lambda: [each.content for each in talk.branch(ada)] == ["One", "First"])
    await eventually(lambda: any(call.status == 502 for call in talk.server.calls_of("sendMessage")))
    talk.service.end()
    await talk.stop()
    talk.server.faults.clear()
    await talk.start()
    await said(ada, "Taken back: “Two”")
    assert [each.content for each in talk.branch(ada)] == ["One", "First"]


async def test_edit_asks_anew_with_other_words(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    await talked(talk, ada, "Tow", "Pull?")
    talk.vllm.script(Reply("Two it is"))
    ada.command("/edit Two")
    await answered(ada, "Two it is")
    assert talk.prompt() == ["One", "First", "Two"]


async def test_an_edit_as_long_as_a_message_can_be_is_taken_whole(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Short", "First")
    text = "字" * (4096 - len("/edit "))
    talk.vllm.script(Reply("Read"))
    ada.command(f"/edit {text}")
    await answered(ada, "Read")
    assert talk.prompt() == [text]


async def test_an_edit_that_fills_several_messages_is_one_text(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "Short", "First")
    text = " ".join(f"word{number}" for number in range(1200))
    talk.vllm.script(Reply("Read"))
    assert len(ada.paste(f"/edit {text}")) > 2
    await answered(ada, "Read")
    assert talk.prompt() == [text]
    assert len(talk.vllm.chats) == 2


async def test_messages_that_arrive_together_do_not_run_into_each_other(talk: Talk, ada: Chat) -> None:
    for text in ("One", "Two"):
        ada.send(text)
    await answered(ada, "Hello there!")
    assert talk.prompt() == ["One\nTwo"]


# A message that its writer changes


async def test_a_message_that_is_changed_is_answered_anew_under_it(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply("Pull?"), Reply("Two it is"), Reply("Three it is"))
    asked = ada.send("Tow")
    await answered(ada, "Pull?")
    ada.edit(asked, "Two")
    assert (await answered(ada, "Two it is")).reply_to == asked.id
    ada.edit(asked, "Three")
    await answered(ada, "Three it is")
    assert talk.prompt() == ["Three"]
    wordings = conversations.siblings(talk.store, talk.branch(ada)[0].id or 0)
    assert [each.content for each in wordings] == ["Tow", "Two", "Three"]


async def test_an_older_message_that_is_changed_is_a_branch_from_there(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    asked = ada.send("Two")
    await answered(ada, "Hello there!")
    await talked(talk, ada, "Three", "Third")
    talk.vllm.script(Reply("Again"))
    ada.edit(asked, "Zwei")
    await answered(ada, "Again")
    assert talk.prompt() == ["One", "First", "Zwei"]


async def test_a_message_that_is_changed_while_its_reply_is_written_is_answered_after_it(talk: Talk, ada: Chat) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Pull", hold, "?"), Reply("Two it is"))
    asked = ada.send("Tow")
    await hold.reached.wait()
    ada.edit(asked, "Two")
    hold.release.set()
    await answered(ada, "Two it is")
    assert [message.text for message in ada.replies] == ["Pull?", "Two it is"]
    assert talk.prompt() == ["Two"]


@pytest.mark.parametrize(
    ("failure", "problem"), [(Refusal(400), "did not accept"), (Reply("Half", Fault()), "broke off")]
)
async def test_a_message_whose_reply_failed_can_be_changed_and_is_answered_then(
    talk: Talk, ada: Chat, failure: Any, problem: str
) -> None:
    talk.vllm.script(failure, Reply("Two it is"))
    asked = ada.send("Tow")
    await said(ada, problem)
    ada.edit(asked, "Two")
    await answered(ada, "Two it is")
    assert talk.prompt() == ["Two"]


async def test_a_change_that_changes_no_words_is_not_answered(talk: Talk, ada: Chat) -> None:
    """Telegram reports one when it has found the preview of a link."""
    asked = ada.send("Hello")
    await answered(ada, "Hello there!")
    ada.edit(asked, "Hello")
    await talked(talk, ada, "Next", "Yes")
    assert len(talk.vllm.chats) == 2


async def test_one_piece_of_a_long_text_cannot_be_changed_alone(talk: Talk, ada: Chat) -> None:
    pieces = ada.paste("word " * 1000)
    await answered(ada, "Hello there!")
    ada.edit(pieces[0], "short")
    await said(ada, "Send /edit with the whole new text")
    assert len(talk.vllm.chats) == 1


async def test_a_change_of_a_message_that_was_never_answered_is_passed_over(talk: Talk, ada: Chat) -> None:
    asked = ada.command("/help")
    await said(ada, "/retry")
    ada.edit(asked, "help")
    await talked(talk, ada, "Next", "Yes")
    assert talk.prompt() == ["Next"]


# What comes between


async def test_a_reply_that_is_being_sent_when_the_bot_is_shut_down_is_not_sent_again(talk: Talk, ada: Chat) -> None:
    sending = talk.server.hold(method="sendMessage")
    ada.send("Hello")
    await sending.reached.wait()
    talk.service.end()
    talk.service.end()  # in a hurry
    await eventually(lambda: talk.channel.lanes.closing)
    sending.release.set()
    assert await talk.stop() == 0
    assert [message.text for message in ada.replies] == ["Hello there!"]
    await talk.start()
    await talked(talk, ada, "Next", "Yes")
    assert [message.text for message in ada.replies] == ["Hello there!", "Yes"]


async def test_a_growing_message_that_the_person_deletes_is_said_anew_once(talk: Talk, ada: Chat) -> None:
    talk.server.refuse_drafts = True
    hold = Hold()
    talk.vllm.script(Reply("One", " two", hold, " three"))
    ada.send("Count")
    growing = await said(ada, "One two")
    ada.delete(growing)
    hold.release.set()
    await answered(ada, "One two three")
    assert [message.text for message in ada.replies] == ["One two three"]


async def test_a_question_that_is_deleted_while_it_is_answered_is_answered_all_the_same(talk: Talk, ada: Chat) -> None:
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person], bot_admin=True)
    hold = Hold()
    talk.vllm.script(Reply(hold, "Here I am"))
    asked = group.send("@familiar_bot Where are you?", sender=ada.person)
    await hold.reached.wait()
    group.delete(asked)
    hold.release.set()
    assert (await answered(group, "Here I am")).reply_to is None


# Earlier conversations


async def test_the_list_opens_an_earlier_conversation_with_its_last_reply(talk: Talk, ada: Chat) -> None:
    talk.vllm.script(Reply("**Meow**\n\nthey say"))
    ada.send("About cats")
    await answered(ada, "Meow\n\nthey say")
    ada.command("/new")
    await talked(talk, ada, "About dogs", "Woof")
    ada.command("/list")
    shown = await said(ada, "newest first")
    assert labels(shown) == ["About dogs", "About cats"]
    ada.press(shown, "About cats")
    last = await answered(ada, "Meow\n\nthey say")
    assert [message.text for message in ada.replies][-2] == "Back in “About cats”."
    assert last.entities[0]["type"] == "bold"
    await talked(talk, ada, "And mice?", "Squeak")
    assert talk.prompt()[0] == "About cats"


async def test_a_conversation_in_which_nothing_was_said_is_not_listed(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "About cats", "Meow")
    for _ in range(3):
        ada.command("/new")
    await ada.wait_for(lambda: len(ada.replies) == 4)
    ada.command("/list")
    assert labels(await said(ada, "newest first")) == ["About cats"]


async def test_an_empty_list_says_so(ada: Chat) -> None:
    ada.command("/list")
    await said(ada, "No conversations yet.")


async def test_open_goes_to_a_conversation_by_its_number(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "About cats", "Meow")
    number = talk.branch(ada)[0].conversation_id
    ada.command("/new")
    await said(ada, "A new conversation")
    ada.command(f"/open {number}")
    await answered(ada, "Meow")
    await talked(talk, ada, "And mice?", "Squeak")
    assert talk.prompt() == ["About cats", "Meow", "And mice?"]


async def test_nobody_opens_the_conversation_of_somebody_else(talk: Talk, ada: Chat) -> None:
    bo = talk.private(102, "Bo")
    await talked(talk, bo, "My secret", "Kept")
    number = talk.branch(bo)[0].conversation_id
    ada.command(f"/open {number}")
    await said(ada, f"no conversation {number}")
    forged(talk, ada, f"pick:open:{number}")
    await ada.wait_for(lambda: len(ada.replies) == 2)
    assert not any("secret" in message.text or "Kept" in message.text for message in ada.messages)


async def test_the_button_of_a_conversation_that_was_deleted_says_so(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "About cats", "Meow")
    ada.command("/list")
    shown = await said(ada, "newest first")
    first = talk.branch(ada)[0]
    person = people.with_identity(talk.store, "telegram", "101")
    assert person is not None
    conversations.delete(talk.store, first.conversation_id, person.id or 0)
    ada.press(shown, "About cats")
    await said(ada, f"no conversation {first.conversation_id}")


@pytest.mark.parametrize(("words", "found"), [("cats", "About cats"), ("猫 喜欢", "我的猫喜欢鱼")])
async def test_search_finds_words_and_opens_where_they_stand(talk: Talk, ada: Chat, words: str, found: str) -> None:
    await talked(talk, ada, "About cats", "Meow")
    ada.command("/new")
    await talked(talk, ada, "我的猫喜欢鱼", "真的")
    ada.command("/new")
    await talked(talk, ada, "About dogs", "Woof")
    ada.command(f"/search {words}")
    shown = await said(ada, "Found:")
    assert found in shown.text
    assert len(labels(shown)) == 1
    ada.press(shown, labels(shown)[0])
    await ada.wait_for(lambda: ada.replies[-2].text == f"Back in “{found}”.")


async def test_a_search_without_a_hit_names_what_was_looked_for(ada: Chat) -> None:
    ada.command("/search " + "unicorn " * 100)
    shown = await said(ada, "Nothing found for “unicorn")
    assert len(shown.text) < 200


@pytest.mark.parametrize("command", ["/list", "/search secret", "/open 1"])
async def test_in_a_group_nobodys_conversations_are_shown(talk: Talk, ada: Chat, command: str) -> None:
    await talked(talk, ada, "My secret", "Kept")
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person])
    group.command(command, sender=ada.person)
    await said(group, "in our private chat")
    assert "secret" not in group.seen().replace(command, "")


async def test_a_conversation_of_a_group_goes_on_in_private_once_it_is_opened_there(talk: Talk, ada: Chat) -> None:
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person], bot_admin=True)
    await talked(talk, ada, "In private", "Yes")
    await talked(talk, group, "@familiar_bot In the group", "Indeed")
    ada.command("/list")
    ada.press(await said(ada, "newest first"), "In the group")
    await answered(ada, "Indeed")
    await talked(talk, ada, "Go on", "Gladly")
    assert talk.prompt() == ["In the group", "Indeed", "Go on"]
    await talked(talk, group, "@familiar_bot Anew", "Hello")
    assert talk.prompt() == ["Anew"]


# Who answers


async def test_a_persona_is_picked_with_a_button(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "So so", "Hm")
    ada.command("/persona")
    shown = await said(ada, "Personas:")
    assert labels(shown) == ["✓ Familiar", "Sentiment", "diary"]
    ada.press(shown, "Sentiment")
    await said(ada, "From now on: Sentiment.")
    await talked(talk, ada, "Fine", "positive")
    assert talk.vllm.chats[-1].body["messages"][0]["content"] == "Label the text."
    assert talk.prompt()[-3:] == ["So so", "Hm", "Fine"]
    ada.command("/persona")
    await ada.wait_for(lambda: "✓ Sentiment" in labels(ada.last))  # type: ignore[arg-type]


async def test_a_persona_is_picked_by_its_name_before_anything_was_said(talk: Talk, ada: Chat) -> None:
    ada.command("/persona Classifier")
    await said(ada, "From now on: Sentiment.")
    await talked(talk, ada, "Fine", "positive")
    assert talk.vllm.chats[-1].body["messages"][0]["content"] == "Label the text."


async def test_the_models_are_the_base_and_every_adapter_that_is_loaded(talk: Talk, ada: Chat) -> None:
    for version, loaded in ((1, False), (2, True)):
        added = adapters.register(talk.store, "tutor", version, f"tutor/{version}", "base", "f00", 8)
        if loaded:
            adapters.mark_loaded(talk.store, added.id or 0, True)
    talk.vllm.adapters["tutor@2"] = "tutor/2"
    ada.command("/model")
    shown = await said(ada, "Models:")
    assert labels(shown) == ["✓ auto", "base", "tutor@2"]
    ada.press(shown, "tutor@2")
    await said(ada, "From now on: tutor@2.")
    await talked(talk, ada, "Hello", "Taught")
    assert talk.vllm.chats[-1].body["model"] == "tutor@2"
    ada.command("/model Base")
    await said(ada, "From now on: base.")
    await talked(talk, ada, "Hello", "Plain")
    assert talk.vllm.chats[-1].body["model"] == "base"


async def test_stats_count_what_there_is(talk: Talk, ada: Chat) -> None:
    await talked(talk, ada, "One", "First")
    await talked(talk, ada, "Two", "Second")
    ada.command("/stats")
    shown = await said(ada, "messages from you: 2")
    assert "replies: 2" in shown.text
    assert "conversations: 1" in shown.text


# Buttons of others, and buttons that nobody made


async def test_in_a_group_a_list_is_for_whoever_asked_for_it(talk: Talk, ada: Chat) -> None:
    bo = talk.server.user(102, "Bo", language_code="en")
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person, bo])
    group.command("/persona", sender=ada.person)
    shown = await said(group, "Personas:")
    group.press(shown, "Sentiment", sender=bo)
    await group.wait_for(lambda: group.answers == [("These buttons are for whoever asked the question.", True)])
    group.press(shown, "Sentiment", sender=ada.person)
    await said(group, "From now on: Sentiment.")
    assert len(group.replies) == 2


async def test_in_a_group_nobody_stops_the_reply_to_somebody_else(talk: Talk, ada: Chat) -> None:
    hold = Hold()
    talk.vllm.script(Reply("Going", " on", hold, " well"))
    bo = talk.server.user(102, "Bo", language_code="en")
    assert ada.person is not None
    group = talk.server.group(-1001, "Team", [ada.person, bo], bot_admin=True)
    group.send("@familiar_bot How is it?", sender=ada.person)
    growing = await said(group, "Going on")
    group.press(growing, "◼ Stop", sender=bo)
    await group.wait_for(lambda: group.answers == [("These buttons are for whoever asked the question.", True)])
    hold.release.set()
    await answered(group, "Going on well")
    assert not talk.vllm.aborted


@pytest.mark.parametrize(
    "data",
    ["pick:open:" + "9" * 50, "pick:open:-1", "pick:persona:pirate", "pick:model:", "pick:", "stop:x", "nonsense:1"],
)
async def test_a_button_that_nobody_made_does_no_harm(talk: Talk, ada: Chat, data: str) -> None:
    await talked(talk, ada, "One", "First")
    forged(talk, ada, data)
    await talked(talk, ada, "Two", "Second")
    assert talk.prompt() == ["One", "First", "Two"]
    assert not any("unexpected" in message.text for message in ada.replies)


async def test_what_goes_wrong_behind_an_answered_press_is_said_in_the_chat(talk: Talk, ada: Chat) -> None:
    ada.command("/persona")
    shown = await said(ada, "Personas:")
    forged(talk, ada, "pick:persona:pirate", shown)
    await said(ada, "no persona “pirate”")
    assert ada.answers == [("", False)]
