"""The bot is killed, stopped and cut off from Telegram: every message is answered, once, in its order.

It is a process of its own here, since SIGKILL is the one end that no code can prepare for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from store import inbox
from tests.bot.telegram.conftest import FAST
from tests.bot.telegram.process import SERVED, BotProcess
from tests.fakes.vllm import FakeVllm, Hold, Reply, eventually
from tests.telegram_server import Chat, TelegramServer

RATED = ["👍", "👎", "🔁"]


@pytest.fixture
async def start_bot(bot_api: TelegramServer, vllm: FakeVllm, tmp_path: Path) -> AsyncIterator[Callable[..., Any]]:
    """Makes and starts a bot; each name is a machine of its own. All are gone at the end."""
    made: list[BotProcess] = []

    async def start(name: str = "bot", until: str = SERVED, **changes: Any) -> BotProcess:
        (tmp_path / name).mkdir(exist_ok=True)
        section = {"token": bot_api.token, "api_url": bot_api.url, **FAST, **changes}
        made.append(BotProcess(tmp_path / name, vllm.address, section))
        await made[-1].start(until=until)
        return made[-1]

    yield start
    for bot in made:
        await bot.close()


@pytest.fixture
async def bot(start_bot: Callable[..., Any]) -> BotProcess:
    running: BotProcess = await start_bot()
    return running


@pytest.fixture
def ada(bot_api: TelegramServer) -> Chat:
    return bot_api.private(bot_api.user(101, "Ada", language_code="en"))


def said(chat: Chat) -> list[str]:
    """All that the bot has said in this chat and that still stands there."""
    return [message.text for message in chat.replies]


def buttons(chat: Chat) -> list[str]:
    """Under the newest message of the bot."""
    return [button.text for row in chat.last.keyboard for button in row] if chat.last else []


async def test_killed_while_a_draft_grows_it_answers_once_after_the_restart(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    vllm.script(Reply("Half", Hold()), Reply("The whole answer"))
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Half")
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: "The whole answer" in said(ada))
    await bot.settle()
    assert said(ada) == ["The whole answer"]
    assert buttons(ada) == RATED
    assert bot.written() == [("user", "Hello"), ("assistant", "The whole answer")]


async def test_killed_while_a_message_is_edited_it_finishes_that_message(
    start_bot: Callable[..., Any], vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(streaming="edits")
    vllm.script(Reply("Half", Hold()), Reply("The whole answer"))
    ada.send("Hello")
    await ada.wait_for(lambda: said(ada) == ["Half"])
    await noted(bot, posted=[ada.last.id] if ada.last else [])
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: said(ada) == ["The whole answer"] and buttons(ada) == RATED)
    await bot.settle()
    assert said(ada) == ["The whole answer"]
    assert bot.written() == [("user", "Hello"), ("assistant", "The whole answer")]


async def test_killed_two_times_in_a_row_it_answers_once_after_the_second_restart(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    vllm.script(Reply("Half", Hold()), Reply("Nearly all", Hold()), Reply("The whole answer"))
    ada.send("Hello")
    for begun in ("Half", "Nearly all"):
        await ada.wait_for(lambda begun=begun: ada.draft is not None and ada.draft.text == begun)
        await bot.kill()
        await bot.start()
    await ada.wait_for(lambda: "The whole answer" in said(ada))
    await bot.settle()
    assert said(ada) == ["The whole answer"]
    assert bot.written() == [("user", "Hello"), ("assistant", "The whole answer")]


async def test_killed_while_a_second_message_waits_it_answers_both_in_order(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    vllm.script(Reply("Half", Hold()), Reply("First answer"), Reply("Second answer"))
    ada.send("One")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Half")
    ada.send("Two")
    await waiting(bot, 2)
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: "Second answer" in said(ada))
    await bot.settle()
    assert said(ada) == ["First answer", "Second answer"]
    texts = [text for _, text in bot.written()]
    assert texts == ["One", "First answer", "Two", "Second answer"]


async def test_killed_between_logging_and_sending_it_sends_what_was_logged(
    bot: BotProcess, bot_api: TelegramServer, vllm: FakeVllm, ada: Chat
) -> None:
    sending = bot_api.hold(method="sendMessage")
    vllm.script(Reply("Logged"))
    ada.send("Hello")
    await sending.reached.wait()
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: said(ada) == ["Logged"])
    await bot.settle()
    assert said(ada) == ["Logged"]
    assert buttons(ada) == RATED
    assert len(vllm.chats) == 1
    assert bot.written() == [("user", "Hello"), ("assistant", "Logged")]


async def test_killed_between_the_messages_of_a_long_reply_it_sends_the_rest(
    start_bot: Callable[..., Any], bot_api: TelegramServer, vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(draft_interval_s=60)  # nothing of it is shown before its end
    paragraphs = [f"Paragraph {number}: {'word ' * 60}" for number in range(40)]
    first = bot_api.hold(method="sendMessage")
    vllm.script(Reply("\n\n".join(paragraphs)))
    ada.send("Tell me everything")
    await first.reached.wait()
    second = bot_api.hold(method="sendMessage")
    first.release.set()
    await second.reached.wait()
    assert len(said(ada)) == 1
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: "Paragraph 39" in said(ada)[-1])
    await bot.settle()
    together = "\n".join(said(ada))
    assert [together.count(f"Paragraph {number}:") for number in range(40)] == [1] * 40
    assert buttons(ada) == RATED


async def test_killed_while_it_waits_for_the_pieces_of_a_text_it_answers_them_as_one(
    start_bot: Callable[..., Any], vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(join_wait_s=60, join_wait_long_s=60)
    text = " ".join(f"word{number}" for number in range(1200))
    pieces = ada.paste(text)
    await waiting(bot, len(pieces))
    await bot.kill()
    bot.change(join_wait_s=0.05, join_wait_long_s=0.3)
    await bot.start()
    await ada.wait_for(lambda: "Hello there!" in said(ada))
    await bot.settle()
    assert said(ada) == ["Hello there!"]
    assert bot.written() == [("user", text), ("assistant", "Hello there!")]


async def test_killed_between_the_pieces_of_a_text_it_answers_them_as_one(
    start_bot: Callable[..., Any], vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(join_wait_s=60, join_wait_long_s=60)
    beginning, end = "word " * 800, "and the end"
    ada.send(beginning, date=1_800_000_000)
    await waiting(bot, 1)
    await bot.kill()
    ada.send(end, date=1_800_000_001)
    bot.change(join_wait_s=0.05)
    await bot.start()
    await ada.wait_for(lambda: "Hello there!" in said(ada))
    await bot.settle()
    assert said(ada) == ["Hello there!"]
    assert len(asked(vllm)) == 1
    assert asked(vllm)[0].startswith(beginning.strip())
    assert asked(vllm)[0].endswith(end)


async def test_killed_while_it_answers_a_text_in_pieces_it_answers_it_once(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    text = " ".join(f"word{number}" for number in range(1200))
    vllm.script(Reply("Half", Hold()), Reply("The whole answer"))
    ada.paste(text)
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Half")
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: "The whole answer" in said(ada))
    await bot.settle()
    assert said(ada) == ["The whole answer"]
    assert bot.written() == [("user", text), ("assistant", "The whole answer")]


async def test_killed_while_a_reply_is_made_anew_it_puts_the_new_one_in_its_place(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    vllm.script(Reply("First answer"), Reply("Half", Hold()), Reply("Second answer"))
    ada.send("Hello")
    await ada.wait_for(lambda: buttons(ada) == RATED)
    assert ada.last is not None
    ada.press(ada.last, "🔁")
    await ada.wait_for(lambda: said(ada) == ["Half"])
    await bot.kill()
    await bot.start()
    await ada.wait_for(lambda: said(ada) == ["Second answer"] and "2/2" in buttons(ada))
    await bot.settle()
    assert bot.written() == [("user", "Hello"), ("assistant", "First answer"), ("assistant", "Second answer")]


async def test_killed_and_restarted_while_the_engine_is_away_it_answers_once_the_engine_is_back(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    vllm.script(Reply("Half", Hold()))
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "Half")
    await bot.kill()
    await vllm.stop()
    await bot.start()
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "")  # it has begun
    await vllm.start()
    await ada.wait_for(lambda: "Hello there!" in said(ada))
    await bot.settle()
    assert said(ada) == ["Hello there!"]
    assert bot.written() == [("user", "Hello"), ("assistant", "Hello there!")]


async def test_what_was_written_while_it_was_away_is_answered_one_by_one(
    bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    bot.terminate()
    assert await bot.ended() == 0
    vllm.script(Reply("First answer"), Reply("Second answer"))
    ada.send("One", date=1_800_000_000)
    ada.send("Two", date=1_800_000_300)
    await bot.start()
    await ada.wait_for(lambda: "Second answer" in said(ada))
    await bot.settle()
    assert said(ada) == ["First answer", "Second answer"]
    assert [text for _, text in bot.written()] == ["One", "First answer", "Two", "Second answer"]


async def test_asked_to_end_it_lets_replies_end_for_a_while_and_answers_the_rest_after_the_restart(
    start_bot: Callable[..., Any], bot_api: TelegramServer, vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(shutdown_grace_s=1.0)
    bo = bot_api.private(bot_api.user(102, "Bo", language_code="en"))
    ends = Hold()
    vllm.script(Reply("An", ends, " answer"))
    ada.send("Hello")
    await ends.reached.wait()
    lasts = Hold()
    vllm.script(Reply("Half", lasts), Reply("The whole answer"))
    bo.send("Hello")
    await lasts.reached.wait()
    bot.terminate()
    await eventually(lambda: "shutting down" in bot.log)
    ends.release.set()
    assert await bot.ended() == 0
    assert said(ada) == ["An answer"]
    await bot.start()
    await bo.wait_for(lambda: "The whole answer" in said(bo))
    await bot.settle()
    assert (said(ada), said(bo)) == (["An answer"], ["The whole answer"])
    assert [text for _, text in bot.written()] == ["Hello", "Hello", "An answer", "The whole answer"]


async def test_asked_twice_to_end_it_does_not_wait_for_replies(
    start_bot: Callable[..., Any], vllm: FakeVllm, ada: Chat
) -> None:
    bot = await start_bot(shutdown_grace_s=600)
    hold = Hold()
    vllm.script(Reply("Half", hold))
    ada.send("Hello")
    await hold.reached.wait()
    bot.terminate()
    await eventually(lambda: "shutting down" in bot.log)
    bot.terminate()
    assert await bot.ended() == 0
    await waiting(bot, 1)


async def test_of_two_bots_with_one_token_each_is_told_and_nothing_is_lost(
    start_bot: Callable[..., Any], vllm: FakeVllm, ada: Chat
) -> None:
    first, second = await start_bot("first"), await start_bot("second")
    await eventually(lambda: "can be served by one at a time" in first.log + second.log)
    for number in range(3):
        ada.send(f"Message {number}")
        await ada.wait_for(lambda number=number: len(said(ada)) > number)
    second.terminate()
    assert await second.ended() == 0
    ada.send("And now?")
    await eventually(lambda: asked(vllm)[-1] == "And now?", 30)
    assert set(asked(vllm)) == {"Message 0", "Message 1", "Message 2", "And now?"}


async def test_started_a_second_time_on_the_same_folder_it_says_so_and_ends(
    start_bot: Callable[..., Any], bot: BotProcess, vllm: FakeVllm, ada: Chat
) -> None:
    hold = Hold()
    vllm.script(Reply("The", hold, " answer"))
    ada.send("Hello")
    await hold.reached.wait()
    second = await start_bot(until="serves Telegram from this data folder already")
    assert await second.ended() == 1
    hold.release.set()
    await bot.settle()
    assert said(ada) == ["The answer"]


async def test_started_while_telegram_is_away_it_waits_for_it(
    start_bot: Callable[..., Any], bot: BotProcess, bot_api: TelegramServer, ada: Chat
) -> None:
    bot.terminate()
    assert await bot.ended() == 0
    await bot_api.stop()
    await bot.start(until="Telegram cannot be reached yet")
    await bot_api.start()
    ada.send("Hello")
    await ada.wait_for(lambda: said(ada) == ["Hello there!"])
    await bot.settle()


async def test_a_reply_that_telegram_was_away_for_arrives_once_it_is_back(
    start_bot: Callable[..., Any], bot: BotProcess, bot_api: TelegramServer, vllm: FakeVllm, ada: Chat
) -> None:
    hold = Hold()
    vllm.script(Reply("The whole", hold, " answer"))
    ada.send("Hello")
    await ada.wait_for(lambda: ada.draft is not None and ada.draft.text == "The whole")
    await bot_api.stop()
    hold.release.set()
    await eventually(lambda: "Telegram cannot be reached, once more" in bot.log)
    await bot_api.start()
    await ada.wait_for(lambda: said(ada) == ["The whole answer"] and buttons(ada) == RATED)
    ada.send("More")
    await ada.wait_for(lambda: said(ada) == ["The whole answer", "Hello there!"])
    await bot.settle()
    assert said(ada) == ["The whole answer", "Hello there!"]


async def waiting(bot: BotProcess, number: int) -> None:
    """Until this many updates are in its inbox and not done."""
    with bot.store as store:
        await eventually(lambda: len(inbox.waiting(store, "telegram")) == number)


async def noted(bot: BotProcess, **progress: Any) -> None:
    """Until the one update that is not done has these notes."""
    with bot.store as store:
        await eventually(lambda: [row.progress for row in inbox.waiting(store, "telegram")] == [progress])


def asked(vllm: FakeVllm) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in vllm.chats]
