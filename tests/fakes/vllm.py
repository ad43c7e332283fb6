"""A server that speaks vLLM's wire format and does what a test tells it to.

    async with FakeVllm() as vllm:
        vllm.script(Reply("Hel", "lo"), Refusal(503), Cut())  # the next three chat requests, in order
        ...  # vllm.address leads there, vllm.requests tells what came

A reply is a row of steps: a text is one token in a piece of its own, the other steps are the classes below. Requests
beyond the script get `vllm.otherwise`. A prompt has one token a word, four a message, three for the reply's head.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from aiohttp import web

from engine.state import Address, Phase, State


@dataclass(frozen=True)
class Together:
    """Several tokens that arrive in one piece."""

    tokens: tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """One token whose line arrives in pieces of `size` bytes; size 1 cuts every character that has more."""

    token: str
    size: int = 1


@dataclass(frozen=True)
class Hold:
    """The stream stands still here until the test sets `release`; `reached` is set when it does."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    release: asyncio.Event = field(default_factory=asyncio.Event)


@dataclass(frozen=True)
class Raw:
    """Bytes as they are, e.g. a comment or a chunk of another shape."""

    data: bytes


@dataclass(frozen=True)
class KeepAlives:
    """Nothing but a comment every `interval_s` from here on, as a server sends that has no token yet."""

    interval_s: float = 0.02


@dataclass(frozen=True)
class Fault:
    """An error inside the stream, as vLLM sends when its core dies; the stream ends after it."""

    message: str = "EngineCore encountered an issue. See stack trace (above) for the root cause."
    code: int = 500


@dataclass(frozen=True)
class Cut:
    """The connection breaks. In a script instead of a reply: before anything is answered."""


Step = str | Together | Split | Hold | Raw | KeepAlives | Fault | Cut


class Reply:
    """A streamed answer: its steps, then the finish reason, the usage and [DONE], unless told otherwise."""

    def __init__(
        self, *steps: Step, finish: str | None = "stop", cached_tokens: int = 0, usage: bool = True, done: bool = True
    ) -> None:
        self.steps = steps
        self.finish = finish
        self.cached_tokens = cached_tokens
        self.usage = usage
        self.done = done


@dataclass(frozen=True)
class Refusal:
    """An answer with an error status."""

    status: int
    message: str = "No."
    type: str = "BadRequestError"
    param: str | None = None

    def response(self) -> web.Response:
        error = {"message": self.message, "type": self.type, "param": self.param, "code": self.status}
        return web.json_response({"error": error}, status=self.status)


@dataclass
class Request:
    """What came in."""

    path: str
    body: dict[str, Any]
    headers: dict[str, str]
    aborted: bool = False  # the client left before the end of the answer


SEEN = web.RequestKey("seen", Request)


