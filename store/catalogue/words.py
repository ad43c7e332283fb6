"""Chunks by the words in them: BM25 (Robertson and Zaragoza 2009, The Probabilistic Relevance Framework: BM25 and
Beyond) over what the asker may read.

FTS5 says in which chunks a term is, and how often (see schema.py); the scores are made of that here. Its own bm25()
would score no faster than a chunk in a microsecond, and with weights that everybody's documents have a part in: here
nothing of other owners moves a score, so that no score tells what others have.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import Connection

from store.catalogue import owned
from store.catalogue.database import as_json, many
from store.errors import StoreDamaged

Ids = NDArray[np.int64]
Number = Any  # a float, or an array of them

K1 = 1.2
B = 0.75
COUNTED = 8  # occurrences of a term in a chunk; by then more of them add next to nothing
ROWS_PER_SEARCH = 50_000  # that FTS5 may name for one question: about 5 ms
TERMS_PER_SEARCH = 64  # so many of a whole page that somebody pasted

# Everything that FTS5's ascii tokenizer, as set up in schema.py, takes as one token and leaves as it is.
_is_plain = re.compile(r"[^A-Z#\x00-\x20\x7f\s\ud800-\udfff]{1,64}").fullmatch


def token_of(term: str) -> str:
    """A term as it is indexed. Different terms are different tokens; a rare kind of term becomes a number."""
    if _is_plain(term):
        return term
    return "#" + hashlib.sha256(term.encode(errors="surrogatepass")).hexdigest()[:32]


def tokens_of(words: str) -> str:
    """The tokens of terms that are separated by blanks, separated by blanks."""
    return " ".join(map(token_of, words.split()))


def add(connection: Connection, owner_id: int, chunks: Sequence[tuple[int, str]]) -> None:
    """Chunks of an owner, each as (id, tokens separated by blanks)."""
    many(
        connection,
        "INSERT INTO lexical (rowid, words) VALUES (?, ?)",
        [(chunk_id, _prefixed(owner_id, tokens)) for chunk_id, tokens in chunks],
    )
    many(
        connection,
        "INSERT INTO term (term, owner_id, chunks) VALUES (?, ?, ?) "
        "ON CONFLICT (term, owner_id) DO UPDATE SET chunks = chunks + excluded.chunks",
        [(term, owner_id, count) for term, count in sorted(_spread(chunks).items())],
    )
    many(connection, "INSERT INTO length (chunk_id, words) VALUES (?, ?)", lengths := _lengths(chunks))
    owned.add(connection, owner_id, len(chunks), sum(length for _, length in lengths))


def remove(connection: Connection, owner_id: int, chunks: Sequence[tuple[int, str]]) -> None:
    """The same chunks, with the same tokens, that were added: FTS5 holds no text that it could look them up in."""
    many(
        connection,
        "INSERT INTO lexical (lexical, rowid, words) VALUES ('delete', ?, ?)",
        [(chunk_id, _prefixed(owner_id, tokens)) for chunk_id, tokens in chunks],
    )
    spread = sorted(_spread(chunks).items())
    many(
        connection,
        "UPDATE term SET chunks = chunks - ? WHERE term = ? AND owner_id = ?",
        [(count, term, owner_id) for term, count in spread],
    )
    many(
        connection,
        "DELETE FROM term WHERE term = ? AND owner_id = ? AND chunks <= 0",
        [(term, owner_id) for term, _ in spread],
    )
    many(connection, "DELETE FROM length WHERE chunk_id = ?", [(chunk_id,) for chunk_id, _ in chunks])
    owned.add(connection, owner_id, -len(chunks), -sum(length for _, length in _lengths(chunks)))


def _prefixed(owner_id: int, tokens: str) -> str:
    seen: dict[str, int] = {}
    prefixed = []
    for token in tokens.split():
        count = seen[token] = seen.get(token, 0) + 1
        if count <= COUNTED:
            prefixed.append(_prefix(owner_id, count) + token)
    return " ".join(prefixed)


def _prefix(owner_id: int, count: int) -> str:
    return f"{owner_id}:" if count == 1 else f"{owner_id}.{count}:"


def _spread(chunks: Iterable[tuple[int, str]]) -> Counter[str]:
    """Each token with the number of chunks that hold it."""
    return Counter(token for _, tokens in chunks for token in set(tokens.split()))


def _lengths(chunks: Iterable[tuple[int, str]]) -> list[tuple[int, int]]:
    return [(chunk_id, len(tokens.split())) for chunk_id, tokens in chunks]


@dataclass(frozen=True)
class _Term:
    """Where one term of the question is."""

    weight: float
    at_least: list[Ids]  # the chunks that hold it once or more, twice or more, ...; each sorted


def search(
    connection: Connection, terms: Sequence[str], readable: Sequence[str], limit: int
) -> list[tuple[int, float]]:
    """(chunk id, BM25), the best first, of the readable chunks that hold at least one of the terms."""
    owners = owned.all_of(connection, readable)
    if not owners or limit <= 0:
        return []
    chunks = sum(owner.chunks for owner in owners)
    held = _holders(connection, terms, [owner.id for owner in owners])
    found = [
        _Term(_weight(sum(holders.values()), chunks), levels)
        for token, holders in _affordable(held)
        if (levels := _levels(connection, token, list(holders)))
    ]
    if not found:
        return []
    mean_length = max(1.0, sum(owner.words for owner in owners) / chunks)
    ids = _promising(found, max(8 * limit, 400))
    scores = _bm25(found, ids, _lengths_of(connection, ids) / mean_length)
    best = np.lexsort((ids, -scores))[:limit]
    return list(zip(ids[best].tolist(), scores[best].tolist(), strict=True))


def _holders(connection: Connection, terms: Sequence[str], owner_ids: Sequence[int]) -> dict[str, dict[int, int]]:
    """Each token that is there: the owners that have it, and in how many chunks."""
    found = connection.exec_driver_sql(
        "SELECT term, owner_id, chunks FROM term "
        "WHERE term IN (SELECT value FROM json_each(?)) AND owner_id IN (SELECT value FROM json_each(?))",
        (as_json([token_of(term) for term in terms]), as_json(owner_ids)),
    )
    held: dict[str, dict[int, int]] = {}
    for token, owner_id, chunks in found:
        held.setdefault(token, {})[owner_id] = chunks
    return held


def _affordable(held: Mapping[str, dict[int, int]]) -> Iterator[tuple[str, dict[int, int]]]:
    """The rarest terms, as many as can be looked up quickly; what is left out is nearly everywhere."""
    rarest_first = sorted(held.items(), key=lambda item: (sum(item[1].values()), item[0]))
    rows = 0
    for token, holders in rarest_first[:TERMS_PER_SEARCH]:
        if rows and rows + sum(holders.values()) > ROWS_PER_SEARCH:
            return
        rows += sum(holders.values())
        yield token, holders


def _weight(chunks_with: int, chunks: int) -> float:
    """The inverse document frequency, in the form that stays positive for a term of every chunk."""
    return math.log(1 + (chunks - chunks_with + 0.5) / (chunks_with + 0.5))


def _levels(connection: Connection, token: str, owner_ids: Sequence[int]) -> list[Ids]:
    quoted = token.replace('"', '""')  # the only character with a meaning inside of a string
    levels = []
    for count in range(1, COUNTED + 1):
        expression = " OR ".join(f'"{_prefix(owner_id, count)}{quoted}"' for owner_id in owner_ids)
        # As one text: to fetch row by row takes four times as long.
        listed = connection.exec_driver_sql(
            "SELECT group_concat(rowid) FROM lexical WHERE lexical MATCH ?", (expression,)
        ).scalar()
        if not listed:
            break
        levels.append(np.fromstring(listed, dtype=np.int64, sep=","))
    return levels


def _promising(terms: Sequence[_Term], limit: int) -> Ids:
    """The chunks with the highest BM25 if all were equally long."""
    first = min(term.at_least[0][0] for term in terms)
    last = max(term.at_least[0][-1] for term in terms)
    scores = np.zeros(last - first + 1)  # of every number between: much faster than to look for those that are meant
    for term in terms:
        for count, holders in enumerate(term.at_least, start=1):
            scores[holders - first] += term.weight * (_gain(count, 1.0) - _gain(count - 1, 1.0))
    promising: Ids = np.sort(first + _highest(scores, limit))
    return promising


def _highest(scores: NDArray[np.float64], limit: int) -> Ids:
    """The indices of the highest scores above 0; of equal ones the first, so that an order is the same every time."""
    candidates = np.flatnonzero(scores)
    if len(candidates) <= limit:
        return candidates
    scores = scores[candidates]
    lowest = np.partition(scores, len(scores) - limit)[len(scores) - limit]
    above = np.flatnonzero(scores > lowest)
    equal = np.flatnonzero(scores == lowest)
    highest: Ids = candidates[np.concatenate([above, equal[: limit - len(above)]])]
    return highest


def _bm25(terms: Sequence[_Term], ids: Ids, lengths: NDArray[np.float64]) -> NDArray[np.float64]:
    scores = np.zeros(len(ids))
    for term in terms:
        counts = np.zeros(len(ids))
        for holders in term.at_least:
            counts += np.isin(ids, holders, assume_unique=True)
        scores += term.weight * _gain(counts, lengths)
    return scores


def _gain(count: Number, length: Number) -> Number:
    """What `count` occurrences are worth in a chunk of `length` mean lengths."""
    return count * (K1 + 1) / (count + K1 * (1 - B + B * length))


def _lengths_of(connection: Connection, ids: Ids) -> NDArray[np.float64]:
    found = connection.exec_driver_sql(
        "SELECT words FROM length WHERE chunk_id IN (SELECT value FROM json_each(?)) ORDER BY chunk_id",
        (as_json(ids.tolist()),),
    )
    lengths = np.fromiter(found.scalars(), dtype=np.float64)
    if len(lengths) != len(ids):
        raise StoreDamaged("words are found in chunks that are not there")
    return lengths


def document_frequencies(
    connection: Connection, terms: Sequence[str], readable: Sequence[str]
) -> tuple[dict[str, int], int]:
    """In how many of the readable chunks each term is, 0 also, and how many readable chunks there are."""
    owners = owned.all_of(connection, readable)
    held = _holders(connection, terms, [owner.id for owner in owners])
    counts = {term: sum(held.get(token_of(term), {}).values()) for term in terms}
    return counts, sum(owner.chunks for owner in owners)
