"""The line at which a person writes: history, completion, several lines, the status below."""

from __future__ import annotations

import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable
from contextlib import AbstractContextManager, nullcontext

from prompt_toolkit import PromptSession
from prompt_toolkit.application import create_app_session
from prompt_toolkit.completion import CompleteEvent, Completer, Completion
from prompt_toolkit.document import Document
from prompt_toolkit.filters import Condition
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.history import DummyHistory, History
from prompt_toolkit.input import Input
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.output.plain_text import PlainTextOutput
from prompt_toolkit.styles import Style
from prompt_toolkit.utils import is_dumb_terminal

from bot.chat import Chat
from bot.commands import commands_of
from bot.errors import ChatError
from bot.texts import Texts

_STYLE = Style.from_dict(
    {
        "prompt": "bold",
        "hint": "",
        "bottom-toolbar": "noreverse dim",
        "completion-menu": "noinherit",
        "completion-menu.completion": "noinherit",
        "completion-menu.completion.current": "noinherit reverse",
        "completion-menu.meta.completion": "noinherit dim",
        "completion-menu.meta.completion.current": "noinherit reverse",
        "scrollbar.background": "noinherit",
        "scrollbar.button": "noinherit reverse",
    }
)


class Prompt:
    """Where messages and commands are typed. `status` is asked for the line below at every redraw."""

    def __init__(self, texts: Texts, history: History, completer: Completer, status: Callable[[int], str]) -> None:
        self._texts = texts
        self._status = status
        self._hint = ""
        with _plain_if_dumb():
            self._messages: PromptSession[str] = PromptSession(
                [("class:prompt", "› ")],
                history=history,
                completer=completer,
                complete_while_typing=Condition(self._is_a_command),
                reserve_space_for_menu=5,
                bottom_toolbar=self._below,
                key_bindings=self._keys(),
                multiline=True,
                prompt_continuation="  ",
                enable_suspend=True,
                style=_STYLE,
            )
        self._messages.default_buffer.on_text_changed += self._forget_hint

    @property
    def keyboard(self) -> Input:
        return self._messages.input

    @property
    def shows_drafts(self) -> bool:
        """Not in a dumb terminal: there, only what is typed shows."""
        return not is_dumb_terminal()

    async def read(self, draft: str = "") -> str | None:
        """A message or command; None when the person leaves (Ctrl-D)."""
        while True:
            try:
                return await self._messages.prompt_async(default=draft if self.shows_drafts else "")
            except EOFError:
                return None
            except KeyboardInterrupt:  # a dumb terminal has prompt_toolkit's own Ctrl-C
                self._messages.output.write(self._texts.t("terminal.how_to_leave") + "\r\n")

    async def ask(self, question: str, draft: str = "") -> str | None:
        """The answer to a question, or `draft` as the person changes it; None for Ctrl-C and Ctrl-D.

        It goes into no history.
        """
        with _plain_if_dumb():
            asked: PromptSession[str] = PromptSession(
                question,
                history=DummyHistory(),
                key_bindings=_line_keys(),
                multiline=True,
                prompt_continuation="  ",
                style=_STYLE,
            )
        try:
            return await asked.prompt_async(default=draft)
        except (EOFError, KeyboardInterrupt):
            return None

    def _is_a_command(self) -> bool:
        return self._messages.default_buffer.text.startswith("/")

    def _forget_hint(self, _: object) -> None:
        self._hint = ""

    def _below(self) -> StyleAndTextTuples:
        columns = self._messages.output.get_size().columns
        return [("class:hint", self._hint)] if self._hint else [("", self._status(columns))]

    def _keys(self) -> KeyBindings:
        keys = _line_keys()

        @keys.add("c-c")
        @keys.add("<sigint>")
        def clear(event: KeyPressEvent) -> None:
            event.current_buffer.reset()
            self._hint = self._texts.t("terminal.how_to_leave")

        return keys


def _plain_if_dumb() -> AbstractContextManager[object]:
    """prompt_toolkit knows dumb terminals, but greets them with escape sequences unless its output is a plain one."""
    return create_app_session(output=PlainTextOutput(sys.stdout)) if is_dumb_terminal() else nullcontext()


def _line_keys() -> KeyBindings:
    """Enter sends. A new line: Alt-Enter, Ctrl-J, or Enter after a backslash."""
    keys = KeyBindings()

    @keys.add("enter")
    def send(event: KeyPressEvent) -> None:
        buffer = event.current_buffer
        if buffer.document.text_before_cursor.endswith("\\"):
            buffer.delete_before_cursor()
            buffer.insert_text("\n")
            return
        buffer.validate_and_handle()

    @keys.add("c-j")
    @keys.add("escape", "enter")
    def new_line(event: KeyPressEvent) -> None:
        event.current_buffer.insert_text("\n")

    return keys


class Completions(Completer):
    """The commands, and what each of them can be given: personas, models, conversations."""

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterable[Completion]:
        raise NotImplementedError("the store is asked: only get_completions_async can")

    async def get_completions_async(
        self, document: Document, complete_event: CompleteEvent
    ) -> AsyncGenerator[Completion]:
        text = document.text_before_cursor
        if not text.startswith("/") or "\n" in text:
            return
        name, space, argument = text[1:].partition(" ")
        for word, note in await self._arguments(name) if space else self._commands():
            given = argument if space else name
            if word.lower().startswith(given.lower()):
                yield Completion(word, start_position=-len(given), display_meta=note)

    def _commands(self) -> list[tuple[str, str]]:
        return [(command.name, self._chat.texts.t(command.help)) for command in commands_of("terminal")]

    async def _arguments(self, name: str) -> list[tuple[str, str]]:
        of: dict[str, Callable[[], Awaitable[list[tuple[str, str]]]]] = {
            "new": self._personas,
            "persona": self._personas,
            "model": self._models,
            "open": self._conversations,
            "other": self._replies,
        }
        fixed = {"rate": ["up", "down"], "privacy": ["yes", "no"], "forget": ["all"]}
        if name in fixed:
            return [(word, "") for word in fixed[name]]
        try:
            return await of[name]() if name in of else []
        except ChatError:
            return []  # the command itself will tell

    async def _personas(self) -> list[tuple[str, str]]:
        return [(each.name, each.title) for each in await self._chat.personas()]

    async def _models(self) -> list[tuple[str, str]]:
        return [(each.name, each.note) for each in await self._chat.models()]

    async def _conversations(self) -> list[tuple[str, str]]:
        return [(str(each.id), each.title) for each in await self._chat.listing()]

    async def _replies(self) -> list[tuple[str, str]]:
        replies, _ = await self._chat.alternatives()
        return [(str(number), reply.content[:60]) for number, reply in enumerate(replies, 1)]
