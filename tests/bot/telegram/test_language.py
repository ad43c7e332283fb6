"""In which language the bot's own words are: the client's, unless the person or the operator has chosen one."""

from __future__ import annotations

import pytest

from settings import Access as AccessSettings
from settings import Assistant as AssistantSettings
from settings import Settings
from tests.bot.conftest import PERSONAS
from tests.bot.telegram.conftest import Talk
from tests.fakes.vllm import Refusal
from tests.telegram_server import Chat, Shown

ENGLISH, CHINESE = "Hello Ada!", "Ada，你好！"


async def said(chat: Chat, text: str) -> Shown:
    await chat.wait_for(lambda: text in chat.last.text)  # type: ignore[union-attr]
    assert chat.last is not None
    return chat.last


@pytest.mark.parametrize(
    ("client", "greeting"),
    [("en", ENGLISH), ("en-GB", ENGLISH), ("zh-hans", CHINESE), ("zh-TW", CHINESE), ("de", ENGLISH), ("", ENGLISH)],
)
async def test_the_words_are_in_the_language_of_the_client_or_in_english(
    talk: Talk, client: str, greeting: str
) -> None:
    chat = talk.private(language=client)
    chat.command("/start")
    await said(chat, greeting)


async def test_a_choice_holds_also_after_a_restart(talk: Talk) -> None:
    ada = talk.private(language="en")
    ada.command("/language zh")
    await said(ada, "中文")
    ada.command("/start")
    await said(ada, CHINESE)
    await talk.restart()
    ada.command("/start")
    await ada.wait_for(lambda: sum(CHINESE in message.text for message in ada.replies) == 2)


async def test_the_choice_is_made_with_buttons_and_taken_back_with_them(talk: Talk) -> None:
    ada = talk.private(language="zh")
    ada.command("/language")
    shown = await said(ada, "语言")
    assert [text for row in shown.keyboard for text, _ in row][:2] == ["English", "中文"]
    ada.press(shown, "English")
    await said(ada, "in English now")
    ada.command("/start")
    await said(ada, ENGLISH)
    ada.press(shown, callback_data="pick:language:auto")
    ada.command("/start")
    await said(ada, CHINESE)


@pytest.mark.parametrize("given", ["fr", "klingon", "中", "x" * 4000])
async def test_a_language_that_is_not_there_changes_nothing(talk: Talk, given: str) -> None:
    ada = talk.private(language="zh")
    ada.command(f"/language {given}")
    problem = await said(ada, "en、zh、auto")
    assert len(problem.text) < 200
    ada.command("/start")
    await said(ada, CHINESE)


async def test_problems_are_told_in_it_also_those_inside_a_reply(talk: Talk) -> None:
    ada = talk.private(language="zh")
    ada.command("/retry")
    await said(ada, "还没有")
    talk.vllm.script(Refusal(400))
    ada.send("你好")
    await said(ada, "引擎")
    ada.command("/retyr")
    await said(ada, "/retyr")
    assert not any("There is" in message.text or "The engine" in message.text for message in ada.replies)


async def test_the_language_of_the_words_is_not_that_of_the_answers(talk: Talk) -> None:
    ada = talk.private(language="zh")
    ada.send("Hello")
    await said(ada, "Hello there!")
    assert talk.prompt() == ["Hello"]


@pytest.mark.parametrize("access", [AccessSettings(mode="pairing")])
async def test_whoever_is_turned_away_is_told_in_theirs(talk: Talk) -> None:
    ada = talk.private(language="zh")
    ada.send("你好")
    await said(ada, "familiar users approve")
    assert ada.last is not None
    assert "Hello" not in ada.last.text


class TestWhereTheOperatorHasFixedTheLanguage:
    @pytest.fixture
    def settings(self) -> Settings:
        return Settings(persona=PERSONAS, assistant=AssistantSettings(reply_reserve_tokens=16, language="zh"))

    async def test_it_holds_for_everybody(self, talk: Talk) -> None:
        ada = talk.private(language="en")
        ada.command("/language en")
        ada.command("/start")
        await said(ada, CHINESE)
        assert not any("English" in message.text for message in ada.replies)

    @pytest.mark.parametrize("access", [AccessSettings(mode="allowlist")])
    async def test_whoever_is_turned_away_is_told_in_it(self, talk: Talk) -> None:
        ada = talk.private(language="en")
        ada.send("Hello")
        await ada.wait_for(lambda: ada.last)
        assert ada.last is not None
        assert "operator" not in ada.last.text
