"""What can go wrong with the catalogue beyond what can go wrong with every store (store.errors).

StoreError
├── CatalogueTooOld    an earlier version of Familiar made it: it is made anew, not migrated
└── VectorsMissing     chunks came without their vectors: embed these hashes and put again
"""

from __future__ import annotations

from collections.abc import Sequence

from store.errors import StoreError


class CatalogueTooOld(StoreError):
    pass


class VectorsMissing(StoreError):
    """They were never put, or were removed meanwhile with the last document that had used them."""

    def __init__(self, hashes: Sequence[str]) -> None:
        super().__init__(f"{len(hashes)} chunks have no vector yet, or lost it to a removal meanwhile. Try again.")
        self.hashes = tuple(hashes)
