"""What a format's parser found; what holds for all formats (a title for each, limits, clean text) comes after it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import PurePath
from urllib.parse import unquote

from knowledge.parsed import Block

LONGEST_TITLE = 200
NO_TITLE = re.compile(
    r"(untitled|document|presentation|powerpoint presentation|slide|sheet|book|workbook|title|index|home|default|scan|"
    r"new document|no title|none|null|新建.*|无标题.*|未命名.*|演示文稿|文档|工作簿)[\s_\-.]*\d*",
    re.I,
)
PROGRAM = re.compile(r"^(microsoft (word|powerpoint|excel)|wps|adobe \w+) - ", re.I)
FILE_NAME = re.compile(r"\.(docx?|pptx?|xlsx?|pdf|html?|txt|md|tex|dvi|indd|odt|pages|rtf|qxd|ps|wpd)$", re.I)


@dataclass
class Content:
    blocks: list[Block]
    title: str = ""  # as the document says; not yet judged
    pages: int | None = None
    notes: list[str] = field(default_factory=list)


def sensible(title: str) -> str:
    """The title a document gives itself, or "" where a program put something there that says nothing."""
    title = " ".join(title.split())
    if not 2 <= len(title) <= LONGEST_TITLE or not any(character.isalpha() for character in title):
        return ""
    if NO_TITLE.fullmatch(title) or PROGRAM.match(title) or FILE_NAME.search(title):
        return ""
    return title


def pretty_name(name: str) -> str:
    """A title from a file's name: annual_report-final.pdf is Annual report final."""
    stem = PurePath(unquote(name).replace("\\", "/")).name
    stem = stem.rsplit(".", 1)[0] if "." in stem.lstrip(".") else stem
    words = re.sub(r"(?<=[^\W\d])-+(?=[^\W\d])", " ", stem.replace("_", " "))
    words = " ".join(words.split())[:LONGEST_TITLE]
    if not words:
        return name.strip() or "Document"
    return words[0].upper() + words[1:] if words == words.lower() else words
