r"""LaTeX in a reply: where it is, and how it reads without a typesetter.

Models write formulas as \( \), \[ \], $ $ and $$ $$, and prices with the same dollar. `with_dollars` gives all formulas
the dollars that the markdown parser knows, and takes its meaning from every other dollar, so that "$5 to $10" stays two
prices. Code is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

import pyromark
from telegramify_markdown.latex_escape.helper import LatexToUnicodeHelper

_LONGEST = 2000  # characters; a longer one is shown as it is written, as reading it takes time that grows faster

_OPTIONS = pyromark.Options.ENABLE_TABLES | pyromark.Options.ENABLE_STRIKETHROUGH | pyromark.Options.ENABLE_FOOTNOTES
_DELIMITER = re.compile(r"\\[\\$()\[\]]|\$\$?|\n(?:[ \t>]*\n)*")
_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$"}
_SIGNS = re.compile(r"[\\^_=+<>{}]")
_WORD = re.compile(r"[^\W\d_]{2}")

_reader = LatexToUnicodeHelper()


def readable(formula: str) -> str:
    """A formula without its delimiters, in Unicode as far as that can be."""
    formula = formula.strip()
    if len(formula) > _LONGEST:
        return formula
    shown: str = _reader.convert(formula)  # type: ignore[no-untyped-call]
    return "\n".join(line.strip() for line in shown.splitlines() if line.strip()) or formula


def with_dollars(source: str) -> str:
    if "$" not in source and "\\(" not in source and "\\[" not in source:
        return source
    data, done = source.encode(), 0
    pieces: list[str] = []
    for start, end in _code(source):
        pieces += [_rewritten(data[done:start].decode()), data[start:end].decode()]
        done = end
    return "".join([*pieces, _rewritten(data[done:].decode())])


def _code(source: str) -> Iterator[tuple[int, int]]:
    """Where code is, in bytes."""
    end = 0
    for event, where in pyromark.events_with_range(source, options=_OPTIONS):
        match event:
            case {"Code": _} | {"Start": {"CodeBlock": _}} if where["start"] >= end:
                end = where["end"]
                yield where["start"], end


def _rewritten(text: str) -> str:
    pieces: list[str] = []
    done = 0
    for start, end, shown in sorted(_replacements(text)):
        pieces += [text[done:start], shown]
        done = end
    return "".join([*pieces, text[done:]])


def _replacements(text: str) -> Iterator[tuple[int, int, str]]:
    """What to write instead of which part of `text`: dollars around formulas, and a backslash before other dollars."""
    opened: re.Match[str] | None = None
    dollars: list[re.Match[str]] = []  # since then
    for found in _DELIMITER.finditer(text):
        mark = found[0]
        if opened and _closes(opened, found, text):
            if _is_formula(text[opened.end() : found.start()], opened[0]) and not dollars:
                yield from _as_dollars(opened, found, text)
            else:
                yield from _plain_dollars(opened, *dollars, found)
        elif opened and ((mark == "\n" and opened[0] != "$") or (mark[0] == "\\" and mark not in _CLOSING)):
            continue
        elif opened and opened[0] != "$" and mark[0] != "\n":
            dollars.append(found)
            continue
        elif _opens(found, text):
            yield from _plain_dollars(*filter(None, [opened]), *dollars)
            opened, dollars = found, []
            continue
        else:
            yield from _plain_dollars(*filter(None, [opened]), *dollars, found)
        opened, dollars = None, []
    yield from _plain_dollars(*filter(None, [opened]), *dollars)


def _opens(found: re.Match[str], text: str) -> bool:
    return found[0] in _CLOSING and (found[0] != "$" or bool(text[found.end() : found.end() + 1].strip()))


def _closes(opened: re.Match[str], found: re.Match[str], text: str) -> bool:
    if found[0] != _CLOSING[opened[0]] or found.start() == opened.end():
        return False
    after = text[found.end() : found.end() + 1]
    return found[0] != "$" or not (text[found.start() - 1].isspace() or (after.isascii() and after.isalnum()))


def _is_formula(inside: str, mark: str) -> bool:
    """Two dollars or brackets may mean something else; words without any sign are no formula."""
    return mark == "$$" or bool(_SIGNS.search(inside)) or not _WORD.search(inside)


def _as_dollars(opened: re.Match[str], closing: re.Match[str], text: str) -> Iterator[tuple[int, int, str]]:
    if opened[0] == "\\[":
        yield opened.start(), opened.end(), "$$"
        yield closing.start(), closing.end(), "$$"
    elif opened[0] == "\\(":
        inside = " ".join(line.strip("> \t") for line in text[opened.end() : closing.start()].splitlines()).strip()
        yield opened.start(), closing.end(), f"${inside}$"


def _plain_dollars(*marks: re.Match[str]) -> Iterator[tuple[int, int, str]]:
    for mark in marks:
        if mark[0].startswith("$"):
            yield mark.start(), mark.end(), mark[0].replace("$", "\\$")
