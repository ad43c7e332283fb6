"""A server that speaks the OpenAI format for photos and for sound, and does what a test tells it to.

async with FakeMedia() as media:
    media.description = "A red bicycle."
    media.otherwise = lambda: web.Response(status=503)   # instead of every answer from now on
    ...  # media.url leads there; media.looks and media.sounds tell what came
"""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

from aiohttp import BodyPartReader, web

JPEG = b"\xff\xd8\xff\xe0 a photo"
PNG = b"\x89PNG\r\n\x1a\n a picture"


@dataclass(frozen=True)
class Look:
    """A request about photos."""

    text: str
    images: tuple[tuple[str, bytes], ...]  # MIME type and content
    model: str
    headers: dict[str, str]


@dataclass(frozen=True)
class Sound:
    """A request about a recording."""

    name: str
    mime: str
    data: bytes
    fields: dict[str, str]
    headers: dict[str, str]


class FakeMedia:
    def __init__(self) -> None:
        self.description: Any = "A red bicycle."
        self.transcript: Any = "Good morning."
        self.otherwise: Callable[[], web.Response] | None = None
        self.reached = asyncio.Event()
        self.go_on = asyncio.Event()  # clear it and requests wait
        self.go_on.set()
        self.left = asyncio.Event()  # a client left before it was answered
        self.looks: list[Look] = []
        self.sounds: list[Sound] = []
        self._port = 0
        self._runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._port}/v1"

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._describe)
        app.router.add_post("/v1/audio/transcriptions", self._transcribe)
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05, access_log=None)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self._port = self._runner.addresses[0][1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._runner is not None
        await self._runner.cleanup()

    async def _describe(self, request: web.Request) -> web.Response:
        body = await request.json()
        (message,) = body["messages"]
        text = "".join(part["text"] for part in message["content"] if part["type"] == "text")
        addresses = [part["image_url"]["url"] for part in message["content"] if part["type"] == "image_url"]
        self.looks.append(Look(text, tuple(map(_opened, addresses)), body["model"], dict(request.headers)))
        answer = {"choices": [{"message": {"role": "assistant", "content": self.description}}]}
        return await self._answered(answer)

    async def _transcribe(self, request: web.Request) -> web.Response:
        fields, file = {}, ("", "", b"")
        async for part in await request.multipart():
            assert isinstance(part, BodyPartReader)
            data = bytes(await part.read(decode=True))
            if part.filename is None:
                fields[str(part.name)] = data.decode()
            else:
                assert part.name == "file"
                file = part.filename, part.headers["Content-Type"], data
        self.sounds.append(Sound(*file, fields, dict(request.headers)))
        return await self._answered({"text": self.transcript})

    async def _answered(self, answer: dict[str, Any]) -> web.Response:
        self.reached.set()
        try:
            await self.go_on.wait()
        except asyncio.CancelledError:
            self.left.set()
            raise
        return self.otherwise() if self.otherwise else web.json_response(answer)


def _opened(address: str) -> tuple[str, bytes]:
    head, _, data = address.partition(",")
    mime, _, coding = head.removeprefix("data:").partition(";")
    assert coding == "base64", address[:40]
    return mime, base64.b64decode(data)
