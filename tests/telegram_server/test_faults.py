"""What goes wrong on demand."""

from __future__ import annotations

import asyncio
from contextlib import suppress

import pytest
from telegram import (
    Bot,
    InlineKeyboardButton,
    InlineKeyboardMarkup,
    MessageEntity,
)
from telegram.error import BadRequest, NetworkError, RetryAfter

from tests.telegram_server import Chat, TelegramServer, User
from tests.telegram_server.faults import Limits

THUMBS = InlineKeyboardMarkup(
    [[InlineKeyboardButton("👍", callback_data="up"), InlineKeyboardButton("👎 1", url="https://x.org")]]
)


async def test_a_flood_meets_the_chat_it_was_ordered_for(
    bot: Bot, server: TelegramServer, chat: Chat, bo: User
) -> None:
    server.private(bo)
    flood = server.flood(retry_after=2, chat_id=101)
    await bot.send_message(102, "not flooded")
    await bot.send_chat_action(101, "typing")
    with pytest.raises(RetryAfter) as caught:
        await bot.send_message(101, "flooded")
    assert int(caught.value._retry_after.total_seconds()) == 2
    assert (flood.hits, server.calls_of("sendMessage")[-1].status) == (1, 429)
    await bot.send_message(101, "again")
    assert [message.text for message in chat.messages] == ["again"]


async def test_a_share_of_the_sends_is_flooded(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    server.flood_share = 0.2
    for _ in range(100):
        with suppress(RetryAfter):
            await bot.send_message(101, "hi")
    assert 5 <= server.counts["sendmessage", 429] <= 40
    assert server.counts["sendmessage", 200] == len(chat.replies) == 100 - server.counts["sendmessage", 429]


async def test_a_failing_server_carries_nothing_out(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    server.fail(method="sendMessage", status=502)
    with pytest.raises(NetworkError, match="Bad Gateway"):
        await bot.send_message(101, "hi")
    assert chat.last is None


@pytest.mark.parametrize(("after", "arrived"), [(False, []), (True, ["hi"])])
async def test_a_connection_breaks_before_or_after_the_call_is_carried_out(
    bot: Bot, server: TelegramServer, chat: Chat, after: bool, arrived: list[str]
) -> None:
    server.drop(method="sendMessage", after=after)
    with pytest.raises(NetworkError):
        await bot.send_message(101, "hi")
    assert [message.text for message in chat.messages] == arrived


async def test_a_held_call_is_carried_out_when_it_is_released(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    held = server.hold(method="sendMessage")
    first = asyncio.create_task(bot.send_message(101, "first"))
    await held.reached.wait()
    await bot.send_message(101, "second")
    held.release.set()
    await first
    assert [message.text for message in chat.messages] == ["second", "first"]


async def test_entities_are_rejected_on_demand_but_plain_text_passes(
    bot: Bot, server: TelegramServer, chat: Chat
) -> None:
    server.reject_entities()
    await bot.send_message(101, "plain")
    bold = [MessageEntity("bold", 0, 4)]
    with pytest.raises(BadRequest, match="Can't parse entities"):
        await bot.send_message(101, "bold", entities=bold)
    await bot.send_message(101, "bold", entities=bold)
    assert [message.text for message in chat.messages] == ["plain", "bold"]


async def test_enforced_limits_let_a_burst_pass_and_then_flood(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    now = 0.0
    server.enforce_limits, server.faults.limits = True, Limits(lambda: now)
    sent = [await bot.send_message(101, text) for text in "abc"]
    with pytest.raises(RetryAfter):
        await bot.edit_message_text("d", 101, sent[0].message_id)
    await bot.send_message_draft(101, 7, "drafts do not count")
    now = 1.0
    await bot.edit_message_text("d", 101, sent[0].message_id)
    assert [message.text for message in chat.messages] == ["d", "b", "c"]


def test_a_group_takes_20_messages_a_minute_and_all_chats_together_30_a_second() -> None:
    now = 0.0
    limits = Limits(lambda: now)
    for now in map(float, range(20)):
        assert limits.wait(-1001) == 0
    now = 20.0
    assert limits.wait(-1001) == 40
    for person in range(30):
        assert limits.wait(person) == 0
    assert limits.wait(77) == 1


async def test_a_download_can_fail(bot: Bot, server: TelegramServer, chat: Chat) -> None:
    chat.document("a.txt", b"a")
    file = await (await bot.get_updates())[0].message.document.get_file()
    server.fail(method="file", status=500)
    with pytest.raises(NetworkError):
        await file.download_as_bytearray()
    assert await file.download_as_bytearray() == b"a"


async def test_a_server_that_was_away_comes_back_with_all_its_updates(
    bot: Bot, server: TelegramServer, chat: Chat
) -> None:
    await server.stop()
    chat.send("while you were away")
    with pytest.raises(NetworkError):
        await bot.get_updates()
    await server.start()
    assert len(await bot.get_updates()) == 1


async def test_without_recording_only_counts_are_kept(chat: Chat, server: TelegramServer, bot: Bot) -> None:
    server.record_calls = False
    await bot.send_message_draft(101, 7, "x")
    assert (server.calls_of("sendMessageDraft"), chat.drafts, server.counts["sendmessagedraft", 200]) == ([], [], 1)


async def test_a_failed_wait_shows_the_chat(bot: Bot, chat: Chat) -> None:
    await bot.send_message(101, "what is there", reply_markup=THUMBS)
    with pytest.raises(AssertionError, match=r"bot: 'what is there' \[👍\]"):
        await chat.wait_for(lambda: chat.last.text == "what is not there", timeout=0)


async def test_a_long_text_is_pasted_in_pieces_that_lose_nothing(chat: Chat) -> None:
    pieces = [message.text for message in chat.paste("x" + "👍" * 4096)]
    assert "".join(pieces) == "x" + "👍" * 4096
    assert [len(piece.encode("utf-16-le")) // 2 for piece in pieces] == [4095, 4096, 2]
