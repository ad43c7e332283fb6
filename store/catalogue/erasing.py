"""What was removed goes from the file's unused parts too, in the background: for 100,000 chunks it takes seconds.

A removal is done when its transaction is; that it has still to be erased is a note in the same transaction, so that a
process which dies before leaves it to the next that opens the catalogue. Only what was not everybody's is worth it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from sqlalchemy import Connection

from store.catalogue.database import Database
from store.errors import StoreError

_PAGES_AT_ONCE = 500  # of the lexical index are merged, then others may write

_log = logging.getLogger("familiar")


def owe(connection: Connection) -> None:
    """Each time another value: who erased what was owed before must not cross this out."""
    connection.exec_driver_sql(
        "REPLACE INTO meta (key, value) VALUES ('catalogue.traces', (SELECT hex(randomblob(8))))"
    )


class Eraser:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._one_at_a_time = threading.Lock()
        self._background: ThreadPoolExecutor | None = None

    def open(self) -> None:
        self._background = ThreadPoolExecutor(1, thread_name_prefix="erasing")
        self.begin()

    def close(self) -> None:
        """Waits until what was begun is done."""
        if self._background is not None:
            self._background.shutdown(wait=True)
            self._background = None

    def begin(self) -> None:
        """In the background, if anything is owed; many calls while it is busy are one more turn."""
        if self._background is not None and self._owed():
            self._background.submit(self._logged, self.erase)

    def erase(self) -> bool:
        """Whether nothing is owed any more: not when another process reads, or there is no room. The log says why."""
        with self._one_at_a_time:
            owed = self._owed()
            if not owed:
                return True
            while self._merge_some_words():
                pass
            if not self._database.empty_log(thoroughly=True):
                return False
            with self._database.writing() as connection:
                connection.exec_driver_sql("DELETE FROM meta WHERE key = 'catalogue.traces' AND value = ?", (owed,))
            return True

    def _owed(self) -> str:
        with self._database.reading() as connection:
            value = connection.exec_driver_sql("SELECT value FROM meta WHERE key = 'catalogue.traces'").scalar()
        return str(value or "")

    def _merge_some_words(self) -> bool:
        """FTS5 marks a deleted word, and drops it when it merges into one what it wrote at different times. False when
        nothing was left to merge."""
        with self._database.writing() as connection:
            driver = connection.connection.dbapi_connection
            assert driver is not None
            before = driver.total_changes
            connection.exec_driver_sql("INSERT INTO lexical (lexical, rank) VALUES ('merge', ?)", (-_PAGES_AT_ONCE,))
            return bool(driver.total_changes - before >= 2)  # the insertion itself counts as one

    def _logged(self, action: Callable[[], bool]) -> None:
        try:
            action()
        except StoreError as error:
            _log.warning("Removed text is not yet erased from the catalogue's file: %s", error)
