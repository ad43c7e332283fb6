"""One turn, from a person's message to the logged reply. This is the only place where replies are made.

A channel calls `turn` (or `reply_to`, for another reply to a message that is already stored) and renders the events.
Whatever way a turn ends, what the person saw is in the log: a stopped, closed or cancelled reply is kept as far as it
was handed out, and so is one that the engine broke off. The exception is a reply to something in the inbox that is
cancelled by a shutdown, since the next start replies to that anew. Nothing that goes wrong inside a turn is raised; it
is told as the last event.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Literal
from weakref import WeakValueDictionary

from bot import prompt as prompts
from bot.events import Event, Failed, Finished, Retrieved, Token, Waiting
from bot.failures import failed, not_saved
from bot.grounding import Grounding
from bot.retrieval import NOT_SEARCHED, Finder
from bot.stoppable import arrivals
from bot.texts import texts_for
from bot.turn import Asked, Turn, id_of
from engine import adapters
from engine.client import ChatRequest, Delta, Done, EngineClient, answering
from engine.models import sampling_defaults
from engine.state import Address, State
from settings import Persona, Settings
from store import conversations
from store.session import Store
from store.tables import Conversation, Message, Person

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
        self._grounding = Grounding(store, client, settings.knowledge, knowledge)
        self._advice: dict[Path | None, dict[str, Any]] = {}
        self._saving: set[asyncio.Task[tuple[Message, int]]] = set()

    def persona_of(self, conversation: Conversation) -> Persona:
        """The conversation's persona, or the default one when it has none or the operator has removed it."""
        persona = self.settings.persona_named(conversation.persona)
        return persona or next(each for each in self.settings.persona if each.name == self.settings.assistant.persona)

    def turn(
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
        return self._turn(conversation, partial(self._take, conversation, person, text, parent_id, origin), stop)

    def reply_to(
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
        return self._turn(conversation, partial(self._find, conversation, person, user_message_id, origin), stop)

    async def _turn(
        self, conversation: Conversation, look_up: Callable[[], Asked], stop: asyncio.Event | None
    ) -> AsyncGenerator[Event]:
        began = time.monotonic()
        async with self._lock(conversation):
            try:
                asked = await asyncio.to_thread(look_up)
            except Exception as error:
                yield failed(error)
                return
            async with aclosing(self._reply(Turn(began), asked, stop)) as events:
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
    ) -> Asked:
        conversation = conversations.get(self.store, id_of(conversation), id_of(person))
        parent = conversation.head_id if parent_id == "head" else parent_id
        sent = f"{origin.context}\n\n{text}" if origin.context else ""
        message = conversations.add_user(
            self.store, id_of(conversation), parent, text, sent, quoted=origin.quoted, arrivals=origin.arrivals
        )
        return self._asked(conversation, person, message, origin)

    def _find(self, conversation: Conversation, person: Person, message_id: int, origin: Origin) -> Asked:
        conversation = conversations.get(self.store, id_of(conversation), id_of(person))
        return self._asked(conversation, person, conversations.message(self.store, message_id, id_of(person)), origin)

    def _asked(self, conversation: Conversation, person: Person, message: Message, origin: Origin) -> Asked:
        before = message.parent_id
        history = [] if before is None else conversations.path(self.store, before, prompts=False)
        persona = self.persona_of(conversation)
        place = f"{conversation.channel}:{conversation.place}" if conversation.place else ""
        wanted = conversation.adapter or persona.adapter
        adapter = adapters.resolve(self.store, wanted, sticky=conversation.id, place=place)
        return Asked(conversation, person, message, history, persona, adapter, origin.arrivals)

    def _lock(self, conversation: Conversation) -> asyncio.Lock:
        return self._under_way.setdefault(id_of(conversation), asyncio.Lock())

    async def _reply(self, turn: Turn, asked: Asked, stop: asyncio.Event | None) -> AsyncGenerator[Event]:
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
            yield replace(unsaved or failed(error), asked_id=id_of(asked.message))
            return
        yield await self._finish(turn, asked)

    async def _generate(self, turn: Turn, asked: Asked, stop: asyncio.Event | None) -> AsyncGenerator[Event]:
        """Waiting and tokens, noted in `turn` as they are handed out. Ends early when `stop` is set."""
        async with aclosing(arrivals(self._answer(turn, asked), stop)) as items:
            async for at, item in items:
                if isinstance(item, Delta):
                    if text := turn.take(item.text, at):
                        yield Token(text)
                elif isinstance(item, Done):
                    turn.done = item
                    turn.adapter = item.adapter
                elif isinstance(item, Retrieved):
                    yield item
                else:
                    yield Waiting(item.phase, max(0.0, time.time() - item.since), item.detail)
        if rest := turn.last_words(asked.message.content):
            yield Token(rest)

    async def _answer(self, turn: Turn, asked: Asked) -> AsyncGenerator[State | Retrieved | Delta | Done]:
        turn.retrieval = await self._grounding.find(asked)
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
        request = ChatRequest(turn.prompt.messages, turn.sampling, person=str(asked.person.id), adapter=asked.adapter)
        async with aclosing(self.client.stream(request)) as items:
            async for item in items:
                yield item

    async def _prepare(self, turn: Turn, address: Address, asked: Asked) -> None:
        """Fill in what the engine is asked. Raises PromptTooLong."""
        persona, history, length = asked.persona, asked.history, address.max_model_len
        reserve = min(self.settings.assistant.reply_reserve_tokens, persona.sampling.max_tokens, length // 2)
        turn.model, turn.adapter = address.model, answering(asked.adapter, address)
        variables = prompts.variables(asked.conversation.created_at, asked.person.name, self._language(asked.person))
        turn.prompt = await prompts.build(
            persona,
            variables,
            history,
            await self._grounding.message(turn, asked, variables, length - reserve),
            budget=length - reserve,
            count=self.client.count,
            window_start_id=next(
                (each.window_start_id for each in reversed(history) if each.role == "assistant"), None
            ),
        )
        turn.sampling = self._advised(address.model_folder) | persona.sampling.model_dump(exclude_none=True)
        turn.sampling["max_tokens"] = min(persona.sampling.max_tokens, length - turn.prompt.prompt_tokens)

    def _advised(self, model_folder: Path | None) -> dict[str, Any]:
        """The model's own sampling. Its folder does not change while it is served, so it is read once."""
        if model_folder not in self._advice:
            self._advice[model_folder] = sampling_defaults(model_folder)
        return self._advice[model_folder]

    def _language(self, person: Person) -> str:
        language = self.settings.assistant.language
        return person.language or "en" if language == "auto" else language

    async def _finish(self, turn: Turn, asked: Asked) -> Finished | Failed:
        if turn.done is None and not turn.text:
            return turn.finished(message_id=0, asked_id=id_of(asked.message), siblings=0)
        try:
            reply, siblings = await self._save(turn.as_reply(asked.message), asked.arrivals)
        except Exception as error:
            return replace(not_saved(error), asked_id=id_of(asked.message))
        return turn.finished(message_id=id_of(reply), asked_id=id_of(asked.message), siblings=siblings)

    async def _keep_what_was_shown(self, turn: Turn, message: Message) -> Failed | None:
        """Log the part of a reply that was handed out before it broke off; says so when it cannot be."""
        if not turn.text:
            return None
        try:
            await self._save(turn.as_reply(message))
        except Exception as error:
            return not_saved(error)
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
