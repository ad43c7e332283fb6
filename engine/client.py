"""Messages in, a streamed reply out: the one way to talk to the engine.

    async with EngineClient(connection, ...) as client:
        async with aclosing(client.stream(request)) as pieces:
            async for piece in pieces: ...      # State* (while the engine is not ready), Delta*, Done

Whoever stops listening stops the work: closing the generator or cancelling its task closes the HTTP connection, and
vLLM aborts the request. When the engine is lost before the first piece of a reply, the request is sent once more as
soon as the engine is back; after it, the reader has seen something that a second try would contradict. An engine that
was started anew on purpose, to serve something else, or sleeps while its GPU is lent, is not lost: requests are sent
again as often as that happens.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Awaitable, Sequence
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import aiohttp

from engine.errors import EngineFailed, EngineLost, ModelUnavailable, ReplyTimeout
from engine.queue import FairQueue
from engine.state import Address, Connection, State
from engine.tokenizer import COMMON_SHIELD, ChatMessage, PromptTokenizer
from engine.wire import Broken, EventSplitter, chunk_of, error_of, metrics_of

CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 30.0  # of everything but replies
RECOVERY_S = 10.0  # a ready engine that does not answer is given this long to answer, or to be found dead
PAUSE_S = 0.25  # between two looks at it
KEEP_IDLE_S = 4.0  # less than the 5 s after which vLLM closes an idle connection, so that none is used as it closes

T = TypeVar("T")


@dataclass(frozen=True)
class ChatRequest:
    """A conversation to be continued by the assistant."""

    messages: tuple[ChatMessage, ...]
    sampling: dict[str, Any]  # only the parameters that are set, under vLLM's names
    person: str  # whose turn it uses when requests have to wait
    adapter: str = ""  # name@version, "" for the base model


@dataclass(frozen=True)
class Delta:
    """The next piece of the reply's text, never empty."""

    text: str


@dataclass(frozen=True)
class Done:
    """The reply is complete. Times in seconds; ttft and total count from the end of the wait for a slot."""

    finish: Literal["stop", "length"]
    model: str  # the base model's name or the adapter's
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    queue_s: float
    ttft_s: float
    total_s: float
    adapter: str = ""  # name@version of what answered, adapter or whole model; "" for the base model


