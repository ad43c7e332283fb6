"""What the model is shown beside a message, and that whose words it is can have them forgotten."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from store import conversations, people, posts
from store.tables import Message
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Reply
from tests.telegram_server import Chat, User

HOUR_S = 3600


async def ask(talk: Talk, chat: Chat, text: str, **details: Any) -> str:
    """Ask, wait for the answer, and return the prompt's last message."""
    return await answered(talk, chat, lambda: chat.send(text, **details))


async def answered(talk: Talk, chat: Chat, send: Callable[[], object]) -> str:
    before = len(chat.replies)
    send()
    await chat.wait_for(lambda: len(chat.replies) > before and is_noted(talk, chat))
    content: str = talk.vllm.chats[-1].body["messages"][-1]["content"]
    return content


def is_noted(talk: Talk, chat: Chat) -> bool:
    """Is it known which reply the bot's last message shows?"""
    assert chat.last is not None
    return posts.message_at(talk.store, "telegram", str(chat.id), str(chat.last.id)) is not None


def raw(chat: Chat, message_id: int, sender: User, text: str, **fields: Any) -> dict[str, Any]:
    made = {"message_id": message_id, "date": int(time.time()), "chat": chat.json(), "from": sender.json()}
    return made | {"text": text} | fields


def person_id(talk: Talk, user: User) -> int:
    person = people.with_identity(talk.store, "telegram", str(user.id))
    assert person is not None
    assert person.id is not None
    return person.id


def logged(talk: Talk, user: User, place: str = "-1001") -> list[Message]:
    conversation = conversations.latest(talk.store, person_id(talk, user), "telegram", place)
    assert conversation is not None
    assert conversation.head_id is not None
    return conversations.path(talk.store, conversation.head_id)


