"""What each command shows, outside a terminal: the same words and tables, less colours and questions."""

from __future__ import annotations

import asyncio
import io
import json
import stat
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bot.assistant import Assistant
from bot.chat import Chat
from bot.commands import Invocation, commands_of, parse
from bot.errors import ChatError
from bot.events import Event
from bot.terminal.commands import Commands, Next
from bot.terminal.screen import Screen
from bot.terminal.tables import conversations_table
from bot.texts import texts_for
from store.conversations import Listed
from tests.fakes.vllm import FakeVllm, Reply


class Desk:
    """A chat whose commands answer into strings."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.out, self.err = io.StringIO(), io.StringIO()
        self.screen = Screen(self.out, self.err, chat.texts)
        self.commands = Commands(chat, self.screen, None, None, self.run_turn)

    async def run_turn(self, start: Callable[[asyncio.Event], AsyncGenerator[Event]]) -> None:
        turn = self.screen.turn()
        await turn.show(start(turn.stop))

    async def says(self, text: str) -> None:
        await self.run_turn(lambda stop: self.chat.send(text, stop))
        self.out.truncate(self.out.seek(0))

    async def command(self, line: str) -> str:
        """What `line` shows."""
        self.out.truncate(self.out.seek(0))
        invocation = parse(line)
        assert isinstance(invocation, Invocation)
        self.next = await self.commands.run(invocation)
        return "\n".join(row.rstrip() for row in self.out.getvalue().splitlines())


@pytest.fixture
async def desk(assistant: Assistant) -> Desk:
    return Desk(await Chat.open(assistant, channel="terminal", external_id="ada", name="Ada", language="en"))


async def test_every_command_is_in_the_help_and_can_be_given(desk):
    shown = await desk.command("/help")
    for command in commands_of("terminal"):
        assert f"/{command.name}" in shown
        assert callable(getattr(desk.commands, f"_{command.name}"))
    assert "Ctrl-C" in shown
    assert "//like this" in shown


async def test_conversations_are_listed_with_their_age_and_the_open_one_can_be_left_and_found_again(desk):
    assert await desk.command("/list") == "No conversations yet."
    await desk.says("About whales")
    await desk.command("/new")
    await desk.says("About ferns")
    shown = await desk.command("/list")
    assert shown.index("About ferns") < shown.index("About whales")
    assert "just now" in shown
    assert "messages: 2" in shown
    number = shown.splitlines()[-1].split()[0]
    reopened = await desk.command(f"/open {number}")
    assert "› About whales\nHello there!\n" in reopened
    assert reopened.endswith("Back in “About whales”.")


async def test_of_a_long_conversation_the_last_turns_are_shown(desk):
    for number in range(5):
        await desk.says(f"message {number}")
    shown = await desk.command(f"/open {desk.chat.conversation.id}")
    assert shown.startswith("… earlier messages: 4")
    assert "message 1" not in shown
    assert "message 2" in shown


@pytest.mark.parametrize(
    ("age", "told"),
    [
        (timedelta(seconds=5), "just now"),
        (timedelta(minutes=59), "59 min"),
        (timedelta(hours=47), "47 h"),
        (timedelta(days=9), "9 d"),
    ],
)
def test_ages_are_told_in_the_unit_that_fits(age, told):
    now = datetime(2026, 5, 1, tzinfo=UTC)
    table = conversations_table([Listed(1, "t", 2, now - age)], None, texts_for("en"), now)
    assert [str(cell) for cell in table.columns[2].cells] == [told]


async def test_search_shows_where_the_words_stand(desk, vllm: FakeVllm):
    vllm.script(Reply("Whales [bold]sing[/bold] in the deep."))
    await desk.says("Tell me about whales")
    shown = await desk.command("/search WHALES deep")
    assert "Tell me about whales" in shown
    assert "Whales [bold]sing[/bold] in the deep." in shown
    assert await desk.command("/search dolphins") == "Nothing found for “dolphins”."


async def test_personas_and_models_are_listed_and_switched(desk):
    shown = await desk.command("/persona")
    assert shown.splitlines()[1].endswith("chosen")
    assert await desk.command("/persona classifier") == "From now on: Sentiment."
    shown = await desk.command("/persona")
    assert [row.split()[0] for row in shown.splitlines() if "chosen" in row] == ["classifier"]
    assert "the model as it came" in await desk.command("/model")
    assert await desk.command("/model base") == "From now on: base."
    with pytest.raises(ChatError, match="no_such_model"):
        await desk.command("/model gone@3")


async def test_replies_can_be_asked_for_again_listed_and_chosen(desk, vllm: FakeVllm):
    vllm.script(Reply("First.\nMore"), Reply("Second."))
    await desk.says("Say something")
    assert "only reply" in await desk.command("/other")
    assert await desk.command("/retry") == "Second."
    shown = await desk.command("/other")
    assert "1  First." in shown
    assert shown.splitlines()[-1].split() == ["2", "Second.", "chosen"]
    assert await desk.command("/other 1") == "First.\nMore\nThis is reply 1 of 2."
    with pytest.raises(ChatError, match="no_such_reply"):
        await desk.command("/other 3")
    with pytest.raises(ChatError, match="not_a_number"):
        await desk.command("/other two")


async def test_feedback_is_confirmed_and_counted(desk):
    await desk.says("Hello")
    assert "good reply" in await desk.command("/rate +")
    assert "/correct" in await desk.command("/rate down")
    assert "noted" in await desk.command("/correct Good day!")
    shown = await desk.command("/stats")
    assert "rated good: 0, rated bad: 1" in shown
    assert "corrected: 1" in shown
    with pytest.raises(ChatError, match="not_a_rating"):
        await desk.command("/rate perhaps")


async def test_privacy_explains_and_switches(desk):
    shown = await desk.command("/privacy")
    assert "You have not been asked yet." in shown
    assert "not used for learning" in shown
    assert "may help me learn" in await desk.command("/privacy yes")
    assert "may be used for learning" in await desk.command("/privacy")
    with pytest.raises(ChatError, match="not_a_choice"):
        await desk.command("/privacy perhaps")


async def test_an_export_is_for_the_owner_alone_and_overwrites_nothing(desk, tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    await desk.says("Remember 我")
    file = tmp_path / "mine.json"
    assert await desk.command(f"/export {file}") == f"Saved to {file}."
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    kept = json.loads(file.read_text(encoding="utf-8"))
    assert kept["conversations"][0]["messages"][0]["content"] == "Remember 我"
    with pytest.raises(ChatError, match="cannot_write"):
        await desk.command(f"/export {file}")
    with pytest.raises(ChatError, match="cannot_write"):
        await desk.command(f"/export {tmp_path / 'no' / 'such' / 'folder.json'}")
    assert json.loads(file.read_text(encoding="utf-8")) == kept
    assert (await desk.command("/export")).startswith(f"Saved to {tmp_path / 'familiar-'}")


async def test_nothing_is_forgotten_where_nobody_can_be_asked_back(desk):
    await desk.says("Hello")
    await desk.command("/forget all")
    assert "only in a terminal" in desk.err.getvalue()
    assert len(await desk.chat.history()) == 2


async def test_arguments_that_are_missing_or_too_many_are_explained(desk):
    for line, problem in (
        ("/open", "usage"),
        ("/edit", "usage"),
        ("/stats now", "usage_alone"),
        ("/forget it", "usage"),
    ):
        with pytest.raises(ChatError) as told:
            await desk.command(line)
        assert told.value.key == problem


async def test_undo_offers_no_draft_to_a_pipe_and_quit_leaves(desk):
    await desk.says("Hello")
    await desk.command("/undo")
    assert desk.next == Next()
    await desk.command("/quit")
    assert desk.next.leave
