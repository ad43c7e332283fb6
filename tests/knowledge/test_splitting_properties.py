"""Any document at all: nothing lost, nothing twice, never too long, always the same."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate

from hypothesis import example, given, settings
from hypothesis import strategies as st

from knowledge.parsed import Block, ParsedDocument
from knowledge.splitting import SEPARATOR, Piece, header_of, split

WORD_OR_SIGN = re.compile(r"[^\W\d_]{1,6}|\S", re.ASCII)


def words_and_signs(texts: Sequence[str]) -> list[int]:
    """Six letters a token, and every other sign: by and large what the tokenizers of embedding models do."""
    return [len(WORD_OR_SIGN.findall(text)) for text in texts]


def utf8_bytes(texts: Sequence[str]) -> list[int]:
    """No tokenizer makes more tokens of a text."""
    return [len(text.encode()) for text in texts]


def long_words(texts: Sequence[str]) -> list[int]:
    """A word of any length is one token, as WordPiece does with what it does not know."""
    return [len(text.split()) for text in texts]


COUNTERS = [words_and_signs, utf8_bytes, long_words]

LETTERS = st.sampled_from(
    [
        *"abcdeXYZ01 .,;:!?()-'\"\t\n    ",
        *[". ", "e.g. ", "Dr. ", "\r\n", "\x00", "\x0c", "\x1b", "\u2028", "\ud83d"],
        *"的是不了人我在有他这，。！？；：「」『』“”（）…",
        *["。」", "！」", "é", "e\u0301", "क्षि", "ก็", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "❤️", "각", "\u200d", "\ufe0f", "ﷺ"],
    ]
)


def text_of(most: int) -> st.SearchStrategy[str]:
    return st.lists(LETTERS, min_size=1, max_size=most).map("".join)


TEXT = st.one_of(
    text_of(60),
    st.text(min_size=1, max_size=30),
    st.builds(lambda text, times: text * times, text_of(12), st.integers(1, 90)),
)
CODE = st.sampled_from(
    [
        "import os\n\n# about f\n@cached\ndef f(a):\n    '''Doc.'''\n    return a\n\n\n"
        "class A(B):\n    x = 1\n\n    def g(self): return 1\n",
        "package a\n\n// T is it.\ntype T struct { a int }\n\nfunc (t *T) F() int { return 1 }\n",
        "class A { int x; void f() { g(); } } class B { }\n",
        "function f() {\n",
        "}}}} ((( \n\n\n   end\n",
    ]
)


def table(cells: Sequence[str], *, ruled: bool) -> str:
    rows = [f"| r{number} | {' '.join(cell.split())} |" for number, cell in enumerate(cells)]
    return "\n".join([rows[0], *(["|---|---|"] if ruled else []), *rows[1:]])


BLOCKS = st.one_of(
    st.builds(lambda text, page: Block("paragraph", text, page=page), TEXT, st.none() | st.integers(1, 9)),
    st.builds(
        lambda items: Block("list", "\n".join(f"- {item}" for item in items)), st.lists(TEXT, min_size=1, max_size=8)
    ),
    st.builds(
        lambda cells, ruled: Block("table", table(cells, ruled=ruled)),
        st.lists(TEXT, min_size=1, max_size=8),
        st.booleans(),
    ),
    st.builds(
        lambda texts, language: Block("code", "".join(texts), language=language),
        st.lists(CODE | TEXT, min_size=1, max_size=4),
        st.sampled_from(["python", "go", "java", "c++", "php", "", "klingon"]),
    ),
    st.builds(
        lambda number, text, level: Block("heading", f"§{number}§{text}", level=level),
        st.integers(100_000, 999_999),
        TEXT,
        st.integers(0, 10),
    ),
)
DOCUMENTS = st.builds(
    lambda title, blocks: ParsedDocument(title, "any", tuple(blocks)), TEXT, st.lists(BLOCKS, min_size=1, max_size=12)
)


@settings(max_examples=300, deadline=None)
@given(DOCUMENTS, st.integers(16, 120), st.sampled_from(COUNTERS))
@example(
    ParsedDocument("t", "any", (Block("table", "| a | b |\n|---|---|\n" + "| ccc | dddd |\n" * 40),)), 24, utf8_bytes
)
@example(ParsedDocument("t" * 999, "any", (Block("heading", "h" * 999), Block("paragraph", "p" * 999))), 16, utf8_bytes)
def test_every_sign_of_a_document_stands_in_one_chunk_and_no_chunk_is_too_long(document, chunk_tokens, count):
    pieces = split(document, count, chunk_tokens=chunk_tokens)

    assert_complete(document, pieces)
    for piece in pieces:
        [tokens] = count(
            [
                header_of(
                    document.title,
                    piece.heading,
                    chunk_tokens,
                )
                + piece.text
            ]
        )
        assert piece.tokens == tokens
        assert tokens <= chunk_tokens or len(piece.text) == 1
    assert pieces == split(document, count, chunk_tokens=chunk_tokens)


READ_AS_ONE = [*"ab的。,「」 \n", "e\u0301", "क्षि", "👍🏽", "👨‍👩‍👧‍👦", "🇩🇪", "❤️", "\r\n"]


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from(READ_AS_ONE), min_size=1, max_size=12),
    st.integers(1, 200),
    st.integers(40, 90),
    st.sampled_from(COUNTERS),
)
@example(["👍🏽", "👨‍👩‍👧‍👦"], 2, 40, utf8_bytes)
@example(["e\u0301", "👨‍👩‍👧‍👦", "क्षि"], 32, 41, utf8_bytes)
def test_a_letter_keeps_its_accents_and_a_family_of_emoji_stays_one(letters, times, chunk_tokens, count):
    document = ParsedDocument("t", "text", (Block("paragraph", "".join(letters * times)),))
    begins = {0, *accumulate(len(signs(letter)) for letter in letters * times)}

    pieces = split(document, count, chunk_tokens=chunk_tokens)

    assert {0, *accumulate(len(signs(piece.text)) for piece in pieces)} <= begins


def assert_complete(document: ParsedDocument, pieces: Sequence[Piece]) -> None:
    """Walks the chunks along the blocks: everything is there, in order, once."""
    rest = [(signs(piece.text), piece.heading) for piece in pieces]
    for block in document.blocks:
        wanted = signs(block.text)
        if not wanted:
            continue
        if block.kind == "heading" and not (rest and wanted.startswith(rest[0][0][:8])):
            assert any(signs(block.text) == signs(part) for _, heading in rest for part in heading.split(SEPARATOR))
            continue
        while wanted:
            assert rest, f"missing: {wanted!r}"
            text, heading = rest[0]
            if not text.startswith(wanted[: len(text)]) and block.kind == "table":
                text = without_header(text, block.text)
            shared = min(len(text), len(wanted))
            assert text[:shared] == wanted[:shared]
            wanted, text = wanted[shared:], text[shared:]
            rest = [(text, heading), *rest[1:]] if text else rest[1:]
    assert not rest, f"too much: {rest!r}"


def without_header(text: str, table: str) -> str:
    rows = table.strip().split("\n")
    header = signs("".join(rows[:2])) if len(rows) > 1 and rows[1] == "|---|---|" else signs(rows[0])
    return text.removeprefix(header)


def signs(text: str) -> str:
    return "".join(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").split())