async def test_the_message_that_is_answered_stands_before_the_question(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    theirs = group.send("We meet at noon.\nBring cake.", sender=bo)
    sent = await ask(talk, group, "@familiar_bot what shall I bring?", sender=ada, reply_to=theirs)
    assert sent == '[In answer to Bo: "We meet at noon.\nBring cake."]\n\nwhat shall I bring?'
    assert logged(talk, ada)[0].content == "what shall I bring?"


async def test_ones_own_earlier_message_is_named_as_such(talk: Talk, group: Chat, ada: User) -> None:
    mine = group.send("Bring cake.", sender=ada)
    sent = await ask(talk, group, "@familiar_bot put that politely", sender=ada, reply_to=mine)
    assert sent == '[In answer to my own message: "Bring cake."]\n\nput that politely'


async def test_a_caption_is_quoted_and_a_picture_without_words_is_not(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    group.forum = True  # the question about the second one stands elsewhere, so both are new conversations
    pictures = [group.photo(b"jpeg", caption=caption, sender=bo) for caption in ("Our cake", "")]
    assert '[In answer to Bo: "Our cake"]' in await ask(
        talk, group, "@familiar_bot nice?", sender=ada, reply_to=pictures[0]
    )
    assert await ask(talk, group, "@familiar_bot nice?", sender=ada, reply_to=pictures[1], thread=5) == "nice?"


async def test_what_was_said_last_needs_no_quotation_and_what_was_said_before_it_does(talk: Talk) -> None:
    talk.vllm.script(Reply("The first."), Reply("The second."))
    private = talk.private()
    await ask(talk, private, "One")
    first = private.last
    assert await ask(talk, private, "Two", reply_to=first) == "Two"
    assert await ask(talk, private, "Why?", reply_to=first) == '[In answer to your message: "The first."]\n\nWhy?'


async def test_a_part_that_was_picked_out_is_quoted_also_of_what_was_said_last(talk: Talk) -> None:
    talk.vllm.script(Reply("Cake is sweet. Salt is not."))
    private = talk.private()
    await ask(talk, private, "One")
    assert private.last is not None
    assert private.person is not None
    answer = private.last.json()
    for is_manual in (True, False):
        quote = {"text": "Salt is not.", "position": 15, **({"is_manual": True} if is_manual else {})}
        asking = raw(private, 9001 + is_manual, private.person, "Why?", reply_to_message=answer, quote=quote)
        sent = await answered(talk, private, partial(talk.server.push, {"message": asking}))
        assert ('[In answer to your message: "Salt is not."]' in sent) is is_manual
        private.command("/undo")
        await private.wait_for(lambda: "Taken back" in private.last.text and talk.channel.inbox.waiting == 0)  # type: ignore[union-attr]


async def test_what_is_quoted_from_another_chat_names_who_said_it(talk: Talk) -> None:
    private = talk.private()
    assert private.person is not None
    ways = {
        "Cy": {"type": "user", "date": 1, "sender_user": {"id": 103, "is_bot": False, "first_name": "Cy"}},
        "my own message": {"type": "user", "date": 1, "sender_user": private.person.json()},
        "Hidden One": {"type": "hidden_user", "date": 1, "sender_user_name": "Hidden\nOne"},
        "News": {
            "type": "channel",
            "date": 1,
            "message_id": 5,
            "chat": {"id": -1009, "type": "channel", "title": "News"},
        },
    }
    for number, (whose, origin) in enumerate(ways.items()):
        fields = {"external_reply": {"origin": origin}, "quote": {"text": "Cake is sweet.", "position": 0}}
        asking = raw(private, 9001 + number, private.person, "Really?", **fields)
        sent = await answered(talk, private, partial(talk.server.push, {"message": asking}))
        assert sent == f'[In answer to {whose}: "Cake is sweet."]\n\nReally?'
    assert people.with_identity(talk.store, "telegram", "103") is not None


async def test_a_long_quotation_leaves_room_for_the_question(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    """A token is a byte at least, and the model reads 4096 of them."""
    sizes = []
    for text in ("长" * 4096, "😀" * 2000, "long " * 800):
        theirs = group.send(text.strip(), sender=bo)
        sent = await ask(talk, group, "@familiar_bot in short?", sender=ada, reply_to=theirs)
        assert sent.endswith('…"]\n\nin short?')
        sizes.append(len(sent.removesuffix("\n\nin short?").encode()))
    assert min(sizes) >= 1500
    assert max(sizes) <= 2048


async def test_whoever_is_quoted_can_have_their_words_forgotten(talk: Talk, group: Chat, ada: User, bo: User) -> None:
    theirs = group.send("My secret is plums.", sender=bo)
    await ask(talk, group, "@familiar_bot what is it?", sender=ada, reply_to=theirs)
    people.forget(talk.store, person_id(talk, bo))
    question, reply = logged(talk, ada)
    assert (question.content, question.sent, reply.prompt) == ("what is it?", "", [])


async def test_an_answer_that_the_bot_gave_to_somebody_else_is_theirs_to_have_forgotten(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    talk.vllm.script(Reply("Your secret, plums, is safe."))
    await ask(talk, group, "@familiar_bot my secret is plums", sender=bo)
    sent = await ask(talk, group, "what is his secret?", sender=ada, reply_to=group.last)
    assert '[In answer to your message: "Your secret, plums, is safe."]' in sent
    people.forget(talk.store, person_id(talk, bo))
    question, reply = logged(talk, ada)
    assert (question.sent, reply.prompt) == ("", [])


async def test_of_a_forwarded_message_both_who_wrote_and_who_forwarded_it_are_known(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    cy = {"id": 103, "is_bot": False, "first_name": "Cy"}
    forwarded = raw(group, 1, bo, "Plums.", forward_origin={"type": "user", "date": 1, "sender_user": cy})
    mention = [{"type": "mention", "offset": 0, "length": 13}]
    asking = raw(group, 2, ada, "@familiar_bot why?", entities=mention, reply_to_message=forwarded)
    await answered(talk, group, lambda: talk.server.push({"message": asking}))
    for user_id in ("102", "103"):
        person = people.with_identity(talk.store, "telegram", user_id)
        assert person is not None
        assert person.id is not None
        people.forget(talk.store, person.id)
    assert logged(talk, ada)[0].sent == ""


async def test_a_bot_and_a_channel_that_are_quoted_become_nobody(talk: Talk, group: Chat, ada: User) -> None:
    robot = {"id": 55, "is_bot": True, "first_name": "Robot"}
    news = {"id": -1009, "title": "News", "type": "channel"}
    telegram = {"id": 777000, "is_bot": False, "first_name": "Telegram"}
    mention = [{"type": "mention", "offset": 0, "length": 13}]
    for number, (whose, fields) in enumerate(
        {"Robot": {"from": robot}, "News": {"from": telegram, "sender_chat": news}}.items()
    ):
        theirs = raw(group, 2 * number + 1, ada, "Plums.") | fields
        asking = raw(group, 2 * number + 2, ada, "@familiar_bot why?", entities=mention, reply_to_message=theirs)
        sent = await answered(talk, group, partial(talk.server.push, {"message": asking}))
        assert sent == f'[In answer to {whose}: "Plums."]\n\nwhy?'
    assert [known.name for known in people.everybody(talk.store)] == ["Ada"]


async def test_without_the_setting_nothing_is_known_of_what_was_said_before(
    talk: Talk, group: Chat, ada: User, bo: User
) -> None:
    group.send("We meet at noon.", sender=bo)
    assert await ask(talk, group, "@familiar_bot when?", sender=ada) == "when?"


class TestWhereWhatWasSaidBeforeCounts:
    @pytest.fixture
    def telegram(self) -> dict[str, Any]:
        return {"group_context": 3}

    async def test_the_last_messages_stand_before_the_question(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        group.forum = True
        for text, sender in (("One.", bo), ("Two.", bo), ("三点见", ada), ("Four.", bo)):
            group.send(text, sender=sender)
        group.send("Elsewhere.", sender=bo, thread=7)
        sent = await ask(talk, group, "@familiar_bot when?", sender=ada)
        assert sent == "[Said before in this group:\nBo: Two.\nMe: 三点见\nBo: Four.]\n\nwhen?"
        people.forget(talk.store, person_id(talk, bo))
        assert logged(talk, ada)[0].sent == ""

    async def test_what_is_answered_is_not_said_twice_and_comes_last(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        theirs = group.send("One.", sender=bo)
        group.send("Two.", sender=bo)
        sent = await ask(talk, group, "@familiar_bot why?", sender=ada, reply_to=theirs)
        assert sent == '[Said before in this group:\nBo: Two.]\n\n[In answer to Bo: "One."]\n\nwhy?'

    async def test_the_newest_goes_in_as_far_as_there_is_room(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        for text in ("长" * 400, "短", "长" * 600):
            group.send(text, sender=bo)
        sent = await ask(talk, group, "@familiar_bot when?", sender=ada)
        assert sent == f"[Said before in this group:\nBo: 短\nBo: {'长' * 600}]\n\nwhen?"

    async def test_an_edit_counts_and_what_was_said_an_hour_ago_does_not(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        group.send("Old.", sender=bo, date=int(time.time()) - HOUR_S - 5)
        group.edit(group.send("New.", sender=bo), "Reworded.")
        sent = await ask(talk, group, "@familiar_bot when?", sender=ada)
        assert sent == "[Said before in this group:\nBo: Reworded.]\n\nwhen?"

    async def test_in_a_silenced_group_nothing_is_kept(self, talk: Talk, group: Chat, ada: User, bo: User) -> None:
        group.send("Before.", sender=bo)
        await switched(talk, group, ada, "off")
        group.send("Meanwhile.", sender=bo)
        await talk.restart()
        group.send("After the restart.", sender=bo)
        await switched(talk, group, ada, "on")
        assert await ask(talk, group, "@familiar_bot when?", sender=ada) == "when?"

    async def test_a_group_that_the_bot_has_left_is_forgotten(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        group.send("Before.", sender=bo)
        group.remove_bot(ada)
        group.bot_status = "member"
        assert await ask(talk, group, "@familiar_bot when?", sender=ada) == "when?"

    async def test_who_is_forgotten_is_not_remembered_from_before(
        self, talk: Talk, group: Chat, ada: User, bo: User
    ) -> None:
        group.send("Plums.", sender=bo)
        group.send("Noon.", sender=ada)
        await ask(talk, group, "@familiar_bot when?", sender=ada)
        talk.channel.groups.unhear(bo.id)
        sent = await ask(talk, group, "@familiar_bot when?", sender=ada)
        assert sent == "[Said before in this group:\nMe: Noon.]\n\nwhen?"

    async def test_who_joins_is_told_that_more_is_read(self, talk: Talk, group: Chat, ada: User) -> None:
        change = talk.server.membership(group, ada, talk.server.bot, "left", "administrator")
        talk.server.push({"my_chat_member": change})
        await group.wait_for(lambda: "messages: 3 at most" in group.last.text)  # type: ignore[union-attr]

    async def test_in_private_nothing_is_overheard(self, talk: Talk) -> None:
        private = talk.private()
        assert await ask(talk, private, "One") == "One"
        assert await ask(talk, private, "Two") == "Two"


async def switched(talk: Talk, group: Chat, admin: User, word: str) -> None:
    before = len(group.replies)
    group.command(f"/group {word}", sender=admin)
    await group.wait_for(lambda: len(group.replies) > before and talk.channel.inbox.waiting == 0)
