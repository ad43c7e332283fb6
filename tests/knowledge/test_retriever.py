from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from langchain_core.runnables import RunnableLambda

from knowledge.retriever import FamiliarRetriever
from tests.knowledge.searching import Shelf


@pytest.fixture
def shelf(tmp_path: Path) -> Iterator[Shelf]:
    opened = Shelf(tmp_path)
    opened.fill(20)
    opened.put("hours.md", "The museum is open from ten to six.", pages=True)
    opened.put("diary.md", "The museum is open at night for me.", owner="person:1")
    yield opened
    opened.close()


def test_it_gives_langchain_documents_with_where_they_come_from(shelf: Shelf) -> None:
    retriever = FamiliarRetriever(searcher=shelf.searcher, readable=["shared"])
    (document,) = retriever.invoke("When is the museum open?")
    assert document.page_content == "The museum is open from ten to six."
    assert document.id == shelf.searcher.search("When is the museum open?", ["shared"]).passages[0].id
    assert {**document.metadata, "score": 0} == {
        "title": "hours.md", "name": "hours.md", "source": "folder:hours.md", "heading": "", "page": 1, "page_end": 1,
        "owner": "shared", "document_id": document.metadata["document_id"], "score": 0,
    }  # fmt: skip


def test_it_sees_only_what_it_was_told_it_may(shelf: Shelf) -> None:
    assert not FamiliarRetriever(searcher=shelf.searcher, readable=[], floor=0.0).invoke("museum")
    everything = FamiliarRetriever(searcher=shelf.searcher, readable=["shared"], floor=0.0, limit=20).invoke("museum")
    assert {document.metadata["owner"] for document in everything} == {"shared"}


async def test_it_can_be_awaited_and_stand_in_a_chain(shelf: Shelf) -> None:
    retriever = FamiliarRetriever(searcher=shelf.searcher, readable=["shared"], limit=1, floor=0.0)
    chain = retriever | RunnableLambda(lambda documents: documents[0].page_content)
    assert await chain.ainvoke("When is the museum open?") == "The museum is open from ten to six."
