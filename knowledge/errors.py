"""What can go wrong with documents. Each text is for the person who can cure it: what happened, and what to do.

KnowledgeError
├── DocumentRefused            one document cannot be taken in; the others go on
│   ├── DocumentEmpty          there is no text in it
│   ├── DocumentEncrypted      it needs a password
│   ├── DocumentDamaged        it is not what its name says, cut, or not to be parsed
│   ├── DocumentTooLarge       more than the limits allow, also when unpacked
│   ├── DocumentTooSlow        parsing it took too long or too much memory
│   ├── DocumentUnknownType    of no kind that can be read
│   └── DocumentUnreadable     (knowledge.prepare) it vanished, may not be opened, or changed while it was read
├── TooManyDocuments           (knowledge.prepare) a person or a group has handed over as many as they may
├── Cancelled                  (knowledge.ingest) whoever asked for it does not want it any more
├── FolderMissing              (knowledge.sync) the folder is not there, or is empty where it was not
├── PageRefused                a web page cannot be fetched, or must not be
├── EmbeddingsFailed           the embedding model cannot be loaded or asked
├── OtherEmbeddings            the index was made by another embedding model
├── IndexBusy                  another process is at it, and waiting did not help
└── IndexDamaged               it cannot be read; it can be rebuilt
"""

from __future__ import annotations


class KnowledgeError(Exception):
    pass


class DocumentRefused(KnowledgeError):
    """`name` is the document's, `reason` a sentence without it."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"{name}: {reason}")
        self.name = name
        self.reason = reason

    def __reduce__(self) -> tuple[type[DocumentRefused], tuple[str, str]]:
        return type(self), (self.name, self.reason)  # it crosses processes


class DocumentEmpty(DocumentRefused):
    pass


class DocumentEncrypted(DocumentRefused):
    pass


class DocumentDamaged(DocumentRefused):
    pass


class DocumentTooLarge(DocumentRefused):
    pass


class DocumentTooSlow(DocumentRefused):
    pass


class DocumentUnknownType(DocumentRefused):
    pass


class PageRefused(KnowledgeError):
    pass


class EmbeddingsFailed(KnowledgeError):
    pass


class OtherEmbeddings(KnowledgeError):
    pass


class IndexBusy(KnowledgeError):
    pass


class IndexDamaged(KnowledgeError):
    pass
