"""What is known of a turn while it goes on; at its end, everything that is told and logged of it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from bot.citations import Citations, attributed
from bot.events import Finished, Retrieved, Source
from bot.prompt import Prompt
from bot.retrieval import NOT_SEARCHED, Retrieval
from engine.client import Done
from knowledge.passages import Passage
from settings import Persona
from store.tables import Conversation, Message, Person

SEARCH_FAILED = "the documents could not be searched"  # logged as the error of a reply that was made without them
NOTHING_SENT = Prompt((), None, 0)


@dataclass(frozen=True)
class Asked:
    """A person's stored message and all that its reply needs from the store."""

    conversation: Conversation
    person: Person
    message: Message
    history: list[Message]  # root to the message's parent
    persona: Persona
    adapter: str  # name@version, "" for the base model
    arrivals: tuple[int, ...]


@dataclass
class Turn:
    """Filled in as the turn goes on."""

    began: float  # time.monotonic()
    prompt: Prompt = NOTHING_SENT
    model: str = ""
    adapter: str = ""
    sampling: dict[str, Any] = field(default_factory=dict)
    text: str = ""
    deltas: int = 0
    first_at: float = 0
    last_at: float = 0
    done: Done | None = None
    error: str = ""  # what ended it
    retrieval: Retrieval = NOT_SEARCHED
    passages: tuple[Passage, ...] = ()  # those in the prompt
    citations: Citations = field(default_factory=lambda: Citations(0))

    def take(self, text: str, at: float) -> str:
        """What of it is to be shown now."""
        self.first_at = self.first_at or at
        self.last_at = at
        self.deltas += 1
        shown = self.citations.feed(text)
        self.text += shown
        return shown

    def last_words(self, question: str) -> str:
        """What was held back; of a reply that names no passage, the marks of those that it can be seen to rest on."""
        rest = self.citations.end()
        said = self.text + rest
        if self.passages and self.done and not self.citations.cited and "```" not in said:
            found = attributed(said, question, [passage.text for passage in self.passages])
            self.citations.cited += found
            rest = (rest.rstrip() if found else rest) + "".join(f" [{number}]" for number in found)
        self.text += rest
        return rest

    def retrieved(self) -> Retrieved:
        sources = tuple(source_of(number, passage) for number, passage in enumerate(self.passages, 1))
        return Retrieved(sources, self.retrieval.unanswered, self.retrieval.failed)

    @property
    def finish(self) -> str:
        if self.error:
            return "error"
        return self.done.finish if self.done else "stopped"

    @property
    def completion_tokens(self) -> int:
        """From the engine; of a reply cut short, the number of pieces that came, each of which is about a token."""
        return self.done.completion_tokens if self.done else self.deltas

    @property
    def ttft_s(self) -> float:
        return self.first_at - self.began if self.first_at else 0.0

    @property
    def relevance(self) -> float | None:
        """As it is logged: without any passage it says that the documents answer nothing, so not when they did.

        Passages that were found are missing in the prompt when it had no room for them, or when who gave them was
        forgotten meanwhile.
        """
        left_out = self.retrieval.passages and not self.passages
        return None if left_out else self.retrieval.relevance

    def finished(self, *, message_id: int, asked_id: int, siblings: int) -> Finished:
        after_first_s = self.last_at - self.first_at
        return Finished(
            message_id=message_id,
            asked_id=asked_id,
            text=self.text,
            finish=self.finish,
            model=self.model,
            adapter=self.adapter,
            prompt_tokens=self.done.prompt_tokens if self.done else self.prompt.prompt_tokens,
            cached_tokens=self.done.cached_tokens if self.done else 0,
            completion_tokens=self.completion_tokens,
            ttft_s=self.ttft_s,
            tokens_per_s=(self.completion_tokens - 1) / after_first_s if after_first_s > 0 else 0.0,
            siblings=siblings,
            sources=tuple(source_of(number, self.passages[number - 1]) for number in self.citations.cited),
            unanswered=self.retrieval.unanswered,
        )

    def as_reply(self, message: Message) -> Message:
        """The row that is logged under the person's message."""
        timings = {"ttft": self.ttft_s, "total": time.monotonic() - self.began}
        return Message(
            conversation_id=message.conversation_id,
            parent_id=message.id,
            role="assistant",
            content=self.text,
            prompt=list(self.prompt.messages),
            window_start_id=self.prompt.window_start_id or message.id,
            passages=[passage.id for passage in self.passages],
            relevance=self.relevance,
            model=self.model,
            adapter=self.adapter,
            sampling=self.sampling,
            timings=timings | ({"queue": self.done.queue_s} if self.done else {}),
            prompt_tokens=self.done.prompt_tokens if self.done else self.prompt.prompt_tokens,
            cached_tokens=self.done.cached_tokens if self.done else 0,
            completion_tokens=self.completion_tokens,
            finish=self.finish,
            error=self.error or (SEARCH_FAILED if self.retrieval.failed else ""),
        )


def source_of(number: int, passage: Passage) -> Source:
    return Source(number, passage.id, passage.title, passage.heading, passage.page, passage.page_end, passage.text)


def id_of(row: Conversation | Message | Person) -> int:
    assert row.id is not None, "a stored row has an id"
    return row.id
