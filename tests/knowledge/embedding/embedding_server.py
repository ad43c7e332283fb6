"""An OpenAI-compatible server of embeddings on this machine, which fails in every way it is told to."""

from __future__ import annotations

import asyncio
import hashlib
import json
import threading
from collections.abc import Callable
from typing import Any

from aiohttp import web

KEY = "sk-very-secret-41"


def vector_of(text: str) -> list[float]:
    """Another one for every text, and not of unit length."""
    return [float(byte) - 127.5 for byte in hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8]]


class Server:
    """Answers on a loop of its own, since the embedder blocks the test's."""

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.faults: list[Callable[[], web.Response]] = []  # instead of the next answers
        self.change: Callable[[dict[str, Any]], Any] = lambda answer: answer
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever)
        self.thread.start()
        self.port: int = asyncio.run_coroutine_threadsafe(self._start(), self.loop).result()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def close(self) -> None:
        if self.loop.is_closed():
            return
        asyncio.run_coroutine_threadsafe(self.runner.cleanup(), self.loop).result()
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.loop.close()

    async def _start(self) -> int:
        app = web.Application(client_max_size=2**26)
        app.router.add_post("/v1/embeddings", self._answer)
        self.runner = web.AppRunner(app)
        await self.runner.setup()
        site = web.TCPSite(self.runner, "127.0.0.1", 0)
        await site.start()
        port: int = self.runner.addresses[0][1]
        return port

    async def _answer(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        if self.faults:
            return self.faults.pop(0)()
        data = [{"index": number, "embedding": vector_of(text)} for number, text in enumerate(body["input"])]
        changed = self.change({"object": "list", "data": data, "model": body["model"]})
        return web.Response(text=json.dumps(changed), content_type="application/json")


def status(code: int, **headers: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=code, text=f"no, {KEY}", headers=headers)
