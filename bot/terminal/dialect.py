"""The markdown we read: CommonMark with tables and strikethrough, as chat models write it.

Left out is what would let a later line change an earlier block, or would hide what the model wrote: link references,
underlined headings (`---` is a rule), HTML and images. So a text is its top-level blocks, each by itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from markdown_it import MarkdownIt
from markdown_it.token import Token


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    return parser.disable(["reference", "lheading", "html_block", "html_inline", "image"])


_PARSER = _parser()


@lru_cache(maxsize=8)
def parse(source: str) -> list[Token]:
    """The tokens, ready to be drawn. Do not change them: they are kept."""
    tokens = _PARSER.parse(source)
    for token in tokens:
        if token.children:
            token.children = list(_for_a_chat(token.children))
    return tokens


def _for_a_chat(children: list[Token]) -> Iterator[Token]:
    """Line breaks stay (models mean them), and a bare address is not followed by itself in brackets."""
    for index, child in enumerate(children):
        if child.type == "softbreak":
            child.type = "hardbreak"
        if child.type == "link_open" and _is_bare_address(children[index : index + 3]):
            child.markup = "autolink"
            children[index + 2].markup = "autolink"
        if child.type not in {"link_open", "link_close"} or child.markup != "autolink":
            yield child


def _is_bare_address(link: list[Token]) -> bool:
    types = [token.type for token in link]
    return types == ["link_open", "text", "link_close"] and link[0].attrs.get("href") == link[1].content


def top_level(tokens: list[Token]) -> Iterator[list[Token]]:
    """The tokens of each top-level block."""
    block: list[Token] = []
    for token in tokens:
        block.append(token)
        if token.level == 0 and token.nesting <= 0:
            yield block
            block = []


_LEAVES = {"paragraph_open", "heading_open", "fence", "code_block", "table_open", "hr"}


def last_leaf(tokens: list[Token]) -> Token | None:
    """The first token of the last block that holds text, not blocks."""
    return next((token for token in reversed(tokens) if token.type in _LEAVES), None)


def is_code(token: Token) -> bool:
    return token.type in {"fence", "code_block"}


def first_line(token: Token) -> int:
    """The line, counted from 0, at which the block begins whose first token this is."""
    return token.map[0] if token.map else 0


def offset_of_line(source: str, line: int) -> int:
    offset = 0
    for _ in range(line):
        offset = source.index("\n", offset) + 1
    return offset
