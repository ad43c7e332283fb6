"""An open Chroma, in this process or on a server, and its collections through LangChain's vector store.

Reading goes through LangChain's wrapper. Writing goes to the collection itself: the wrapper would have to be given a
text for each vector and keep it in Chroma, whose trigram index of texts made adding half as fast and the database 1.6
times as large with no more than a hash for text (6,000 vectors of 384). An empty text costs a fifth of that, and one
has to be there, for the wrapper passes over results without.

What Chroma keeps in memory is not refreshed when another process changes its files, so an open Chroma is thrown away
for a new one where that has happened: see knowledge.vectors.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from knowledge.errors import IndexBusy, IndexDamaged, KnowledgeError
from store.errors import StoreError

if TYPE_CHECKING:
    from chromadb.api import ClientAPI
    from langchain_chroma import Chroma

Vector = NDArray[np.float32]

log = logging.getLogger("familiar")

# Where the 50 nearest of 20,000 x 384 lie in 700 small clusters, ef_search 100 with 16 neighbours (ef_construction
# 100) finds .89 of them, this .99, for a millisecond more a query and half of the speed of adding.
HNSW = {"space": "cosine", "ef_construction": 200, "ef_search": 400, "max_neighbors": 24, "sync_threshold": 1000}
BATCH = 500  # less than sync_threshold: then a reader, who applies the unsynced rest to its copy, never syncs it
SERVER_TIMEOUT_S = 30
_CONNECT_TIMEOUT_S = 5
_CHANGE_POLL_S = 0.005

_spellings = itertools.count(1)


class OpenChroma:
    """`folder` or `url` says where it is. Closed when retired and nobody is using it any more."""

    def __init__(self, place: Path | str) -> None:
        self.place = place
        self.versions: dict[str, int] = {}  # of each collection in memory: the version that was loaded
        self._collections: dict[str, Chroma] = {}
        self._changes: dict[str, int] = {}  # odd: one is being made. One thread at a time makes them
        self._lock = threading.Lock()
        self._users = 0
        self._retired = False
        with translated(place):
            self._client: ClientAPI = _in_process(place) if isinstance(place, Path) else _on_server(place)

    @contextmanager
    def used(self) -> Iterator[OpenChroma]:
        """Raises Retired when it was closed before."""
        with self._lock:
            if self._retired:
                raise Retired
            self._users += 1
        try:
            yield self
        finally:
            with self._lock:
                self._users -= 1
                last = self._retired and not self._users
            if last:
                self._close()

    def retire(self) -> None:
        with self._lock:
            already, self._retired = self._retired, True
            last = not already and not self._users
        if last:
            self._close()

    def nearest(self, collection: str, vector: Vector, k: int, owners: Sequence[str] | None) -> list[tuple[int, float]]:
        """(chunk id, cosine), of these owners' vectors or, for None, of all.

        Chroma asks its database and its HNSW one after the other, so a change between the two makes an error of ids
        that only one of them knows, or costs hits. It is asked again when this process was at the collection meanwhile.
        """
        from chromadb.errors import ChromaError

        if k < 1:
            return []
        where: Any = None if owners is None else {"owner": {"$in": list(owners)}}
        while True:
            before = self._changes.get(collection, 0)
            try:
                store = self._collection(collection)
                found = store.similarity_search_by_vector_with_relevance_scores(vector.tolist(), k=k, filter=where)
            except ChromaError:
                if self._unchanged(collection, before):
                    raise
            else:
                if len(found) == k or self._unchanged(collection, before):
                    return [(int(document.id or 0), 1.0 - distance) for document, distance in found]
            time.sleep(_CHANGE_POLL_S)

    def ids(self, collection: str) -> set[int]:
        return {int(each) for each in self._collection(collection).get(include=[])["ids"]}

    def count(self, collection: str) -> int:
        return int(self._raw(collection).count())

    def put(self, collection: str, ids: Sequence[int], owners: Sequence[str], vectors: Vector) -> None:
        """vectors: (n, d)"""
        batch = min(BATCH, self._client.get_max_batch_size())
        raw = self._raw(collection)
        for at in range(0, len(ids), batch):
            here = slice(at, at + batch)
            with self._changing(collection):
                raw.upsert(
                    ids=[str(each) for each in ids[here]],
                    embeddings=vectors[here],
                    metadatas=[{"owner": owner} for owner in owners[here]],
                    documents=[""] * len(ids[here]),
                )

    def delete(self, collection: str, ids: Sequence[int]) -> None:
        for at in range(0, len(ids), BATCH):
            with self._changing(collection):
                self._collection(collection).delete(ids=[str(each) for each in ids[at : at + BATCH]])

    def create(self, collection: str, metadata: Mapping[str, str]) -> None:
        from langchain_chroma import Chroma

        configuration: Any = {"hnsw": HNSW}
        made = Chroma(
            client=self._client,
            collection_name=collection,
            collection_metadata=dict(metadata),
            collection_configuration=configuration,
        )
        self._collections[collection] = made

    def drop(self, collection: str) -> None:
        """Nothing to do where it is gone already."""
        from chromadb.errors import NotFoundError

        self._collections.pop(collection, None)
        with suppress(NotFoundError), self._changing(collection):
            self._client.delete_collection(collection)

    def collections(self) -> list[tuple[str, str]]:
        """(name, the catalogue that it follows) of all."""
        return [
            (each.name, str((each.metadata or {}).get("catalogue", ""))) for each in self._client.list_collections()
        ]

    @contextmanager
    def _changing(self, collection: str) -> Iterator[None]:
        self._changes[collection] = self._changes.get(collection, 0) + 1
        try:
            yield
        finally:
            self._changes[collection] += 1

    def _unchanged(self, collection: str, before: int) -> bool:
        return before % 2 == 0 and self._changes.get(collection, 0) == before

    def _collection(self, name: str) -> Chroma:
        from langchain_chroma import Chroma

        if name not in self._collections:
            self._collections[name] = Chroma(
                client=self._client, collection_name=name, create_collection_if_not_exists=False
            )
        return self._collections[name]

    def _raw(self, name: str) -> Any:
        return self._client.get_collection(name, embedding_function=None)

    def _close(self) -> None:
        self._collections.clear()
        try:
            self._client.close()  # type: ignore[attr-defined]  # the interface does not name it
        except Exception:  # a client of a server that is gone
            log.debug("closing Chroma", exc_info=True)


class Retired(Exception):
    """Somebody closed it to open it anew; take the new one."""


@contextmanager
def translated(place: Path | str) -> Iterator[None]:
    """What Chroma raises becomes a KnowledgeError that says what to do; its panics too, which are no Exceptions."""
    from chromadb.errors import ChromaError

    try:
        yield
    except (KnowledgeError, StoreError, Retired):
        raise
    except Exception as error:
        if isinstance(place, Path) and not isinstance(error, ChromaError | OSError):
            raise  # a mistake of ours; of a server's answers Chroma's client makes any kind of exception
        raise explained(place, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":
            raise
        raise explained(place, error) from error


def explained(place: Path | str, error: BaseException) -> KnowledgeError:
    said = " ".join(str(error).split())[:300] or type(error).__name__
    if "disk is full" in said or "No space left" in said:
        return KnowledgeError(f"No room is left on the disk for the vector index ({_shown(place)}). Make some.")
    if isinstance(place, str) and not _is_chroma_error(error):
        return KnowledgeError(
            f"The Chroma server at {_shown(place)} (knowledge.chroma_url) does not answer: {said}. Start it, or leave "
            "knowledge.chroma_url empty to have the index in this process."
        )
    if "database is locked" in said:
        return IndexBusy(f"Another process is busy with the vector index ({_shown(place)}). Try again.")
    return damaged(place, said)


def damaged(place: Path | str, said: str) -> IndexDamaged:
    return IndexDamaged(
        f"The vector index ({_shown(place)}) cannot be read: {said}. No document is lost: `familiar knowledge rebuild` "
        "makes it anew from what is stored."
    )


def _is_chroma_error(error: BaseException) -> bool:
    from chromadb.errors import ChromaError

    return isinstance(error, ChromaError)


def _shown(place: Path | str) -> str:
    """Without a password."""
    if isinstance(place, Path):
        return str(place)
    parts = urlsplit(place)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _in_process(folder: Path) -> ClientAPI:
    """Chroma shares one open database between all clients of a process that spell its path alike, so that closing and
    opening it would refresh nothing while another has it open. Each gets a spelling of its own: folder/./././"""
    import chromadb

    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    spelling = f"{folder}/{'./' * next(_spellings)}"
    return chromadb.PersistentClient(spelling, settings=_settings())


def _on_server(url: str) -> ClientAPI:
    """The first question is our own, because Chroma's client would wait for a silent server for ever."""
    import chromadb
    import httpx

    timeout = httpx.Timeout(SERVER_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S)
    httpx.get(f"{url.rstrip('/')}/api/v2/heartbeat", timeout=timeout).raise_for_status()
    client = chromadb.HttpClient(host=url.rstrip("/"), settings=_settings())
    client._server._session.timeout = timeout  # type: ignore[attr-defined]  # there is no setting for it
    return client


def _settings() -> Any:
    from chromadb.config import Settings

    return Settings(anonymized_telemetry=False, chroma_otel_collection_endpoint="")
