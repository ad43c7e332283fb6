"""Who may enter the vLLM server: whoever has the key, and for adapters only those of our own folder.

vLLM's own --api-key guards the paths below /v1 and a few more. Without it, `/invocations` generates and `/adapters`
loads an adapter from any folder that the process can read. This is an ASGI middleware that vLLM takes in by name
(`--middleware engine.door.Door`); it runs inside the server and before everything else.

    FAMILIAR_ADAPTER_ROOT    the only folder below which adapters may be loaded

For sleep mode vLLM's development server has to be on. Of what that opens only falling asleep and waking up stay open,
with the key. While it sleeps vLLM would keep a request until it wakes, and whoever sent it would wait for a token; here
it is sent back at once as one that found no engine, so that its sender waits for the engine and can say so.

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
CLOSED = (
    *("/invocations", "/adapters"),  # other makers' names for what /v1 has
    # What the development server has beside sleep mode: any method of the workers, other weights, other caches.
    *("/collective_rpc", "/server_info", "/reset_prefix_cache", "/reset_mm_cache", "/reset_encoder_cache"),
    *("/release_kv_cache_memory", "/pause", "/resume", "/is_paused", "/abort_requests", "/get_world_size"),
    *("/init_weight_transfer_engine", "/shutdown_weight_transfer_engine", "/start_weight_update"),
    *("/start_draft_weight_update", "/update_weight", "/finish_weight_update", "/weight_info", "/weight_checker"),
)
SLEEP, WAKE_UP = "/sleep", "/wake_up"
ASLEEP = (WAKE_UP, "/is_sleeping", "/metrics", "/v1/models")  # what it does while it sleeps
LOAD = "/v1/load_lora_adapter"
LONGEST_LOAD_BODY = 65_536


class Door:
    def __init__(self, app: App) -> None:
        self.app = app
        self.expected = f"Bearer {os.environ['VLLM_API_KEY']}".encode()
        self.root = Path(os.environ["FAMILIAR_ADAPTER_ROOT"]).resolve()
        self.asleep = False

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
        elif path in (SLEEP, WAKE_UP):
            await self._fall_asleep_or_wake_up(scope, receive, send)
        elif self.asleep and path not in ASLEEP:
            await _refuse(send, 500, "The engine sleeps.")
        elif path == LOAD:
            await self._load(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    def _has_key(self, scope: Message) -> bool:
        given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
        return hmac.compare_digest(given, self.expected)

    async def _fall_asleep_or_wake_up(self, scope: Message, receive: Receive, send: Send) -> None:
        """Nobody comes in from the moment that it is to sleep until it has woken, or did not fall asleep."""
        before, answered = self.asleep, 500
        falls_asleep = scope["path"].rstrip("/") == SLEEP
        self.asleep = self.asleep or falls_asleep

        async def note(message: Message) -> None:
            nonlocal answered
            answered = message.get("status", answered)
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            self.asleep = falls_asleep if answered == 200 else before

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
