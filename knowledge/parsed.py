"""A document as reading leaves it, whatever it was before: a title, and blocks of text in reading order."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Kind = Literal["heading", "paragraph", "list", "table", "code"]


@dataclass(frozen=True)
class Block:
    kind: Kind
    text: str  # never empty; a table is Markdown rows, the first is its header; code keeps its indentation
    level: int = 0  # of a heading, 1 is the highest
    page: int | None = None  # the page, slide or sheet on which it begins, from 1
    language: str = ""  # of code: python, javascript, ...; "" where it is not known


@dataclass(frozen=True)
class ParsedDocument:
    title: str  # never empty: the document's own, else made from its file name
    kind: str  # the format: pdf, docx, markdown, ...
    blocks: tuple[Block, ...]  # never empty
    pages: int | None = None  # how many it has, where it has pages, slides or sheets
    notes: tuple[str, ...] = ()  # what a person should know, e.g. "pages 3-7 are pictures without text"
