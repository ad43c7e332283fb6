"""Which collection of Chroma a vector lies in, and where that is written.

A metadata filter costs Chroma time in proportion to the collection, and a collection for each person costs memory. So
everybody's vectors lie in one shard, which is searched without a filter, and those of persons and groups in one of 32
others, by a hash of the owner, in which the filter looks at a thirty-third of what there is at most.

The layout says which collection a shard is at present, so that a shard is made anew beside the old one and takes its
place in one step. It is one JSON note in the catalogue ("vectors.layout"), written by the indexer alone:

    version   grows before each change of the shard: whoever has it open with another version reads an old state of it
    deleted   vectors deleted since it was made: Chroma unlinks them, but they stay in its files until it is made anew
    untidy    collections were deleted, and their remains are still in the files
    unsure    the collections may lack vectors that no outbox speaks of: they are to be compared with the catalogue
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from store.catalogue.catalogue import Catalogue
from store.catalogue.owners import SHARED

PRIVATE_SHARDS = 32
SHARED_SHARD = "shared"
_NOTE = "vectors.layout"


def shard_of(owner: str) -> str:
    if owner == SHARED:
        return SHARED_SHARD
    return f"private-{int.from_bytes(hashlib.sha256(owner.encode()).digest()) % PRIVATE_SHARDS:02}"


def by_shard(owners: Sequence[str]) -> dict[str, list[str]]:
    """The owners, each once, under the shard where their vectors are."""
    shards: dict[str, list[str]] = {}
    for owner in dict.fromkeys(owners):
        shards.setdefault(shard_of(owner), []).append(owner)
    return shards


def new_collection_name(shard: str, model_id: str) -> str:
    """One that was never used: what lies under a used name may be the rest of something else."""
    readable = re.sub(r"[^a-z0-9]+", "-", model_id.lower()).strip("-")[:40].strip("-") or "model"
    fingerprint = hashlib.sha256(model_id.encode()).hexdigest()[:8]
    return f"{shard}-{readable}-{fingerprint}-{secrets.token_hex(4)}"


@dataclass(frozen=True)
class Shard:
    collection: str
    version: int
    deleted: int = 0


@dataclass(frozen=True)
class Layout:
    model: str = ""
    catalogue: str = ""  # which one these collections follow, where several share a Chroma server
    shards: Mapping[str, Shard] = field(default_factory=dict)
    untidy: bool = False
    unsure: bool = False

    @classmethod
    def read(cls, text: str) -> Layout:
        if not text:
            return cls()
        given = json.loads(text)
        shards = {name: Shard(**shard) for name, shard in given["shards"].items()}
        return cls(given["model"], given["catalogue"], shards, given["untidy"], given["unsure"])

    def written(self) -> str:
        return json.dumps(asdict(self), sort_keys=True)

    def with_shards(self, changed: Mapping[str, Shard]) -> Layout:
        return replace(self, shards={**self.shards, **changed})

    @property
    def next_version(self) -> int:
        return 1 + max((shard.version for shard in self.shards.values()), default=0)


class LayoutNote:
    """The layout in the catalogue. Parsed once for each text."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._last = ("", Layout())

    def read(self) -> Layout:
        text = self._catalogue.get_meta(_NOTE)
        if text != self._last[0]:
            self._last = (text, Layout.read(text))
        return self._last[1]

    def write(self, layout: Layout) -> None:
        self._catalogue.set_meta(_NOTE, layout.written())
