"""A follow-up question put so that it can be searched for by itself, by the model that also replies.

Conversational query rewriting by a few examples, as in Yu et al., "Few-Shot Generative Conversational Query Rewriting"
(SIGIR 2020). It costs a request before the reply's own; `familiar knowledge eval` and bench/retrieval.py tell whether
a model is good enough at it to be worth that. Nobody waits for it long, and a reply never fails by it: without a whole
question from the model, the search has the terms of the questions before, as with `follow_ups = "terms"`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from contextlib import aclosing

from engine.client import ChatRequest, Done, EngineClient
from engine.errors import EngineError
from engine.state import State
from knowledge.followup import LONGEST as LONGEST_SHOWN
from knowledge.followup import standalone

log = logging.getLogger("familiar")

LONGEST = 300  # characters; a longer answer is no question
PATIENCE_S = 10.0  # the person sees nothing meanwhile
_MOST_TOKENS = 64
_ALOUD = "<think"  # how models begin that think before they answer; they would not come to an end in so few tokens
_SYSTEM = "Rewrite the last question so that it can be understood alone. Reply with the question only."
_EXAMPLES = (
    (("When does the museum open?",), "And on Sundays?", "When does the museum open on Sundays?"),
    (("Who wrote the harbour rules?",), "When did she do that?", "When were the harbour rules written?"),
    (("图书馆几点开门？",), "周日呢？", "图书馆周日几点开门？"),
)


async def rewritten(client: EngineClient, person: str, question: str, before: Sequence[str]) -> str:
    """`question` as a whole one; with those of `before` that it leans on, where the model does not come up with one."""
    messages = [{"role": "system", "content": _SYSTEM}]
    for earlier, follow_up, whole in _EXAMPLES:
        messages += [{"role": "user", "content": _asked(earlier, follow_up)}, {"role": "assistant", "content": whole}]
    messages.append({"role": "user", "content": _asked(before, question)})
    request = ChatRequest(tuple(messages), {"temperature": 0.0, "max_tokens": _MOST_TOKENS}, person=person)
    line = ""
    try:
        async with asyncio.timeout(PATIENCE_S):
            line = await _first_line(client, request)
    except EngineError as error:
        log.warning("a question could not be rewritten: %s", error)
    except TimeoutError:
        log.warning("a question was not rewritten within %g s", PATIENCE_S)
    usable = 0 < len(line) <= LONGEST and not line.startswith(_ALOUD) and line != question.strip()
    return line if usable else standalone(question, before)


async def _first_line(client: EngineClient, request: ChatRequest) -> str:
    """The answer's first line; "" where it has no end, or an engine that is not ready would have to be waited for."""
    text = ""
    async with aclosing(client.stream(request)) as items:
        async for item in items:
            if isinstance(item, State):  # the reply waits for it next, and shows that it does
                return ""
            if isinstance(item, Done):
                return text.strip() if item.finish == "stop" else ""
            text = (text + item.text).lstrip()
            line, ended, _ = text.partition("\n")
            if ended:
                return line.strip()
            if len(line) > LONGEST:
                return ""
    return ""


def _asked(before: Sequence[str], question: str) -> str:
    return "\n".join([*(earlier[:LONGEST_SHOWN] for earlier in before[-2:]), question])
