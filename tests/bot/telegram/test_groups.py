"""The bot as a guest in a group: who is answered, what stays unread, and what the group's admins set."""

from __future__ import annotations

import time
from typing import Any

import pytest
from sqlmodel import select

from bot.errors import ChatError
from settings import Access as AccessSettings
from store import people, places, posts
from store.catalogue import owners
from store.tables import Access, Inbox, Person
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import FakeLibrary
from tests.fakes.vllm import Reply, eventually
from tests.telegram_server import Chat, Shown, User

ON = "In this group I am switched on."
SILENT = "I am silent in this group from now on."
ANONYMOUS = {"id": 1087968824, "is_bot": True, "first_name": "Group", "username": "GroupAnonymousBot"}


@pytest.fixture
async def other(talk: Talk, group: Chat) -> Shown:
    """A message of Bo's, for nobody in particular."""
    return group.send("Shall we meet?", sender=talk.server.users[102])


def raw(group: Chat, message_id: int, sender: dict[str, Any] | None = None, **fields: Any) -> dict[str, Any]:
    who = {} if sender is None else {"from": sender}
    return {"message_id": message_id, "date": int(time.time()), "chat": group.json(), **who, **fields}


def command(text: str) -> dict[str, Any]:
    return {"text": text, "entities": [{"type": "bot_command", "offset": 0, "length": len(text.split()[0])}]}


def in_groups_name(talk: Talk, group: Chat, text: str) -> None:
    """What an admin writes who does not want to be seen."""
    talk.server.push({"message": raw(group, 9001, ANONYMOUS, sender_chat=group.json(), **command(text))})


def joining(talk: Talk, group: Chat, who: User, old: str = "left", new: str = "member") -> None:
    talk.server.push({"my_chat_member": talk.server.membership(group, who, talk.server.bot, old, new)})


async def said(group: Chat, text: str) -> Shown:
    """The bot's newest message, once it holds this."""
    await group.wait_for(lambda: text in group.last.text)  # type: ignore[union-attr]
    assert group.last is not None
    return group.last


async def answered(group: Chat, count: int) -> None:
    """The bot has said as much, and the last of it is a reply that is complete."""
    await group.wait_for(lambda: len(group.replies) == count and group.replies[-1].keyboard[0][0].text == "👍")


async def all_is_handled(talk: Talk, group: Chat, sender: User) -> None:
    """Updates of a group are handled in order."""
    before = len(group.replies)
    group.command("/group@familiar_bot", sender=sender)
    await group.wait_for(lambda: len(group.replies) > before and "In this group I am" in group.replies[-1].text)
    await group.wait_for(lambda: talk.channel.inbox.waiting == 0)


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


def written_down(talk: Talk) -> int:
    with talk.store.reading() as session:
        return len(session.exec(select(Inbox)).all())


