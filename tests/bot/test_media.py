"""Photos and voice become text by models behind OpenAI-compatible URLs; and what may go wrong on the way."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import get_args

import pytest
from aiohttp import web
from pydantic import SecretStr

from bot import media as reading
from bot.media import Failure, MediaError, Transcriber, Vision
from bot.stoppable import unless_stopped
from bot.texts import LANGUAGES, texts_for
from settings import Media
from tests.fakes.media import JPEG, PNG, FakeMedia

Ask = Callable[[], Awaitable[str]]


@pytest.fixture
async def media() -> AsyncIterator[FakeMedia]:
    async with FakeMedia() as server:
        yield server


@pytest.fixture
def vision(media: FakeMedia) -> Vision:
    return Vision(media.url, "seer", SecretStr("sk-secret"), timeout_s=30)


@pytest.fixture
def transcriber(media: FakeMedia) -> Transcriber:
    return Transcriber(media.url, "whisper-1", SecretStr("sk-secret"), timeout_s=30)


@pytest.fixture(params=["vision", "transcriber"])
def ask(request: pytest.FixtureRequest, vision: Vision, transcriber: Transcriber) -> Ask:
    """Either service, asked for something harmless."""
    if request.param == "vision":
        return lambda: vision.describe([JPEG], "What is it?")
    return lambda: transcriber.transcribe(b"OggS", ".ogg", "audio/ogg")


async def failure(asked: Awaitable[str]) -> str:
    with pytest.raises(MediaError) as raised:
        await asked
    return raised.value.key


async def test_a_photo_is_described_with_regard_to_the_question(media: FakeMedia, vision: Vision) -> None:
    media.description = "  一辆红色的自行车 🚲\n"
    question = '这是{什么}? 🚲 "quoted"'
    assert await vision.describe([JPEG], question) == "一辆红色的自行车 🚲"
    (look,) = media.looks
    assert look.text.endswith(question)
    assert look.images == (("image/jpeg", JPEG),)
    assert look.model == "seer"
    assert look.headers["Authorization"] == "Bearer sk-secret"


async def test_the_photos_of_an_album_are_described_together(media: FakeMedia, vision: Vision) -> None:
    await vision.describe([JPEG, PNG], "Which one?")
    assert media.looks[0].images == (("image/jpeg", JPEG), ("image/png", PNG))


@pytest.mark.parametrize(
    ("data", "mime"),
    [
        (JPEG, "image/jpeg"),
        (PNG, "image/png"),
        (b"GIF89a...", "image/gif"),
        (b"GIF87a...", "image/gif"),
        (b"RIFF\x00\x00\x00\x00WEBPVP8 ", "image/webp"),
    ],
)
async def test_the_type_of_a_picture_is_read_from_its_content(
    media: FakeMedia, vision: Vision, data: bytes, mime: str
) -> None:
    await vision.describe([data], "What is it?")
    assert media.looks[0].images == ((mime, data),)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8", b"<svg/>", b"%PDF-1.7", b"RIFF\x00\x00\x00\x00WAVE", b"\0" * 100])
async def test_what_is_no_picture_is_not_sent(media: FakeMedia, vision: Vision, data: bytes) -> None:
    assert await failure(vision.describe([data], "What is it?")) == "not_an_image"
    assert media.looks == []


async def test_a_long_description_is_cut(media: FakeMedia, vision: Vision) -> None:
    media.description = "x" * 100_000
    assert len(await vision.describe([JPEG], "What is it?")) == reading.LONGEST_DESCRIPTION


async def test_a_photo_of_twenty_megabytes_arrives_whole(media: FakeMedia, vision: Vision) -> None:
    data = JPEG + bytes(20 * 1024 * 1024)
    await vision.describe([data], "What is it?")
    assert media.looks[0].images[0][1] == data


@pytest.mark.parametrize("content", [None, "", " \n", 7, [], {"text": "no"}])
async def test_a_description_that_is_no_text_is_of_no_use(media: FakeMedia, vision: Vision, content: object) -> None:
    media.description = content
    assert await failure(vision.describe([JPEG], "What is it?")) == "media_unusable"


async def test_a_recording_is_transcribed(media: FakeMedia, transcriber: Transcriber) -> None:
    media.transcript = " 早上好，Bo! \n"
    assert await transcriber.transcribe(b"OggS\x00\xff\n", ".ogg", "audio/ogg") == "早上好，Bo!"
    (sound,) = media.sounds
    assert (sound.name, sound.mime, sound.data) == ("voice.ogg", "audio/ogg", b"OggS\x00\xff\n")
    assert sound.fields == {"model": "whisper-1", "response_format": "json"}
    assert sound.headers["Authorization"] == "Bearer sk-secret"


@pytest.mark.parametrize("text", ["", "  \n"])
async def test_a_recording_without_words_is_said_to_have_none(
    media: FakeMedia, transcriber: Transcriber, text: str
) -> None:
    media.transcript = text
    assert await failure(transcriber.transcribe(b"OggS", ".ogg", "audio/ogg")) == "nothing_heard"


@pytest.mark.parametrize("text", [None, 7, ["Good", "morning"]])
async def test_a_transcript_that_is_no_text_is_of_no_use(
    media: FakeMedia, transcriber: Transcriber, text: object
) -> None:
    media.transcript = text
    assert await failure(transcriber.transcribe(b"OggS", ".ogg", "audio/ogg")) == "media_unusable"


@pytest.mark.parametrize(
    ("status", "key"),
    [
        (400, "media_refused"),
        (401, "media_wrong_key"),
        (403, "media_wrong_key"),
        (404, "media_refused"),
        (413, "media_refused"),
        (422, "media_refused"),
        (429, "media_busy"),
        (500, "media_down"),
        (502, "media_down"),
        (503, "media_busy"),
        (204, "media_refused"),
    ],
)
async def test_an_error_status_is_told_by_its_kind(media: FakeMedia, ask: Ask, status: int, key: str) -> None:
    media.otherwise = lambda: web.Response(status=status)
    assert await failure(ask()) == key


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"\xff\xfe", b"[]", b"null", b"{}", b'{"choices": []}', b'{"text": ', b"[" * 200_000]
)
async def test_an_answer_of_another_form_is_of_no_use(media: FakeMedia, ask: Ask, body: bytes) -> None:
    media.otherwise = lambda: web.Response(body=body, content_type="application/json")
    assert await failure(ask()) == "media_unusable"


async def test_an_answer_without_end_is_not_read_to_its_end(
    media: FakeMedia, ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "LONGEST_ANSWER", 1000)
    valid = json.dumps({"text": "x" * 1000, "choices": [{"message": {"content": "x" * 1000}}]})
    media.otherwise = lambda: web.Response(text=valid)
    assert await failure(ask()) == "media_unusable"


async def test_a_server_that_is_not_there_is_told(vision: Vision, transcriber: Transcriber) -> None:
    for url in ("http://127.0.0.1:9/v1", "not an address"):  # nobody serves port 9, discard
        assert await failure(replace(vision, url=url).describe([JPEG], "?")) == "media_down"
        assert await failure(replace(transcriber, url=url).transcribe(b"OggS", ".ogg", "audio/ogg")) == "media_down"


async def test_a_server_that_does_not_answer_is_given_up(media: FakeMedia, vision: Vision) -> None:
    media.go_on.clear()
    assert await failure(replace(vision, timeout_s=0.2).describe([JPEG], "?")) == "media_timeout"
    await asyncio.wait_for(media.left.wait(), 20)


async def test_what_is_stopped_is_not_waited_for(media: FakeMedia, ask: Ask) -> None:
    media.go_on.clear()
    stop = asyncio.Event()
    asking = asyncio.create_task(unless_stopped(ask, stop))
    await media.reached.wait()
    stop.set()
    assert await asyncio.wait_for(asking, 20) is None
    await asyncio.wait_for(media.left.wait(), 20)


async def test_what_is_not_stopped_comes_to_its_end(ask: Ask) -> None:
    assert await unless_stopped(ask, asyncio.Event())


async def test_the_key_and_what_was_sent_stay_out_of_the_log(
    media: FakeMedia, ask: Ask, vision: Vision, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    media.otherwise = lambda: web.Response(status=400, text="cannot read: a secret question")
    await failure(ask())
    assert "400" in caplog.text
    assert "secret" not in caplog.text + repr(vision)


async def test_no_key_is_sent_where_there_is_none(media: FakeMedia, vision: Vision) -> None:
    await replace(vision, api_key=SecretStr(" \n")).describe([JPEG], "?")
    assert "Authorization" not in media.looks[0].headers


async def test_a_slash_at_the_end_of_the_url_changes_nothing(media: FakeMedia, vision: Vision) -> None:
    assert await replace(vision, url=f"{media.url}/").describe([JPEG], "?") == "A red bicycle."


def test_only_what_the_operator_names_is_there() -> None:
    assert Vision.of(Media()) is None
    assert Vision.of(Media(vision_url="http://127.0.0.1:1/v1")) is None
    assert Vision.of(Media(vision_url="http://127.0.0.1:1/v1", vision_model="seer")) is not None
    assert Transcriber.of(Media()) is None
    assert Transcriber.of(Media(transcription_url="http://127.0.0.1:1/v1")) is not None


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("key", [*get_args(Failure), "nothing_heard"])
def test_whatever_goes_wrong_has_a_text(language: str, key: Failure) -> None:
    assert texts_for(language).problem(MediaError(key))
