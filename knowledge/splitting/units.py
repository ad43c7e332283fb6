"""Units: the smallest spans of a block that are normally kept together, and how bad it is to cut before each.

The strain of a cut is on one scale in all of knowledge.splitting: 0 between paragraphs, 0.6 between sentences, 3 inside
a quotation or between clauses, 5 between words, 9 inside a word. One more chunk costs 1 (see knowledge.splitting.fit):
so a sentence is cut off to save a chunk, and a clause never is.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from knowledge.parsed import Block
from knowledge.splitting.sentences import LINE, sentences

BLOCK, ITEM, NESTED_ITEM, ROW, AFTER_COLON = 0.0, 0.2, 0.5, 0.1, 0.9
NEVER = (
    12.0  # only when nothing else is left: between a heading and what follows it, a table's header and its first row
)

PARTED = "\n\n"

_OPENERS = (":", "{", "(", "[", ",", "\\")
_BLANK_LINES = re.compile(r"\A(?:[^\S\n]*\n)+")
_ITEM = re.compile(
    r"(?:[-*+•◦▪‣·–]|\(?(?:\d{1,4}|[A-Za-z]|[ivxlcIVXLC]{1,6})[.)、]|[（(][一二三四五六七八九十\d]+[)）])\s"
)
_RULE = re.compile(r"[\s|:+=-]*-[\s|:+=-]*")
_CLOSES = re.compile(r"\s*(?:[)\]}>]|(?:else|elif|except|finally|catch|end|esac|fi|done|then|do)\b|\*/)")
_OPENS = re.compile(r"\s*(?:@|#\[|//|/\*|\*|#(?!include|define|if|end|pragma|import)|--)")


@dataclass(frozen=True, slots=True)
class Unit:
    text: str
    strain: float  # of cutting before it
    glue: str = ""  # what joins it to the unit before, when they share a chunk
    page: int | None = None
    repeat: str = ""  # what is repeated before it when a chunk begins here: a table's header


def units_of(block: Block) -> list[Unit]:
    """The block in units; joined, they are its text. The first one's glue parts it from the block before."""
    text = (_BLANK_LINES.sub("", block.text) if block.kind == "code" else block.text).rstrip()
    if not text.strip():
        return []
    if block.kind == "table":
        units = list(_rows(text.lstrip(), block.page))
    elif block.kind == "code":
        units = [Unit(line, strain, page=block.page) for line, strain in _lines_of_code(text)]
    else:
        cut = _items if block.kind == "list" else sentences
        units = [Unit(span, strain, page=block.page) for span, strain in cut(text.lstrip("\n"))]
    return [replace(units[0], strain=BLOCK, glue=PARTED), *units[1:]]


def _items(text: str) -> Iterator[tuple[str, float]]:
    lines = text.splitlines(keepends=True)
    outermost = min((_indent(line) for line in lines if _ITEM.match(line.lstrip())), default=0)
    item: list[str] = []
    strain = ITEM
    for line in lines:
        if item and _ITEM.match(line.lstrip()):
            yield from _begun("".join(item), strain)
            item, strain = [], ITEM if _indent(line) <= outermost else NESTED_ITEM
        item.append(line)
    yield from _begun("".join(item), strain)


def _begun(text: str, strain: float) -> Iterator[tuple[str, float]]:
    for number, (sentence, within) in enumerate(sentences(text)):
        yield sentence, within + ITEM if number else strain


def _rows(text: str, page: int | None) -> Iterator[Unit]:
    lines = lines_of(text)
    headers = 2 if len(lines) > 1 and _RULE.fullmatch(lines[1]) else 1
    header = "".join(lines[:headers])
    yield Unit(header, BLOCK, page=page)
    repeat = header if header.endswith("\n") else header + "\n"
    for number, line in enumerate(lines[headers:]):
        yield Unit(line, ROW if number else NEVER, page=page, repeat=repeat)


def _lines_of_code(text: str) -> Iterator[tuple[str, float]]:
    """Lines, each with the blank ones after it. Blank lines and the outer indentation are where statements end."""
    lines: list[str] = []
    for line in lines_of(text):
        if lines and not line.strip():
            lines[-1] += line
        else:
            lines.append(line)
    indents = [_indent(line) for line in lines]
    outer = min(indents[1:], default=0)
    before = ""
    for line, indent in zip(lines, indents, strict=True):
        yield line, _strain_of_line(before, line, indent - outer)
        before = line


def _strain_of_line(before: str, line: str, depth: int) -> float:
    if _CLOSES.match(line):
        return LINE + 3
    if _OPENS.match(before) and not _blank_after(before):
        return LINE + 1.5  # a comment or a decorator belongs to what follows
    if before.rstrip().endswith(_OPENERS):
        return LINE + 1
    strain = 0.3 + 0.06 * min(depth, 24)
    return strain / 4 if _blank_after(before) else strain


def _blank_after(line: str) -> bool:
    return line.count("\n") > 1


def lines_of(text: str) -> list[str]:
    """Lines with their ends; a line ends at "\\n" only, as tree-sitter and tables see it."""
    lines = [line + "\n" for line in text.split("\n")]
    lines[-1] = lines[-1][:-1]
    return lines if lines[-1] else lines[:-1]


def _indent(line: str) -> int:
    return len(line[: len(line) - len(line.lstrip(" \t"))].expandtabs(4))
