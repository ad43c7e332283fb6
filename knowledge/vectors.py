"""The vectors of all chunks, searched by Chroma and kept in step with the catalogue.

The catalogue is the truth, and Chroma follows its outbox (knowledge.indexer). A vector that is still in the outbox is
compared with the question here, so that what was taken in is found at once, by every process.

Chroma in this process shows what it loaded, whatever other processes write since. A search is nevertheless never late,
by the order in which it looks:

    1  the vectors in the outbox: what is not there any more was in Chroma, and the layout's version grown, before
    2  the layout: a shard with another version than the loaded one is loaded anew
    3  Chroma
    4  the layout again: a version that grew meanwhile means that Chroma was asked during a change: once more from 2
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import numpy as np

from knowledge import intact
from knowledge.chroma import OpenChroma, Retired, Vector, damaged, explained
from knowledge.comparing import compared
from knowledge.errors import IndexBusy, KnowledgeError
from knowledge.follower import Follower
from knowledge.indexer import MODEL_NOTE, Indexer, Progress, other_embeddings
from knowledge.intact import loading
from knowledge.shards import SHARED_SHARD, LayoutNote, Shard, by_shard
from settings import Knowledge
from store.catalogue.catalogue import Catalogue
from store.errors import StoreError

_ATTEMPTS = 5
_BETWEEN_ATTEMPTS_S = 0.05
_PENDING_LOOKED_AT = 1000

log = logging.getLogger("familiar")


class VectorIndex:
    def __init__(
        self,
        catalogue: Catalogue,
        knowledge: Knowledge,
        folder: Path,
        model_id: str,
        dimensions: int,
        *,
        patience_s: float = 60,
    ) -> None:
        """`folder` is the catalogue's. `patience_s`: how long `apply` waits while nothing moves."""
        self._catalogue = catalogue
        self._folder = folder
        self._place: Path | str = knowledge.chroma_url or folder / "chroma"
        self._model_id = model_id
        self._dimensions = dimensions
        self._patience_s = patience_s
        self._note = LayoutNote(catalogue)
        self._indexer = Indexer(catalogue, self._place, folder, model_id)
        self._reader: OpenChroma | None = None
        self._reader_lock = threading.Lock()
        self._follower: Follower | None = None

    def open(self) -> VectorIndex:
        """Raises OtherEmbeddings when the vectors are another model's. Chroma itself is opened when it is needed."""
        made_by = self._catalogue.get_meta(MODEL_NOTE) or self._note.read().model
        if made_by and made_by != self._model_id:
            raise other_embeddings(made_by, self._model_id)
        if not made_by:
            self._catalogue.set_meta(MODEL_NOTE, self._model_id)
        return self

    def close(self) -> None:
        follower, self._follower = self._follower, None
        if follower is not None:
            follower.stop()
        self._indexer.release()
        self._retire_reader(self._reader)

    def __enter__(self) -> VectorIndex:
        return self.open()

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def search(self, vector: Vector, readable: Sequence[str], k: int) -> list[tuple[int, float]]:
        """(chunk id, cosine) of the k nearest among these owners' chunks, the best first.

        vector: (d,). A chunk that is gone meanwhile may be among them. Raises IndexDamaged, OtherEmbeddings, and
        KnowledgeError when the server does not answer.
        """
        question = self._unit(vector)
        if not readable or k < 1:
            return []
        waiting, vectors = self._catalogue.pending_puts(readable, self._model_id)
        going = self._going()
        found: dict[int, float] = {}
        for shard, owners in by_shard(readable).items():
            filtered = None if shard == SHARED_SHARD else owners
            found.update(self._nearest(shard, question, k + len(going), filtered))
        if len(waiting):
            cosines = vectors @ question / np.maximum(np.linalg.norm(vectors, axis=1), 1e-12)
            found.update(zip(waiting.tolist(), cosines.tolist(), strict=True))
        there = [(chunk, cosine) for chunk, cosine in found.items() if chunk not in going]
        return sorted(there, key=lambda hit: (-hit[1], hit[0]))[:k]

    def apply(self, *, wait: bool, on_progress: Progress | None = None) -> bool:
        """Bring Chroma up to the catalogue, and make what was removed unfindable in its files.

        Where another process is the indexer: False, or with `wait`, wait until it has emptied the outbox; IndexBusy
        when it makes no headway. `on_progress`: (items done, of how many).
        """
        if self._applied(on_progress):
            return True
        if not wait:
            return False
        least, since = self._catalogue.pending_count(), time.monotonic()
        while left := self._catalogue.pending_count():
            if self._applied(on_progress):
                return True
            if left < least:
                least, since = left, time.monotonic()
            if time.monotonic() - since > self._patience_s:
                raise IndexBusy(
                    f"Another process has the vector index open, and {left} changes wait for it. They are safe, and "
                    "are made when it is done or ends."
                )
            time.sleep(0.1)
        return True

    def follow(self) -> None:
        """Keep Chroma up to the catalogue in the background, whenever no other process does, until `close`."""
        if self._follower is None:
            self._follower = Follower(self._catalogue, self._indexer)

    def rebuild(self, on_progress: Progress | None = None) -> None:
        """All shards anew from the catalogue's vectors; what was damaged or another model's is given up.

        `open` need not have succeeded before. Searches go on with the old shards, if they can be read, until the new
        ones take their place. Raises IndexBusy when another process is the indexer, KnowledgeError when chunks have
        no vector by this model.
        """
        self._indexer.rebuild(on_progress)
        if self._follower is None:
            self._indexer.release()

    def check(self) -> list[str]:
        """What is damaged, a sentence each; empty when nothing is. It compares every id: a second for 100,000."""
        try:
            with loading(self._folder, self._place):
                return self._compared()
        except KnowledgeError as error:
            return [str(error)]

    def _compared(self) -> list[str]:
        layout = self._note.read()
        if not layout.shards and not self._catalogue.chunk_count():
            return []
        wrong = intact.fault(self._place, closely=True) if layout.shards and isinstance(self._place, Path) else ""
        if wrong:
            return [str(damaged(self._place, wrong))]
        chroma = OpenChroma(self._place)
        try:
            missing, surplus = compared(self._catalogue, layout, chroma)
        finally:
            chroma.retire()
        if isinstance(self._place, Path):
            intact.remember(self._place)
        sentences = [f"{sum(map(len, missing.values()))} vectors are missing in the vector index"] if missing else []
        if surplus:
            sentences.append(f"{sum(map(len, surplus.values()))} vectors are in the vector index that should be gone")
        return sentences

    def _applied(self, on_progress: Progress | None) -> bool:
        return self._indexer.apply(on_progress, keep=self._follower is not None)

    def _unit(self, vector: Vector) -> Vector:
        given = np.asarray(vector, dtype=np.float32).reshape(-1)
        if given.shape != (self._dimensions,) or not np.isfinite(given).all():
            raise ValueError(f"{given.shape[0]} numbers were given, not a vector of {self._dimensions} finite ones")
        length = float(np.linalg.norm(given))
        return given / length if length else given

    def _going(self) -> set[int]:
        """Chunks that are gone from the catalogue and still in Chroma, where they would take others' places."""
        items = self._catalogue.pending(_PENDING_LOOKED_AT)
        return {item.chunk_id for item in items if item.action == "delete"}

    def _nearest(self, name: str, question: Vector, k: int, owners: Sequence[str] | None) -> list[tuple[int, float]]:
        failure: BaseException | None = None
        for attempt in range(_ATTEMPTS):
            layout = self._note.read()
            if layout.model and layout.model != self._model_id:
                raise other_embeddings(layout.model, self._model_id)
            shard = layout.shards.get(name)
            if shard is None:
                return []
            try:
                found = self._asked(shard, question, k, owners)
            except Retired:
                continue
            except (KnowledgeError, StoreError):
                raise
            except Exception as error:  # the state that was loaded has no such id or collection any more, or damage
                failure = error
                self._retire_reader(self._reader)
                time.sleep(attempt * _BETWEEN_ATTEMPTS_S)
                continue
            if self._note.read().shards.get(name) == shard:
                return found
        if failure is None:
            raise IndexBusy("The vector index changes faster than it can be read. Try again.")
        raise explained(self._place, failure) from failure

    def _asked(self, shard: Shard, question: Vector, k: int, owners: Sequence[str] | None) -> list[tuple[int, float]]:
        writer, reader = self._indexer.chroma, self._reader
        if writer is not None:  # it always shows the newest state
            self._retire_reader(reader)
        elif reader is not None and reader.versions.get(shard.collection, shard.version) != shard.version:
            self._retire_reader(reader)
            reader = None
        chroma = writer or reader
        if chroma is not None and (isinstance(self._place, str) or shard.collection in chroma.versions):
            with chroma.used():
                return chroma.nearest(shard.collection, question, k, owners)
        with loading(self._folder, self._place):
            if shard not in self._note.read().shards.values():
                raise Retired  # it changed while we waited
            return self._loaded(writer, shard, question, k, owners)

    def _loaded(
        self, writer: OpenChroma | None, shard: Shard, question: Vector, k: int, owners: Sequence[str] | None
    ) -> list[tuple[int, float]]:
        """The answer of a shard that this process has not in memory yet. Under the lock for loading."""
        if isinstance(self._place, str):
            with self._opened().used() as chroma:
                return chroma.nearest(shard.collection, question, k, owners)
        if wrong := intact.fault(self._place):
            raise damaged(self._place, wrong)
        with intact.loaded(self._place), (writer or self._opened()).used() as chroma:
            found = chroma.nearest(shard.collection, question, k, owners)
            chroma.versions[shard.collection] = shard.version
            return found

    def _opened(self) -> OpenChroma:
        with self._reader_lock:
            if self._reader is None:
                self._reader = OpenChroma(self._place)
            return self._reader

    def _retire_reader(self, reader: OpenChroma | None) -> None:
        with self._reader_lock:
            if reader is not None and self._reader is reader:
                self._reader = None
        if reader is not None:
            reader.retire()
