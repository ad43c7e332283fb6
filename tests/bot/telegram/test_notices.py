"""Admins are told how learning went: each once, in their language, whatever happens on the way."""

from __future__ import annotations

import pytest

from bot.telegram import application
from bot.telegram.notices import Notices
from settings import Access as AccessSettings
from store import access as decisions
from store import notices, people
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import eventually
from tests.telegram_server import Chat

OLGA, BO = 1, 2
FAILED = "Learning, run 7, failed, and nothing was changed. No memory."


@pytest.fixture
def access() -> AccessSettings:
    return AccessSettings(mode="open", admins=(f"telegram:{OLGA}", "terminal:ada"), messages_per_minute=0)


@pytest.fixture
def olga(talk: Talk) -> Chat:
    return talk.private(OLGA, "Olga")


@pytest.fixture
def bo(talk: Talk) -> Chat:
    """Made an admin by a command, and Chinese."""
    decisions.decide(talk.store, "telegram", str(BO), state="allowed", role="admin")
    people.person_for(talk.store, "telegram", str(BO), name="Bo", language="zh")
    return talk.private(BO, "Bo", "zh")


def fail(talk: Talk, run: int = 7) -> None:
    notices.add(talk.store, "learning.failed", run=run, said="No memory.")


def got(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


async def test_every_admin_is_told_once_in_their_own_language(talk: Talk, olga: Chat, bo: Chat) -> None:
    fail(talk)
    teller = Notices(talk.channel)
    await teller.send()
    await teller.send()
    assert [text.splitlines()[0] for text in got(olga)] == [FAILED]
    assert [text.splitlines()[0] for text in got(bo)] == ["学习（第 7 次）失败了，一切照旧。No memory."]
    assert notices.waiting(talk.store) == []


async def test_nobody_else_is_told(talk: Talk, olga: Chat) -> None:
    cy = talk.private(3, "Cy")
    decisions.decide(talk.store, "telegram", "3", state="allowed")
    fail(talk)
    await Notices(talk.channel).send()
    assert len(got(olga)) == 1
    assert got(cy) == []


async def test_the_running_bot_tells_it_by_itself(talk: Talk, olga: Chat, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(application, "ADMINS_TOLD_EVERY_S", 0.05)
    await talk.restart()
    fail(talk)
    await eventually(lambda: len(got(olga)) == 1)
    assert got(olga)[0].startswith(FAILED)


async def test_who_cannot_be_reached_now_is_told_later_and_the_others_not_again(
    talk: Talk, olga: Chat, bo: Chat
) -> None:
    fail(talk)
    teller = Notices(talk.channel)
    real = talk.channel.out.say

    async def not_to_bo(chat_id: int, *args: object, **more: object) -> int:
        if chat_id == BO:
            raise application.NetworkError("away")
        return await real(chat_id, *args, **more)  # type: ignore[arg-type]

    talk.channel.out.say = not_to_bo  # type: ignore[method-assign]
    await teller.send()
    assert len(notices.waiting(talk.store)) == 1
    talk.channel.out.say = real  # type: ignore[method-assign]
    await Notices(talk.channel).send()  # after a restart, say
    assert (len(got(olga)), len(got(bo))) == (1, 1)
    assert notices.waiting(talk.store) == []


async def test_an_admin_who_has_blocked_the_bot_holds_nothing_up(talk: Talk, bo: Chat) -> None:
    """Olga has never written to the bot."""
    fail(talk)
    await Notices(talk.channel).send()
    assert len(got(bo)) == 1
    assert notices.waiting(talk.store) == []


async def test_several_notices_come_in_the_order_in_which_things_happened(talk: Talk, olga: Chat) -> None:
    fail(talk, 7)
    notices.add(talk.store, "learning.promoted", run=8, said="familiar@3 is in force. {braces} stay.")
    await Notices(talk.channel).send()
    assert [text.split(":")[0].split(",")[1] for text in got(olga)] == [" run 7", " run 8"]
    assert got(olga)[1].endswith("familiar@3 is in force. {braces} stay.")


async def test_a_notice_of_another_version_is_passed_over(talk: Talk, olga: Chat) -> None:
    notices.add(talk.store, "learning.of_the_future")
    fail(talk)
    await Notices(talk.channel).send()
    assert len(got(olga)) == 1
    assert notices.waiting(talk.store) == []


@pytest.mark.parametrize(
    "key", ["promoted", "rejected", "not_proven", "failed", "canary_promoted", "canary_rolled_back", "broken"]
)
async def test_there_are_words_for_whatever_is_told(talk: Talk, olga: Chat, key: str) -> None:
    args = {"run": 7, "said": "So.", "adapter": "familiar@3", "code": -9, "log": "finetune.log"}
    notices.add(talk.store, f"learning.{key}", **args)
    await Notices(talk.channel).send()
    assert len(got(olga)) == 1
