"""What can go wrong with what is kept.

    StoreError             the database did something unforeseen; carries its words
    ├── NotFound           there is no such row, or it is somebody else's: the two cannot be told apart
    ├── AlreadyThere       a row with this key exists, e.g. this version of an adapter
    ├── NotAReply          only the assistant's replies can be rated and corrected
    ├── StoreFull          no room left on the disk
    ├── StoreLocked        another program held the database for longer than we wait
    ├── StoreUnreachable   no server, wrong URL or password, a file that cannot be read or written
    ├── StoreDamaged       not a database, a damaged one, or one that something else made
    └── StoreTooNew        made by a newer version of Familiar

Whatever is raised, the change it interrupted was not made, and everything acknowledged before is still there.
StoreFull, StoreLocked and StoreUnreachable pass: the same call may be made again once the cause is gone.
Each text says what happened and what to do; none holds a password or a word of a conversation.
"""

from __future__ import annotations


class StoreError(Exception):
    """What is kept could not be read or changed."""


class NotFound(StoreError):
    """There is no such row, or it is somebody else's."""


class AlreadyThere(StoreError):
    """A row with this key exists."""


class NotAReply(StoreError, ValueError):
    """Only the assistant's replies can be rated and corrected."""


class StoreFull(StoreError):
    """No room is left on the disk."""


class StoreLocked(StoreError):
    """Another program held the database for longer than we wait."""


class StoreUnreachable(StoreError):
    """The database cannot be reached, read or written."""


class StoreDamaged(StoreError):
    """Not a database, a damaged one, or one that something else made."""


class StoreTooNew(StoreError):
    """Made by a newer version of Familiar."""
