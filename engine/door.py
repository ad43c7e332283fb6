"""Who may enter the vLLM server: whoever has the key, and for adapters only those of our own folder.

vLLM's own --api-key guards the paths below /v1 and a few more. Without it, `/invocations` generates and `/adapters`
loads an adapter from any folder that the process can read. This is an ASGI middleware that vLLM takes in by name
(`--middleware engine.door.Door`); it runs inside the server and before everything else.

    FAMILIAR_ADAPTER_ROOT    the only folder below which adapters may be loaded

Another user of the machine can still reach the port, since loopback is shared: the key is what keeps them out.
"""

from __future__ import annotations

import hmac
import json
import os
from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import Path
from typing import Any

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

OPEN = {"/health", "/ping"}  # they say that it is up, and nothing else
CLOSED = ("/invocations", "/adapters")  # other makers' names for what /v1 has
LOAD = "/v1/load_lora_adapter"
LONGEST_LOAD_BODY = 65_536


class Door:
    def __init__(self, app: App) -> None:
        self.app = app
        self.expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()
        self.root = Path(os.environ["FAMILIAR_ADAPTER_ROOT"]).resolve()

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        path = scope["path"].rstrip("/") or "/"
        if path in OPEN:
            await self.app(scope, receive, send)
        elif not self._has_key(scope):
            await _refuse(send, 401, "The API key is missing or wrong.")
        elif path.startswith(CLOSED):
            await _refuse(send, 404, "Not offered here.")
        elif path == LOAD:
            await self._load(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _has_key(self, scope: Message) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self.expected)

    async def _load(self, scope: Message, receive: Receive, send: Send) -> None:
        body = b""
        while True:
            part = await receive()
            if part["type"] != "http.request":
                return
            body += part.get("body", b"")
            if len(body) > LONGEST_LOAD_BODY:
                await _refuse(send, 413, "The request is too long.")
                return
            if not part.get("more_body"):
                break
        if not self._below_root(body):
            await _refuse(send, 403, f"Adapters are loaded from {self.root} alone.")
            return
        parts = iter([{"type": "http.request", "body": body, "more_body": False}])

        async def again() -> Message:
            return next(parts, None) or await receive()

        await self.app(scope, again, send)

    def _below_root(self, body: bytes) -> bool:
        try:
            asked = json.loads(body)["lora_path"]
            return Path(asked).is_absolute() and Path(asked).resolve().is_relative_to(self.root)
        except (ValueError, KeyError, TypeError):
            return False


async def _refuse(send: Send, status: int, message: str) -> None:
    body = json.dumps({"error": {"message": message, "type": "refused", "code": status}}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
