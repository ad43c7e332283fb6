"""The catalogue follows the folder: what is new goes in, what changed is replaced, what is gone leaves.

A file's size and time of change tell whether it has to be looked at, its content whether it has to be read. A file that
is gone here and appears there with the same content was moved: its document only gets another name. Where the last part
of the path changed too, the file is read again, since its name may be its title; what is embedded is embedded anew only
where it really is another text.

Each step is one transaction that leaves the catalogue right for the files it was about, and the next sync begins by
looking at everything. So a sync that was killed is completed by the next one, wherever it was.

An empty or missing folder is more often a disk that is not mounted than a wish: nothing is removed for it, unless
asked. For the same reason documents stay whose folder or file cannot be read at the moment.
"""

from __future__ import annotations

import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Collection, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from filelock import FileLock, Timeout

from knowledge.errors import DocumentRefused, IndexBusy, KnowledgeError
from knowledge.ingest import FOLDER, Added, DocumentUnreadable, Ingest, Known, Outcome, Refused, ToAdd
from knowledge.originals import fingerprint
from knowledge.prepare import settled
from knowledge.walk import File, Walked, walk
from settings import Knowledge
from store.catalogue.catalogue import Catalogue, Document
from store.catalogue.entries import Refusal
from store.catalogue.owners import SHARED

log = logging.getLogger("familiar")


class FolderMissing(KnowledgeError):
    """The folder is not there, may not be read, or is empty all of a sudden."""


@dataclass(frozen=True)
class SyncProgress:
    documents_done: int
    documents_total: int  # that are new or changed
    chunks: int  # embedded so far
    chunks_per_s: float
    seconds_left: float | None  # None: too early to tell
    name: str  # the document that was finished last


@dataclass(frozen=True)
class SyncReport:
    added: int = 0
    changed: int = 0
    renamed: int = 0
    removed: int = 0
    unchanged: int = 0
    refused: list[tuple[str, str]] = field(default_factory=list)  # path below the folder, reason; old ones as well
    chunks: int = 0  # of the documents that were read
    embedded: int = 0  # of them those that needed it
    seconds: float = 0.0


class Sync:
    """One at a time: the others get IndexBusy."""

    def __init__(self, catalogue: Catalogue, ingest: Ingest, knowledge: Knowledge) -> None:
        self.catalogue = catalogue
        self.ingest = ingest
        self.folder = knowledge.folder
        self.lock = ingest.originals.folder.parent / "sync.lock"

    def sync(
        self, *, allow_empty: bool = False, on_progress: Callable[[SyncProgress], None] | None = None
    ) -> SyncReport:
        """Make the catalogue like the folder. Blocks; minutes for a first time.

        Raises IndexBusy, FolderMissing, EmbeddingsFailed and StoreError; what was done before that stays.
        """
        with self._alone():
            begun = time.monotonic()
            run = _Run(self, on_progress)
            run.all(allow_empty=allow_empty)
            return run.report(time.monotonic() - begun)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        self.lock.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(self.lock, blocking=False, mode=0o600)
        try:
            lock.acquire()
        except Timeout:
            who = _process_in(self.lock)
            raise IndexBusy(f"A sync is running already (process {who}). Wait until it is done, or stop it.") from None
        try:
            self.lock.write_text(f"{os.getpid()}\n")
            yield
        finally:
            lock.release()


