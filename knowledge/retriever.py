"""The search as LangChain's retriever, so that it can stand in anybody's chain.

FamiliarRetriever(searcher=knowledge.searcher, readable=["shared"]).invoke("When is it open?")
"""

from __future__ import annotations

import asyncio
from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever

from knowledge.passages import Passage


class FamiliarRetriever(BaseRetriever):
    searcher: Any  # knowledge.search.Searcher; pydantic would look into it
    readable: list[str]  # whose documents may be seen: store.catalogue.owners
    limit: int | None = None
    floor: float | None = None  # None: the one in force

    def _get_relevant_documents(self, query: str, *, run_manager: CallbackManagerForRetrieverRun) -> list[Document]:
        found = self.searcher.search(query, self.readable, limit=self.limit, floor=self.floor)
        return [_as_document(passage) for passage in found.passages]

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun
    ) -> list[Document]:
        found = await asyncio.to_thread(self.searcher.search, query, self.readable, limit=self.limit, floor=self.floor)
        return [_as_document(passage) for passage in found.passages]


def _as_document(passage: Passage) -> Document:
    metadata = {
        "title": passage.title,
        "name": passage.name,
        "source": passage.source,
        "heading": passage.heading,
        "page": passage.page,
        "page_end": passage.page_end,
        "owner": passage.owner,
        "document_id": passage.document_id,
        "score": passage.score,
    }
    return Document(id=passage.id, page_content=passage.text, metadata=metadata)
