"""Does what the outbox says in the background, for as long as its process lives and no other process does."""

from __future__ import annotations

import logging
import threading
import time

from knowledge.errors import IndexDamaged, KnowledgeError
from knowledge.indexer import Indexer
from store.catalogue.catalogue import Catalogue
from store.errors import StoreError

_LOOK_EVERY_S = 0.5
_STRIDE = 1000  # so many at once while more arrive: other processes load a shard anew after each change of it
_WAIT_S = 5.0
_AFTER_FAILURE_S = 10.0
_DAMAGED_S = 300.0
_ERASING_SHARE = 0.1  # of the time at most is spent on making shards anew

log = logging.getLogger("familiar")


class Follower:
    def __init__(self, catalogue: Catalogue, indexer: Indexer) -> None:
        self._catalogue = catalogue
        self._indexer = indexer
        self._stopping = threading.Event()
        self._seen = 0
        self._since = 0.0
        self._erase_after = 0.0
        self._thread = threading.Thread(target=self._run, name="vector-index", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Returns when the change that is being made is made."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self._step()
                pause = _LOOK_EVERY_S
            except IndexDamaged as error:
                log.error("%s", error)
                pause = _DAMAGED_S
            except (KnowledgeError, StoreError) as error:
                log.warning("the vector index is behind the documents, and will be brought up to them later: %s", error)
                pause = _AFTER_FAILURE_S
            except Exception:
                log.exception("the vector index could not be brought up to the documents")
                pause = _AFTER_FAILURE_S

    def _step(self) -> None:
        if self._indexer.chroma is None:
            if not self._indexer.acquire():
                return
            self._indexer.mend()
        waiting = self._catalogue.pending_count()
        if waiting == 0:
            self._erase()
            self._seen = 0
            return
        now = time.monotonic()
        if not self._seen:
            self._since = now
        quiet, late = waiting == self._seen, now - self._since > _WAIT_S
        self._seen = waiting
        if quiet or late or waiting >= _STRIDE:
            self._indexer.drain(stop=self._stopping.is_set)
            self._seen = 0

    def _erase(self) -> None:
        started = time.monotonic()
        if started < self._erase_after:
            return
        if self._indexer.erase():
            took = time.monotonic() - started
            self._erase_after = time.monotonic() + took / _ERASING_SHARE
