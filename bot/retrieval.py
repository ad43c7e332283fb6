"""Passages for a message: who may read what, what is searched for, and whether nothing was found.

A search that fails is not the end of a turn: the reply is made without passages, and the channel says so.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from knowledge.errors import KnowledgeError
from knowledge.followup import needs_history
from knowledge.passages import Passage
from settings import Knowledge as KnowledgeSettings
from store.catalogue import owners
from store.errors import StoreError
from store.tables import Conversation, Message, Person

if TYPE_CHECKING:
    from knowledge.search import Found

log = logging.getLogger("familiar")

Rewrite = Callable[[str, Sequence[str]], Awaitable[str]]  # a follow-up and the questions before it -> a whole question

TURNS_BEFORE = 3  # questions that a follow-up may refer to
LONGEST_QUERY = 2_000  # characters; a pasted document is not a question
_QUESTION = re.compile(
    r"[?？]|^\W*(?:who|whom|whose|what|which|when|where|why|how|is|are|was|were|does|do|did|can|could|should|will|may"
    r"|tell me (?:about|when|where|who|what|how))\b"
    r"|谁|誰|什么|什麼|哪|何时|何時|为什么|為什麼|怎么|怎麼|怎样|怎樣|多少|多[深高长長远遠大久重]|几|幾|吗|嗎|是否",
    re.IGNORECASE,
)


class Finder(Protocol):
    """knowledge.Knowledge, as far as a turn needs it. All of it blocks."""

    def holds(self, readable: Sequence[str]) -> bool: ...

    def search(self, question: str, readable: Sequence[str], *, history: Sequence[str] = ()) -> Found: ...

    def givers(self, passages: Sequence[Passage]) -> set[int]: ...  # the persons who gave these to a group


@dataclass(frozen=True)
class Retrieval:
    """What a search came to."""

    passages: tuple[Passage, ...] = ()
    relevance: float | None = None  # of the best candidate, 0 to 1; None when nothing was searched
    unanswered: bool = False  # it was a question, and no document answers it
    failed: bool = False


NOT_SEARCHED = Retrieval()


def readable_by(person: Person, conversation: Conversation) -> tuple[str, ...]:
    """Whose documents may stand in this conversation's prompts: in a group, what everybody there may see."""
    group = conversation.place.partition("/")[0]
    if group:
        return owners.SHARED, owners.group(conversation.channel, group)
    assert person.id is not None
    return owners.SHARED, owners.person(person.id)


async def retrieve(
    finder: Finder | None,
    settings: KnowledgeSettings,
    question: str,
    history: Sequence[Message],
    readable: Sequence[str],
    rewrite: Rewrite,
) -> Retrieval:
    """Search what may be read for `question`, understood from the messages before it. Raises nothing but bugs."""
    if finder is None or not question.strip():
        return NOT_SEARCHED
    said = [message.content for message in history if message.role == "user"][-TURNS_BEFORE:]
    query = question[:LONGEST_QUERY]
    try:
        if not await asyncio.to_thread(finder.holds, readable):
            return NOT_SEARCHED
        if settings.follow_ups == "rewrite" and said and needs_history(query):
            query, said = await rewrite(query, said), []
        found = await asyncio.to_thread(
            finder.search, query, readable, history=said if settings.follow_ups == "terms" else ()
        )
    except (KnowledgeError, StoreError) as error:
        log.warning("the documents could not be searched: %s", error)
        return Retrieval(failed=True)
    if found.degraded and not found.passages:
        return Retrieval(failed=True)  # half a search cannot say that no document answers
    silent = settings.unanswered == "silent"
    return Retrieval(found.passages, found.best, not found.passages and not silent and asks(question))


def asks(text: str) -> bool:
    """Whether a message asks for something that a document could say, and is no greeting, thanks or errand."""
    return bool(_QUESTION.search(text.strip()[:LONGEST_QUERY])) and len(text.split()) + _chinese(text) > 2


def _chinese(text: str) -> int:
    return sum("\u4e00" <= character <= "\u9fff" for character in text)
