"""A follow-up question put so that it can be searched for by itself, by the model that also replies.

Conversational query rewriting by a few examples, as in Yu et al., "Few-Shot Generative Conversational Query Rewriting"
(SIGIR 2020). It costs a request before the reply's own; `familiar knowledge eval` and bench/retrieval.py tell whether
a model is good enough at it to be worth that.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import aclosing

from engine.client import ChatRequest, Delta, EngineClient
from engine.errors import EngineError

log = logging.getLogger("familiar")

LONGEST = 300  # characters; a longer answer is no question
_SYSTEM = "Rewrite the last question so that it can be understood alone. Reply with the question only."
_EXAMPLES = (
    (("When does the museum open?",), "And on Sundays?", "When does the museum open on Sundays?"),
    (("Who wrote the harbour rules?",), "When did she do that?", "When were the harbour rules written?"),
    (("图书馆几点开门？",), "周日呢？", "图书馆周日几点开门？"),
)


async def rewritten(client: EngineClient, person: str, question: str, before: Sequence[str]) -> str:
    """`question` as a whole one; as it is, with the question before it, where the model does not come up with one."""
    messages = [{"role": "system", "content": _SYSTEM}]
    for earlier, follow_up, whole in _EXAMPLES:
        messages += [{"role": "user", "content": _asked(earlier, follow_up)}, {"role": "assistant", "content": whole}]
    messages.append({"role": "user", "content": _asked(before, question)})
    request = ChatRequest(tuple(messages), {"temperature": 0.0, "max_tokens": 64}, person=person)
    text = ""
    try:
        async with aclosing(client.stream(request)) as items:
            async for item in items:
                if isinstance(item, Delta):
                    text += item.text
    except EngineError as error:
        log.warning("a question could not be rewritten: %s", error)
    whole = text.strip().split("\n", 1)[0]
    return whole if 0 < len(whole) <= LONGEST else f"{before[-1]} {question}"


def _asked(before: Sequence[str], question: str) -> str:
    return "\n".join([*before[-2:], question])
