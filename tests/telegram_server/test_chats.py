"""What people do beside writing: buttons, reactions, files, groups; and the drafts and actions that they see."""

from __future__ import annotations

from typing import Any

import pytest
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    MessageEntity,
)
from telegram.error import BadRequest, Forbidden, InvalidToken

from tests.telegram_server import Chat, TelegramServer, User

THUMBS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("👍", callback_data="up"), InlineKeyboardButton("👎 1", url="https://x.org")]]
)


async def test_a_pressed_button_brings_its_data_and_the_message_and_is_answered(
    bot: Bot, server: TelegramServer, chat: Chat
) -> None:
    sent = await bot.send_message(101, "hi", reply_markup=THUMBS)
    chat.press(sent.message_id, "👍")
    (update,) = await bot.get_updates()
    query = update.callback_query
    assert (query.data, query.message.text, query.from_user.id) == ("up", "hi", 101)
    await query.answer("Thank you", show_alert=True)
    assert server.answers == chat.answers == [("Thank you", True)]
    with pytest.raises(BadRequest, match="Query is too old"):
        await bot.answer_callback_query("1")


async def test_a_button_that_is_not_there_cannot_be_pressed(bot: Bot, chat: Chat) -> None:
    sent = await bot.send_message(101, "hi", reply_markup=THUMBS)
    for label in ("🔁", "👎"):  # the second is there, but opens an address
        with pytest.raises(AssertionError, match=rf"no button '{label}'.*👍"):
            chat.press(sent.message_id, label)


async def test_a_button_is_found_by_its_text_the_beginning_of_it_or_its_data(bot: Bot, chat: Chat) -> None:
    labels = {"2/3": "page", "2": "two", "◀ 1/3": "back"}
    row = [InlineKeyboardButton(label, callback_data=data) for label, data in labels.items()]
    sent = await bot.send_message(101, "hi", reply_markup=InlineKeyboardMarkup([row]))
    chat.press(sent.message_id, "2")
    chat.press(sent.message_id, "◀")
    chat.press(sent.message_id, callback_data="page")
    assert [update.callback_query.data for update in await bot.get_updates()] == ["two", "back", "page"]


async def test_a_reaction_says_what_it_was_before(bot: Bot, chat: Chat) -> None:
    await bot.get_updates(allowed_updates=["message_reaction"])
    sent = await bot.send_message(101, "hi")
    chat.react(sent.message_id, ["👍"])
    chat.react(sent.message_id, [])
    changes = [update.message_reaction for update in await bot.get_updates()]
    seen = [([r.emoji for r in c.old_reaction], [r.emoji for r in c.new_reaction]) for c in changes]
    assert seen == [([], ["👍"]), (["👍"], [])]
    await bot.set_message_reaction(101, sent.message_id, "👀")
    assert chat.last.reactions["bot"] == ["👀"]


async def test_chat_actions_are_listed(bot: Bot, chat: Chat) -> None:
    await bot.send_chat_action(101, "typing")
    with pytest.raises(BadRequest, match="Wrong parameter action"):
        await bot.send_chat_action(101, "dancing")
    assert chat.actions == ["typing"]


async def test_a_draft_is_seen_until_the_bot_sends_a_message(bot: Bot, chat: Chat) -> None:
    await bot.send_message_draft(101, 7)
    await bot.send_message_draft(101, 7, "Hel", entities=[MessageEntity("bold", 0, 3)])
    assert (chat.draft.text, chat.draft.draft_id, chat.draft.can_stop) == ("Hel", 7, False)
    assert chat.draft.entities == [{"type": "bold", "offset": 0, "length": 3}]
    chat.send("meanwhile")
    assert chat.draft is not None
    await bot.send_message(101, "Hello")
    assert chat.draft is None
    assert chat.drafts == ["", "Hel"]


