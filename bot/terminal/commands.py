"""The commands in the terminal: what each asks of the chat, and how the answer is shown."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from rich.text import Text

from bot.chat import Chat
from bot.commands import Invocation, consent_in, means_everything, rating_in
from bot.details import lines
from bot.errors import ChatError
from bot.events import Event
from bot.library import Library
from bot.terminal import tables
from bot.terminal.documents import Documents
from bot.terminal.history import TypedHistory
from bot.terminal.input import Prompt
from bot.terminal.screen import Screen
from bot.texts import Texts

_TURNS_SHOWN = 3  # of a conversation that is opened again

RunTurn = Callable[[Callable[[asyncio.Event], AsyncGenerator[Event]]], Awaitable[None]]


@dataclass(frozen=True)
class Next:
    """How the chat goes on after a command."""

    leave: bool = False
    draft: str = ""  # stands in the next line of input, to be changed and sent


class Commands:
    """`prompt` is None where nobody can be asked back, `typed` where nothing is remembered: in pipes."""

    def __init__(
        self,
        chat: Chat,
        screen: Screen,
        prompt: Prompt | None,
        typed: TypedHistory | None,
        run_turn: RunTurn,
        library: Library | None = None,
    ) -> None:
        self._chat = chat
        self._screen = screen
        self._prompt = prompt
        self._typed = typed
        self._run_turn = run_turn
        self._documents = Documents(chat, screen, library)

    async def run(self, invocation: Invocation) -> Next:
        """Raises ChatError."""
        command, argument = invocation.command, invocation.argument
        asks_itself = command.name in {"edit", "correct"} and self._prompt is not None and self._prompt.shows_drafts
        if not invocation.fits and not asks_itself:
            if command.arguments == "none":
                raise ChatError("usage_alone", name=command.name)
            raise ChatError("usage", name=command.name, hint=self._texts.t(command.hint))
        action: Callable[[str], Awaitable[Next | None]] = getattr(self, f"_{command.name}")
        return await action(argument) or Next()

    async def show_branch(self) -> None:
        """The last turns of the conversation, as they looked when they came."""
        history = await self._chat.history()
        shown = history[-2 * _TURNS_SHOWN :]
        if len(shown) < len(history):
            self._screen.say(self._texts.t("terminal.earlier", count=len(history) - len(shown)), "dim")
        for message in shown:
            if message.role == "user":
                self._screen.say(f"› {message.content}", "bold")
            else:
                self._screen.markdown(message.content)
            self._screen.space()

    @property
    def _texts(self) -> Texts:
        return self._chat.texts

    def _done(self, key: str, **values: object) -> None:
        self._screen.say(self._texts.t(f"done.{key}", **values), "green")

    # The messages

    async def _retry(self, _: str) -> None:
        await self._run_turn(self._chat.retry)

    async def _edit(self, argument: str) -> None:
        text = argument or await self._changed("terminal.edit_prompt", "user", "nothing_to_edit")
        if text:
            await self._run_turn(lambda stop: self._chat.edit(text, stop))

    async def _undo(self, _: str) -> Next:
        text = await self._chat.undo()
        self._done("undone")
        return Next(draft=text if self._prompt else "")

    async def _other(self, argument: str) -> None:
        replies, chosen = await self._chat.alternatives()
        if len(replies) == 1:
            self._done("other_only")
            return
        if not argument:
            self._screen.show(tables.replies_table(replies, chosen, self._texts))
            return
        number = _number_in(argument)
        reply = await self._chat.choose(number - 1)
        self._screen.markdown(reply.content)
        self._done("other", number=number, count=len(replies))

    # The conversations

    async def _new(self, argument: str) -> None:
        await self._chat.new(argument)
        self._done("new", persona=self._chat.persona.title or self._chat.persona.name)

    async def _list(self, _: str) -> None:
        listed = await self._chat.listing()
        if not listed:
            self._screen.say(self._texts.t("list.empty"))
            return
        shown = self._chat.conversation.id if self._chat.conversation else None
        self._screen.show(tables.conversations_table(listed, shown, self._texts))

    async def _open(self, argument: str) -> None:
        conversation = await self._chat.open_conversation(_number_in(argument))
        await self.show_branch()
        self._done("opened", title=conversation.title or self._texts.t("list.untitled"))

    async def _search(self, argument: str) -> None:
        hits = await self._chat.search(argument)
        if not hits:
            self._screen.say(self._texts.t("list.no_hits", words=argument))
            return
        self._screen.show(tables.hits_table(hits, argument, self._texts))

    # Who answers

    async def _persona(self, argument: str) -> None:
        if not argument:
            self._screen.show(tables.personas_table(await self._chat.personas(), self._texts))
            return
        await self._chat.use_persona(argument)
        self._done("persona", persona=self._chat.persona.title or self._chat.persona.name)

    async def _model(self, argument: str) -> None:
        if not argument:
            self._screen.show(tables.models_table(await self._chat.models(), self._texts))
            return
        await self._chat.use_model(argument)
        self._done("model", model=self._chat.model)

    # What the person thinks of a reply

    async def _rate(self, argument: str) -> None:
        value = rating_in(argument)
        if value is None:
            raise ChatError("not_a_rating")
        await self._chat.rate(value)
        self._done("rated_up" if value > 0 else "rated_down")

    async def _correct(self, argument: str) -> None:
        text = argument or await self._changed("terminal.correct_prompt", "assistant", "nothing_to_correct")
        if text:
            await self._chat.correct(text)
            self._done("corrected")

    async def _about(self, _: str) -> None:
        title, *rows = lines(await self._chat.details(), self._texts)
        self._screen.say(title, "bold")
        for row in rows:
            self._screen.say(row)

    # What the person's replies rest on

    async def _docs(self, argument: str) -> None:
        await self._documents.command(argument)

    # What is kept about the person

    async def _stats(self, _: str) -> None:
        self._screen.show(tables.stats_text(await self._chat.kept.stats(), self._texts))

    async def _privacy(self, argument: str) -> None:
        if not argument:
            self._screen.show(tables.privacy_text(await self._chat.kept.privacy(), self._texts))
            return
        choice = consent_in(argument)
        if choice is None:
            raise ChatError("not_a_choice")
        await self._chat.kept.consent(choice)
        self._done(f"consent_{choice}")

    async def _export(self, argument: str) -> None:
        kept = await self._chat.kept.export() | await self._documents.export()
        file = await asyncio.to_thread(_save, kept, argument, self._texts)
        self._done("exported", file=file)

    async def _forget(self, argument: str) -> None:
        everything = means_everything(argument)
        if argument and not everything:
            raise ChatError("usage", name="forget", hint=self._texts.t("hint.forget"))
        if self._prompt is None:
            self._screen.warn(self._texts.t("terminal.only_in_a_terminal", name="forget"))
            return
        if not everything and self._chat.conversation is None:
            raise ChatError("nothing_to_forget")
        word = self._texts.t("terminal.forget_word")
        self._screen.say(self._chat.before_forgetting("ask.forget_all" if everything else "ask.forget"), "bold")
        answer = await self._prompt.ask(self._texts.t("terminal.forget_prompt", word=word))
        if (answer or "").strip().lower() != word:
            self._screen.say(self._texts.t("terminal.kept"))
            return
        typed = None if everything else await self._typed_here()
        if everything:
            await self._documents.forget()
        forgotten = await self._chat.forget(everything)
        if self._typed:
            await asyncio.to_thread(_forget_typed, self._typed, typed)
        if forgotten is None:
            self._done("forgotten")
        else:
            self._done("forgotten_all", conversations=forgotten.conversations, messages=forgotten.messages)

    async def _typed_here(self) -> set[str]:
        """What the person wrote in this conversation, on every branch of it."""
        shown = self._chat.conversation.id if self._chat.conversation else None
        kept = await self._chat.kept.export()
        messages = [m for each in kept["conversations"] if each["id"] == shown for m in each["messages"]]
        written = {message["content"] for message in messages if message["role"] == "user"}
        return written | {each["text"] for message in messages for each in message["corrections"]}

    # The rest

    async def _help(self, _: str) -> None:
        self._screen.show(tables.help_table(self._texts))
        self._screen.show(Text(self._texts.t("help.escape"), style="dim"))

    async def _quit(self, _: str) -> Next:
        return Next(leave=True)

    async def _changed(self, prompt: str, role: str, missing: str) -> str | None:
        """The last message of this role as the person changes it; None when it stays. Raises ChatError(missing)."""
        last = next((each for each in reversed(await self._chat.history()) if each.role == role), None)
        if last is None:
            raise ChatError(missing)
        assert self._prompt is not None, "only asked where somebody can answer"
        self._screen.say(self._texts.t(prompt), "dim")
        text = await self._prompt.ask("› ", draft=last.content)
        if text is None or text.strip() in {"", last.content.strip()}:
            self._screen.say(self._texts.t("terminal.unchanged"))
            return None
        return text


def _number_in(argument: str) -> int:
    if not argument.isdecimal():
        raise ChatError("not_a_number", given=argument)
    return int(argument)


def _save(kept: dict[str, Any], argument: str, texts: Texts) -> Path:
    """Write a file that only its owner can read, and that was not there before. Raises ChatError."""
    file = Path(argument).expanduser() if argument else Path()
    if file.is_dir():
        file /= f"familiar-{datetime.now():%Y%m%d-%H%M%S}.json"
    file = file.absolute()
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    except FileExistsError:
        raise ChatError("cannot_write", file=file, reason=texts.t("terminal.file_exists")) from None
    except OSError as error:
        raise ChatError("cannot_write", file=file, reason=error.strerror) from None
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as out:
            json.dump(kept, out, ensure_ascii=False, indent=2)
            out.write("\n")
    except OSError as error:
        with suppress(OSError):
            file.unlink()
        raise ChatError("cannot_write", file=file, reason=error.strerror) from None
    return file


def _forget_typed(typed: TypedHistory, texts: set[str] | None) -> None:
    try:
        typed.forget(texts)
    except OSError as error:
        raise ChatError("cannot_write", file=typed.filename, reason=error.strerror) from None
