"""What somebody in the terminal sees of what was learnt."""

from __future__ import annotations

from pathlib import Path

import pytest

from bot.terminal.identity import os_user
from store.session import Store
from tests.bot.taught import loaded, teach
from tests.bot.terminal.test_commands import Desk, desk  # noqa: F401
from tests.fakes.vllm import Reply

USED = "Since version 7 I use what you corrected."


@pytest.fixture
def own_store(tmp_path: Path):
    """That of the program on its terminal."""
    with Store(f"sqlite:///{tmp_path / 'familiar.db'}") as opened:
        yield opened


async def test_who_corrected_a_reply_is_told_once_that_it_is_used(chat_on_terminal, own_store, vllm):
    teach(own_store, vllm, "terminal", os_user())
    vllm.script(Reply("In the blue pot."), Reply("Quite sure."), Reply("Really."))
    terminal = await chat_on_terminal()
    terminal.types("Where is the key?\r")
    await terminal.shows("In the blue pot.", "base + familiar@7", USED)
    terminal.types("Sure?\r")
    await terminal.shows("Quite sure.")
    await terminal.asks()
    terminal.types("/about\r")
    await terminal.shows("About this reply:", "by: base with familiar@7", "in force")
    assert terminal.screen.everything().count(USED) == 1


async def test_who_corrected_nothing_is_told_nothing(chat_on_terminal, own_store, vllm):
    teach(own_store, vllm, "terminal", "somebody-else")
    vllm.script(Reply("In the blue pot."))
    terminal = await chat_on_terminal()
    terminal.types("Where is the key?\r")
    await terminal.shows("In the blue pot.", "base + familiar@7")
    await terminal.asks()
    terminal.types("/about\r")
    await terminal.shows("About this reply:")
    assert USED not in terminal.screen.everything()


async def test_the_versions_and_who_wrote_a_reply_can_be_asked_for(desk, store, vllm):  # noqa: F811
    loaded(store, vllm, 7, active=True)
    assert "version 7, learnt on " in await desk.command("/model")
    await desk.says("Hi")
    shown = await desk.command("/about")
    assert shown.splitlines()[0] == "About this reply:"
    assert "by: base with familiar@7" in shown