class _Run:
    """One sync."""

    def __init__(self, sync: Sync, on_progress: Callable[[SyncProgress], None] | None) -> None:
        self.catalogue, self.ingest, self.folder = sync.catalogue, sync.ingest, sync.folder
        self.leave_out = (sync.ingest.originals.folder.parent, sync.ingest.originals.folder.parent.parent)
        self.on_progress = on_progress
        self.counts: defaultdict[str, int] = defaultdict(int)
        self.refused: dict[str, str] = {}  # by source

    def all(self, *, allow_empty: bool) -> None:
        known = self.catalogue.by_source(SHARED, FOLDER)
        refusals = {
            source: each for source, each in self.catalogue.refusals(SHARED).items() if source.startswith(FOLDER)
        }
        walked = self._walk(allow_empty=allow_empty, known=len(known))
        for source in refusals:
            if source in known or not walked.may_hold(source):
                self.catalogue.clear_refusal(SHARED, source)
        gone = [document for source, document in known.items() if not walked.may_hold(source)]
        pending = self._pending(walked.files, known, refusals)
        moved, read_again = self._rename(pending, known, gone)
        self._remove([document for document in gone if document.id not in moved])
        self.counts["removed"] += len(gone) - len(moved)
        self._take_in(pending, known, read_again.keys())
        self._remove(list(read_again.values()))

    def report(self, seconds: float) -> SyncReport:
        refused = sorted((source.removeprefix(FOLDER), reason) for source, reason in self.refused.items())
        return SyncReport(refused=refused, seconds=seconds, **self.counts)

    def _walk(self, *, allow_empty: bool, known: int) -> Walked:
        try:
            walked = walk(self.folder, self.leave_out)
        except OSError as error:
            if allow_empty and isinstance(error, FileNotFoundError):
                return Walked({}, {})
            raise FolderMissing(
                f"The folder of documents, {self.folder}, cannot be read ({error.strerror or error}). Nothing was "
                "changed. Make it, mount it, or name another in knowledge.folder."
            ) from error
        if known and not walked.files and not walked.closed and not allow_empty:
            raise FolderMissing(
                f"The folder of documents, {self.folder}, is empty, but {known} documents of it are known. Is its "
                "disk mounted? Nothing was changed. To remove them all, say --allow-empty."
            )
        self.refused |= walked.closed
        return walked

    def _pending(
        self, files: dict[str, File], known: dict[str, Document], refusals: dict[str, Refusal]
    ) -> dict[str, File]:
        """The files that have to be looked at."""
        pending: dict[str, File] = {}
        for source, file in files.items():
            document, refusal = known.get(source), refusals.get(source)
            if document is not None and self._is_same(file, document.size, document.mtime_ns, document.content_hash):
                self.counts["unchanged"] += 1
            elif document is None and refusal is not None and self._was_refused(file, refusal):
                self.refused[source] = refusal.reason
            else:
                pending[source] = file
        return pending

    def _is_same(self, file: File, size: int, mtime_ns: int, content_hash: str) -> bool:
        same = (size, mtime_ns) == (file.size, file.mtime_ns)
        return same and content_hash.endswith(f"/{self.ingest.preparation.recipe}")

    def _was_refused(self, file: File, refusal: Refusal) -> bool:
        """Another limit in the configuration is a reason to try again."""
        same = (refusal.size, refusal.mtime_ns) == (file.size, file.mtime_ns)
        return same and refusal.content_hash == self.ingest.preparation.limits

    def _rename(
        self, pending: dict[str, File], known: dict[str, Document], gone: list[Document]
    ) -> tuple[set[int], dict[str, Document]]:
        """Give moved documents their new place.

        Returns the ids of all that moved, and by their new source those whose files are read again: they are removed
        once that is done.
        """
        by_content: defaultdict[str, list[Document]] = defaultdict(list)
        for document in gone:
            by_content[document.content_hash].append(document)
        sizes = {document.size for document in gone}
        moved, read_again = set[int](), dict[str, Document]()
        for source, file in list(pending.items()):
            if source in known or file.size not in sizes:
                continue
            same = by_content.get(self._content_hash(file))
            if not same:
                continue
            before = min(same, key=lambda document: (document.name != file.name, document.source))
            same.remove(before)
            moved.add(before.id)
            if before.name == file.name:
                self.catalogue.rename(before.id, source, before.name, before.title, settled(file.mtime_ns))
                del pending[source]
            else:
                read_again[source] = before
        self.counts["renamed"] += len(moved)
        return moved, read_again

    def _content_hash(self, file: File) -> str:
        try:
            return f"{fingerprint(file.path)}/{self.ingest.preparation.recipe}"
        except OSError:
            return ""  # taking it in will say why

    def _remove(self, documents: list[Document]) -> None:
        if documents:
            self.catalogue.remove([document.id for document in documents])

    def _take_in(self, pending: dict[str, File], known: dict[str, Document], renamed: Collection[str]) -> None:
        new_first = sorted(pending.values(), key=lambda file: (file.source in known, file.source))
        items = (ToAdd(SHARED, file.source, file.name, file.path) for file in new_first)
        progress = _Progress(pending, self.on_progress)
        with closing(self.ingest.add_many(items, progress.embedded)) as outcomes:
            for outcome in outcomes:
                self._count(outcome, pending, known, renamed)
                progress.finished(outcome.item.source)

    def _count(
        self, outcome: Outcome, pending: dict[str, File], known: dict[str, Document], renamed: Collection[str]
    ) -> None:
        source = outcome.item.source
        match outcome:
            case Added():
                if source not in renamed:
                    self.counts["changed" if source in known else "added"] += 1
                self.counts["chunks"] += outcome.document.chunks
                self.counts["embedded"] += outcome.embedded
            case Known():
                self.counts["unchanged"] += 1
            case Refused():
                self._refuse(pending[source], outcome, known.get(source))

    def _refuse(self, file: File, outcome: Refused, document: Document | None) -> None:
        """What a file held before is not its content any more, so its document goes, and the reason is remembered."""
        error, source = outcome.error, outcome.item.source
        reason = error.reason if isinstance(error, DocumentRefused) else str(error)
        self.refused[source] = reason
        if isinstance(error, DocumentUnreadable) or type(error) is DocumentRefused:
            return  # it may be better the next time, and what is known of it stays
        if document is not None:
            self._remove([document])
            self.counts["removed"] += 1
        self.catalogue.note_refusal(
            SHARED,
            source,
            outcome.item.name,
            self.ingest.preparation.limits,
            settled(file.mtime_ns),
            file.size,
            type(error).__name__,
            reason,
        )


class _Progress:
    """How far it is. The time left is guessed from the bytes that are done: documents differ in size, not in kind."""

    def __init__(self, pending: dict[str, File], on_progress: Callable[[SyncProgress], None] | None) -> None:
        self._pending, self._on_progress = pending, on_progress
        self._begun = time.monotonic()
        self._bytes = sum(file.size for file in pending.values())
        self._bytes_done = self._documents = self._chunks = 0
        self._name = ""
        self._tell()

    def finished(self, source: str) -> None:
        self._documents += 1
        self._bytes_done += self._pending[source].size
        self._name = source.removeprefix(FOLDER)
        self._tell()

    def embedded(self, chunks: int) -> None:
        self._chunks = chunks
        self._tell()

    def _tell(self) -> None:
        if self._on_progress is None:
            return
        passed = time.monotonic() - self._begun
        left = passed * (self._bytes - self._bytes_done) / self._bytes_done if self._bytes_done else None
        rate = self._chunks / passed if passed > 0 else 0.0
        total = len(self._pending)
        self._on_progress(SyncProgress(self._documents, total, self._chunks, rate, left, self._name))


def _process_in(lock: Path) -> str:
    try:
        return lock.read_text().strip() or "unknown"
    except OSError:
        return "unknown"
