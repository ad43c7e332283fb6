"""The one process that writes the vector index: it does what the catalogue's outbox says, and makes shards anew.

Whoever holds `chroma.lock` is the indexer. Beside it stands `chroma.load.lock`, held for each change and by readers
while they load a shard's files, because Chroma writes those in place. A change goes in this order, under that lock:

    the layout's version of the shard grows      readers that have it open will load it anew
    Chroma is changed, durably
    the items leave the outbox                   until then readers search these vectors in the catalogue

Killed anywhere, the next indexer does the same items again, to the same effect.
"""

from __future__ import annotations

import logging
import secrets
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from filelock import FileLock, Timeout

from knowledge import chroma_files, intact
from knowledge.chroma import BATCH, OpenChroma, damaged, translated
from knowledge.comparing import compared
from knowledge.errors import IndexBusy, KnowledgeError, OtherEmbeddings
from knowledge.intact import changing, loading
from knowledge.shards import Layout, LayoutNote, Shard, new_collection_name, shard_of
from store.catalogue.catalogue import Catalogue

Progress = Callable[[int, int], None]  # done, of how many

MODEL_NOTE = "embedding.model"
_ALWAYS_ANEW = 20_000  # a shard up to this size is made anew after every removal, a larger one
_DELETED_SHARE = 0.05  # when so much of it was removed

log = logging.getLogger("familiar")


@dataclass
class Change:
    """What is to be done to shards: chunks to put as (id, owner, hash), and ids to delete."""

    puts: dict[str, list[tuple[int, str, str]]] = field(default_factory=dict)
    deletes: dict[str, list[int]] = field(default_factory=dict)

    @property
    def shards(self) -> set[str]:
        return {*self.puts, *self.deletes}


