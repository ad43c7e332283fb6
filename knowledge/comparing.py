"""Does the vector index hold what the catalogue says it should?"""

from __future__ import annotations

from knowledge.chroma import OpenChroma, translated
from knowledge.shards import Layout, shard_of
from store.catalogue.catalogue import Catalogue


def compared(
    catalogue: Catalogue, layout: Layout, chroma: OpenChroma
) -> tuple[dict[str, list[tuple[int, str, str]]], dict[str, list[int]]]:
    """By shard: the keys of the chunks that are missing, and the ids that should be gone. No pending ones."""
    expected: dict[str, dict[int, tuple[int, str, str]]] = {name: {} for name in layout.shards}
    after = 0
    while keys := catalogue.chunk_keys(after=after):
        after = keys[-1][0]
        for key in keys:
            expected.setdefault(shard_of(key[1]), {})[key[0]] = key
    there = {}
    with translated(chroma.place):
        for name, shard in layout.shards.items():
            there[name] = chroma.ids(shard.collection)
    pending: set[int] = set()
    after = 0
    while items := catalogue.pending(5000, after=after):
        after = items[-1].id
        pending |= {item.chunk_id for item in items}
    missing, surplus = {}, {}
    for name, chunks in expected.items():
        if absent := sorted(chunks.keys() - there.get(name, set()) - pending):
            missing[name] = [chunks[each] for each in absent]
        if extra := sorted(there.get(name, set()) - chunks.keys() - pending):
            surplus[name] = extra
    return missing, surplus
