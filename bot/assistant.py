"""One turn, from a person's message to the logged reply. This is the only place where replies are made.

A channel calls `turn` (or `reply_to`, for another reply to a message that is already stored) and renders the events.
Whatever way a turn ends, what the person saw is in the log: a stopped, closed or cancelled reply is kept as far as it
was handed out, and so is one that the engine broke off. The exception is a reply to something in the inbox that is
cancelled by a shutdown, since the next start replies to that anew. Nothing that goes wrong inside a turn is raised; it
is told as the last event.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

from bot import passages as quoting
from bot import prompt as prompts
from bot.citations import Citations, attributed
from bot.errors import kind_of
from bot.events import Event, Failed, Finished, Retrieved, Source, Token, Waiting
from bot.retrieval import NOT_SEARCHED, Finder, Retrieval, readable_by, retrieve
from bot.rewriting import rewritten
from bot.stoppable import arrivals
from bot.texts import texts_for
from engine import adapters
from engine.client import ChatRequest, Delta, Done, EngineClient
from engine.errors import EngineFailed
from engine.models import sampling_defaults
from engine.state import Address, State
from knowledge.passages import Passage
from settings import Persona, Settings
from store import conversations, quotations
from store.catalogue import owners
from store.session import Store
from store.tables import Conversation, Message, Person

log = logging.getLogger("familiar")

NOTHING_SENT = prompts.Prompt((), None, 0)
_NOT_ASKED = Done("stop", "", 0, 0, 0, 0.0, 0.0, 0.0)  # a reply that the engine had no part in


@dataclass(frozen=True)
class Origin:
    """What a channel knows of a message beside its text."""

    context: str = ""  # what the prompt holds before the text, e.g. the message that this one answers in a group
    quoted: tuple[int, ...] = ()  # persons other than its author whose words are in `context`
    arrivals: tuple[int, ...] = ()  # the rows of the inbox that it came from; they are told what became of them


HERE = Origin()


class Assistant:
    """Makes replies. One for the whole process; safe for any number of turns at once."""

    def __init__(self, store: Store, client: EngineClient, settings: Settings, knowledge: Finder | None = None) -> None:
        """`knowledge`: where passages are found; without it no documents are searched."""
        self.store = store
        self.client = client
        self.settings = settings
        self.knowledge = knowledge
        self._under_way: WeakValueDictionary[int, asyncio.Lock] = WeakValueDictionary()
        self._advice: dict[Path | None, dict[str, Any]] = {}
        self._saving: set[asyncio.Task[tuple[Message, int]]] = set()

    def persona_of(self, conversation: Conversation) -> Persona:
        """The conversation's persona, or the default one when it has none or the operator has removed it."""
        persona = self.settings.persona_named(conversation.persona)
        return persona or next(each for each in self.settings.persona if each.name == self.settings.assistant.persona)

    async def turn(
        self,
        conversation: Conversation,
        person: Person,
        text: str,
        *,
        parent_id: int | Literal["head"] | None = "head",
        stop: asyncio.Event | None = None,
        origin: Origin = HERE,
    ) -> AsyncGenerator[Event]:
        """Store `text` as the person's message under `parent_id` and reply to it.

        "head" is the branch being continued, as it stands when this turn's time has come: turns of one conversation
        run one after the other. None begins a new branch from the root. Setting `stop` ends the reply with a
        `Finished`; closing the generator or cancelling its task ends it without an event.
        """
        began = time.monotonic()
        async with self._lock(conversation):
            try:
                asked = await asyncio.to_thread(self._take, conversation, person, text, parent_id, origin)
            except Exception as error:
                yield _failed(error)
                return
            async with aclosing(self._reply(_Turn(began), asked, stop)) as events:
                async for event in events:
                    yield event

    async def reply_to(
        self,
        conversation: Conversation,
        person: Person,
        user_message_id: int,
        *,
        stop: asyncio.Event | None = None,
        origin: Origin = HERE,
    ) -> AsyncGenerator[Event]:
        """A reply to a message of the person's that is stored, beside those it has: a retry, or after a crash.

        Of `origin`, only the arrivals count: the message stands as it was stored.
        """
        began = time.monotonic()
        async with self._lock(conversation):
            try:
                asked = await asyncio.to_thread(self._find, conversation, person, user_message_id, origin)
            except Exception as error:
                yield _failed(error)
                return
            async with aclosing(self._reply(_Turn(began), asked, stop)) as events:
                async for event in events:
                    yield event

    # These two block, and do at one go all that the store is needed for before the engine is asked: beside a model that
    # takes every core, it is each change from thread to thread that a person waits for.

    def _take(
        self,
        conversation: Conversation,
        person: Person,
        text: str,
        parent_id: int | Literal["head"] | None,
        origin: Origin,
    ) -> _Asked:
        conversation = conversations.get(self.store, _id(conversation), _id(person))
        parent = conversation.head_id if parent_id == "head" else parent_id
        sent = f"{origin.context}\n\n{text}" if origin.context else ""
        message = conversations.add_user(
            self.store, _id(conversation), parent, text, sent, quoted=origin.quoted, arrivals=origin.arrivals
        )
        return self._asked(conversation, person, message, origin)

    def _find(self, conversation: Conversation, person: Person, message_id: int, origin: Origin) -> _Asked:
        conversation = conversations.get(self.store, _id(conversation), _id(person))
        return self._asked(conversation, person, conversations.message(self.store, message_id, _id(person)), origin)

    def _asked(self, conversation: Conversation, person: Person, message: Message, origin: Origin) -> _Asked:
        before = message.parent_id
        history = [] if before is None else conversations.path(self.store, before, prompts=False)
        persona = self.persona_of(conversation)
        adapter = adapters.resolve(self.store, conversation.adapter or persona.adapter)
        return _Asked(conversation, person, message, history, persona, adapter, origin.arrivals)

    def _lock(self, conversation: Conversation) -> asyncio.Lock:
        return self._under_way.setdefault(_id(conversation), asyncio.Lock())

    async def _reply(self, turn: _Turn, asked: _Asked, stop: asyncio.Event | None) -> AsyncGenerator[Event]:
        try:
            async with aclosing(self._generate(turn, asked, stop)) as events:
                async for event in events:
                    yield event
        except (GeneratorExit, asyncio.CancelledError):
            if not asked.arrivals:  # what arrived on a channel that is shut down is replied to anew by the next start
                await self._keep_what_was_shown(turn, asked.message)
            raise
        except Exception as error:
            turn.error = str(error) or type(error).__name__
            unsaved = await self._keep_what_was_shown(turn, asked.message)
            yield replace(unsaved or _failed(error), asked_id=_id(asked.message))
            return
        yield await self._finish(turn, asked)

    async def _generate(self, turn: _Turn, asked: _Asked, stop: asyncio.Event | None) -> AsyncGenerator[Event]:
        """Waiting and tokens, noted in `turn` as they are handed out. Ends early when `stop` is set."""
        async with aclosing(arrivals(self._answer(turn, asked), stop)) as items:
            async for at, item in items:
                if isinstance(item, Delta):
                    if text := turn.take(item.text, at):
                        yield Token(text)
                elif isinstance(item, Done):
                    turn.done = item
                elif isinstance(item, Retrieved):
                    yield item
                else:
                    yield Waiting(item.phase, max(0.0, time.time() - item.since), item.detail)
        if rest := turn.last_words(asked.message.content):
            yield Token(rest)

    async def _answer(self, turn: _Turn, asked: _Asked) -> AsyncGenerator[State | Retrieved | Delta | Done]:
        turn.retrieval = await self._retrieve(asked)
        if turn.retrieval.unanswered and self.settings.knowledge.unanswered == "only_documents":
            yield turn.retrieved()
            yield Delta(texts_for(self._language(asked.person)).t("knowledge.not_in_documents"))
            yield _NOT_ASKED
            return
        async with aclosing(self.client.ready()) as states:
            async for state in states:
                yield state
        await self._prepare(turn, await self.client.address(), asked)
        if turn.retrieval is not NOT_SEARCHED:
            yield turn.retrieved()
        request = ChatRequest(turn.prompt.messages, turn.sampling, person=str(asked.person.id), adapter=turn.adapter)
        async with aclosing(self.client.stream(request)) as items:
            async for item in items:
                yield item

    async def _retrieve(self, asked: _Asked) -> Retrieval:
        async def rewrite(question: str, before: Sequence[str]) -> str:
            return await rewritten(self.client, str(asked.person.id), question, before)

        return await retrieve(
            self.knowledge,
            self.settings.knowledge,
            asked.message.content,
            asked.history,
            readable_by(asked.person, asked.conversation),
            rewrite,
        )

    async def _prepare(self, turn: _Turn, address: Address, asked: _Asked) -> None:
        """Fill in what the engine is asked. Raises PromptTooLong."""
        persona, history, length = asked.persona, asked.history, address.max_model_len
        reserve = min(self.settings.assistant.reply_reserve_tokens, persona.sampling.max_tokens, length // 2)
        turn.model, turn.adapter = address.model, asked.adapter
        variables = prompts.variables(asked.conversation.created_at, asked.person.name, self._language(asked.person))
        turn.prompt = await prompts.build(
            persona,
            variables,
            history,
            await self._with_passages(turn, asked, variables, length - reserve),
            budget=length - reserve,
            count=self.client.count,
            window_start_id=next(
                (each.window_start_id for each in reversed(history) if each.role == "assistant"), None
            ),
        )
        turn.sampling = self._advised(address.model_folder) | persona.sampling.model_dump(exclude_none=True)
        turn.sampling["max_tokens"] = min(persona.sampling.max_tokens, length - turn.prompt.prompt_tokens)

    async def _with_passages(self, turn: _Turn, asked: _Asked, variables: dict[str, str], budget: int) -> str:
        """The newest message as it is sent: with as many of the passages as their share of the room has place for."""
        text = asked.message.sent or asked.message.content
        if not turn.retrieval.passages:
            return text
        bare = await prompts.build(asked.persona, variables, (), text, budget=budget, count=self.client.count)
        room = int((budget - bare.prompt_tokens) * self.settings.knowledge.prompt_share)
        language = quoting.language_of(asked.message.content)
        readable = await asyncio.to_thread(self._quotable, asked, turn.retrieval.passages)
        turn.passages = await quoting.within(readable, text, room, self.client.count, language)
        turn.citations = Citations(len(turn.passages))
        return quoting.framed(turn.passages, text, language) if turn.passages else text

    def _quotable(self, asked: _Asked, passages: Sequence[Passage]) -> Sequence[Passage]:
        """Note whose words the prompt will hold, so that they can be taken out again; none of somebody forgotten."""
        assert self.knowledge is not None, "it found these"
        givers = self.knowledge.givers(passages) - {_id(asked.person)}
        if not givers or quotations.note(self.store, _id(asked.message), givers):
            return passages
        return [passage for passage in passages if passage.owner == owners.SHARED]

    def _advised(self, model_folder: Path | None) -> dict[str, Any]:
        """The model's own sampling. Its folder does not change while it is served, so it is read once."""
        if model_folder not in self._advice:
            self._advice[model_folder] = sampling_defaults(model_folder)
        return self._advice[model_folder]

    def _language(self, person: Person) -> str:
        language = self.settings.assistant.language
        return person.language or "en" if language == "auto" else language

    async def _finish(self, turn: _Turn, asked: _Asked) -> Finished | Failed:
        if turn.done is None and not turn.text:
            return turn.finished(message_id=0, asked_id=_id(asked.message), siblings=0)
        try:
            reply, siblings = await self._save(turn.as_reply(asked.message), asked.arrivals)
        except Exception as error:
            return replace(_not_saved(error), asked_id=_id(asked.message))
        return turn.finished(message_id=_id(reply), asked_id=_id(asked.message), siblings=siblings)

    async def _keep_what_was_shown(self, turn: _Turn, message: Message) -> Failed | None:
        """Log the part of a reply that was handed out before it broke off; says so when it cannot be."""
        if not turn.text:
            return None
        try:
            await self._save(turn.as_reply(message))
        except Exception as error:
            return _not_saved(error)
        return None

    async def _save(self, reply: Message, arrivals: Sequence[int] = ()) -> tuple[Message, int]:
        """The logged reply and how many its message has now. Goes on to its end when the caller is cancelled."""

        def save() -> tuple[Message, int]:
            saved = conversations.add_reply(self.store, reply, arrivals=arrivals)
            return saved, conversations.count_replies(self.store, saved.parent_id or 0)

        saving = asyncio.create_task(asyncio.to_thread(save))
        self._saving.add(saving)
        saving.add_done_callback(self._saving.discard)
        return await asyncio.shield(saving)


@dataclass(frozen=True)
class _Asked:
    """A person's stored message and all that its reply needs from the store."""

    conversation: Conversation
    person: Person
    message: Message
    history: list[Message]  # root to the message's parent
    persona: Persona
    adapter: str  # name@version, "" for the base model
    arrivals: tuple[int, ...]


@dataclass
class _Turn:
    """What is known of a turn so far; at its end, everything that is logged."""

    began: float  # time.monotonic()
    prompt: prompts.Prompt = NOTHING_SENT
    model: str = ""
    adapter: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    deltas: int = 0
    first_at: float = 0
    last_at: float = 0
    done: Done | None = None
    error: str = ""
    retrieval: Retrieval = NOT_SEARCHED
    passages: tuple[Passage, ...] = ()  # those in the prompt
    citations: Citations = field(default_factory=lambda: Citations(0))

    def take(self, text: str, at: float) -> str:
        """What of it is to be shown now."""
        self.first_at = self.first_at or at
        self.last_at = at
        self.deltas += 1
        shown = self.citations.feed(text)
        self.text += shown
        return shown

    def last_words(self, question: str) -> str:
        """What was held back; of a reply that names no passage, the marks of those that it can be seen to rest on."""
        rest = self.citations.end()
        said = self.text + rest
        if self.passages and self.done and not self.citations.cited and "```" not in said:
            found = attributed(said, question, [passage.text for passage in self.passages])
            self.citations.cited += found
            rest = (rest.rstrip() if found else rest) + "".join(f" [{number}]" for number in found)
        self.text += rest
        return rest

    def retrieved(self) -> Retrieved:
        return Retrieved(self._sources(), self.retrieval.unanswered, self.retrieval.failed)

    def _sources(self) -> tuple[Source, ...]:
        return tuple(source_of(number, passage) for number, passage in enumerate(self.passages, 1))

    @property
    def finish(self) -> str:
        if self.error:
            return "error"
        return self.done.finish if self.done else "stopped"

    @property
    def completion_tokens(self) -> int:
        """From the engine; of a reply cut short, the number of pieces that came, each of which is about a token."""
        return self.done.completion_tokens if self.done else self.deltas

    @property
    def ttft_s(self) -> float:
        return self.first_at - self.began if self.first_at else 0.0

    def finished(self, *, message_id: int, asked_id: int, siblings: int) -> Finished:
        after_first_s = self.last_at - self.first_at
        return Finished(
            message_id=message_id,
            asked_id=asked_id,
            text=self.text,
            finish=self.finish,
            model=self.model,
            adapter=self.adapter,
            prompt_tokens=self.done.prompt_tokens if self.done else self.prompt.prompt_tokens,
            cached_tokens=self.done.cached_tokens if self.done else 0,
            completion_tokens=self.completion_tokens,
            ttft_s=self.ttft_s,
            tokens_per_s=(self.completion_tokens - 1) / after_first_s if after_first_s > 0 else 0.0,
            siblings=siblings,
            sources=tuple(source_of(number, self.passages[number - 1]) for number in self.citations.cited),
            unanswered=self.retrieval.unanswered,
        )

    def as_reply(self, message: Message) -> Message:
        """The row that is logged under the person's message."""
        timings = {"ttft": self.ttft_s, "total": time.monotonic() - self.began}
        return Message(
            conversation_id=message.conversation_id,
            parent_id=message.id,
            role="assistant",
            content=self.text,
            prompt=list(self.prompt.messages),
            window_start_id=self.prompt.window_start_id or message.id,
            passages=[passage.id for passage in self.passages],
            relevance=self.retrieval.relevance,
            model=self.model,
            adapter=self.adapter,
            sampling=self.sampling,
            timings=timings | ({"queue": self.done.queue_s} if self.done else {}),
            prompt_tokens=self.done.prompt_tokens if self.done else self.prompt.prompt_tokens,
            cached_tokens=self.done.cached_tokens if self.done else 0,
            completion_tokens=self.completion_tokens,
            finish=self.finish,
            error=self.error,
        )


def source_of(number: int, passage: Passage) -> Source:
    return Source(number, passage.id, passage.title, passage.heading, passage.page, passage.page_end, passage.text)


def _failed(error: Exception) -> Failed:
    kind = kind_of(error)
    if kind is None:
        return Failed("unexpected", "", _incident(error))
    if isinstance(error, EngineFailed) and error.log_tail:
        return Failed(kind, str(error), _incident(error, error.log_tail))
    log.warning("%s: %s", kind, error)
    return Failed(kind, str(error), "")


def _not_saved(error: Exception) -> Failed:
    if kind_of(error) is None:
        return Failed("reply_not_saved", "", _incident(error))
    log.warning("reply_not_saved: %s", error)
    return Failed("reply_not_saved", str(error), "")


def _incident(error: Exception, more: str = "") -> str:
    """Log the cause; the id under which it stands there."""
    incident = secrets.token_hex(4)
    log.error("incident %s: %s%s", incident, error, f"\n{more}" if more else "", exc_info=error)
    return incident


def _id(row: Conversation | Message | Person) -> int:
    assert row.id is not None, "a stored row has an id"
    return row.id
