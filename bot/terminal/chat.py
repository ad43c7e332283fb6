"""The terminal chat: a person writes, replies stream, commands act, until they leave."""

from __future__ import annotations

import asyncio
import logging
import secrets
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import partial

from bot.assistant import Assistant
from bot.chat import Chat
from bot.commands import Invocation, UnknownCommand, consent_in, message_text, parse
from bot.errors import ChatError
from bot.events import Event, Failed, Finished
from bot.library import Library
from bot.terminal.commands import Commands, Next
from bot.terminal.endings import STOPPED, interrupts_to, until_ended
from bot.terminal.history import TypedHistory
from bot.terminal.identity import locale_language, os_user, own_texts
from bot.terminal.input import Completions, Prompt
from bot.terminal.piped import NotText, read_lines
from bot.terminal.screen import Screen, is_terminal
from bot.terminal.sources import footnotes
from bot.terminal.status import about_chat, about_reply
from bot.terminal.turn import Turn
from bot.terminal.typeahead import Typeahead, without_echo
from settings import Settings

log = logging.getLogger("familiar")

CHANNEL = "terminal"
HISTORY_FILE = "terminal-history"  # in settings.data.folder
_NEW_SUBJECT = {"new", "open", "forget", "model", "persona"}  # after these, the last turn's figures say nothing


async def run(
    assistant: Assistant,
    settings: Settings,
    *,
    conversation: int | None = None,
    latest: bool = False,
    persona: str = "",
    model: str = "",
    library: Library | None = None,
) -> int:
    """Open the chat of the person at this terminal and stay in it until they leave; the exit code.

    `conversation` and `latest` go on with an earlier conversation; `persona` and `model` set who answers. 0: they left;
    1: opening it failed, or something that came from a pipe did; 2: what came from a pipe is not text; 130: Ctrl-C
    where there is no line to clear.
    """
    try:
        chat = await open_chat(assistant, conversation=conversation, latest=latest, persona=persona, model=model)
    except ChatError as error:
        sys.stderr.write(f"{own_texts(settings).problem(error)}\n")
        return 1
    return await TerminalChat(chat, settings, library).run()


async def open_chat(
    assistant: Assistant,
    *,
    conversation: int | None = None,
    latest: bool = False,
    persona: str = "",
    model: str = "",
) -> Chat:
    """The chat of the operating system's user. Raises ChatError."""
    user = os_user()
    chat = await Chat.open(
        assistant,
        channel=CHANNEL,
        external_id=user,
        name=user,
        language=locale_language(),
        conversation=conversation,
        latest=latest,
    )
    if persona:
        await chat.use_persona(persona)
    if model:
        await chat.use_model(model)
    return chat