class Indexer:
    """Any thread may call it; one at a time gets its turn."""

    def __init__(self, catalogue: Catalogue, place: Path | str, folder: Path, model_id: str) -> None:
        self._catalogue = catalogue
        self._place = place
        self._folder = folder
        self._model_id = model_id
        self._note = LayoutNote(catalogue)
        self._lock = FileLock(folder / "chroma.lock", mode=0o600, thread_local=False)
        self._turn = threading.RLock()
        self._chroma: OpenChroma | None = None

    @property
    def chroma(self) -> OpenChroma | None:
        """Open while this is the indexer: it always shows the newest state."""
        return self._chroma

    def acquire(self) -> bool:
        """Become the indexer, unless another process is. Raises IndexDamaged, OtherEmbeddings, KnowledgeError."""
        with self._turn:
            if self._chroma is not None:
                return True
            if not self._locked():
                return False
            try:
                self._take_over()
            except BaseException:
                self.release()
                raise
            return True

    def release(self) -> None:
        with self._turn:
            chroma, self._chroma = self._chroma, None
            if chroma is not None:
                chroma.retire()
            self._lock.release()

    def apply(self, on_progress: Progress | None, *, keep: bool) -> bool:
        """Empty the outbox, erase what is due; False where another process is the indexer. `keep`: go on being it."""
        with self._turn:
            if not self.acquire():
                return False
            self.drain(on_progress)
            self.erase()
            if not keep:
                self.release()
            return True

    def drain(self, on_progress: Progress | None = None, stop: Callable[[], bool] = lambda: False) -> None:
        """Do what is in the outbox. What fails may be tried again by acquiring anew."""
        with self._turn, self._released_on_failure():
            done = 0
            while (items := self._catalogue.pending(BATCH)) and not stop():
                change = Change()
                for item in items:
                    if item.action == "put":
                        change.puts.setdefault(shard_of(item.owner), []).append((item.chunk_id, item.owner, item.hash))
                    else:
                        change.deletes.setdefault(shard_of(item.owner), []).append(item.chunk_id)
                self._make(change)
                self._catalogue.done([item.id for item in items])
                done += len(items)
                if on_progress is not None:
                    on_progress(done, done + self._catalogue.pending_count())

    def erase(self) -> bool:
        """Make the shards anew that are due. Were there any?"""
        with self._turn, self._released_on_failure():
            due = self._erasure_due()
            if due:
                layout = self._note.read()
                self._swap(layout, self._filled(layout, due, None), due)
            return bool(due)

    def mend(self) -> int:
        """Make the index agree with the catalogue, if by whatever accident it does not. How many vectors differed."""
        with self._turn, self._released_on_failure():
            with self._changing() as chroma:
                missing, surplus = compared(self._catalogue, self._note.read(), chroma)
            for shard, keys in missing.items():
                for at in range(0, len(keys), BATCH):
                    self._make(Change(puts={shard: keys[at : at + BATCH]}))
            for shard, ids in surplus.items():
                self._make(Change(deletes={shard: ids}))
            self._note.write(replace(self._note.read(), unsure=False))
            differing = sum(map(len, missing.values())) + sum(map(len, surplus.values()))
            if differing:
                log.warning("the vector index differed from the catalogue in %d vectors; mended", differing)
            return differing

    def rebuild(self, on_progress: Progress | None = None) -> None:
        """All shards anew from the catalogue, by this model. Raises IndexBusy, and KnowledgeError without vectors."""
        with self._turn:
            if self._chroma is None and not self._locked():
                raise IndexBusy("Another process has the vector index open for writing. Stop it, and try again.")
            try:
                self._discard_damaged()
                layout = self._note.read()
                layout = Layout(self._model_id, layout.catalogue or secrets.token_hex(8), layout.shards)
                self._reopen()
                filled = self._filled(layout, None, on_progress)
                self._catalogue.set_meta(MODEL_NOTE, self._model_id)
                self._swap(layout, filled, {*layout.shards, *filled})
            except BaseException:
                self.release()
                raise

    def _erasure_due(self) -> list[str]:
        """The shards in whose files there is enough of what was removed to make them anew."""
        touched = {name: shard for name, shard in self._note.read().shards.items() if shard.deleted}
        if not touched:
            return []
        with self._changing() as chroma, translated(self._place):
            counts = {name: chroma.count(shard.collection) for name, shard in touched.items()}
        return [
            name
            for name, shard in touched.items()
            if counts[name] <= _ALWAYS_ANEW or shard.deleted >= _DELETED_SHARE * counts[name]
        ]

    def _locked(self) -> bool:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def _open(self) -> OpenChroma:
        if self._chroma is None:
            raise IndexBusy("The vector index is being opened. Try again.")
        return self._chroma

    @contextmanager
    def _released_on_failure(self) -> Iterator[None]:
        """What this process has in memory after a failure is not to be trusted."""
        try:
            yield
        except BaseException:
            self.release()
            raise

    def _take_over(self) -> None:
        layout = self._note.read()
        if layout.model and layout.model != self._model_id:
            raise other_embeddings(layout.model, self._model_id)
        if isinstance(self._place, Path):
            with loading(self._folder, self._place):
                layout = self._looked_at(self._place, layout)
        if not layout.model:
            layout = Layout(self._model_id, layout.catalogue or secrets.token_hex(8), layout.shards)
            self._note.write(layout)
        self._reopen()
        if self._drop_leftovers(layout):
            layout = replace(layout, untidy=True)
            self._note.write(layout)
        with translated(self._place):
            there = {name for name, _ in self._open().collections()}
        if gone := {shard.collection for shard in layout.shards.values()} - there:
            raise damaged(self._place, f"the collection {min(gone)} is not there")
        if layout.untidy:
            self._tidy()
        if layout.unsure:
            self.mend()

    def _looked_at(self, chroma: Path, layout: Layout) -> Layout:
        """The layout after what a killed indexer left is put in order."""
        if not layout.shards:  # nothing in it that anybody knows of
            shutil.rmtree(chroma, ignore_errors=True)
            intact.forget(chroma)
            return layout
        interrupted = intact.interrupted(chroma) and chroma.exists()
        wrong = intact.fault(chroma)
        if wrong and not interrupted:
            raise damaged(chroma, wrong)
        if wrong:
            log.warning(
                "the indexer was stopped while it wrote, and left what cannot be read (%s); making it anew", wrong
            )
            shutil.rmtree(chroma)
            intact.forget(chroma)
            layout = replace(layout, shards={}, unsure=True)
            self._note.write(layout)
        return layout

    def _discard_damaged(self) -> None:
        if not isinstance(self._place, Path):
            return
        with loading(self._folder, self._place):
            if not intact.fault(self._place, closely=True):
                return
            chroma, self._chroma = self._chroma, None
            if chroma is not None:
                chroma.retire()
            aside = self._place.with_name(f"{self._place.name}.damaged")
            shutil.rmtree(aside, ignore_errors=True)
            if self._place.exists():
                self._place.rename(aside)
            intact.forget(self._place)
            self._note.write(replace(self._note.read(), shards={}, unsure=True))

    def _reopen(self) -> None:
        chroma, self._chroma = self._chroma, None
        if chroma is not None:
            chroma.retire()
        with loading(self._folder, self._place):
            self._chroma = OpenChroma(self._place)

    def _drop_leftovers(self, layout: Layout) -> bool:
        """Collections that were being made when their indexer was killed; on a server, only this catalogue's."""
        leftovers = []
        in_use = {shard.collection for shard in layout.shards.values()}
        with self._changing() as chroma, translated(self._place):
            for name, catalogue in chroma.collections():
                if name not in in_use and (catalogue == layout.catalogue or isinstance(self._place, Path)):
                    leftovers.append(name)
            for name in leftovers:
                chroma.drop(name)
        return bool(leftovers)

    @contextmanager
    def _changing(self) -> Iterator[OpenChroma]:
        with changing(self._folder, self._place):
            yield self._open()

    def _make(self, change: Change) -> None:
        layout = self._note.read()
        version = layout.next_version
        with self._changing() as chroma, translated(self._place):
            shards: dict[str, Shard] = {}
            for name in change.shards:
                shard = layout.shards.get(name)
                if shard is None and name not in change.puts:
                    continue
                if shard is None:
                    shard = Shard(self._created(chroma, name, layout.catalogue), version)
                deleted = shard.deleted + len(change.deletes.get(name, ()))
                shards[name] = Shard(shard.collection, version, deleted)
            self._note.write(layout.with_shards(shards))
            for name, shard in shards.items():
                chroma.versions[shard.collection] = version
                if ids := change.deletes.get(name):
                    chroma.delete(shard.collection, ids)
                self._put(chroma, shard.collection, change.puts.get(name, ()))

    def _created(self, chroma: OpenChroma, shard: str, catalogue: str) -> str:
        name = new_collection_name(shard, self._model_id)
        chroma.create(name, {"catalogue": catalogue, "model": self._model_id})
        return name

    def _put(self, chroma: OpenChroma, collection: str, keys: Sequence[tuple[int, str, str]]) -> int:
        """How many had no vector: their chunks are gone meanwhile, and a deletion follows; or it was lost."""
        vectors = self._catalogue.vectors([hash_ for _, _, hash_ in keys], self._model_id)
        there = [key for key in keys if key[2] in vectors]
        if there:
            stacked = np.stack([vectors[hash_] for _, _, hash_ in there])
            chroma.put(collection, [key[0] for key in there], [key[1] for key in there], stacked)
        return len(keys) - len(there)

    def _filled(self, layout: Layout, wanted: Collection[str] | None, on_progress: Progress | None) -> dict[str, str]:
        """New collections by shard, of the wanted shards or of all, holding what the catalogue says they should."""
        chunks = self._catalogue.chunk_count()
        filled: dict[str, str] = {}
        after, done, without = 0, 0, 0
        while keys := self._catalogue.chunk_keys(after=after, limit=BATCH * 4):
            after = keys[-1][0]
            shards: dict[str, list[tuple[int, str, str]]] = {}
            for key in keys:
                shard = shard_of(key[1])
                if wanted is None or shard in wanted:
                    shards.setdefault(shard, []).append(key)
            for shard, here in shards.items():
                for at in range(0, len(here), BATCH):
                    with self._changing() as chroma, translated(self._place):
                        if shard not in filled:
                            filled[shard] = self._created(chroma, shard, layout.catalogue)
                        without += self._put(chroma, filled[shard], here[at : at + BATCH])
            done += len(keys)
            if on_progress is not None:
                on_progress(done, max(done, chunks))
        if without and wanted is None:
            self._refuse_gaps()
        return filled

    def _refuse_gaps(self) -> None:
        """Raises KnowledgeError when a chunk has no vector, and its removal was not the reason."""
        after, without = 0, 0
        while keys := self._catalogue.chunk_keys(after=after):
            after = keys[-1][0]
            without += len(self._catalogue.missing_vectors([key[2] for key in keys], self._model_id))
        if without:
            raise KnowledgeError(
                f"{without} texts have no vector by {self._model_id} yet: the vector index can be made when they do."
            )

    def _swap(self, layout: Layout, filled: Mapping[str, str], replaced: Collection[str]) -> None:
        """The filled collections take the place of the shards replaced; then what was removed is in no file."""
        kept = {name: shard for name, shard in layout.shards.items() if name not in replaced}
        fresh = {name: Shard(collection, layout.next_version) for name, collection in filled.items()}
        with self._changing() as chroma, translated(self._place):
            self._note.write(replace(layout, shards={**kept, **fresh}, untidy=True))
            for name in set(replaced) & set(layout.shards):
                chroma.drop(layout.shards[name].collection)
        self._tidy()

    def _tidy(self) -> None:
        """A server keeps what it keeps: its own `chroma vacuum` is for its operator."""
        if isinstance(self._place, Path):
            chroma, self._chroma = self._open(), None  # it has the deleted files open
            chroma.retire()
            with loading(self._folder, self._place):
                if wrong := chroma_files.run("tidy", self._place):
                    raise KnowledgeError(f"What was removed is not yet erased from {self._place}: {wrong}")
                intact.remember(self._place)
            shutil.rmtree(self._place.with_name(f"{self._place.name}.damaged"), ignore_errors=True)
        self._reopen()
        self._note.write(replace(self._note.read(), untidy=False))


def other_embeddings(made_by: str, set_now: str) -> OtherEmbeddings:
    return OtherEmbeddings(
        f"The vector index was made by {made_by}, and knowledge.embeddings now names {set_now}: their vectors cannot "
        "be compared. Set it back, or make the index anew with `familiar knowledge rebuild`."
    )
