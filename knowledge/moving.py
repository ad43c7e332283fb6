"""All documents of an owner become another's, with their originals.

The cards of the originals come first: killed before the catalogue has moved, the next try finds the same documents
again. What both have is kept once, the new owner's own.
"""

from __future__ import annotations

from knowledge.originals import Originals
from store.catalogue.catalogue import Catalogue, Document

_TRIES = 3  # a document stays behind where the new owner is given the same at this moment


def move(catalogue: Catalogue, originals: Originals, owner: str, to: str) -> int:
    """How many documents are another's now. Raises StoreError; what was not done then is done by the next try."""
    if owner == to:
        return 0
    moved = 0
    for _ in range(_TRIES):
        there = catalogue.by_source(to, "")
        for document in catalogue.documents([owner]):
            if document.source in there:
                _remove(catalogue, originals, document)
            elif document.original:
                originals.give(document.original, to)
        moved += catalogue.move(owner, to)
        if not catalogue.count([owner]):
            break
    return moved


def _remove(catalogue: Catalogue, originals: Originals, document: Document) -> None:
    if document.original:
        originals.mark_gone(document.original)
    catalogue.remove([document.id])
    if document.original:
        originals.drop(document.original)
