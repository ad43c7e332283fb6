"""What of an unfinished text has its final look, however it goes on."""

from __future__ import annotations

import re

from markdown_it.token import Token

from bot.terminal.dialect import first_line, is_code, last_leaf, offset_of_line, parse, top_level
from bot.terminal.wrap import ends_a_unit


def last_block_start(source: str) -> int:
    """The index at which the last top-level block begins. What stands before it can no longer change.

    Lines count only when they are complete: `#` may become `#hashtag`, which goes on with the paragraph before it.
    """
    complete = source[: source.rfind("\n") + 1]
    blocks = list(top_level(parse(complete)))
    return offset_of_line(complete, first_line(blocks[-1][0])) if len(blocks) > 1 else 0


def settled(source: str) -> tuple[str, int]:
    """How much of an unfinished text has its final look: (a beginning of it, how many of its last lines to leave out).

    However the text goes on, the lines of that beginning, less those last ones, are the first lines of the whole.
    """
    complete = source[: source.rfind("\n") + 1]
    text, leaf = source, last_leaf(parse(source))
    if leaf and complete and first_line(leaf) >= complete.count("\n"):
        text, leaf = complete, last_leaf(parse(complete))  # what an unfinished line begins may turn out otherwise
    if leaf is None:
        return "", 0
    start = offset_of_line(text, first_line(leaf))
    if is_code(leaf):
        return (complete, 1) if start < len(complete) else (text[:start], 0)
    if leaf.type == "paragraph_open" and (cut := _settled_in_paragraph(text[: _end(leaf, text)], start)):
        return text[:cut], 1
    return text[:start], 0


def _end(leaf: Token, text: str) -> int:
    return offset_of_line(text, leaf.map[1]) if leaf.map and leaf.map[1] <= text.count("\n") else len(text)


_SPECIAL = re.compile(r"[*_~`\[]")
_MAY_OPEN = re.compile(r"`|\*\S|(?<!\w)_\S|~~\S|\]\(")
_OTHER = "\ufffc"  # stands for code and for marks that are closed: neither a space nor a letter
_CUTS_TRIED = 8


def _settled_in_paragraph(text: str, start: int) -> int | None:
    """The last index of the paragraph at `start` before which neither breaks nor marks can change; None: nowhere."""
    end = len(text)
    for line in _last_two_lines(text):
        if "|" in text[line:end]:  # it may become the head of a table, when the line after it is the rule of one
            end = line
    for _ in range(_CUTS_TRIED):
        end = _last_unit(text, start, end)
        if end <= start:
            return None
        if _stands(text[:end], start):
            return end
        marks = list(_SPECIAL.finditer(text, start, end))
        if not marks:
            return None
        end = marks[-1].start()
    return None


def _last_two_lines(text: str) -> list[int]:
    last = text.rfind("\n") + 1
    return [last, text.rfind("\n", 0, max(last - 1, 0)) + 1]


def _last_unit(text: str, start: int, end: int) -> int:
    while end > start and not ends_a_unit(text[end - 1]):
        end -= 1
    return end


def _stands(beginning: str, start: int) -> bool:
    """Does `beginning` end in the same paragraph, with no mark open that what follows could close?"""
    tokens = parse(beginning)
    leaf = last_leaf(tokens)
    if leaf is None or leaf.type != "paragraph_open" or offset_of_line(beginning, first_line(leaf)) != start:
        return False
    inline = next(token for token in reversed(tokens) if token.type == "inline")
    children = inline.children or ()
    shown = "".join({"text": child.content, "hardbreak": "\n"}.get(child.type, _OTHER) for child in children)
    return not _MAY_OPEN.search(shown) and not _has_open_bracket(shown)


def _has_open_bracket(text: str) -> bool:
    depth = 0
    for character in text:
        if character == "[":
            depth += 1
        elif character == "]":
            depth = max(0, depth - 1)
    return depth > 0
