"""Photos and voice become text, by models behind OpenAI-compatible URLs that config.toml names.

    Vision         photos -> a description      POST {url}/chat/completions, the photos as data: addresses
    Transcriber    sound  -> what is said       POST {url}/audio/transcriptions, a form with the sound as a file

Both servers are the operator's choice and may be anything that speaks this format, so what they answer is not trusted
to have its form. Their own words on what went wrong may repeat what a person sent: they are logged at debug level only.

    MediaError     what was sent could not be made into text; its keys are texts under `problem`
"""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import aiohttp
from pydantic import SecretStr

from bot.errors import ChatError
from settings import Media

log = logging.getLogger("familiar")

ANSWER_WITHIN_S = 180.0
CONNECT_WITHIN_S = 10.0
LONGEST_ANSWER = 4 * 1024 * 1024  # bytes
LONGEST_DESCRIPTION = 2000  # characters; the model that replies has the conversation to read, too
DESCRIPTION_TOKENS = 600

TASK = (
    "Describe what you see for an assistant that cannot see it and has to answer a question about it. Say all that the "
    "answer needs, and copy any text that stands there word for word. Write in the language of the question.\n\n"
    "The question: {question}"
)

Failure = Literal[
    "media_down", "media_timeout", "media_busy", "media_wrong_key", "media_refused", "media_unusable", "not_an_image"
]


class MediaError(ChatError):
    def __init__(self, key: Failure | Literal["nothing_heard"]) -> None:
        super().__init__(key)


@dataclass(frozen=True)
class Vision:
    url: str
    model: str
    api_key: SecretStr
    timeout_s: float = ANSWER_WITHIN_S

    @classmethod
    def of(cls, media: Media) -> Vision | None:
        """None when the operator has named none."""
        if not media.vision_url or not media.vision_model:
            return None
        return cls(media.vision_url, media.vision_model, media.vision_api_key)

    async def describe(self, images: Sequence[bytes], question: str) -> str:
        """What is to be seen, with regard to `question`. Raises MediaError."""
        body = await asyncio.to_thread(self._request, images, question)  # encoding megabytes takes its time
        answer = await _posted(
            f"{self.url.rstrip('/')}/chat/completions",
            self.api_key,
            self.timeout_s,
            data=body,
            headers={"Content-Type": "application/json"},
        )
        try:
            description = answer["choices"][0]["message"]["content"]
        except (KeyError, IndexError, TypeError):
            description = None
        if not isinstance(description, str) or not description.strip():
            raise MediaError("media_unusable")
        return description.strip()[:LONGEST_DESCRIPTION]

    def _request(self, images: Sequence[bytes], question: str) -> bytes:
        content: list[dict[str, Any]] = [{"type": "text", "text": TASK.format(question=question)}]
        content += [{"type": "image_url", "image_url": {"url": _data_address(image)}} for image in images]
        request = {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": DESCRIPTION_TOKENS,
        }
        return json.dumps(request).encode()


@dataclass(frozen=True)
class Transcriber:
    url: str
    model: str
    api_key: SecretStr
    timeout_s: float = ANSWER_WITHIN_S

    @classmethod
    def of(cls, media: Media) -> Transcriber | None:
        """None when the operator has named none."""
        if not media.transcription_url:
            return None
        return cls(media.transcription_url, media.transcription_model, media.transcription_api_key)

    async def transcribe(self, sound: bytes, suffix: str, mime: str) -> str:
        """What is said. `suffix`, e.g. ".ogg", and `mime` tell the server the format. Raises MediaError."""
        form = aiohttp.FormData()
        form.add_field("model", self.model)
        form.add_field("response_format", "json")
        form.add_field("file", sound, filename=f"voice{suffix}", content_type=mime)
        answer = await _posted(
            f"{self.url.rstrip('/')}/audio/transcriptions", self.api_key, self.timeout_s, data=form, headers={}
        )
        text = answer.get("text")
        if not isinstance(text, str):
            raise MediaError("media_unusable")
        if not text.strip():
            raise MediaError("nothing_heard")
        return text.strip()


async def _posted(
    url: str, api_key: SecretStr, timeout_s: float, *, data: bytes | aiohttp.FormData, headers: dict[str, str]
) -> dict[str, Any]:
    """The JSON object that the server answers. Raises MediaError."""
    if key := api_key.get_secret_value().strip():
        headers = {**headers, "Authorization": f"Bearer {key}"}
    timeout = aiohttp.ClientTimeout(total=timeout_s, sock_connect=CONNECT_WITHIN_S)
    try:
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.post(url, data=data, headers=headers) as response,
        ):
            body = await _read(response)
            status = response.status
    except TimeoutError as error:
        log.warning("%s did not answer in time", url)
        raise MediaError("media_timeout") from error
    except (aiohttp.ClientError, OSError) as error:
        log.warning("%s cannot be reached: %s", url, error)
        raise MediaError("media_down") from error
    if status != 200:
        log.warning("%s answered %s", url, status)
        log.debug("%s answered %s: %s", url, status, body[:500])
        raise MediaError(_failure(status))
    try:
        answer = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise MediaError("media_unusable") from error
    if not isinstance(answer, dict):
        raise MediaError("media_unusable")
    return answer


async def _read(response: aiohttp.ClientResponse) -> bytes:
    body = bytearray()
    async for piece in response.content.iter_any():
        body += piece
        if len(body) > LONGEST_ANSWER:
            raise MediaError("media_unusable")
    return bytes(body)


def _failure(status: int) -> Failure:
    if status in (401, 403):
        return "media_wrong_key"
    if status in (429, 503):
        return "media_busy"
    return "media_down" if status >= 500 else "media_refused"


def _data_address(image: bytes) -> str:
    return f"data:{_image_type(image)};base64,{base64.b64encode(image).decode()}"


def _image_type(data: bytes) -> str:
    """By its first bytes, whatever its name says. Raises MediaError."""
    if data.startswith(b"\xff\xd8\xff"):
        return "image/jpeg"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "image/png"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "image/gif"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "image/webp"
    raise MediaError("not_an_image")