class FakeVllm:
    """One server on a free port of this machine. Every attribute may be changed while it runs."""

    def __init__(self, *, model: str = "base", api_key: str = "key", max_model_len: int = 4096) -> None:
        self.model = model
        self.api_key = api_key
        self.max_model_len = max_model_len
        self.healthy = True
        self.lora = True  # False: started without --enable-lora, the two adapter endpoints do not exist
        self.adapters: dict[str, str] = {}  # loaded ones, name to path
        self.adapter_faults: dict[str, Refusal] = {}  # the answer to loading an adapter of this name
        self.sleep_mode = True  # False: started without it, or without the development server
        self.sleeping = False
        self.otherwise: Reply | Refusal | Cut = Reply("Hello", " there", "!")
        self.requests: list[Request] = []
        self.running = 0  # chat requests being answered
        self.peers: set[object] = set()  # the clients' ends of the connections that brought requests
        self.port = 0
        self._script: deque[Reply | Refusal | Cut] = deque()
        self._runner: web.AppRunner | None = None
        self._stopping = False

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def address(self) -> Address:
        return Address(url=self.url, api_key=self.api_key, model=self.model, max_model_len=self.max_model_len)

    @property
    def chats(self) -> list[Request]:
        return [request for request in self.requests if request.path == "/v1/chat/completions"]

    @property
    def aborted(self) -> list[Request]:
        return [request for request in self.requests if request.aborted]

    def script(self, *answers: Reply | Refusal | Cut) -> None:
        """Append to the answers that the next chat requests get."""
        self._script.extend(answers)

    def count(self, messages: list[dict[str, str]]) -> int:
        return sum(len(message["content"].split()) + 4 for message in messages) + 3

    async def start(self) -> None:
        """Listen; after `stop`, on the same port again."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/v1/load_lora_adapter", self._load_adapter)
        app.router.add_post("/v1/unload_lora_adapter", self._unload_adapter)
        app.router.add_post("/tokenize", self._tokenize)
        app.router.add_get("/health", self._health)
        app.router.add_post("/sleep", self._sleep)
        app.router.add_post("/wake_up", self._wake_up)
        app.router.add_get("/is_sleeping", self._is_sleeping)
        app.router.add_get("/metrics", self._metrics)
        app.middlewares.append(self._record_and_authenticate)
        self._stopping = False
        self._runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.05)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        """Close every connection and refuse new ones."""
        self._stopping = True
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    @web.middleware
    async def _record_and_authenticate(
        self, request: web.Request, handler: Callable[[web.Request], Any]
    ) -> web.StreamResponse:
        seen = Request(request.path, await request.json() if request.can_read_body else {}, dict(request.headers))
        self.requests.append(seen)
        request[SEEN] = seen
        if request.transport is not None:
            self.peers.add(request.transport.get_extra_info("peername"))
        if request.path.startswith("/v1") and request.headers.get("Authorization") != f"Bearer {self.api_key}":
            return web.json_response({"error": "Unauthorized"}, status=401)
        response: web.StreamResponse = await handler(request)
        return response

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        seen: Request = request[SEEN]
        if (refusal := self._unknown(seen.body["model"])) is not None:
            return refusal.response()
        tokens = self.count(seen.body["messages"])
        if tokens > self.max_model_len:
            return Refusal(
                400,
                f"This model's maximum context length is {self.max_model_len} tokens. However, your prompt contains "
                f"{tokens} input tokens, which exceeds this limit even without any output tokens. Please reduce the "
                f"length of the input prompt. (parameter=input_tokens, value={tokens})",
                param="input_tokens",
            ).response()
        if self.sleeping:  # behind engine.door, which sends it back
            return Refusal(500, "The engine sleeps.", "refused").response()
        answer = self._script.popleft() if self._script else self.otherwise
        if isinstance(answer, Refusal):
            return answer.response()
        if isinstance(answer, Cut):
            _cut(request)
            return web.Response()
        self.running += 1
        try:
            return await self._stream(request, seen, answer)
        except (asyncio.CancelledError, ConnectionError):
            seen.aborted = not self._stopping
            raise
        finally:
            self.running -= 1

    async def _stream(self, request: web.Request, seen: Request, reply: Reply) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream; charset=utf-8"})
        await response.prepare(request)
        await response.write(self._chunk(seen, {"role": "assistant", "content": ""}))
        for step in reply.steps:
            if isinstance(step, Cut):
                _cut(request)
                return response
            if isinstance(step, Fault):
                error = {"message": step.message, "type": "InternalServerError", "param": None, "code": step.code}
                await response.write(_event({"error": error}) + b"data: [DONE]\n\n")
                return response
            if isinstance(step, Hold):
                step.reached.set()
                await step.release.wait()
                continue
            while isinstance(step, KeepAlives):
                await response.write(b": keep-alive\n\n")
                await asyncio.sleep(step.interval_s)
            for piece in self._pieces(seen, step):
                await response.write(piece)
                await asyncio.sleep(0.001 if isinstance(step, Split) else 0)  # so that pieces do not travel together
        if reply.finish is not None:
            await response.write(self._chunk(seen, {"content": ""}, reply.finish))
        if reply.usage:
            await response.write(self._usage(seen, reply))
        if reply.done:
            await response.write(b"data: [DONE]\n\n")
            await asyncio.sleep(0.005)  # as with vLLM, the end of the body comes a moment later
        return response

    def _pieces(self, seen: Request, step: str | Together | Split | Raw) -> list[bytes]:
        if isinstance(step, Raw):
            return [step.data]
        if isinstance(step, Together):
            return [b"".join(self._chunk(seen, {"content": token}) for token in step.tokens)]
        if isinstance(step, Split):
            line = self._chunk(seen, {"content": step.token})
            return [line[i : i + step.size] for i in range(0, len(line), step.size)]
        return [self._chunk(seen, {"content": step})]

    def _chunk(self, seen: Request, delta: dict[str, str], finish: str | None = None) -> bytes:
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}
        return _event({**_head(seen), "choices": [choice]})

    def _usage(self, seen: Request, reply: Reply) -> bytes:
        prompt_tokens = self.count(seen.body["messages"])
        completion_tokens = sum(
            len(step.tokens) if isinstance(step, Together) else isinstance(step, (str, Split)) for step in reply.steps
        )
        usage = {
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
            "prompt_tokens_details": {"cached_tokens": reply.cached_tokens},
        }
        return _event({**_head(seen), "choices": [], "usage": usage})

    def _unknown(self, name: str) -> Refusal | None:
        if name == self.model or name in self.adapters:
            return None
        message = f"The model `{name}` does not exist. Valid aliases: {self.model}."
        return Refusal(404, message, "NotFoundError", "model")

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = request[SEEN].body
        if (refusal := self._unknown(body["model"])) is not None:
            return refusal.response()
        count = self.count(body["messages"])
        return web.json_response({"count": count, "max_model_len": self.max_model_len, "tokens": list(range(count))})

    async def _models(self, _: web.Request) -> web.Response:
        base = {"id": self.model, "object": "model", "root": f"models/{self.model}", "parent": None}
        adapters = [
            {"id": name, "object": "model", "root": path, "parent": self.model} for name, path in self.adapters.items()
        ]
        return web.json_response({"object": "list", "data": [{**base, "max_model_len": self.max_model_len}, *adapters]})

    async def _load_adapter(self, request: web.Request) -> web.Response:
        if not self.lora:
            return web.json_response({"detail": "Not Found"}, status=404)
        body = request[SEEN].body
        name, path = body["lora_name"], body["lora_path"]
        if name in self.adapters and not body.get("load_inplace"):
            return Refusal(400, f"The lora adapter '{name}' has already been loaded.", "InvalidUserInput").response()
        if name in self.adapter_faults:
            return self.adapter_faults[name].response()
        if not (Path(path) / "adapter_config.json").is_file():
            message = f"Loading lora {name} failed: No adapter found for {path}"
            return Refusal(404, message, "NotFoundError").response()
        self.adapters[name] = path
        return web.Response(text=f"Success: LoRA adapter '{name}' added successfully.")

    async def _unload_adapter(self, request: web.Request) -> web.Response:
        if not self.lora:
            return web.json_response({"detail": "Not Found"}, status=404)
        name = request[SEEN].body["lora_name"]
        if self.adapters.pop(name, None) is None:
            return Refusal(404, f"The lora adapter '{name}' cannot be found.", "NotFoundError").response()
        return web.Response(text=f"Success: LoRA adapter '{name}' removed successfully.")

    async def _health(self, _: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503)

    async def _sleep(self, _: web.Request) -> web.Response:
        if not self.sleep_mode:
            return web.json_response({"detail": "Not Found"}, status=404)
        while self.running:
            await asyncio.sleep(0.005)
        self.sleeping = True
        return web.json_response({"status": "sleeping", "level": 1})

    async def _wake_up(self, _: web.Request) -> web.Response:
        if not self.sleep_mode:
            return web.json_response({"detail": "Not Found"}, status=404)
        self.sleeping = False
        return web.json_response({"status": "awake", "tags": None})

    async def _is_sleeping(self, _: web.Request) -> web.Response:
        return web.json_response({"is_sleeping": self.sleeping})

    async def _metrics(self, _: web.Request) -> web.Response:
        labels = f'{{engine="0",model_name="{self.model}"}}'
        return web.Response(
            text="# HELP vllm:num_requests_running Number of requests in model execution batches.\n"
            "# TYPE vllm:num_requests_running gauge\n"
            f"vllm:num_requests_running{labels} {float(self.running)}\n"
            f"vllm:num_requests_waiting{labels} 0.0\n"
        )


@dataclass
class FakeConnection:
    """Leads to `address` through the states in `before`, which the next wait uses up, or to `failure`."""

    address: Address
    before: deque[State] = field(default_factory=deque)
    failure: Exception | None = None
    waits: int = 0

    def passes_through(self, *phases: Phase) -> None:
        """Let the next wait see these phases before it is ready."""
        self.before.extend(State(phase=phase, since=0) for phase in phases)

    async def wait(self) -> AsyncIterator[State]:
        self.waits += 1
        while self.before:
            yield self.before.popleft()
        if self.failure is not None:
            raise self.failure
        yield State(phase="ready", since=0, address=self.address)


async def eventually(condition: Callable[[], bool], seconds: float = 10) -> None:
    """Return as soon as the condition holds; fail the test when it does not within the time."""
    async with asyncio.timeout(seconds):
        while not condition():
            await asyncio.sleep(0.005)


def _cut(request: web.Request) -> None:
    assert request.transport is not None
    request.transport.abort()


def _head(seen: Request) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": seen.body["model"]}


def _event(data: dict[str, Any]) -> bytes:
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n".encode()