class EngineClient:
    """Talks to the engine that `connection` leads to. Belongs to one event loop; enter it before use."""

    def __init__(
        self,
        connection: Connection,
        *,
        max_concurrent: int,
        first_token_timeout_s: float,
        between_tokens_timeout_s: float,
    ) -> None:
        self._connection = connection
        self._queue = FairQueue(max_concurrent)
        self._first_token_timeout_s = first_token_timeout_s
        self._between_tokens_timeout_s = between_tokens_timeout_s
        self._address: Address | None = None
        self._life = ("", 0, 0)  # of the engine when it became ready: where, how often it had slept, and had crashed
        self._tokenizers: dict[Path, PromptTokenizer | None] = {}
        self._loading = asyncio.Lock()

    async def __aenter__(self) -> Self:
        self._session = aiohttp.ClientSession(
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_IDLE_S),
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    @property
    def connection(self) -> Connection:
        """The way to the engine, for whoever does more with it than ask."""
        return self._connection

    @property
    def waiting(self) -> int:
        """Requests that wait for a slot."""
        return self._queue.waiting

    async def ready(self) -> AsyncGenerator[State, None]:
        """Yield the engine's states until it is ready: none if it is. Starts it if need be. Raises EngineFailed."""
        states = self._connection.wait()
        try:
            async for state in states:
                if state.address is not None and state.phase == "ready":
                    self._address = state.address
                    self._life = (state.address.url, state.sleeps, state.restarts)
                    return
                yield state
        finally:
            if isinstance(states, AsyncGenerator):
                await states.aclose()
        raise EngineFailed("The engine did not become ready.")

    async def address(self) -> Address:
        """What is served and where, as of the last time that the engine was ready. Raises EngineFailed."""
        if self._address is None:
            async with aclosing(self.ready()) as states:
                async for _ in states:
                    pass
        assert self._address is not None
        return self._address

    async def stream(self, request: ChatRequest) -> AsyncGenerator[State | Delta | Done, None]:
        """Generate a reply: the engine's states while it is not ready, then the text as it comes, then one Done.

        Raises EngineFailed, EngineLost, EngineBusy, ReplyTimeout, PromptTooLong, UnknownModel, WrongKey, EngineRefused.
        """
        queued, started, begun = 0.0, 0.0, False
        waiting, waiting_again, lost_before, life = self.ready(), False, False, self._life
        while True:
            async with aclosing(waiting) as states:
                async for state in states:
                    yield state
            lost_before = lost_before or (waiting_again and not self._was_away_since(life))
            life = self._life
            queued = queued or time.monotonic()
            try:
                async with self._queue.slot(request.person):
                    started = started or time.monotonic()
                    async with aclosing(self._reply(request, started - queued, started)) as pieces:
                        async for piece in pieces:
                            if isinstance(piece, Done):
                                done = piece
                                break
                            begun = True
                            yield piece
                yield done  # whatever the listener does with it, the slot is free
                return
            except ReplyTimeout:
                if begun or not await self._is_away():
                    raise
            except Broken as error:
                if lost_before:
                    raise EngineLost(
                        f"The engine was lost twice before it began to reply ({error}). Try again later."
                    ) from error
            waiting, waiting_again = self._recovered(), True

    def _was_away_since(self, life: tuple[str, int, int]) -> bool:
        """Was it started anew, or did it sleep, and did none crash in between?"""
        return self._life[:2] != life[:2] and self._life[2] == life[2]

    async def _is_away(self) -> bool:
        """Is it on purpose that it does not answer?"""
        async with aclosing(self.ready()) as states:
            async for state in states:
                return state.phase == "learning"
        return False

    async def complete(self, request: ChatRequest) -> tuple[str, Done]:
        """The whole reply at once. Raises like `stream`."""
        texts: list[str] = []
        async with aclosing(self.stream(request)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Delta):
                    texts.append(piece.text)
                if isinstance(piece, Done):
                    return "".join(texts), piece
        raise AssertionError("a stream ends with Done or an error")

    async def count(self, messages: Sequence[ChatMessage]) -> int:
        """Tokens of the prompt made of these messages, chat template and the reply's head included.

        Counted here if the model's files are on this machine, else by the engine, which is waited for. Raises
        EngineRefused if the chat template does not take them, EngineFailed, EngineLost.
        """
        address = await self.address()
        tokenizer = await self._tokenizer(address)
        if tokenizer is not None:
            return await asyncio.to_thread(lambda: tokenizer.count(tokenizer.shield(messages)))
        body = {"model": address.model, "messages": COMMON_SHIELD(messages), "add_generation_prompt": True}
        answer = json.loads(await self._ask("POST", "/tokenize", body))
        return int(answer["count"])

    async def metrics(self) -> dict[str, float]:
        """What the engine measures of itself, e.g. "vllm:num_requests_running". Raises EngineFailed, EngineLost."""
        return metrics_of((await self._ask("GET", "/metrics")).decode())

    async def _reply(self, request: ChatRequest, queue_s: float, started: float) -> AsyncGenerator[Delta | Done, None]:
        """Send once and pass on what comes. When the engine is lost: Broken before the first Delta, else EngineLost."""
        address = await self.address()
        body = await self._body(request, address)
        patience = _Patience(self._first_token_timeout_s, self._between_tokens_timeout_s)
        received = _Received()
        try:
            call = self._session.post(f"{address.url}/v1/chat/completions", json=body, headers=_key(address))
            response = await patience.bound(call)
            try:
                if response.status != 200:
                    raise error_of(response.status, await patience.bound(response.read()), body["model"])
                events = EventSplitter()
                while not received.complete:
                    data = await patience.bound(_next_piece(response))
                    heard = received.tokens
                    for event in events.feed(data):
                        if text := received.take(event):
                            if received.ttft_s is None:
                                received.ttft_s = time.monotonic() - started
                            yield Delta(text)
                    if received.tokens > heard:
                        patience.renew()
                with suppress(aiohttp.ClientError, OSError):  # to the very end, so that the connection can serve again
                    async with asyncio.timeout(1):
                        await response.read()
            finally:
                response.close()
            answered = address.whole if body["model"] == address.model else body["model"]
            yield received.done(queue_s, time.monotonic() - started, answered)
        except (aiohttp.ClientError, OSError, Broken) as error:
            reason = str(error) or type(error).__name__
            if received.ttft_s is None:
                raise Broken(reason) from error
            raise EngineLost(f"The engine was lost in the middle of the reply ({reason}). Try again.") from error

    async def _recovered(self) -> AsyncGenerator[State, None]:
        """Yield the states of a lost engine until it answers again. Raises EngineFailed, EngineLost.

        For a moment after its death the connection may still call an engine ready, hence the second look.
        """
        give_up_at = time.monotonic() + RECOVERY_S
        while True:
            async with aclosing(self.ready()) as states:
                restarted = False
                async for state in states:
                    restarted = True
                    yield state
            address = await self.address()
            if await self._answers(address):
                return
            if restarted:
                give_up_at = time.monotonic() + RECOVERY_S
            if time.monotonic() > give_up_at:
                raise EngineLost(f"The engine at {address.url} does not answer. Is it running?")
            await asyncio.sleep(PAUSE_S)

    async def _answers(self, address: Address) -> bool:
        timeout = aiohttp.ClientTimeout(total=CONNECT_TIMEOUT_S)
        try:
            async with self._session.get(f"{address.url}/health", headers=_key(address), timeout=timeout) as response:
                return response.status < 500
        except (aiohttp.ClientError, OSError):
            return False

    async def _ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        """Anything but a reply. Asked once more if the engine is lost."""
        asked_before = False
        while True:
            address = await self.address()
            call = self._session.request(
                method,
                f"{address.url}{path}",
                json=body,
                headers=_key(address),
                timeout=aiohttp.ClientTimeout(total=ANSWER_TIMEOUT_S),
            )
            try:
                async with call as response:
                    answer = await response.read()
                    if response.status == 200:
                        return answer
                    raise error_of(response.status, answer, address.model)
            except (aiohttp.ClientError, OSError, Broken) as error:
                if asked_before:
                    raise EngineLost(f"The engine at {address.url} does not answer: {error}") from error
            asked_before = True
            async with aclosing(self._recovered()) as states:
                async for _ in states:
                    pass

    async def _body(self, request: ChatRequest, address: Address) -> dict[str, Any]:
        tokenizer = await self._tokenizer(address)
        shield = COMMON_SHIELD if tokenizer is None else tokenizer.shield
        return {
            **request.sampling,
            "model": _model(request, address),
            "messages": shield(request.messages),
            "stream": True,
            "stream_options": {"include_usage": True},
        }

    async def _tokenizer(self, address: Address) -> PromptTokenizer | None:
        """The model's own tokenizer, loaded once; None where only the engine can count."""
        folder = address.model_folder
        if folder is None:
            return None
        async with self._loading:
            if folder not in self._tokenizers:
                try:
                    self._tokenizers[folder] = await asyncio.to_thread(PromptTokenizer, folder)
                except ModelUnavailable:
                    self._tokenizers[folder] = None
        return self._tokenizers[folder]