async def test_a_draft_expires(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    await bot.send_message_draft(101, 7, "Hel")
    assert chat.draft is not None
    server.draft_life_s = 0
    assert chat.draft is None


async def test_a_draft_needs_a_private_chat_an_id_and_no_more_than_4096_units(
    bot: Bot, chat: Chat, group: Chat
) -> None:
    with pytest.raises(BadRequest, match="Textdraft_peer_invalid"):
        await bot.send_message_draft(-1001, 7, "x")
    with pytest.raises(BadRequest, match="non-zero"):
        await bot.send_message_draft(101, 0, "x")
    with pytest.raises(BadRequest, match="Message is too long"):
        await bot.send_message_draft(101, 7, "x" * 4097)
    assert chat.drafts == []


@pytest.mark.parametrize(("refuse", "error"), [(True, BadRequest), ("unknown", InvalidToken)])
async def test_a_server_without_drafts_refuses_them(
    bot: Bot, server: TelegramServer, chat: Chat, refuse: Any, error: type[Exception]
) -> None:
    server.refuse_drafts = refuse
    with pytest.raises(error):
        await bot.send_message_draft(101, 7, "x")


async def test_stop_at_a_draft_reaches_the_bot(bot: Bot, chat: Chat) -> None:
    await bot.get_updates(allowed_updates=["message", "stopped_message_generation"])
    await bot.send_message_draft(101, 7, "Hel", api_kwargs={"can_stop": True, "keep_on_stop": True})
    chat.stop_generation()
    (update,) = await bot.get_updates()
    stopped = update.api_kwargs["stopped_message_generation"]
    assert (stopped["chat"]["id"], stopped["draft_id"]) == (101, 7)
    assert chat.draft is not None  # it was to be kept
    await bot.send_message_draft(101, 7, "Hell", api_kwargs={"can_stop": True})
    chat.stop_generation(7)
    assert chat.draft is None


async def test_a_draft_without_a_stop_button_cannot_be_stopped(bot: Bot, chat: Chat) -> None:
    with pytest.raises(AssertionError, match="no draft is shown"):
        chat.stop_generation()
    await bot.send_message_draft(101, 7, "Hel")
    with pytest.raises(AssertionError, match="no Stop button"):
        chat.stop_generation()


async def test_a_document_goes_up_and_comes_down_unchanged(bot: Bot, chat: Chat) -> None:
    data = bytes(range(256)) * 100
    chat.document("笔记.pdf", data, mime="application/pdf", caption="read /this")
    message = (await bot.get_updates())[0].message
    document = message.document
    assert (document.file_name, document.mime_type, message.caption) == ("笔记.pdf", "application/pdf", "read /this")
    file = await document.get_file()
    assert await file.download_as_bytearray() == data
    await bot.send_document(101, bytes(data), filename="back.bin", caption="here")
    assert (chat.last.document, chat.last.text) == (("back.bin", data), "here")


async def test_photos_and_voice_come_with_their_files(bot: Bot, chat: Chat) -> None:
    chat.photo(b"jpeg", caption="look")
    chat.voice(b"ogg", seconds=3)
    photo, voice = (update.message for update in await bot.get_updates())
    assert (photo.caption, await (await photo.photo[-1].get_file()).download_as_bytearray()) == ("look", b"jpeg")
    told = voice.voice.to_dict()
    assert (told["duration"], told["mime_type"]) == (3, "audio/ogg")


async def test_a_file_above_20_megabytes_cannot_be_had(bot: Bot, chat: Chat) -> None:
    chat.document("big.pdf", b"x", size=20 * 1024 * 1024 + 1)
    document = (await bot.get_updates())[0].message.document
    with pytest.raises(BadRequest, match="File is too big"):
        await document.get_file()
    with pytest.raises(BadRequest, match="Invalid file_id"):
        await bot.get_file("nothing")


async def test_an_empty_file_is_refused(bot: Bot, chat: Chat) -> None:
    with pytest.raises(BadRequest, match="File must be non-empty"):
        await bot.send_document(101, b"", filename="empty.txt")


async def test_in_privacy_mode_a_bot_hears_only_commands_and_replies_to_it(bot: Bot, group: Chat, bo: User) -> None:
    said = (await bot.send_message(-1001, "I am here")).message_id
    heard = [
        group.command("/new@familiar_bot"),
        group.command("/new", sender=bo),
        group.send("yes", reply_to=said),
    ]
    missed = [group.command("/new@other_bot"), group.send("hello"), group.send("@familiar_bot hello")]
    assert all(message.update_id is not None for message in heard)
    assert all(message.update_id is None for message in missed)
    assert [update.message.text for update in await bot.get_updates()] == [message.text for message in heard]


async def test_without_privacy_mode_or_as_an_administrator_a_bot_hears_everything(
    server: TelegramServer, group: Chat, ada: User
) -> None:
    assert server.group(-1002, "Ours", [ada], bot_admin=True).send("hello").update_id is not None
    server.privacy_mode = False
    assert group.send("hello").update_id is not None


async def test_commands_and_mentions_are_marked_in_utf_16_units(bot: Bot, server: TelegramServer, group: Chat) -> None:
    server.privacy_mode = False
    group.send("👍 /stop@familiar_bot, @familiar_bot see https://x.org/a/b 1/2")
    message = (await bot.get_updates())[0].message
    marked = list(message.parse_entities().items())
    assert [(entity.type, text) for entity, text in marked] == [
        ("bot_command", "/stop@familiar_bot"),
        ("mention", "@familiar_bot"),
        ("url", "https://x.org/a/b"),
    ]


async def test_topics_of_a_forum_are_told_apart(bot: Bot, server: TelegramServer, ada: User) -> None:
    forum = server.group(-1003, "Forum", [ada], forum=True)
    forum.command("/new", thread=45)
    message = (await bot.get_updates())[0].message
    assert (message.message_thread_id, message.is_topic_message, message.chat.is_forum) == (45, True, True)
    await bot.send_message(-1003, "there", message_thread_id=45)
    assert forum.last.thread == 45
    with pytest.raises(BadRequest, match="Message thread not found"):
        await bot.send_message(-1003, "nowhere", message_thread_id=46)


async def test_a_row_of_replies_in_a_plain_group_has_a_thread_but_no_topic(bot: Bot, group: Chat) -> None:
    said = await bot.send_message(-1001, "one")
    second = group.send("two", reply_to=said.message_id)
    group.command("/three", reply_to=second)
    threads = [(u.message.message_thread_id, u.message.is_topic_message) for u in await bot.get_updates()]
    assert threads == [(said.message_id, None)] * 2


async def test_message_ids_of_groups_and_private_chats_overlap(group: Chat, chat: Chat) -> None:
    assert (group.send("a").id, chat.send("a").id, group.send("b").id) == (1, 1, 2)


async def test_members_have_their_standing(bot: Bot, server: TelegramServer, group: Chat, ada: User, bo: User) -> None:
    standing = [(await bot.get_chat_member(-1001, user_id)).status for user_id in (101, 102, bot.id)]
    assert standing == ["creator", "member", "member"]
    group.set_member(bo, "administrator")
    assert {admin.user.id for admin in await bot.get_chat_administrators(-1001)} == {101, 102}
    group.set_member(bo, "left")
    assert (await bot.get_chat_member(-1001, 102)).status == "left"
    assert await bot.get_chat_member_count(-1001) == 2
    assert (await bot.get_chat(-1001)).title == "Team"
    assert (await bot.get_chat(server.private(ada).id)).first_name == "Ada"


async def test_a_bot_that_was_thrown_out_of_a_group_cannot_write_there(bot: Bot, group: Chat) -> None:
    group.remove_bot()
    assert (await bot.get_updates())[0].my_chat_member.new_chat_member.status == "kicked"
    with pytest.raises(Forbidden, match="bot was kicked"):
        await bot.send_message(-1001, "hi")
    assert group.command("/new").update_id is None
