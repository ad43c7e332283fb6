"""Web pages and HTML files: the structure is the page's own, and trafilatura judges what of it is its text.

Barbaresi, "Trafilatura: A Web Scraping Library and Command-Line Tool for Text Discovery and Extraction", ACL 2021. Its
output loses code's language and takes a word in code for a block of code, so only its judgement is used: a block of
ours stays when its words are in what it found. Where it found less than half of what is there (pages of tables, short
pages, lists of questions), everything stays: text that cannot be found is worse than a menu that can.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from knowledge.errors import DocumentDamaged
from knowledge.parsed import Block
from knowledge.reading.content import Content, sensible
from knowledge.reading.markup import blocks_of, text_of, tree_of
from knowledge.reading.text import CHARSET, decode

if TYPE_CHECKING:
    from lxml.html import HtmlElement

ENOUGH = 0.5
COMPARED = 60  # characters of a block
META_BYTES = 4096
LARGE = 5_000_000  # trafilatura copies the tree several times; nothing larger is a page with a menu


def read_html(data: bytes, name: str, mime: str) -> Content:
    html = decode_html(data, mime)
    if html is None:
        raise DocumentDamaged(name, "it is not text, whatever its name says")
    root = tree_of(html)
    if root is None:
        return Content([])
    title = _title(root)
    blocks = blocks_of(root, around=False) or blocks_of(root)
    return Content(_main(html, blocks) if len(html) < LARGE else blocks, title=title)


def decode_html(data: bytes, mime: str = "") -> str | None:
    """By the header, then by what the page says of itself, then by looking. None where it is no text."""
    head = data[:META_BYTES].decode("ascii", "ignore")
    said = CHARSET.search(mime) or CHARSET.search(head) or re.search(r"<\?xml[^>]*encoding=[\"']([\w.-]+)", head)
    return decode(data, f"charset={said[1]}" if said else "")


def _title(root: HtmlElement) -> str:
    """The heading, where the title is that and a site's name around it."""
    titles = [sensible(text_of(heading)) for heading in root.iter("h1")]
    named = [text for element in root.iter("title") if (text := sensible(element.text_content()))]
    og = [element for element in root.iter("meta") if element.get("property") == "og:title"]
    said = (named or [sensible(element.get("content", "")) for element in og] or [""])[0]
    first = next((title for title in titles if title and said.startswith(title)), "")
    return first or (titles[0] if len(titles) == 1 and titles[0] in said and titles[0] else said)


def _main(html: str, blocks: list[Block]) -> list[Block]:
    import trafilatura

    found = trafilatura.extract(
        html, include_comments=True, include_tables=True, favor_recall=True, include_formatting=False
    )
    main = _key(found or "")
    kept = [block for block in blocks if _is_in(block, main)]
    if sum(len(block.text) for block in kept) < ENOUGH * sum(len(block.text) for block in blocks):
        return blocks
    return kept


def _is_in(block: Block, main: str) -> bool:
    if block.kind == "heading":
        return _key(block.text) in main
    lines = [key for line in block.text.splitlines() if (key := _key(line))]
    found = sum(line[:COMPARED] in main or line[-COMPARED:] in main for line in lines)
    return 2 * found >= len(lines)


def _key(text: str) -> str:
    """Only letters and digits: what a block and an extract of it have in common."""
    return "".join(character for character in text.casefold() if character.isalnum())