class _Received:
    """What has come of one reply."""

    def __init__(self) -> None:
        self.complete = False
        self.tokens = 0  # chunks that show that the model is at work, whether or not they hold text to be shown
        self.ttft_s: float | None = None
        self._finish: str | None = None
        self._model = ""
        self._usage: dict[str, Any] = {}

    def take(self, event: bytes) -> str:
        """The text that this event adds to the reply. Raises EngineRefused, Broken."""
        if event == b"[DONE]":
            self.complete = True
            return ""
        chunk = chunk_of(event)
        self._usage = chunk.get("usage") or self._usage
        if not chunk.get("choices"):
            return ""
        choice = chunk["choices"][0]
        self._finish = choice.get("finish_reason") or self._finish
        self._model = chunk.get("model") or self._model
        delta = choice.get("delta") or {}
        text = delta.get("content") or ""
        if text or "role" not in delta:  # the role comes before the first token; half a character has no text
            self.tokens += 1
        return text

    def done(self, queue_s: float, total_s: float, adapter: str) -> Done:
        """Raises Broken if the engine gave the reply up."""
        if self._finish in (None, "abort"):
            raise Broken("it gave the reply up")
        details = self._usage.get("prompt_tokens_details") or {}
        return Done(
            finish="length" if self._finish == "length" else "stop",
            model=self._model,
            prompt_tokens=self._usage.get("prompt_tokens") or 0,
            cached_tokens=details.get("cached_tokens") or 0,
            completion_tokens=self._usage.get("completion_tokens") or 0,
            queue_s=queue_s,
            ttft_s=total_s if self.ttft_s is None else self.ttft_s,
            total_s=total_s,
            adapter=adapter,
        )


class _Patience:
    """Bounds the wait for the first token, from now on, and for each next one. Raises ReplyTimeout."""

    def __init__(self, first_s: float, between_s: float) -> None:
        self._between_s = between_s
        self._until = asyncio.get_running_loop().time() + first_s
        self._words = f"The reply did not begin within {first_s:g} s (engine.first_token_timeout_s). Try again later."

    def renew(self) -> None:
        """A token came."""
        self._until = asyncio.get_running_loop().time() + self._between_s
        self._words = f"The reply stalled: nothing came for {self._between_s:g} s (engine.between_tokens_timeout_s)."

    async def bound(self, answer: Awaitable[T]) -> T:
        try:
            async with asyncio.timeout_at(self._until) as limit:
                return await answer
        except TimeoutError as error:
            if limit.expired():
                raise ReplyTimeout(self._words) from error
            raise


async def _next_piece(response: aiohttp.ClientResponse) -> bytes:
    """The bytes that have come, at least one. Raises Broken, aiohttp.ClientError."""
    try:
        piece = await response.content.readany()
    except RuntimeError as error:  # aiohttp's, for a connection that was closed on this side
        raise Broken("the connection was closed") from error
    if not piece:
        raise Broken("the stream ended before the reply")
    return piece


def answering(adapter: str, address: Address) -> str:
    """Who answers where this adapter is wanted, name@version; "" is the base model.

    Beside a whole model nothing else is served, and a turn may have waited while the engine was started onto or off
    one. It is answered by what is there then; `Done.adapter` says what that was.
    """
    return address.whole if address.whole or adapter in address.wholes else adapter


def _model(request: ChatRequest, address: Address) -> str:
    """The server's name for what answers the request."""
    adapter = answering(request.adapter, address)
    return address.model if adapter == address.whole else adapter


def _key(address: Address) -> dict[str, str]:
    return {"Authorization": f"Bearer {address.api_key}"} if address.api_key else {}
