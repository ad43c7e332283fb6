"""Photos and voice as people send them, and the files that come to nothing."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web

from bot.errors import ChatError
from bot.texts import LANGUAGES, texts_for
from settings import Access as AccessSettings
from settings import Media, Settings
from tests.bot.telegram.conftest import Talk
from tests.fakes.library import FakeLibrary
from tests.fakes.media import JPEG, PNG, FakeMedia
from tests.fakes.vllm import Hold, Reply
from tests.telegram_server import Chat

EN = texts_for("en")
MB = 1024 * 1024


@pytest.fixture
async def media() -> AsyncIterator[FakeMedia]:
    async with FakeMedia() as server:
        yield server


@pytest.fixture
def enabled() -> bool:
    """Whether there is a library, and models for photos and voice are named."""
    return True


@pytest.fixture
def settings(settings: Settings, media: FakeMedia, enabled: bool) -> Settings:
    named = Media(vision_url=media.url, vision_model="seer", transcription_url=media.url)
    return settings.model_copy(update={"media": named if enabled else Media()})


@pytest.fixture
def library(enabled: bool) -> FakeLibrary | None:
    return FakeLibrary() if enabled else None


unequipped = pytest.mark.parametrize("enabled", [False])


def asked(talk: Talk) -> list[str]:
    return [request.body["messages"][-1]["content"] for request in talk.vllm.chats]


def said(chat: Chat) -> list[str]:
    return [message.text for message in chat.replies]


def push(chat: Chat, **content: Any) -> None:
    """A message of a kind that the server has no method for."""
    assert chat.person is not None
    message = {"message_id": chat.next_id(), "date": 1_700_000_000, "chat": chat.json(), "from": chat.person.json()}
    chat.server.push({"message": message | content})


async def shows(chat: Chat, text: str, times: int = 1) -> None:
    await chat.wait_for(lambda: said(chat).count(text) == times)


# Photos


async def test_a_photo_is_answered_by_its_description(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.photo(JPEG, caption="Which colour is it?")
    await shows(ada, "Hello there!")
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich colour is it?"]
    assert media.looks[0].images == (("image/jpeg", JPEG),)
    assert media.looks[0].text.endswith("Which colour is it?")
    ada.send("And its wheels?")
    await shows(ada, "Hello there!", times=2)
    assert "[Photo: A red bicycle.]" in str(talk.vllm.chats[-1].body["messages"])


@pytest.mark.parametrize("language", LANGUAGES)
async def test_a_photo_without_words_is_asked_about_in_the_persons_language(
    talk: Talk, media: FakeMedia, language: str
) -> None:
    ada = talk.private(language=language)
    ada.photo(JPEG)
    await shows(ada, "Hello there!")
    question = texts_for(language).t("files.default_question")
    assert asked(talk) == [f"[Photo: A red bicycle.]\n\n{question}"]


async def test_a_picture_that_is_sent_as_a_file_is_a_photo(talk: Talk, media: FakeMedia, library: FakeLibrary) -> None:
    ada = talk.private()
    ada.document("bicycle.png", PNG, mime="image/png", caption="Which colour is it?")
    await shows(ada, "Hello there!")
    assert media.looks[0].images == (("image/png", PNG),)
    assert library.paths == []


async def test_a_photo_in_a_group_is_answered_where_the_bot_is_mentioned(talk: Talk, media: FakeMedia) -> None:
    talk.server.privacy_mode = False
    ada = talk.server.user(101, "Ada", language_code="en")
    team = talk.server.group(-1001, "Team", [ada])
    sizes = [{**talk.server.files.store("photo.jpg", JPEG, "photos"), "width": 90, "height": 60}]
    message = {"message_id": team.next_id(), "date": 1_700_000_000, "chat": team.json(), "from": ada.json()}
    mention = [{"type": "mention", "offset": 0, "length": len("@familiar_bot")}]
    caption = "@familiar_bot which colour is it?"
    talk.server.push({"message": message | {"photo": sizes, "caption": caption, "caption_entities": mention}})
    await shows(team, "Hello there!")
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nwhich colour is it?"]


async def test_something_is_seen_to_be_done_while_a_photo_is_looked_at(talk: Talk, media: FakeMedia) -> None:
    media.go_on.clear()
    ada = talk.private()
    ada.photo(JPEG)
    await media.reached.wait()
    await ada.wait_for(lambda: "typing" in ada.actions)
    media.go_on.set()
    await shows(ada, "Hello there!")


@pytest.mark.parametrize("kind", ["photo", "voice"])
async def test_a_service_that_fails_is_told_and_the_talk_goes_on(talk: Talk, media: FakeMedia, kind: str) -> None:
    media.otherwise = lambda: web.Response(status=503)
    ada = talk.private()
    if kind == "photo":
        ada.photo(JPEG)
    else:
        ada.voice(b"OggS")
    await shows(ada, EN.t("problem.media_busy"))
    assert asked(talk) == []
    ada.send("Hi")
    await shows(ada, "Hello there!")


async def test_what_is_no_picture_is_told(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.document("drawing.svg", b"<svg/>", mime="image/svg+xml")
    await shows(ada, EN.t("problem.not_an_image"))
    assert media.looks == []


async def test_a_huge_picture_is_not_fetched(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.document("map.png", PNG, mime="image/png", size=21 * MB)
    ada.document("concert.mp3", b"ID3", mime="audio/mpeg", size=21 * MB)
    await shows(ada, EN.problem(ChatError("file_too_big", limit=20)), times=2)
    assert talk.server.calls_of("getFile") == []


async def test_looking_at_a_photo_can_be_stopped(talk: Talk, media: FakeMedia) -> None:
    media.go_on.clear()
    ada = talk.private()
    ada.photo(JPEG)
    await media.reached.wait()
    ada.command("/stop")
    await shows(ada, EN.t("problem.media_stopped"))
    await asyncio.wait_for(media.left.wait(), 20)
    assert asked(talk) == []


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
async def test_a_photo_whose_reply_a_restart_interrupted_is_not_looked_at_again(talk: Talk, media: FakeMedia) -> None:
    hold = Hold()
    talk.vllm.script(Reply("It is", hold))
    ada = talk.private()
    ada.photo(JPEG, caption="Which colour is it?")
    await hold.reached.wait()
    await talk.stop()
    await talk.start()
    await shows(ada, "Hello there!")
    assert len(media.looks) == 1
    assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich colour is it?"] * 2


@pytest.mark.parametrize("access", [AccessSettings(mode="open", messages_per_minute=1)])
async def test_a_photo_beyond_the_quota_is_not_looked_at(talk: Talk, media: FakeMedia) -> None:
    ada = talk.private()
    ada.photo(JPEG)
    ada.photo(JPEG)
    await ada.wait_for(lambda: any("(messages per minute: 1)" in text for text in said(ada)))
    assert len(media.looks) == 1


@unequipped
@pytest.mark.parametrize("language", LANGUAGES)
async def test_where_photos_and_voice_are_not_enabled_nothing_is_fetched(talk: Talk, language: str) -> None:
    texts = texts_for(language)
    ada = talk.private(language=language)
    ada.photo(JPEG)
    await shows(ada, texts.t("problem.no_photos"))
    ada.voice(b"OggS")
    await shows(ada, texts.t("problem.no_voice"))
    ada.document("bicycle.png", PNG, mime="image/png")
    await shows(ada, texts.t("problem.no_documents"))
    assert talk.server.calls_of("getFile") == []


@unequipped
async def test_an_album_that_is_not_taken_is_told_once(talk: Talk) -> None:
    ada = talk.private()
    for _ in range(3):
        sizes = [{**talk.server.files.store("photo.jpg", JPEG, "photos"), "width": 90, "height": 60}]
        push(ada, photo=sizes, media_group_id="album")
    ada.send("Hi")
    await shows(ada, "Hello there!")
    assert said(ada) == [EN.t("problem.no_photos"), "Hello there!"]


# Voice


async def test_a_voice_message_is_shown_as_understood_and_answered(talk: Talk, media: FakeMedia) -> None:
    media.transcript = "早上好，_Bo_ 👋"
    ada = talk.private()
    sent = ada.voice(b"OggS\x00")
    await shows(ada, "Hello there!")
    assert said(ada) == ["“早上好，_Bo_ 👋”", "Hello there!"]
    assert ada.replies[0].reply_to == sent.id
    assert asked(talk) == ["早上好，_Bo_ 👋"]
    assert (media.sounds[0].name, media.sounds[0].mime, media.sounds[0].data) == ("voice.ogg", "audio/ogg", b"OggS\x00")


@pytest.mark.parametrize(
    ("content", "name", "mime"),
    [
        ({"audio": {"duration": 3, "file_name": "memo.m4a", "mime_type": "audio/mp4"}}, "voice.m4a", "audio/mp4"),
        ({"audio": {"duration": 3}}, "voice.mp3", "audio/mpeg"),
        ({"video_note": {"duration": 3, "length": 240}}, "voice.mp4", "video/mp4"),
        ({"document": {"file_name": "memo.wav", "mime_type": "audio/x-wav"}}, "voice.wav", "audio/x-wav"),
    ],
)
async def test_other_recordings_are_heard_too_and_named_by_their_kind(
    talk: Talk, media: FakeMedia, content: dict[str, dict[str, Any]], name: str, mime: str
) -> None:
    ada = talk.private()
    stored = talk.server.files.store("recording", b"sound", "voice")
    push(ada, **{kind: stored | details for kind, details in content.items()}, caption="Translate this:")
    await shows(ada, "Hello there!")
    assert asked(talk) == ["Translate this:\n\nGood morning."]
    assert (media.sounds[0].name, media.sounds[0].mime, media.sounds[0].data) == (name, mime, b"sound")


async def test_a_recording_without_words_is_told_to_have_none(talk: Talk, media: FakeMedia) -> None:
    media.transcript = " "
    ada = talk.private()
    ada.voice(b"OggS")
    await shows(ada, EN.t("problem.nothing_heard"))
    assert asked(talk) == []


async def test_a_long_transcript_is_shown_whole(talk: Talk, media: FakeMedia) -> None:
    words = " ".join(f"word{number}" for number in range(1000))
    media.transcript = words
    ada = talk.private()
    ada.voice(b"OggS")
    await shows(ada, "Hello there!")
    assert "".join(said(ada)[:-1]).replace(" ", "") == f"“{words}”".replace(" ", "")
    assert asked(talk) == [words]


@pytest.mark.parametrize("telegram", [{"shutdown_grace_s": 0.0}])
@pytest.mark.parametrize("when", ["before the message is stored", "in the reply"])
async def test_a_voice_message_that_a_restart_interrupted_is_neither_heard_nor_shown_again(
    talk: Talk, media: FakeMedia, when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold = Hold()
    if when == "in the reply":
        talk.vllm.script(Reply("Good", hold))
    else:

        async def stand_still(*_: object) -> None:
            hold.reached.set()
            await hold.release.wait()

        monkeypatch.setattr(talk.channel.groups, "origin", stand_still)
    ada = talk.private()
    ada.voice(b"OggS")
    await hold.reached.wait()
    await talk.stop()
    await talk.start()
    await shows(ada, "Hello there!")
    assert said(ada) == ["“Good morning.”", "Hello there!"]
    assert len(media.sounds) == 1


# Everything else


@pytest.mark.parametrize(
    "content",
    [
        {"sticker": {"width": 1, "height": 1, "is_animated": False, "is_video": False, "type": "regular"}},
        {"location": {"longitude": 0.0, "latitude": 0.0}},
        {"contact": {"phone_number": "1", "first_name": "Bo"}},
        {"dice": {"emoji": "🎲", "value": 3}},
        {"video": {"width": 1, "height": 1, "duration": 1}},
        {"animation": {"width": 1, "height": 1, "duration": 1}, "document": {"mime_type": "video/mp4"}},
    ],
)
async def test_what_means_nothing_to_the_bot_is_told_kindly(talk: Talk, content: dict[str, dict[str, Any]]) -> None:
    ada = talk.private()
    stored = talk.server.files.store("thing", b"x", "things")
    files = ("sticker", "video", "animation", "document")
    push(ada, **{kind: details | (stored if kind in files else {}) for kind, details in content.items()})
    await shows(ada, EN.t("problem.other_kind", works="text, photos, voice messages, documents"))
    assert talk.server.calls_of("getFile") == []


@unequipped
async def test_only_what_works_here_is_named(talk: Talk) -> None:
    ada = talk.private(language="zh")
    push(ada, location={"longitude": 0.0, "latitude": 0.0})
    await shows(ada, texts_for("zh").t("problem.other_kind", works="文字"))


async def test_a_sticker_in_a_group_is_left_to_the_people(talk: Talk) -> None:
    talk.server.privacy_mode = False
    ada = talk.server.user(101, "Ada", language_code="en")
    team = talk.server.group(-1001, "Team", [ada])
    team.send("/help", sender=ada)
    await team.wait_for(lambda: team.replies)
    message = {"message_id": team.next_id(), "date": 1_700_000_000, "chat": team.json(), "from": ada.json()}
    sticker = {"width": 1, "height": 1, "is_animated": False, "is_video": False, "type": "regular"}
    stored = talk.server.files.store("sticker", b"x", "stickers")
    talk.server.push({"message": message | {"sticker": sticker | stored, "reply_to_message": team.replies[-1].json()}})
    team.send("/docs", sender=ada)
    await shows(team, EN.t("files.none_in_group"))
    assert len(team.replies) == 2


class TestWithTimeForAllOfAnAlbumToCome:
    @pytest.fixture
    def telegram(self) -> dict[str, Any]:
        return {"join_wait_s": 1}

    async def test_the_photos_of_an_album_are_answered_together(self, talk: Talk, media: FakeMedia) -> None:
        ada = talk.private()
        for number in range(3):
            sizes = [
                {**talk.server.files.store("photo.jpg", JPEG + bytes([number]), "photos"), "width": 90, "height": 60}
            ]
            push(ada, photo=sizes, media_group_id="album", **({} if number else {"caption": "Which is best?"}))
        await shows(ada, "Hello there!")
        assert asked(talk) == ["[Photo: A red bicycle.]\n\nWhich is best?"]
        assert [data for _, data in media.looks[0].images] == [JPEG + bytes([number]) for number in range(3)]
