r"""LaTeX in a reply: where it is, and how it reads without a typesetter.

Models write formulas as \( \), \[ \], $ $ and $$ $$, and prices with the same dollar. `with_dollars` gives all formulas
the dollars that the markdown parser knows, and takes its meaning from every other dollar, so that "$5 to $10" stays two
prices. Code is left as it is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from telegramify_markdown.latex_escape.helper import LatexToUnicodeHelper

from bot.telegram.dialect import prose, rewritten

_LONGEST = 2000  # characters; a longer one is shown as it is written, as reading it takes time that grows faster

_DELIMITER = re.compile(r"\\[\\$()\[\]]|\$\$?|\n(?:[ \t>]*\n)*")
_CLOSING = {"\\(": "\\)", "\\[": "\\]", "$": "$", "$$": "$$"}
_SIGNS = re.compile(r"[\\^_=+<>{}]")
_WORD = re.compile(r"[^\W\d_]{2}")

_OVERLINED_ROOT = re.compile("√((?:[^\u0305]\u0305)+)")  # a line drawn over each character, which few fonts can show

_reader = LatexToUnicodeHelper()


def readable(formula: str) -> str:
    """A formula without its delimiters, in Unicode as far as that can be."""
    formula = formula.strip()
    if len(formula) > _LONGEST:
        return formula
    shown: str = _reader.convert(formula)  # type: ignore[no-untyped-call]
    shown = _OVERLINED_ROOT.sub(_root, shown)
    return "\n".join(line.strip() for line in shown.splitlines() if line.strip()) or formula


def _root(overlined: re.Match[str]) -> str:
    inside = overlined[1].replace("\u0305", "")
    return f"√({inside})" if len(inside) > 1 else f"√{inside}"


def with_dollars(source: str) -> str:
    if "$" not in source and "\\(" not in source and "\\[" not in source:
        return source
    return rewritten(source, (change for start, end in prose(source) for change in _changes(source, start, end)))


def _changes(text: str, start: int, end: int) -> Iterator[tuple[int, int, str]]:
    """Dollars around formulas, and a backslash before other dollars."""
    opened: list[re.Match[str]] = []  # what may begin a formula, and the delimiters after it
    for found in _DELIMITER.finditer(text, start, end):
        if opened and _closes(opened[0], found, text):
            changes = _with_dollars if _is_formula(opened, found, text) else _plain
            yield from changes([*opened, found], text)
            opened = []
        elif opened and _goes_on(opened[0], found):
            opened.append(found)
        else:
            yield from _plain(opened, text)
            opened = [found] if _opens(found, text) else []
            yield from _plain([] if opened else [found], text)
    yield from _plain(opened, text)


def _opens(found: re.Match[str], text: str) -> bool:
    return found[0] in _CLOSING and (found[0] != "$" or bool(text[found.end() : found.end() + 1].strip()))


def _closes(opened: re.Match[str], found: re.Match[str], text: str) -> bool:
    if found[0] != _CLOSING[opened[0]] or found.start() == opened.end():
        return False
    after = text[found.end() : found.end() + 1]
    return found[0] != "$" or not (text[found.start() - 1].isspace() or (after.isascii() and after.isalnum()))


def _goes_on(opened: re.Match[str], found: re.Match[str]) -> bool:
    """One dollar ends with its line, and anything else with its paragraph."""
    if opened[0] == "$":
        return found[0][0] == "\\" and found[0] not in _CLOSING
    return found[0][0] != "\n" or found[0] == "\n"


def _is_formula(opened: Sequence[re.Match[str]], closing: re.Match[str], text: str) -> bool:
    """Brackets and single dollars may mean something else; plain words are no formula."""
    if any(mark[0] in _CLOSING for mark in opened[1:]):
        return False
    inside = text[opened[0].end() : closing.start()]
    return opened[0][0] == "$$" or bool(_SIGNS.search(inside)) or not _WORD.search(inside)


def _with_dollars(marks: Sequence[re.Match[str]], text: str) -> Iterator[tuple[int, int, str]]:
    opening, closing = marks[0], marks[-1]
    if opening[0] == "\\[":
        yield opening.start(), opening.end(), "$$"
        yield closing.start(), closing.end(), "$$"
    elif opening[0] == "\\(":
        lines = text[opening.end() : closing.start()].splitlines()
        inside = " ".join(line.strip("> \t") for line in lines).strip()
        yield opening.start(), closing.end(), f"${inside}$"


def _plain(marks: Sequence[re.Match[str]], text: str) -> Iterator[tuple[int, int, str]]:
    for mark in marks:
        if mark[0].startswith("$"):
            yield mark.start(), mark.end(), mark[0].replace("$", "\\$")
