"""Blocks become chunks: by structure first, and then by tokens of the embedding model.

    structure  the heading path (h1 › h2 › h3) travels with every chunk. No chunk goes across a heading, except that
               tiny neighbouring sections of the same parent share one, with their headings in its text. A table or a
               block of code that fits stays whole; a table that does not is cut by rows, with its header repeated; code
               is cut by class and function, and the qualified name stands in the heading.
    tokens     within a section, the cuts are chosen together, as TeX chooses the line breaks of a paragraph (Knuth and
               Plass, "Breaking Paragraphs into Lines", 1981): few chunks, evenly filled, cut at ends of paragraphs
               rather than of sentences, of sentences rather than of clauses, and inside a word only where there is
               nothing else.

What is embedded is `header_of(title, heading) + text`, and its real token count is never more than `chunk_tokens`.

Every character of the blocks stands in exactly one chunk, in order. Chunks do not overlap: an overlap is embedded and
stored twice, returns the same sentences twice in one prompt, and moves every later chunk (and its hash) when a word is
added. What it is for, text around a cut, is had by taking in the neighbours when passages are made.
The exceptions: the header of a cut table is repeated, and a heading stands in `heading` instead of in the text.

    sections   blocks -> sections with their heading paths
    units      blocks -> the smallest spans that are normally kept together: sentences, rows, items, lines of code
    sentences  where sentences end, in English and Chinese
    grammars, code   source code -> classes and functions
    finer      a span that is too long by itself -> clauses, words, characters
    fit        units -> texts within the limit
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from knowledge.parsed import ParsedDocument
from knowledge.splitting.arrange import runs_of
from knowledge.splitting.counting import Tokens
from knowledge.splitting.fit import fitted
from knowledge.splitting.header import DEFAULT_CHUNK_TOKENS, SEPARATOR, header_of

SPLITTER_VERSION = 1  # another number: documents are split anew at the next sync
SMALLEST_CHUNK = 16  # tokens; below it, header and text cannot both have a share

__all__ = ["DEFAULT_CHUNK_TOKENS", "SEPARATOR", "SPLITTER_VERSION", "Piece", "hash_of", "header_of", "split"]


@dataclass(frozen=True)
class Piece:
    text: str  # never empty
    heading: str  # "h1 › h2 › h3", or "h1 › Class.method"; "" before the first heading
    page: int | None  # of the first block in it, from 1
    page_end: int | None  # of the last
    tokens: int  # of header and text, as embedded


def split(
    document: ParsedDocument, count_tokens: Callable[[Sequence[str]], list[int]], *, chunk_tokens: int
) -> list[Piece]:
    """The document's chunks in reading order. The same input always gives the same ones.

    `count_tokens` gives the number of tokens of each text, without special tokens; it is called with few, long lists.
    Raises ValueError when `chunk_tokens` is less than 16.
    """
    if chunk_tokens < SMALLEST_CHUNK:
        raise ValueError(f"chunk_tokens must be at least {SMALLEST_CHUNK}, not {chunk_tokens}")
    tokens = Tokens(count_tokens, chunk_tokens)
    runs = runs_of(document, tokens, chunk_tokens)
    return [
        Piece(each.text, each.heading, each.page, each.page_end, each.tokens)
        for each in fitted(runs, tokens, chunk_tokens)
    ]


def hash_of(embedded_text: str) -> str:
    """SHA-256 in hexadecimal of a text as it is embedded, header included: equal hash, equal vector."""
    return hashlib.sha256(embedded_text.encode()).hexdigest()
