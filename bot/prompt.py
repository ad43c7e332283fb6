"""From a conversation to the messages that the model is sent.

The order is the prefix cache's: the persona's system prompt and examples, then the history as it was sent before, then
the newest message. A prompt therefore begins with the whole of the one before it, and the engine computes only what is
new, until the history no longer fits. Then the oldest turns go, whole, and more of them than would have to: cutting
to the limit would cut again at the very next turn, and lose the cache at every one from then on. Where the window
begins is remembered with each reply.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from engine.errors import PromptTooLong
from settings import Persona
from store.tables import Message

PromptMessage = dict[str, str]
Count = Callable[[Sequence[PromptMessage]], Awaitable[int]]

KEPT_SHARE = 0.75  # of the room for history, when it is cut
LONGEST_NAME = 64  # characters of a person's name in a prompt; the name is theirs to choose, the prompt is not

_WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_LANGUAGES = {"en": "English", "zh": "Chinese"}


@dataclass(frozen=True)
class Prompt:
    messages: tuple[PromptMessage, ...]
    window_start_id: int | None  # the oldest message of the history that is in it; None when none is
    prompt_tokens: int


def variables(began: datetime, name: str, language: str) -> dict[str, str]:
    """What a persona's templates may use.

    The date is that of the day on which the conversation began, in local time: one that changed at midnight would
    change the prompt's first line and with it every line's place in the cache.
    """
    day = began.astimezone()
    return {
        "date": day.date().isoformat(),
        "weekday": _WEEKDAYS[day.weekday()],
        "user": " ".join(name.split())[:LONGEST_NAME] or "the user",
        "language": _LANGUAGES.get(language, language),
    }


def render_template(text: str, variables: Mapping[str, str]) -> str:
    """`text` with {date}, {weekday}, {user} and {language} filled in; any other braces stay as they are."""
    return re.sub(r"\{(\w+)\}", lambda match: variables.get(match[1], match[0]), text)


async def build(
    persona: Persona,
    variables: Mapping[str, str],
    history: Sequence[Message],
    text: str,
    *,
    budget: int,
    count: Count,
    window_start_id: int | None = None,
) -> Prompt:
    """The prompt for the newest message, `text`, after `history` (root to leaf), in at most `budget` tokens.

    `window_start_id` is where the last prompt of this branch began; nothing before it comes back. `count` is asked
    once as long as the history fits, else O(log turns) times.

    Raises PromptTooLong when the newest message does not fit even without any history.
    """
    opening = _opening(persona, variables)
    turns = _turns(history)
    starts = [turn[0].id for turn in turns]
    turns = turns[starts.index(window_start_id) :] if window_start_id in starts else turns

    def assembled(first: int) -> tuple[PromptMessage, ...]:
        spoken = [_spoken(message) for turn in turns[first:] for message in turn]
        return (*opening, *_alternating([*spoken, {"role": "user", "content": text}]))

    async def prompt_from(first: int) -> Prompt:
        messages = assembled(first)
        start = turns[first][0].id if first < len(turns) else None
        return Prompt(messages, start, await count(messages))

    whole = await prompt_from(0)
    if whole.prompt_tokens <= budget:
        return whole
    without_history = await prompt_from(len(turns)) if turns else whole
    if without_history.prompt_tokens > budget:
        raise PromptTooLong(
            f"The message takes {without_history.prompt_tokens} tokens with the persona's own text; {budget} fit."
        )
    target = without_history.prompt_tokens + int((budget - without_history.prompt_tokens) * KEPT_SHARE)
    return await _longest_within(target, prompt_from, len(turns), without_history)


async def _longest_within(
    target: int, prompt_from: Callable[[int], Awaitable[Prompt]], turns: int, without_history: Prompt
) -> Prompt:
    """The prompt with the most turns that takes at most `target` tokens; the one from 0 is known to take more."""
    best, too_early, late_enough = without_history, 0, turns
    while late_enough - too_early > 1:
        middle = (too_early + late_enough) // 2
        prompt = await prompt_from(middle)
        if prompt.prompt_tokens <= target:
            best, late_enough = prompt, middle
        else:
            too_early = middle
    return best


def _opening(persona: Persona, variables: Mapping[str, str]) -> list[PromptMessage]:
    system = render_template(persona.system, variables)
    opening = [{"role": "system", "content": system}] if system else []
    for example in persona.examples:
        opening.append({"role": "user", "content": render_template(example.user, variables)})
        opening.append({"role": "assistant", "content": render_template(example.assistant, variables)})
    return opening


def _turns(history: Sequence[Message]) -> list[list[Message]]:
    """The history in pieces that are kept or dropped whole: a user's message and what was replied, if anything was."""
    turns: list[list[Message]] = []
    for message in history:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return turns


def _spoken(message: Message) -> PromptMessage:
    return {"role": message.role, "content": message.sent or message.content}


def _alternating(messages: Sequence[PromptMessage]) -> list[PromptMessage]:
    """Neighbours of one role as one message, as chat templates want it; an unanswered one stands before the next."""
    merged: list[PromptMessage] = []
    for message in messages:
        if not message["content"]:
            continue
        if merged and merged[-1]["role"] == message["role"]:
            merged[-1] = message | {"content": f"{merged[-1]['content']}\n\n{message['content']}"}
        else:
            merged.append(message)
    return merged
