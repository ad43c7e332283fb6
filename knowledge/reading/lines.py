"""Lines of a printed page become blocks: what a PDF and a recognised scan leave is lines with places, no paragraphs.

Lines that stand at the top or bottom of most pages, but for their numbers, are the running head and foot, and go. A
line that is set larger than the body is a heading, as are those that the document's own table of contents names. Lines
are joined to paragraphs unless there is a gap, a bullet, or the line before ends well short of the margin: that is how
tables, addresses and verse look.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from knowledge.parsed import Block, Kind

LARGER = 1.15  # than the body, and it is a heading
LONGEST_HEADING = 150  # characters
LEVELS = 4
GAP = 1.6  # of the usual distance between lines
SHORT = 0.75  # of the width of the text
EDGE_LINES = 2
REPEATED = 0.5  # of the pages
FEWEST_PAGES = 3
LONGEST_COUNTING = 60  # characters of a line like "Page 3 of 10"
BULLET = re.compile(r"^\s*(?:[•◦‣▪▫●○■□·∙–—*-]|\(?\d{1,3}[.)]|\(?[a-z][.)])\s+\S")
MARK = re.compile(r"^\s*[•◦‣▪▫●○■□·∙–—*]\s+")
PAGE_NUMBER = re.compile(r"\s*[-–—]?\s*(?:\d{1,4}|[ivxlc]{1,8})\s*[-–—]?\s*$")
LEADER = re.compile(r"(?:\s?[.·…]){4,}\s*")  # dots from an entry to its page, in a table of contents
SENTENCE_END = (".", "!", "?", ":", ";", "。", "！", "？", "：", "；", "”", "」")
SOFT_HYPHEN = "\x02"  # pdfium's mark for a hyphen that only the line break is to blame for


Running = str | tuple[str, int]


@dataclass(frozen=True)
class Line:
    """Points or pixels; `top` grows downwards; `size` is the letters' height."""

    text: str
    left: float
    right: float
    top: float
    size: float


@dataclass(frozen=True)
class Page:
    number: int
    lines: tuple[Line, ...]


def blocks_of_pages(pages: Sequence[Page], contents: Mapping[tuple[int, str], int] | None = None) -> list[Block]:
    """`contents`: a heading's level by its page and `key_of(text)`; where there are any, sizes are not looked at."""
    pages = without_running_lines(pages)
    sizes: Counter[float] = Counter()
    for page in pages:
        for line in page.lines:
            sizes[_rounded(line.size)] += len(line.text)
    body = max(sizes, key=lambda size: sizes[size], default=0.0)
    larger = sorted((size for size in sizes if size > LARGER * body), reverse=True)
    levels = {size: min(rank, LEVELS) for rank, size in enumerate(larger, 1)}
    blocks: list[Block] = []
    for page in pages:
        blocks += _page(page, levels, contents or {})
    return blocks


def key_of(text: str) -> str:
    return "".join(character for character in text.casefold() if character.isalnum())


def without_running_lines(pages: Sequence[Page]) -> list[Page]:
    if len(pages) < FEWEST_PAGES:
        return list(pages)
    seen: Counter[Running] = Counter()
    for page in pages:
        seen.update({key for line in _edges(page) for key in _keys(line, page.number)})
    often = max(FEWEST_PAGES, REPEATED * len(pages))
    running = {key for key, times in seen.items() if times >= (FEWEST_PAGES if isinstance(key, tuple) else often)}
    kept = []
    for page in pages:
        edges = set(map(id, _edges(page)))
        lines = [
            line
            for line in page.lines
            if id(line) not in edges or not (running & _keys(line, page.number) or PAGE_NUMBER.match(line.text))
        ]
        kept.append(Page(page.number, tuple(lines)))
    return kept


def _edges(page: Page) -> list[Line]:
    by_place = sorted(page.lines, key=lambda line: line.top)
    return [*by_place[:EDGE_LINES], *by_place[-EDGE_LINES:]]


def _keys(line: Line, page: int) -> set[Running]:
    """The line; and, with any number that counts the pages along, it without its numbers.

    A number that does not count along is a fact: "Total 300" may stand at the foot of every page.
    """
    text = " ".join(line.text.split())
    counting = r"\b\d{1,5}\b" if len(text) <= LONGEST_COUNTING else r"^\d{1,5}\b|\b\d{1,5}$"
    masked = re.sub(r"\d+", "#", text)
    return {text, *((masked, int(number) - page) for number in re.findall(counting, text))}


