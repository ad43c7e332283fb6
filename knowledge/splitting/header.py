"""The contextual header: what stands before a chunk's text when it is embedded, so that it is found by its subject.

"It costs 40 euros." is about nothing; "Tariffs › Dogs\nIt costs 40 euros." is about dogs. (Anthropic, "Introducing
Contextual Retrieval", 2024, has a language model write such a context; title and headings are there already.)

The header must not crowd out the text, and its length must follow from its words alone, since it is made again
whenever a chunk is embedded or renamed. So its share is measured by an estimate of tokens that no tokenizer exceeds
by more than four times (a token is at least a byte, and four ASCII characters count as one): the title gets an eighth
of the chunk, title and headings together a quarter.
"""

from __future__ import annotations

import re

from knowledge.splitting.counting import storable

SEPARATOR = " › "
DEFAULT_CHUNK_TOKENS = 256  # settings.Knowledge.chunk_tokens

_WORDS = re.compile(r"[A-Za-z]+|\s+|.", re.DOTALL)


def header_of(title: str, heading: str, chunk_tokens: int = DEFAULT_CHUNK_TOKENS) -> str:
    """ "Title › Heading › Sub" and a newline, shortened to its share of `chunk_tokens`; "" when there is neither.

    The innermost headings are kept first, and "…" stands for what was left out.
    """
    title = " ".join(storable(title).split())
    parts = [part for part in (" ".join(each.split()) for each in storable(heading).split(SEPARATOR)) if part]
    if parts and parts[0].casefold() == title.casefold():
        parts = parts[1:]
    shown = shortened(title, chunk_tokens // 8)
    room = chunk_tokens // 4 - _estimate(shown)
    kept: list[str] = []
    for part in reversed(parts):
        short = shortened(part, room - 1)
        if not short:
            kept.insert(0, "…")
            break
        kept.insert(0, short)
        room -= _estimate(short) + 1
        if short != part:
            break
    line = SEPARATOR.join(([shown] if shown else []) + kept)
    return f"{line}\n" if line.strip("…") else ""


def shortened(text: str, tokens: int) -> str:
    """As much of `text` as its estimated tokens allow, with "…" where words were left out; "" when none fits."""
    total, end = 0, 0
    for word in _WORDS.finditer(text):
        total += _estimate(word[0])
        if total > tokens:
            break
        if total < tokens:
            end = word.end()  # here the "…" would still fit
    else:
        return text
    return f"{text[:end].rstrip()}…" if text[:end].strip() else ""


def _estimate(text: str) -> int:
    """Tokens, roughly: one for four letters of an ASCII word, for each digit and sign, and for each other character."""
    total = 0
    for word in _WORDS.finditer(text):
        span = word[0]
        if span[0].isspace():
            continue
        if span.isascii():
            total += -(-len(span) // 4)
        else:
            total += 1 if span <= "\uffff" else 4
    return total
