"""The library that channels see, over `knowledge`: off the event loop, and with errors that a person can read."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import ParamSpec, TypeVar

from bot.asking import ask
from bot.errors import ChatError
from bot.library import Added, Document, DocumentRefused, Progress, Quote, Refusal
from knowledge import errors
from knowledge.knowledge import Knowledge
from knowledge.prepare import TooManyDocuments
from store.catalogue import owners
from store.errors import NotFound

Given = ParamSpec("Given")
Result = TypeVar("Result")

REFUSALS: dict[type[errors.DocumentRefused], Refusal] = {
    errors.DocumentEmpty: "document_empty",
    errors.DocumentEncrypted: "document_encrypted",
    errors.DocumentDamaged: "document_damaged",
    errors.DocumentTooLarge: "document_too_large",
    errors.DocumentTooSlow: "document_too_slow",
    errors.DocumentUnknownType: "document_unknown_type",
}


class Shelf:
    """A bot.library.Library."""

    def __init__(self, knowledge: Knowledge) -> None:
        self._knowledge = knowledge

    async def add(self, owner: str, added_by: int, name: str, mime: str, path: Path, progress: Progress) -> Added:
        cancelled = threading.Event()
        adding = asyncio.ensure_future(
            self._ask(
                self._knowledge.add,
                owner,
                name,
                path,
                mime=mime,
                added_by=added_by,
                on_progress=progress,
                cancelled=cancelled.is_set,
            )
        )
        try:
            document, known = await asyncio.shield(adding)
        except asyncio.CancelledError:
            cancelled.set()
            await asyncio.gather(adding, return_exceptions=True)  # the file is gone after this returns
            if not adding.cancelled() and adding.exception() is None and not adding.result()[1]:
                added = adding.result()[0]
                await self._ask(self._knowledge.remove, added.id, added.owner)
            raise
        return Added(document.id, document.chunks, known)

    async def documents(self, owner: str) -> list[Document]:
        held = await self._ask(self._knowledge.documents, [owner])
        return [Document(each.id, each.name, each.chunks, each.added_at) for each in held]

    async def remove(self, owner: str, document_id: int) -> None:
        await self._ask(self._knowledge.remove, document_id, owner)

    async def forget(self, person_id: int) -> None:
        await self._ask(self._knowledge.forget, owners.person(person_id), person_id)

    async def move(self, owner: str, to: str) -> None:
        await self._ask(self._knowledge.move, owner, to)

    async def quote(self, passage_id: str, readable: Sequence[str]) -> Quote | None:
        passage = await self._ask(self._knowledge.passage, passage_id, readable)
        if passage is None:
            return None
        return Quote(passage.title, passage.heading, passage.page, passage.page_end, passage.text)

    async def _ask(self, function: Callable[Given, Result], *args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            limit = self._knowledge.settings.knowledge.documents_per_person
            return await ask(_with_known_errors(function, limit), *args, **kwargs)
        except errors.KnowledgeError as error:
            raise ChatError("knowledge_failed", detail=str(error)) from error


def _with_known_errors(function: Callable[Given, Result], limit: int) -> Callable[Given, Result]:
    """The function, with what a person can act on as ChatError."""

    def asked(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            return function(*args, **kwargs)
        except TooManyDocuments as error:
            raise ChatError("too_many_documents", limit=limit) from error
        except errors.DocumentRefused as error:
            why = next((REFUSALS[cause] for cause in type(error).__mro__ if cause in REFUSALS), None)
            if why is None:
                raise ChatError("knowledge_failed", detail=error.reason) from error
            raise DocumentRefused(why, error.name, reason=error.reason) from error
        except NotFound as error:
            raise ChatError("no_such_document") from error

    return asked
