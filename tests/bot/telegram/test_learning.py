"""What people on Telegram see of what was learnt: versions, who wrote a reply, and that their corrections are used."""

from __future__ import annotations

import pytest

from store import adapters
from tests.bot.taught import loaded, teach
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Reply, eventually
from tests.telegram_server import Chat

USED = "Since version 7 I use what you corrected."


@pytest.fixture
def ada(talk: Talk) -> Chat:
    return talk.private()


@pytest.fixture
def group(talk: Talk, ada: Chat) -> Chat:
    assert ada.person is not None
    return talk.server.group(-1001, "Team", [ada.person], bot_admin=True)


def times_told(chat: Chat) -> int:
    return sum(USED in shown.text for shown in chat.messages)


async def answered(talk: Talk, chat: Chat, question: str, answer: str) -> None:
    talk.vllm.script(Reply(answer))
    chat.send(question)
    await chat.wait_for(lambda: any(each.text == answer and each.keyboard for each in chat.messages))
    await eventually(lambda: talk.channel.inbox.waiting == 0)


async def test_who_corrected_a_reply_is_told_once_that_it_is_used(talk: Talk, ada: Chat) -> None:
    teach(talk.store, talk.vllm, "telegram", "101")
    await answered(talk, ada, "Where is the key?", "In the blue pot.")
    await ada.wait_for(lambda: times_told(ada) == 1)
    await answered(talk, ada, "Sure?", "Quite sure.")
    await answered(talk, ada, "Really?", "Really.")
    assert times_told(ada) == 1


async def test_who_corrected_nothing_is_told_nothing(talk: Talk, ada: Chat) -> None:
    teach(talk.store, talk.vllm, "telegram", "999", "Bo")
    await answered(talk, ada, "Where is the key?", "In the blue pot.")
    await answered(talk, ada, "Sure?", "Quite sure.")
    assert times_told(ada) == 0


async def test_it_is_not_said_of_a_reply_by_the_base_model(talk: Talk, ada: Chat) -> None:
    teach(talk.store, talk.vllm, "telegram", "101")
    adapters.activate(talk.store, "familiar", None)
    await answered(talk, ada, "Where is the key?", "In the blue pot.")
    await answered(talk, ada, "Sure?", "Quite sure.")
    assert times_told(ada) == 0


async def test_in_a_group_nothing_is_said_of_what_somebody_corrected(talk: Talk, group: Chat, ada: Chat) -> None:
    teach(talk.store, talk.vllm, "telegram", "101")
    for answer in ("In the blue pot.", "Quite sure."):
        talk.vllm.script(Reply(answer))
        group.send("@familiar_bot Where is the key?", sender=ada.person)
        await group.wait_for(
            lambda answer=answer: any(each.text == answer and each.keyboard for each in group.messages)
        )
    assert times_told(group) == 0


async def test_the_models_show_the_versions(talk: Talk, ada: Chat) -> None:
    loaded(talk.store, talk.vllm, 6)
    loaded(talk.store, talk.vllm, 7, active=True)
    ada.send("/model")
    await ada.wait_for(lambda: ada.last is not None and "familiar@7: version 7, learnt on " in ada.last.text)
    assert ada.last is not None
    assert ada.last.text.splitlines()[-1].endswith("; in force")


async def test_a_reply_tells_who_wrote_it_the_last_one_or_the_one_that_is_answered(talk: Talk, ada: Chat) -> None:
    loaded(talk.store, talk.vllm, 6, active=True)
    await answered(talk, ada, "One?", "The first.")
    first = next(each for each in ada.messages if each.text == "The first.")
    loaded(talk.store, talk.vllm, 7, active=True)
    await answered(talk, ada, "Two?", "The second.")
    ada.send("/about")
    await ada.wait_for(lambda: ada.last is not None and "with familiar@7" in ada.last.text)
    ada.send("/about", reply_to=first)
    await ada.wait_for(lambda: ada.last is not None and "with familiar@6" in ada.last.text)


async def test_without_a_reply_there_is_nothing_to_tell_about(talk: Talk, ada: Chat) -> None:
    ada.send("/about")
    await ada.wait_for(lambda: ada.last is not None and ada.last.text == "There is no reply yet to tell about.")


async def test_it_is_said_in_chinese_to_who_reads_chinese(talk: Talk) -> None:
    ming = talk.private(102, "小明", "zh-hans")
    ming.send("/language zh")
    await eventually(lambda: ming.last is not None)
    teach(talk.store, talk.vllm, "telegram", "102", "小明")
    await answered(talk, ming, "钥匙在哪里？", "在蓝色花盆里。")
    await ming.wait_for(lambda: "从版本 7 起，我会用上你更正过的内容。" in ming.last.text)  # type: ignore[union-attr]
