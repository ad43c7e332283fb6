"""The database is locked or full for a while: nothing is confirmed before it is written down, nothing comes twice."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import Connection, Engine, event

from store.session import Store
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Hold, Reply, eventually
from tests.telegram_server import Chat


class FullDisk:
    """While `is_full`, no transaction that changed something can be ended."""

    def __init__(self) -> None:
        self.is_full = False

    def commit(self, _: Connection) -> None:
        if self.is_full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.fixture
def full_disk() -> Iterator[FullDisk]:
    disk = FullDisk()
    event.listen(Engine, "commit", disk.commit)
    yield disk
    event.remove(Engine, "commit", disk.commit)


def said(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


async def test_while_the_database_is_locked_nothing_is_confirmed_and_afterwards_it_is_answered_once(
    talk: Talk, database: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ada = talk.private()
    with Store(f"sqlite:///{database}") as other:
        with other.writing() as session:
            session.connection()
            ada.send("Hello")
            await eventually(lambda: "is not acknowledged yet" in caplog.text)
            assert talk.server.acknowledged == 0
        await ada.wait_for(lambda: "Hello there!" in said(ada))
    ada.send("More")
    await ada.wait_for(lambda: said(ada) == ["Hello there!"] * 2)
    assert [talk.prompt(number)[-1] for number in (0, 1)] == ["Hello", "More"]


async def test_a_reply_that_finds_the_disk_full_is_shown_all_the_same_and_the_next_message_waits_for_room(
    talk: Talk, full_disk: FullDisk, caplog: pytest.LogCaptureFixture
) -> None:
    hold = Hold()
    talk.vllm.script(Reply("The whole", hold, " answer"), Reply("Second answer"))
    ada = talk.private()
    ada.send("One")
    await hold.reached.wait()
    full_disk.is_full = True
    hold.release.set()
    await ada.wait_for(lambda: said(ada)[:1] == ["The whole answer"] and "could not be saved" in said(ada)[1])
    ada.send("Two")
    await eventually(lambda: "is not acknowledged yet" in caplog.text)
    full_disk.is_full = False
    await ada.wait_for(lambda: "Second answer" in said(ada))
    await eventually(lambda: talk.channel.inbox.waiting == 0)
    assert len(said(ada)) == 3
    assert len(talk.vllm.chats) == 2