class TerminalChat:
    """On a terminal with a line of input; with lines from a pipe as messages when standard input is not one."""

    def __init__(self, chat: Chat, settings: Settings, library: Library | None = None) -> None:
        self._chat = chat
        self._screen = Screen(sys.stdout, sys.stderr, chat.texts)
        self._prompt: Prompt | None = None
        self._typeahead: Typeahead | None = None
        self._turn: Turn | None = None
        self._turns = 0  # shown since the last line of input
        self._last: Finished | None = None
        self._failed = False
        self._stopped = False
        typed = None
        if is_terminal(sys.stdin) and is_terminal(sys.stdout):
            typed = TypedHistory(settings.data.folder / HISTORY_FILE)
            self._prompt = Prompt(chat.texts, typed, Completions(chat), self._status)
            self._typeahead = Typeahead(self._prompt.keyboard)
        self._commands = Commands(chat, self._screen, self._prompt, typed, self._run_turn, library)

    async def run(self) -> int:
        """The exit code, as `run` gives it, or that of the signal that ended it."""
        return await until_ended(self._converse() if self._prompt else self._read_pipe())

    async def _converse(self) -> int:
        assert self._prompt is not None, "asked only on a terminal"
        assert self._typeahead is not None, "the two come together"
        with self._typeahead.unechoed():
            await self._guarded(self._welcome)
            draft = ""
            while (line := await self._prompt.read(draft)) is not None:
                draft = ""
                if line.strip():
                    self._turns = 0
                    with self._typeahead.listening(self._interrupt):
                        after = await self._guarded(partial(self._handle, line))
                    if after.leave:
                        break
                    self._screen.space()
                    draft = after.draft
                    if self._turns:
                        draft = self._typeahead.text()
                    else:
                        self._typeahead.give_back()
        self._screen.say(self._chat.texts.t("done.goodbye"), "dim")
        return 0

    async def _read_pipe(self) -> int:
        reading = asyncio.create_task(self._answer_lines())

        def interrupt() -> None:
            self._stopped = True
            if self._turn is None:
                reading.cancel()
            self._interrupt()

        with interrupts_to(interrupt), without_echo(sys.stdout):
            try:
                await reading
            except asyncio.CancelledError:
                if not self._stopped:
                    raise
            except NotText:
                self._screen.warn(self._chat.texts.t("terminal.not_text"))
                return 2
        return STOPPED if self._stopped else int(self._failed)

    async def _answer_lines(self) -> None:
        async for line in read_lines(sys.stdin.fileno()):
            if line.strip() and ((await self._guarded(partial(self._handle, line))).leave or self._stopped):
                return

    async def _guarded(self, action: Callable[[], Awaitable[Next]]) -> Next:
        """What goes wrong in one action is told, and the chat goes on."""
        try:
            return await action()
        except ChatError as error:
            self._screen.problem(error)
        except BrokenPipeError:
            raise
        except Exception as error:
            incident = secrets.token_hex(4)
            log.exception("incident %s: %s", incident, error)
            self._screen.problem(Failed("unexpected", "", incident))
        self._failed = True
        return Next()

    async def _handle(self, line: str) -> Next:
        match parse(line):
            case Invocation(command) as invocation:
                after = await self._commands.run(invocation)
                if command.name in _NEW_SUBJECT:
                    self._last = None
                return after
            case UnknownCommand(name, None):
                raise ChatError("unknown_command", name=name)
            case UnknownCommand(name, nearest):
                raise ChatError("unknown_command_near", name=name, nearest=nearest)
            case None:
                await self._run_turn(partial(self._chat.send, message_text(line)))
        return Next()

    async def _run_turn(self, start: Callable[[asyncio.Event], AsyncGenerator[Event]]) -> None:
        self._screen.space()
        self._turns += 1
        turn = self._turn = self._screen.turn()
        try:
            end = await turn.show(start(turn.stop))
        finally:
            self._turn = None
        texts = self._chat.texts
        match end:
            case Failed():
                self._failed = True
                self._screen.problem(end)
            case Finished(text="", finish="stopped") | None:
                self._screen.aside(texts.t("done.stopped_empty" if end else "status.stopped"))
            case Finished():
                self._last = end
                for line in footnotes(end, turn.failed_search, texts):
                    self._screen.aside(line)
                self._screen.aside(about_reply(end, texts))
                await self._tell_of_learning(end)

    async def _tell_of_learning(self, end: Finished) -> None:
        """Once, to somebody who sits here: that replies come from what they corrected."""
        if self._prompt is None:
            return
        version = await self._chat.kept.learned_in(end.adapter)
        if version is not None:
            self._screen.say(self._chat.texts.t("model.uses_corrections", version=version))

    def _interrupt(self) -> None:
        if self._turn:
            self._turn.interrupt()

    def _status(self, columns: int) -> str:
        return about_chat(self._chat, self._last, columns)

    async def _welcome(self) -> Next:
        texts, name, conversation = self._chat.texts, self._chat.person.name, self._chat.conversation
        if conversation:
            await self._commands.show_branch()
            title = conversation.title or texts.t("list.untitled")
            self._screen.say(texts.t("done.continued", title=title), "dim")
        elif name:
            self._screen.say(texts.t("done.welcome_name", name=name), "dim")
        else:
            self._screen.say(texts.t("done.welcome"), "dim")
        self._screen.space()
        await self._ask_consent()
        return Next()

    async def _ask_consent(self) -> None:
        """Once, where the operator wants everybody asked; who does not answer is asked in the next session."""
        privacy = await self._chat.kept.privacy()
        if self._prompt is None or privacy.policy != "ask" or privacy.choice is not None:
            return
        texts = self._chat.texts
        self._screen.say(texts.t("ask.consent"), "bold")
        self._screen.say(texts.t("ask.consent_explained"))
        while answer := ((await self._prompt.ask(texts.t("terminal.consent_prompt"))) or "").strip():
            if choice := consent_in(answer):
                await self._chat.kept.consent(choice)
                self._screen.say(texts.t(f"done.consent_{choice}"), "green")
                break
        self._screen.space()
