"""A message to everybody: seen first, sent once, to all whom it can reach, whatever happens meanwhile."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from settings import Access as AccessSettings
from store import access as decisions
from store import inbox, people
from tests.bot.telegram.conftest import FAST, Talk
from tests.bot.telegram.process import BotProcess
from tests.fakes.vllm import FakeVllm, eventually
from tests.telegram_server import Chat, Shown, TelegramServer

OLGA = 1  # who runs the bot


@pytest.fixture
def access() -> AccessSettings:
    return AccessSettings(mode="pairing", admins=(f"telegram:{OLGA}",), messages_per_minute=0)


@pytest.fixture
def olga(talk: Talk) -> Chat:
    return talk.private(OLGA, "Olga")


@pytest.fixture
def crowd(talk: Talk) -> list[Chat]:
    """Five people who may talk."""
    for number in range(11, 16):
        decisions.decide(talk.store, "telegram", str(number), state="allowed")
    return [talk.private(number, f"P{number}") for number in range(11, 16)]


def got(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


async def preview(olga: Chat, text: str) -> Shown:
    """Ask for a broadcast, and the message with the buttons."""
    olga.send(f"/broadcast {text}")
    await olga.wait_for(lambda: olga.last.keyboard)
    assert olga.last is not None
    return olga.last


async def said(chat: Chat, words: str) -> None:
    await chat.wait_for(lambda: words in chat.last.text)


async def test_nothing_is_sent_before_the_admin_has_seen_it_and_pressed(
    talk: Talk, olga: Chat, crowd: list[Chat]
) -> None:
    shown = await preview(olga, "We move on Friday.")
    assert shown.text == "We move on Friday."
    assert [row[0].text for row in shown.keyboard] == ["Send it (5)", "Do not send it"]
    assert not any(got(chat) for chat in crowd)
    olga.press(shown, "Send it")
    await said(olga, "Sent. It reached everybody: 5.")
    assert [got(chat) for chat in crowd] == [["We move on Friday."]] * 5
    assert not shown.keyboard


async def test_lines_formatting_and_emoji_arrive_as_they_were_written(
    talk: Talk, olga: Chat, crowd: list[Chat]
) -> None:
    bold = {"type": "bold", "offset": 17, "length": 4}  # 👋 counts for two
    command = {"type": "bot_command", "offset": 0, "length": 10}
    olga.send("/broadcast  👋 你 \nnew house", entities=[command, bold])
    await olga.wait_for(lambda: olga.last.keyboard)
    olga.press(olga.last, "Send it")
    await said(olga, "Sent.")
    message = crowd[0].last
    assert message.text == "👋 你 \nnew house"
    assert [(each["type"], each["offset"], each["length"]) for each in message.entities] == [("bold", 5, 4)]


async def test_it_goes_to_those_who_may_talk_and_to_nobody_else(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    blocked, waiting, terminal = talk.private(21, "Blocked"), talk.private(22, "Waiting"), talk.private(23, "Terminal")
    people.person_for(talk.store, "telegram", "21", "Blocked")
    decisions.decide(talk.store, "telegram", "21", state="blocked")
    decisions.request(talk.store, "telegram", "22", "Waiting", "CODE-CODE")
    people.person_for(talk.store, "terminal", "23", "Terminal")
    people.person_for(talk.store, "telegram", "24", "Stranger")  # wrote when everybody could
    decisions.decide(talk.store, "telegram", "-1001", state="allowed")  # no person
    group = talk.server.group(-1001, "Team", [])
    stranger = talk.private(24, "Stranger")
    olga.press(await preview(olga, "News!"), "Send it (5)")
    await said(olga, "Sent.")
    assert not any(got(chat) for chat in (blocked, waiting, terminal, stranger, group))
    assert all(got(chat) == ["News!"] for chat in crowd)
    assert decisions.standing(talk.store, "telegram", "24") is None


async def test_who_cannot_be_reached_is_passed_over_and_counted(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    talk.server.block(talk.server.users[12])
    decisions.decide(talk.store, "telegram", "99", state="allowed")  # approved, and never wrote
    olga.press(await preview(olga, "News!"), "Send it (6)")
    await said(olga, "It reached 4 of 6")
    assert [got(chat) for chat in crowd] == [["News!"], [], ["News!"], ["News!"], ["News!"]]


async def test_what_is_not_sent_stays_unsent(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    shown = await preview(olga, "Oops")
    send = shown.keyboard[0][0].data
    olga.press(shown, "Do not send it")
    await said(olga, "Nothing was sent.")
    assert not shown.keyboard
    talk.server.pressed(olga, shown, send, talk.server.users[OLGA])
    await eventually(lambda: len(olga.answers) == 2)
    assert "already decided" in olga.answers[1][0]
    assert not any(got(chat) for chat in crowd)


async def test_pressing_twice_sends_once(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    shown = await preview(olga, "News!")
    send = shown.keyboard[0][0].data
    for _ in range(3):
        talk.server.pressed(olga, shown, send, talk.server.users[OLGA])
    await eventually(lambda: len(olga.answers) == 3)
    await said(olga, "Sent.")
    talk.server.pressed(olga, shown, send, talk.server.users[OLGA])
    await eventually(lambda: len(olga.answers) == 4)
    assert [got(chat) for chat in crowd] == [["News!"]] * 5


async def test_a_broadcast_without_words_or_without_readers_is_refused(talk: Talk, olga: Chat) -> None:
    olga.send("/broadcast")
    await said(olga, "It is used like this: /broadcast")
    olga.send("/broadcast hello?")
    await said(olga, "There is nobody else to write to yet.")
    assert not any(message.keyboard for message in olga.replies)


async def test_a_button_that_is_too_old_says_so(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    shown = await preview(olga, "News!")
    gone = {"chat": olga.json(), "message_id": shown.id, "date": 0}
    query = {"id": "1", "from": talk.server.users[OLGA].json(), "message": gone, "chat_instance": "1"}
    talk.server.queries["1"] = olga
    talk.server.push({"callback_query": {**query, "data": "broadcast:send"}})
    await eventually(lambda: bool(olga.answers))
    assert olga.answers == [("This message is too old. Write /broadcast once more.", True)]


async def test_it_goes_on_after_a_restart_and_nobody_gets_it_twice(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    held = talk.server.hold(method="sendMessage", chat_id=13)
    olga.press(await preview(olga, "News!"), "Send it")
    await held.reached.wait()
    stopping = asyncio.create_task(talk.stop())
    await eventually(lambda: talk.channel.lanes.closing)
    held.release.set()
    await stopping
    assert sum(len(got(chat)) for chat in crowd) < 5
    status = olga.last
    await talk.start()
    await said(olga, "Sent. It reached everybody: 5.")
    assert [got(chat) for chat in crowd] == [["News!"]] * 5
    assert olga.last is status
    await eventually(lambda: not inbox.waiting(talk.store, "telegram"))


async def test_it_goes_on_after_a_crash(
    bot_api: TelegramServer, vllm: FakeVllm, tmp_path: Path, access: AccessSettings
) -> None:
    section = {"token": bot_api.token, "api_url": bot_api.url, **FAST}
    bot = BotProcess(tmp_path, vllm.address, section, {"access": access.model_dump(mode="json")})
    olga = bot_api.private(bot_api.user(OLGA, "Olga"))
    crowd = [bot_api.private(bot_api.user(number, f"P{number}")) for number in range(11, 16)]
    try:
        await bot.start()
        with bot.store as store:
            for number in range(11, 16):
                decisions.decide(store, "telegram", str(number), state="allowed")
        shown = await preview(olga, "News!")
        held = bot_api.hold(method="sendMessage", chat_id=13)
        olga.press(shown, "Send it")
        olga.press(shown, "Send it")
        await held.reached.wait()
        await bot.kill()
        held.release.set()
        await bot.start()
        await said(olga, "Sent. It reached everybody: 5.")
        await bot.settle()
        assert [got(chat) for chat in crowd] == [["News!"]] * 5
    finally:
        await bot.close()


async def test_the_admin_can_stop_it_on_the_way(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    held = talk.server.hold(method="sendMessage", chat_id=12)
    olga.press(await preview(olga, "Wrong!"), "Send it")
    await held.reached.wait()
    await olga.wait_for(lambda: olga.last.text.startswith("Sending:"))
    olga.press(olga.last, "◼ Stop")
    await eventually(lambda: len(olga.answers) == 2)
    held.release.set()
    await said(olga, "Stopped. It had reached")
    assert [got(chat) for chat in crowd[2:]] == [[], [], []]


async def test_the_admin_can_go_on_talking_meanwhile(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    held = talk.server.hold(method="sendMessage", chat_id=12)
    olga.press(await preview(olga, "News!"), "Send it")
    await held.reached.wait()
    olga.send("How are you?")
    await olga.wait_for(lambda: "Hello there!" in got(olga))
    held.release.set()
    await olga.wait_for(lambda: any("reached everybody" in text for text in got(olga)))


async def test_a_flooded_chat_gets_it_last_and_holds_up_nobody(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    flood = talk.server.flood(1, method="sendMessage", chat_id=11)
    olga.press(await preview(olga, "News!"), "Send it")
    await said(olga, "Sent. It reached everybody: 5.")
    assert flood.hits == 1
    assert [got(chat) for chat in crowd] == [["News!"]] * 5
    order = [
        call.chat_id for call in talk.server.calls_of("sendMessage") if call.status == 200 and call.chat_id != OLGA
    ]
    assert order[-1] == 11


async def test_a_broken_connection_loses_nobody(talk: Talk, olga: Chat, crowd: list[Chat]) -> None:
    talk.server.drop(method="sendMessage", chat_id=13, times=2)
    olga.press(await preview(olga, "News!"), "Send it")
    await said(olga, "Sent. It reached everybody: 5.")
    assert [got(chat) for chat in crowd] == [["News!"]] * 5


async def test_a_text_that_telegram_does_not_take_from_the_bot_is_passed_over(
    talk: Talk, olga: Chat, crowd: list[Chat]
) -> None:
    talk.server.fail(method="sendMessage", chat_id=13, status=400)
    olga.press(await preview(olga, "News!"), "Send it")
    await said(olga, "It reached 4 of 5")
