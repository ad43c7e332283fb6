"""`familiar ask "…"`: one question, one reply, for a person in a hurry and for scripts.

Standard output holds the reply and nothing else, or with `as_json` one object; errors and waiting go to standard error.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Coroutine
from dataclasses import asdict, dataclass
from typing import Any

from bot.assistant import Assistant
from bot.chat import LONGEST_TEXT, Chat
from bot.errors import ChatError
from bot.events import Failed, Finished, Source
from bot.terminal.chat import open_chat
from bot.terminal.endings import STOPPED, interrupts_to, until_ended
from bot.terminal.identity import own_texts
from bot.terminal.piped import NotText, read_all
from bot.terminal.reply import NoReply
from bot.terminal.screen import Screen, is_terminal
from bot.terminal.sources import footnotes
from bot.terminal.turn import Turn
from bot.terminal.typeahead import without_echo
from bot.texts import Texts
from settings import Settings

ANSWERED, FAILED, USAGE = 0, 1, 2
_MISTAKES = {"no_such_persona", "no_such_model", "empty_text"}
_LONGEST_INPUT = 4 * LONGEST_TEXT  # bytes: no character takes more than four


@dataclass(frozen=True)
class Answer:
    """What `as_json` prints after a reply."""

    reply: str
    finish: str  # stop, length, stopped
    model: str
    adapter: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    ttft_s: float
    tokens_per_s: float
    conversation: int | None
    message: int
    sources: tuple[Source, ...]  # the passages that the reply names
    unanswered: bool  # it was a question, and no document answers it


@dataclass(frozen=True)
class Problem:
    """What `as_json` prints when there is none."""

    error: str
    detail: str
    incident: str = ""


async def run(
    assistant: Assistant,
    settings: Settings,
    question: str,
    *,
    as_json: bool = False,
    persona: str = "",
    model: str = "",
) -> int:
    """Ask in a new conversation; the exit code: 0 answered, 1 failed, 2 wrong usage, 130 stopped by Ctrl-C.

    What standard input holds, if it is not a terminal, follows the question after an empty line; without a question it
    is the question.
    """
    asking = _Asking(own_texts(settings), as_json)

    async def asked() -> int:
        try:
            text = await _with_input(question)
        except NotText:
            return asking.failed(Problem("not_text", asking.texts.t("terminal.not_text")), USAGE)
        if not text:
            return asking.failed(Problem("no_question", asking.texts.t("terminal.no_question")), USAGE)
        try:
            chat = await open_chat(assistant, persona=persona, model=model)
        except ChatError as error:
            return asking.refused(error)
        return await asking.reply(chat, text)

    return await asking.interruptible(asked())


async def ask(chat: Chat, question: str, *, as_json: bool = False) -> int:
    """The same in a chat that is open; standard input is not read."""
    asking = _Asking(chat.texts, as_json)
    return await asking.interruptible(asking.reply(chat, question))


class _Asking:
    def __init__(self, texts: Texts, as_json: bool) -> None:
        self.texts = texts
        self._as_json = as_json
        self._turn: Turn | None = None

    async def interruptible(self, work: Coroutine[Any, Any, int]) -> int:
        """The exit code of `work`. Ctrl-C stops the reply and keeps it, or ends whatever comes before the reply."""
        working = asyncio.ensure_future(work)
        interrupted = False

        def interrupt() -> None:
            nonlocal interrupted
            interrupted = True
            if self._turn is None:
                working.cancel()
            else:
                self._turn.interrupt()

        async def end() -> int:
            try:
                return await working
            except asyncio.CancelledError:
                if not interrupted:
                    raise
                return STOPPED

        with interrupts_to(interrupt), without_echo(sys.stdout):
            return await until_ended(end())

    async def reply(self, chat: Chat, question: str) -> int:
        self.texts = chat.texts
        screen = Screen(sys.stdout, sys.stderr, self.texts)
        self._turn = Turn(screen.waiting(sys.stderr), NoReply() if self._as_json else screen.reply())
        try:
            end = await self._turn.show(chat.send(question, self._turn.stop))
        except ChatError as error:
            return self.refused(error)
        if isinstance(end, Failed):
            return self.failed(Problem(end.kind, self.texts.problem(end), end.incident), FAILED)
        if end is None:
            return STOPPED
        if self._as_json:
            _print_json(_answer(end, chat))
            return STOPPED if end.finish == "stopped" else ANSWERED
        if end.finish == "length":
            _complain(self.texts.t("status.cut"))
        for line in footnotes(end, self._turn.failed_search, self.texts):
            _complain(line)
        return STOPPED if end.finish == "stopped" else ANSWERED

    def refused(self, error: ChatError) -> int:
        return self.failed(Problem(error.key, self.texts.problem(error)), USAGE if error.key in _MISTAKES else FAILED)

    def failed(self, problem: Problem, code: int) -> int:
        if self._as_json:
            _print_json(problem)
        else:
            _complain(problem.detail)
        return code


async def _with_input(question: str) -> str:
    """The question and what standard input holds. Raises NotText."""
    if sys.stdin is None or sys.stdin.closed or is_terminal(sys.stdin):
        return question.strip()
    given = await read_all(sys.stdin.fileno(), _LONGEST_INPUT)
    return "\n\n".join(part for part in (question.strip(), given.strip("\r\n")) if part.strip())


def _answer(end: Finished, chat: Chat) -> Answer:
    return Answer(
        reply=end.text,
        finish=end.finish,
        model=end.model,
        adapter=end.adapter,
        prompt_tokens=end.prompt_tokens,
        cached_tokens=end.cached_tokens,
        completion_tokens=end.completion_tokens,
        ttft_s=round(end.ttft_s, 3),
        tokens_per_s=round(end.tokens_per_s, 2),
        conversation=chat.conversation.id if chat.conversation else None,
        message=end.message_id,
        sources=end.sources,
        unanswered=end.unanswered,
    )


def _print_json(what: Answer | Problem) -> None:
    sys.stdout.write(json.dumps(asdict(what), ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()
