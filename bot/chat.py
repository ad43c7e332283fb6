"""One person in one conversation on a channel: everything that commands do, with no rendering.

A new conversation gets its row when its first message is sent, so that opening a channel leaves nothing behind.

What a person asks that cannot be done is raised as bot.errors.ChatError, and so is a store that does not answer;
`send`, `retry` and `edit` raise it at the first step of their iteration, and tell what happens later as events.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Concatenate, Literal, ParamSpec, TypeVar

from bot.asking import ask
from bot.assistant import HERE, Assistant, Origin
from bot.details import Details, about_version, stood_for
from bot.errors import ChatError
from bot.events import Event
from bot.kept import Kept
from bot.texts import Texts, texts_for
from engine.adapters import elsewhere, resolve
from settings import Persona
from store import conversations, feedback, people, versions
from store.conversations import Hit, Listed
from store.people import Forgotten
from store.session import Store
from store.tables import Conversation, Message, Person

LONGEST_TEXT = 1_000_000  # characters; far beyond any model, it keeps a file pasted by accident out of the store

Given = ParamSpec("Given")
Result = TypeVar("Result")


@dataclass(frozen=True)
class ModelChoice:
    name: str  # auto, base, or an adapter's name@version
    note: str  # what it stands for, in the person's language
    chosen: bool


@dataclass(frozen=True)
class PersonaChoice:
    name: str
    title: str
    chosen: bool


class Chat:
    """Made by `open`."""

    person: Person  # its id is None between `forget(everything=True)` and the next thing that is kept
    kept: Kept
    conversation: Conversation | None  # None until the first message of a new one is sent
    texts: Texts

    def __init__(
        self,
        assistant: Assistant,
        channel: str,
        external_id: str,
        person: Person,
        texts: Texts,
        place: str,
        persona: str,
    ) -> None:
        self.person = person
        self.conversation = None
        self.texts = texts
        self.kept = Kept(assistant.store, assistant.settings.learning, self._person_id)
        self._assistant = assistant
        self._settings = assistant.settings
        self._channel = channel
        self._external_id = external_id
        self._place = place
        self._usual_persona = persona
        self._beginning = asyncio.Lock()
        self._next = self._unwritten()  # persona and model of the one not yet begun

    @classmethod
    async def open(
        cls,
        assistant: Assistant,
        *,
        channel: str,
        external_id: str,
        name: str = "",
        language: str = "",
        conversation: int | None = None,
        latest: bool = False,
        place: str = "",
        persona: str = "",
    ) -> Chat:
        """The chat of the person with this identity: in `conversation`, in their latest at this place, or a new one.

        `place` is where on the channel: "" is between them and Familiar alone, else e.g. a group. `persona` is the one
        that new conversations have there.

        Familiar's own words are in the operator's language, else the person's, else `language`, else English.
        Raises ChatError when they have no such conversation or the store does not answer.
        """
        language = texts_for(language).language if language else ""
        person = await ask(people.person_for, assistant.store, channel, external_id, name, language)
        fixed = assistant.settings.assistant.language
        texts = texts_for((person.language or language or "en") if fixed == "auto" else fixed)
        chat = cls(assistant, channel, external_id, person, texts, place, persona)
        if conversation is not None:
            await chat.open_conversation(conversation)
        elif latest:
            chat.conversation = await chat._stored(conversations.latest, await chat._person_id(), channel, place)
        return chat

    # The messages

    async def send(self, text: str, stop: asyncio.Event | None = None, origin: Origin = HERE) -> AsyncGenerator[Event]:
        """Send a message at the end of the branch shown; a conversation that is still new begins with it."""
        text = _checked(text)
        conversation = self.conversation or await self._begin()
        turn = self._assistant.turn(conversation, self.person, text, stop=stop, origin=origin)
        async with aclosing(self._told(turn)) as events:
            async for event in events:
                yield event

    async def retry(
        self, stop: asyncio.Event | None = None, *, message_id: int | None = None, origin: Origin = HERE
    ) -> AsyncGenerator[Event]:
        """Another reply to the last message, or to that of `message_id`, beside the ones it has."""
        if message_id is None:
            message_id = _id(await self._last("user", "nothing_to_retry"))
        else:
            await self._go_to(message_id)
        turn = self._assistant.reply_to(await self._begin(), self.person, message_id, stop=stop, origin=origin)
        async with aclosing(self._told(turn)) as events:
            async for event in events:
                yield event

    async def edit(
        self,
        text: str,
        stop: asyncio.Event | None = None,
        *,
        message_id: int | None = None,
        origin: Origin = HERE,
    ) -> AsyncGenerator[Event]:
        """Another wording of the last message, or of that of `message_id`, beside it, and a reply to that."""
        text = _checked(text)
        if message_id is None:
            edited = await self._last("user", "nothing_to_edit")
        else:
            edited = await self._go_to(message_id)
        turn = self._assistant.turn(
            await self._begin(), self.person, text, parent_id=edited.parent_id, stop=stop, origin=origin
        )
        async with aclosing(self._told(turn)) as events:
            async for event in events:
                yield event

    async def undo(self) -> str:
        """Step back before the last message, and return its text. Nothing is deleted."""
        last = await self._last("user", "nothing_to_undo")
        await self._move_head(last.parent_id)
        return last.content

    async def history(self) -> list[Message]:
        """The branch shown, first message first, without the replies' prompts; [] in a new conversation."""
        await self._refresh()
        if self.conversation is None or self.conversation.head_id is None:
            return []
        return await self._stored(conversations.path, self.conversation.head_id, prompts=False)

    async def alternatives(self) -> tuple[list[Message], int]:
        """The replies to the last message and which of them is shown, counted from 0; ([], 0) when it has none."""
        history = await self.history()
        if not history or history[-1].role != "assistant":
            return [], 0
        return await self.alternatives_to(_id(history[-1]))

    async def alternatives_to(self, reply_id: int) -> tuple[list[Message], int]:
        """The replies to the message that this one replies to, and which of them it is, counted from 0."""
        await self._own(reply_id)
        replies = await self._stored(conversations.siblings, reply_id)
        return replies, [reply.id for reply in replies].index(reply_id)

    async def choose(self, index: int) -> Message:
        """Show another reply to the last message, counted from 0, and go on from it."""
        replies, _ = await self.alternatives()
        if not 0 <= index < len(replies):
            raise ChatError("no_such_reply", number=index + 1, count=len(replies))
        await self._move_head(replies[index].id)
        return replies[index]

    async def go_on_from(self, reply_id: int) -> Message:
        """Show this reply, and go on from where the conversation went after it."""
        reply = await self._go_to(reply_id)
        newest = await self._stored(conversations.newest_after, reply_id)
        await self._move_head(newest.id)
        return reply

    # The conversations

    async def new(self, persona: str = "") -> None:
        """Leave this conversation for a new one, with the model "auto" and this persona or the default one."""
        if persona:
            self._known_persona(persona)
        self.conversation = None
        self._next = self._unwritten()
        self._next.persona = persona or self._usual_persona

    async def listing(self) -> list[Listed]:
        return await self._stored(conversations.listing, await self._person_id())

    async def open_conversation(self, conversation_id: int) -> Conversation:
        try:
            opened = await self._stored(conversations.get, conversation_id, await self._person_id())
        except ChatError as error:
            if error.key == "not_found":
                raise ChatError("no_such_conversation", number=conversation_id) from None
            raise
        self.conversation = opened
        return opened

    async def settle(self) -> Conversation:
        """Let the conversation shown be the one that `open(latest=True)` finds here, also when it has no message yet.

        One from another place is held here from now on.
        """
        conversation = await self._begin()
        await self._stored(conversations.touch, _id(conversation), self._channel, self._place)
        return conversation

    async def search(self, words: str) -> list[Hit]:
        """Where all of these words stand in one message of theirs."""
        if not words.strip():
            raise ChatError("nothing_to_search")
        return await self._stored(conversations.search, await self._person_id(), words)

    # Who answers

    @property
    def persona(self) -> Persona:
        """The one in force, also in a conversation that has no message yet."""
        return self._assistant.persona_of(self.conversation or self._next)

    async def personas(self) -> list[PersonaChoice]:
        chosen = self.persona.name
        return [
            PersonaChoice(each.name, each.title or each.name, each.name == chosen) for each in self._settings.persona
        ]

    async def use_persona(self, name: str) -> None:
        """From the next reply on. What was said stays."""
        self._known_persona(name)
        if self.conversation is None:
            self._next.persona = name
            return
        await self._configure(persona=name)

    @property
    def model(self) -> str:
        """The one chosen, as in ModelChoice.name."""
        return (self.conversation or self._next).adapter or "auto"

    async def models(self) -> list[ModelChoice]:
        """What can answer: the adapter in force, the base model, and every adapter version that is loaded."""
        choices = [("auto", await self._what_auto_means()), ("base", self.texts.t("model.base"))]
        others = await self._stored(elsewhere, self._where)
        there = await self._stored(versions.versions)
        for version in there:
            if version.loaded and version.name not in others:
                choices.append((version.served_name, about_version(version, self.texts)))
        if self.model not in dict(choices):
            choices.append((self.model, self.texts.t("model.gone")))
        choices = stood_for(choices, there, self.texts, auto=bool(self.persona.adapter))
        return [ModelChoice(name, note, name == self.model) for name, note in choices]

    async def use_model(self, name: str) -> None:
        """From the next reply on: "auto", "base", or a loaded adapter's name@version."""
        known = [choice.name for choice in await self.models()]
        if name not in known:
            raise ChatError("no_such_model", name=name, known=", ".join(known))
        adapter = "" if name == "auto" else name
        if self.conversation is None:
            self._next.adapter = adapter
            return
        await self._configure(adapter=adapter)

    async def details(self, reply_id: int | None = None) -> Details:
        """What is known of the last reply shown, or of this one."""
        reply = await self._own(reply_id) if reply_id else await self._last("assistant", "nothing_to_tell")
        version = await self._stored(versions.version, reply.adapter) if reply.adapter else None
        return Details(reply, version)

    # What the person thinks of a reply

    async def rate(self, value: Literal[1, -1], reply_id: int | None = None) -> None:
        """Rate the last reply shown, or this one; a second rating replaces the first."""
        if reply_id is None:
            reply_id = _id(await self._last("assistant", "nothing_to_rate"))
        await self._stored(feedback.rate, reply_id, await self._person_id(), value)

    async def unrate(self, reply_id: int) -> None:
        await self._stored(feedback.unrate, reply_id, await self._person_id())

    async def rating_of(self, reply_id: int) -> Literal[1, -1] | None:
        return await self._stored(feedback.rating_of, reply_id, await self._person_id())

    async def correct(self, text: str, reply_id: int | None = None) -> None:
        """Give the answer that the last reply shown, or this one, should have been."""
        text = _checked(text)
        if reply_id is None:
            reply_id = _id(await self._last("assistant", "nothing_to_correct"))
        await self._stored(feedback.correct, reply_id, await self._person_id(), text)

    # What is kept about the person, beside `kept`

    def before_forgetting(self, question: str) -> str:
        """The text of this key, by which the person is asked, with what may be kept for some days all the same."""
        days = self._settings.learning.sealed_days
        asked = self.texts.t(question)
        return f"{asked}\n\n{self.texts.t('ask.sealed', days=f'{days:g}')}" if days else asked

    async def forget(self, everything: bool) -> Forgotten | None:
        """Delete this conversation, or everything about the person and say how much that was, for good.

        A new conversation follows.
        """
        forgotten, seal = None, self._settings.learning.sealed_days > 0
        if everything:
            forgotten = await self._stored(people.forget, await self._person_id(), seal=seal)
            self.person = Person(name=self.person.name, language=self.person.language)
        elif self.conversation is None:
            raise ChatError("nothing_to_forget")
        else:
            await self._stored(conversations.delete, _id(self.conversation), await self._person_id(), seal=seal)
        await self.new()
        return forgotten

    async def use_language(self, language: Literal["en", "zh", ""], otherwise: str = "") -> None:
        """Of Familiar's own words from now on; "" goes by the channel again, which asks for `otherwise`."""
        await self._stored(people.set_language, await self._person_id(), language)
        self.person.language = language
        if self._settings.assistant.language == "auto":
            self.texts = texts_for(language or otherwise or "en")

    # How it is done

    async def _told(self, turn: AsyncGenerator[Event]) -> AsyncGenerator[Event]:
        try:
            async with aclosing(turn) as events:
                async for event in events:
                    yield event
        finally:
            with suppress(ChatError):  # the turn is told; whoever needs the conversation next reads it again
                await self._refresh()

    async def _begin(self) -> Conversation:
        async with self._beginning:
            if self.conversation is None:
                persona = self.persona.name
                begun = await self._stored(
                    conversations.start, await self._person_id(), self._channel, persona, self._place
                )
                self.conversation = begun
                if self._next.adapter:
                    await self._configure(adapter=self._next.adapter)
        return self.conversation

    async def _person_id(self) -> int:
        """Theirs; somebody who was forgotten and comes back is a new person."""
        if self.person.id is None:
            given = self._channel, self._external_id, self.person.name, self.person.language
            self.person = await self._stored(people.person_for, *given)
        return _id(self.person)

    async def _refresh(self) -> None:
        shown = self.conversation
        if shown is None:
            return
        fresh = await self._stored(conversations.get, _id(shown), await self._person_id())
        if self.conversation is shown:  # and not left for another one meanwhile
            self.conversation = fresh

    async def _last(self, role: Literal["user", "assistant"], missing: str) -> Message:
        """The last message of this role on the branch shown. Raises ChatError(missing)."""
        for message in reversed(await self.history()):
            if message.role == role:
                return message
        raise ChatError(missing)

    async def _own(self, message_id: int) -> Message:
        return await self._stored(conversations.message, message_id, await self._person_id())

    async def _go_to(self, message_id: int) -> Message:
        """A message of theirs, whose conversation is the one shown from now on."""
        message = await self._own(message_id)
        if self.conversation is None or self.conversation.id != message.conversation_id:
            await self.open_conversation(message.conversation_id)
        return message

    async def _move_head(self, message_id: int | None) -> None:
        if self.conversation is not None:
            await self._stored(conversations.move_head, _id(self.conversation), message_id)
            await self._refresh()

    async def _configure(self, *, persona: str | None = None, adapter: str | None = None) -> None:
        if self.conversation is not None:
            await ask(
                conversations.configure, self._assistant.store, _id(self.conversation), persona=persona, adapter=adapter
            )
            await self._refresh()

    def _unwritten(self) -> Conversation:
        return Conversation(person_id=0, channel=self._channel, place=self._place, persona=self._usual_persona)

    def _known_persona(self, name: str) -> None:
        if self._settings.persona_named(name) is None:
            known = ", ".join(persona.name for persona in self._settings.persona)
            raise ChatError("no_such_persona", name=name, known=known)

    @property
    def _where(self) -> str:
        """As an adapter of a group's own is asked for."""
        return f"{self._channel}:{self._place}" if self._place else ""

    async def _what_auto_means(self) -> str:
        wanted = self.persona.adapter
        if wanted:
            return self.texts.t("model.auto_persona", adapter=wanted)
        here = self.conversation or self._next
        active = await self._stored(resolve, "", sticky=here.id, place=self._where)
        return self.texts.t("model.auto", adapter=active) if active else self.texts.t("model.auto_base")

    async def _stored(
        self, function: Callable[Concatenate[Store, Given], Result], *args: Given.args, **kwargs: Given.kwargs
    ) -> Result:
        """What a function of the store says, asked off the event loop. Raises ChatError."""
        return await ask(function, self._assistant.store, *args, **kwargs)


def _checked(text: str) -> str:
    """The text without the space around it. Raises ChatError when there is none, or far too much of it."""
    text = text.strip()
    if not text:
        raise ChatError("empty_text")
    if len(text) > LONGEST_TEXT:
        raise ChatError("text_too_long", length=len(text), limit=LONGEST_TEXT)
    return text


def _id(row: Conversation | Message | Person) -> int:
    assert row.id is not None, "a stored row has an id"
    return row.id