def _rounded(size: float) -> float:
    return round(size * 2) / 2


def _page(page: Page, levels: Mapping[float, int], contents: Mapping[tuple[int, str], int]) -> list[Block]:
    lines = page.lines
    distances = sorted(below.top - line.top for line, below in pairwise(lines))
    usual = next((distance for distance in distances[len(distances) // 4 :] if distance > 0), 0.0)
    margin = max((line.right for line in lines), default=0.0)
    left = min((line.left for line in lines), default=0.0)
    blocks: list[Block] = []
    last: Line | None = None
    for line in lines:
        level = _level(line, page.number, levels, contents)
        if level:
            blocks = _with_heading(blocks, line, last, level, page.number)
        elif last is None or not blocks or blocks[-1].kind == "heading" or _begins(line, last, usual):
            blocks = _with_new(blocks, line, last, usual, page.number)
        else:
            short = last.right - left < SHORT * (margin - left) or bool(LEADER.search(last.text))
            blocks[-1] = _joined(blocks[-1], line.text, on_own_line=short)
        last = line
    return blocks


def _level(line: Line, page: int, levels: Mapping[float, int], contents: Mapping[tuple[int, str], int]) -> int:
    if contents:
        return contents.get((page, key_of(line.text)), 0)
    level = levels.get(_rounded(line.size), 0)
    said = sum(character.isalpha() for character in line.text)
    return level if said > 1 and len(line.text) <= LONGEST_HEADING else 0


def _with_heading(blocks: list[Block], line: Line, last: Line | None, level: int, page: int) -> list[Block]:
    """A heading of two lines is one."""
    goes_on = last and blocks and blocks[-1].kind == "heading" and blocks[-1].level == level
    if goes_on and last and 0 < line.top - last.top < 2 * line.size:
        return [*blocks[:-1], _joined(blocks[-1], line.text, on_own_line=False)]
    return [*blocks, Block("heading", line.text.strip(), level=level, page=page)]


def _with_new(blocks: list[Block], line: Line, last: Line | None, usual: float, page: int) -> list[Block]:
    kind: Kind = "list" if BULLET.match(line.text) else "paragraph"
    text = LEADER.sub(" … ", MARK.sub("- ", line.text.strip()))
    if kind == "list" and blocks and blocks[-1].kind == "list" and last and line.top - last.top <= 2 * GAP * usual:
        return [*blocks[:-1], Block("list", f"{blocks[-1].text}\n{text}", page=blocks[-1].page)]
    blocks.append(Block(kind, text, page=page))
    return blocks


def _begins(line: Line, last: Line, usual: float) -> bool:
    """Does a new paragraph or list item begin with this line?"""
    distance = line.top - last.top
    if BULLET.match(line.text) and not line.text.lstrip()[0].isalnum():
        return True
    if BULLET.match(line.text) and last.text.rstrip().endswith(SENTENCE_END):
        return True
    if distance < -usual:  # the next column
        return last.text.rstrip().endswith(SENTENCE_END)
    return usual > 0 and distance > GAP * usual


def _joined(block: Block, text: str, *, on_own_line: bool) -> Block:
    return Block(
        block.kind, join(block.text, LEADER.sub(" … ", text.strip()), on_own_line=on_own_line), block.level, block.page
    )


def title_of(page: Page) -> str:
    """What is set largest on a first page, if anything is; its lines together."""
    sizes: Counter[float] = Counter()
    for line in page.lines:
        sizes[_rounded(line.size)] += len(line.text)
    if len(sizes) < 2:
        return ""
    largest = max(sizes)
    if largest <= LARGER * max(sizes, key=lambda size: sizes[size]):
        return ""
    return " ".join(line.text.strip() for line in page.lines if _rounded(line.size) == largest)


def join(before: str, text: str, *, on_own_line: bool) -> str:
    if before.endswith(SOFT_HYPHEN):
        return before.rstrip(SOFT_HYPHEN) + text
    if on_own_line:
        return f"{before}\n{text}"
    if not text or not before:
        return before + text
    if before[-1] >= "\u2e80" and text[0] >= "\u2e80":
        return before + text
    return f"{before} {text}"
