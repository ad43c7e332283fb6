"""A finder that finds what a test has put there, for whoever may read it, in that order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from knowledge.search import Found, Passage
from store.catalogue import owners

BEST_OF_NOTHING = 0.1  # the relevance of the best candidate where none is relevant enough


@dataclass(frozen=True)
class Searched:
    question: str
    readable: tuple[str, ...]
    history: tuple[str, ...]


@dataclass
class FakeFinder:
    """A bot.retrieval.Finder."""

    passages: list[Passage] = field(default_factory=list)
    empty: bool = False  # there are no documents at all
    fault: Exception | None = None  # what a search fails with
    degraded: str = ""  # why it goes by words alone
    searched: list[Searched] = field(default_factory=list)
    given_by: dict[int, int] = field(default_factory=dict)  # document of a group -> the person who handed it over

    def holds(self, readable: Sequence[str]) -> bool:
        return not self.empty

    def search(self, question: str, readable: Sequence[str], *, history: Sequence[str] = ()) -> Found:
        self.searched.append(Searched(question, tuple(readable), tuple(history)))
        if self.fault is not None:
            raise self.fault
        found = tuple(passage for passage in self.passages if passage.owner in readable)
        best = max((passage.score for passage in found), default=BEST_OF_NOTHING)
        return Found(passages=found, best=best, query=question, timings={}, degraded=self.degraded)

    def givers(self, passages: Sequence[Passage]) -> set[int]:
        return {self.given_by[each.document_id] for each in passages if each.document_id in self.given_by}


def passage(
    text: str,
    title: str = "House rules",
    *,
    heading: str = "",
    page: int | None = None,
    page_end: int | None = None,
    owner: str = owners.SHARED,
    document_id: int = 1,
    position: int = 0,
) -> Passage:
    return Passage(
        id=f"{document_id}:{position}-{position}@0123abcd",
        document_id=document_id,
        owner=owner,
        title=title,
        name=f"{title}.md",
        source=f"folder:{title}.md",
        heading=heading,
        page=page,
        page_end=page_end,
        text=text,
        score=0.9,
        dense=0.8,
        lexical=5.0,
    )