async def test_a_mention_an_answer_and_a_command_are_taken_up_and_nothing_else(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    talk.vllm.script(Reply("At noon."), Reply("Yes, really."))
    group.send("Shall we meet?", sender=bo)
    group.send("@Familiar_Bot when shall we meet?", sender=ada)
    first = await said(group, "At noon.")
    group.send("Oh no", sender=bo)
    group.send("Really?", sender=ada, reply_to=first)
    await said(group, "Yes, really.")
    group.command("/weather", sender=bo)
    group.command("/new@other_bot", sender=bo)
    group.command("/new", sender=ada)
    await said(group, "A new conversation")
    assert asked(talk) == ["when shall we meet?", "Really?"]
    assert len(group.replies) == 3
    assert written_down(talk) == 3


async def test_an_answer_stands_under_the_question(talk: Talk, group: Chat, bo: User) -> None:
    question = group.send("@familiar_bot hello?", sender=bo)
    answer = await said(group, "Hello there!")
    assert answer.reply_to == question.id


async def test_in_privacy_mode_answers_and_commands_do(talk: Talk, group: Chat, bo: User) -> None:
    talk.server.privacy_mode = True
    joining(talk, group, bo)
    hello = await said(group, "this one will do")
    assert "BotFather" in hello.text
    group.send("Who are you?", sender=bo, reply_to=hello)
    await said(group, "Hello there!")


async def test_an_edit_of_what_was_for_the_bot_is_for_the_bot(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    talk.vllm.script(Reply("One."), Reply("Two."))
    theirs = group.send("@familiar_bot one?", sender=bo)
    await said(group, "One.")
    group.edit(group.send("Shall we?", sender=ada), "Shall we meet?")
    group.edit(theirs, "@familiar_bot two?")
    await said(group, "Two.")
    assert asked(talk) == ["one?", "two?"]
    assert written_down(talk) == 2


async def test_bots_channels_and_what_merely_happened_are_not_heard(talk: Talk, group: Chat, ada: User) -> None:
    robot = {"id": 55, "is_bot": True, "first_name": "Other", "username": "other_bot"}
    telegram = {"id": 777000, "is_bot": False, "first_name": "Telegram"}
    news = {"id": -1009, "title": "News", "type": "channel"}
    mention: dict[str, Any] = {"text": "@familiar_bot hi", "entities": [{"type": "mention", "offset": 0, "length": 13}]}
    for update in (
        {"message": raw(group, 9001, robot, **mention)},
        {"message": raw(group, 9002, telegram, sender_chat=news, is_automatic_forward=True, **mention)},
        {"message": raw(group, 9003, ANONYMOUS, sender_chat=group.json(), **mention)},
        {"message": raw(group, 9004, ada.json(), new_chat_title="Team")},
        {"message": raw(group, 9005, ada.json(), pinned_message=raw(group, 1, talk.server.bot, text="Hello!"))},
        {"channel_post": {**raw(group, 9006, **mention), "chat": news, "sender_chat": news}},
        {"message": raw(group, 9007, **mention)},
    ):
        talk.server.push(update)
    await all_is_handled(talk, group, ada)
    assert asked(talk) == []
    assert written_down(talk) == 1


class TestWithTimeForThePiecesToCome:
    @pytest.fixture
    def telegram(self) -> dict[str, Any]:
        return {"join_wait_long_s": 20}

    async def test_a_long_text_is_one_message_though_only_its_beginning_mentions_the_bot(
        self, talk: Talk, group: Chat, bo: User
    ) -> None:
        talk.vllm.max_model_len = 100_000
        group.paste("@familiar_bot " + "word " * 1500, sender=bo)
        await said(group, "Hello there!")
        group.send("And now for something else", sender=bo)
        await all_is_handled(talk, group, bo)
        assert [len(content.split()) for content in asked(talk)] == [1500]


async def test_everybody_has_their_own_conversation_and_in_each_topic_another(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    group.forum = True
    for number, (sender, thread) in enumerate([(ada, None), (bo, None), (ada, 45), (ada, None)], 1):
        group.send(f"@familiar_bot question {number}", sender=sender, thread=thread)
        await answered(group, number)
    earlier = [
        [message["content"] for message in request.body["messages"] if message["role"] == "user"][:-1]
        for request in talk.vllm.chats
    ]
    assert earlier == [[], [], [], ["question 1"]]
    assert [message.thread for message in group.replies] == [None, None, 45, None]


async def test_a_reaction_of_somebody_who_never_asked_leaves_no_trace_of_them(
    talk: Talk, group: Chat, ada: User, bo: User, other: Shown
) -> None:
    group.bot_status = "administrator"
    group.react(other, ["👍"], sender=bo)
    await all_is_handled(talk, group, ada)
    assert people.with_identity(talk.store, "telegram", "102") is None


async def test_a_reaction_on_an_answer_rates_it(talk: Talk, group: Chat, bo: User) -> None:
    group.bot_status = "administrator"
    group.send("@familiar_bot hi", sender=bo)
    answer = await said(group, "Hello there!")
    await group.wait_for(lambda: posts.message_at(talk.store, "telegram", "-1001", str(answer.id)))
    group.react(answer, ["👍"], sender=bo)
    await group.wait_for(lambda: answer.keyboard[0][0].text == "👍 ✓")


# Coming and going


async def test_a_group_that_takes_the_bot_in_is_told_once_how_to_talk_with_it(
    talk: Talk, group: Chat, ada: User
) -> None:
    joining(talk, group, ada, new="administrator")
    hello = await said(group, "@familiar_bot")
    assert "neither read nor keep anything else" in hello.text
    assert "BotFather" not in hello.text
    joining(talk, group, ada, old="administrator", new="member")
    joining(talk, group, ada, old="member", new="administrator")
    joining(talk, group, ada, old="administrator", new="kicked")
    await all_is_handled(talk, group, ada)
    assert len(group.replies) == 2


async def test_what_merely_happens_in_private_is_not_heard_either(talk: Talk, ada: User) -> None:
    private = talk.server.private(ada)
    talk.server.block(ada)
    talk.server.unblock(ada)
    pinned = raw(private, 1, ada.json(), text="Hi")
    talk.server.push({"message": raw(private, 2, ada.json(), pinned_message=pinned)})
    private.send("Hi")
    await private.wait_for(lambda: private.last.text == "Hello there!")  # type: ignore[union-attr]
    assert written_down(talk) == 1


async def test_what_is_set_goes_along_when_a_group_gets_another_number(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    group.command("/group@familiar_bot off", sender=ada)
    group.command("/persona@familiar_bot diary", sender=ada)
    await said(group, SILENT)
    places.configure(talk.store, "telegram", "-1001", persona="diary")
    larger = talk.server.group(-1002, "Team", [ada, bo], admins=[ada])
    talk.server.push({"message": raw(group, 9001, ada.json(), migrate_to_chat_id=-1002)})
    talk.server.push({"message": raw(larger, 1, ada.json(), migrate_from_chat_id=-1001)})
    joining(talk, larger, ada)
    await group.wait_for(lambda: places.place(talk.store, "telegram", "-1002").persona == "diary")
    larger.send("@familiar_bot hi", sender=bo)
    await all_is_handled(talk, larger, ada)
    assert ["switched off" in message.text for message in larger.replies] == [True]
    larger.command("/group@familiar_bot on", sender=ada)
    joining(talk, larger, ada)
    await all_is_handled(talk, larger, ada)
    assert len(larger.replies) == 3


def grows(talk: Talk, group: Chat, ada: User, new_id: int) -> None:
    """What Telegram tells when a group gets another number."""
    talk.server.push({"message": raw(group, 9001, ada.json(), migrate_to_chat_id=new_id)})


@pytest.mark.parametrize("library", [FakeLibrary()])
async def test_the_documents_of_a_group_go_along_to_its_new_number(
    talk: Talk, library: FakeLibrary, group: Chat, ada: User, bo: User
) -> None:
    library.keep(owners.group("telegram", "-1001"), "rules.txt", "", b"Knock.")
    library.keep(owners.group("telegram", "-10011"), "others.txt", "", b"Ring.")
    larger = talk.server.group(-1002, "Team", [ada, bo], admins=[ada])
    for _ in range(2):
        grows(talk, group, ada, -1002)
    await eventually(lambda: len(library.moves) == 2)
    larger.command("/docs@familiar_bot", sender=bo)
    await said(larger, "rules.txt")
    assert [each.owner for each in library.held.values()] == [
        owners.group("telegram", "-1002"),
        owners.group("telegram", "-10011"),
    ]


@pytest.mark.parametrize("library", [FakeLibrary()])
async def test_documents_that_could_not_go_along_do_so_after_the_next_start(
    talk: Talk, library: FakeLibrary, group: Chat, ada: User, bo: User
) -> None:
    library.keep(owners.group("telegram", "-1001"), "rules.txt", "", b"Knock.")
    group.command("/group@familiar_bot off", sender=ada)
    await said(group, SILENT)
    library.down = ChatError("store_locked", detail="busy")
    larger = talk.server.group(-1002, "Team", [ada, bo], admins=[ada])
    grows(talk, group, ada, -1002)
    await eventually(lambda: len(library.moves) == 1)
    larger.command("/group@familiar_bot on", sender=ada)
    await said(larger, "I answer again")
    library.down = None
    await talk.restart()
    await eventually(lambda: len(library.moves) == 2)
    assert [each.owner for each in library.held.values()] == [owners.group("telegram", "-1002")]
    assert places.place(talk.store, "telegram", "-1002").enabled, "what was set since stays"


# Off and on


async def test_an_admin_silences_the_bot_and_brings_it_back(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    group.command("/group off", sender=ada)
    await said(group, SILENT)
    group.send("@familiar_bot hi", sender=bo)
    group.command("/help@familiar_bot", sender=bo)
    await all_is_handled(talk, group, bo)
    assert [message.text.splitlines()[0] for message in group.replies[1:]] == ["In this group I am switched off."]
    group.command("/group@familiar_bot ON", sender=ada)
    await said(group, "I answer again")
    group.send("@familiar_bot hi", sender=bo)
    await said(group, "Hello there!")
    assert len(talk.vllm.chats) == 1


async def test_off_means_off_after_a_restart_too(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    group.command("/group 关闭", sender=ada)
    await said(group, SILENT)
    await talk.restart()
    group.send("@familiar_bot hi", sender=bo)
    await all_is_handled(talk, group, bo)
    assert asked(talk) == []


async def test_a_button_in_a_silenced_group_does_nothing(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    group.send("@familiar_bot hi", sender=bo)
    answer = await said(group, "Hello there!")
    await group.wait_for(lambda: answer.keyboard)
    group.command("/group off", sender=ada)
    await said(group, SILENT)
    group.press(answer, "🔁", sender=bo)
    await all_is_handled(talk, group, ada)
    assert len(talk.vllm.chats) == 1


async def test_one_group_is_silenced_and_the_others_are_not(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    others = talk.server.group(-1002, "Others", [ada, bo], admins=[bo])
    group.command("/group off", sender=ada)
    await said(group, SILENT)
    others.send("@familiar_bot hi", sender=ada)
    await said(others, "Hello there!")


async def test_a_group_is_known_by_its_newest_title(talk: Talk, group: Chat, bo: User) -> None:
    await all_is_handled(talk, group, bo)
    group.title = "Another team"
    await all_is_handled(talk, group, bo)
    assert places.place(talk.store, "telegram", "-1001").title == "Another team"


async def test_whoever_is_no_admin_cannot_silence_it(talk: Talk, group: Chat, bo: User) -> None:
    group.command("/group off", sender=bo)
    await said(group, "Only admins of this group")
    await all_is_handled(talk, group, bo)
    assert ON in group.replies[-1].text


async def test_when_telegram_does_not_say_who_is_an_admin_nobody_is(talk: Talk, group: Chat, ada: User) -> None:
    talk.server.fail(method="getChatMember", status=400)
    group.command("/group off", sender=ada)
    await said(group, "Only admins of this group")


async def test_an_admin_who_stays_anonymous_silences_it(talk: Talk, group: Chat, bo: User) -> None:
    in_groups_name(talk, group, "/group off")
    await said(group, SILENT)
    in_groups_name(talk, group, "/group")
    await said(group, "I am switched off")
    in_groups_name(talk, group, "/group on")
    in_groups_name(talk, group, "/persona classifier")
    await said(group, "with Sentiment")
    assert people.with_identity(talk.store, "telegram", str(ANONYMOUS["id"])) is None
    with talk.store.reading() as session:
        assert session.exec(select(Access)).all() == []


async def test_a_word_that_is_neither_on_nor_off_is_explained(talk: Talk, group: Chat, ada: User) -> None:
    group.command("/group perhaps", sender=ada)
    await said(group, "/group [on|off]")
    await all_is_handled(talk, group, ada)
    assert ON in group.replies[-1].text


async def test_in_private_there_is_no_group_to_silence(talk: Talk) -> None:
    private = talk.private(103, "Cy")
    private.command("/group off")
    await private.wait_for(lambda: "is for groups" in private.last.text)  # type: ignore[union-attr]


async def test_what_is_set_is_told_in_chinese_to_whom_speaks_it(talk: Talk, group: Chat) -> None:
    group.command("/group", sender=talk.server.user(104, "小明", language_code="zh-hans"))
    await said(group, "我在这个群里已启用。")


# The persona


async def test_an_admin_chooses_who_the_bot_is_for_everybody_who_begins_anew(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    group.command("/persona@familiar_bot classifier", sender=ada)
    await said(group, "From now on, new conversations in this group are with Sentiment.")
    for number, sender in enumerate((ada, bo), 2):
        group.send("@familiar_bot hi", sender=sender)
        await answered(group, number)
    assert [request.body["messages"][0]["content"] for request in talk.vllm.chats] == ["Label the text."] * 2
    await all_is_handled(talk, group, bo)
    assert "with: Sentiment" in group.replies[-1].text


async def test_others_choose_for_themselves(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    group.command("/persona@familiar_bot classifier", sender=bo)
    await said(group, "From now on: Sentiment.")
    for number, sender in enumerate((ada, bo), 2):
        group.send("@familiar_bot hi", sender=sender)
        await answered(group, number)
    assert [request.body["messages"][0]["content"] for request in talk.vllm.chats] == ["Be brief.", "Label the text."]


@pytest.mark.parametrize("anonymously", [False, True])
async def test_an_unknown_persona_changes_nothing(talk: Talk, group: Chat, ada: User, anonymously: bool) -> None:
    if anonymously:
        in_groups_name(talk, group, "/persona pirate")
    else:
        group.command("/persona pirate", sender=ada)
    await said(group, "no persona “pirate”")
    await all_is_handled(talk, group, ada)
    assert "with: Familiar" in group.replies[-1].text


class TestWhereNotEverybodyIsLetIn:
    @pytest.fixture
    def access(self) -> AccessSettings:
        return AccessSettings(mode="pairing", messages_per_minute=0, admins=("telegram:103",))

    async def test_an_admin_of_the_group_silences_a_bot_that_does_not_talk_with_them(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        group.command("/group off", sender=bo)
        await said(group, "private")
        group.command("/group off", sender=ada)
        await said(group, SILENT)
        with talk.store.reading() as session:
            assert session.exec(select(Person)).all() == []

    async def test_an_admin_of_the_bot_silences_it_anywhere(self, talk: Talk, group: Chat) -> None:
        group.command("/group off", sender=talk.server.user(103, "Cy", language_code="en"))
        await said(group, SILENT)

    async def test_a_stranger_who_takes_it_along_is_not_greeted(self, talk: Talk, group: Chat, bo: User) -> None:
        joining(talk, group, bo)
        group.command("/group", sender=talk.server.user(103, "Cy", language_code="en"))
        await said(group, ON)
        assert len(group.replies) == 1
