"""Source code -> parts: a class or function each, as far as they fit, in whole lines.

A class that fits into a chunk is one part; of one that does not, its methods are parts, and what it has beside them
(its first line, docstring and fields) is one too. Comments, decorators and attributes go with what they stand before.
Imports and other code at the top level are parts of their own. The parser (tree-sitter) goes on after errors, so that
half a file or a fragment in a Markdown page is still cut well.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import TYPE_CHECKING

from knowledge.splitting.counting import Tokens
from knowledge.splitting.grammars import (
    CONTAINERS,
    LEADING,
    TRANSPARENT,
    body_of,
    definition_in,
    name_of,
    parser_of,
)
from knowledge.splitting.sections import groups_of
from knowledge.splitting.units import lines_of

if TYPE_CHECKING:
    from tree_sitter import Node

_LARGEST = 1_000_000  # characters; a larger "source file" was written by a program, and is cut by lines
_DEEPEST = 12
_SAYS_SOMETHING = re.compile(r"\w")


@dataclass(frozen=True)
class Part:
    name: str  # qualified, e.g. "Assistant.turn"; "" at the top level
    text: str


def parts_of(text: str, language: str, tokens: Tokens, room: int, tiny: int) -> list[Part]:
    """The code in parts that, joined, are all its lines in order; [] when nothing in it has a name.

    A part may weigh more than `room`: a long function is cut by whoever fits it. Parts of less than `tiny` tokens
    share one with their neighbours of the same class.
    """
    found = parser_of(language, text)
    if found is None or len(text) > _LARGEST:
        return []
    parser, joint = found
    lines = lines_of(text)
    tokens.learn(lines)
    sums = [0, *accumulate(tokens.weight(line) for line in lines)]
    root = _Definition((), 0, len(lines))
    root.inner = _definitions(parser.parse(text.encode("utf-8", "replace")).root_node, root, 0)
    if not root.inner:
        return []
    spans = _joined(list(_taken_apart(root, sums, room)), lines, sums, room, tiny)
    groups = groups_of(
        [span.path for span in spans], [sums[span.end] - sums[span.begin] for span in spans], tiny, _Everywhere(room)
    )
    return [
        Part(joint.join(group.path), "".join(lines[spans[group.members[0]].begin : spans[group.members[-1]].end]))
        for group in groups
    ]


class _Everywhere(dict[tuple[str, ...], int]):
    """The same room under every path."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._room = room

    def get(self, path: object, default: object = None) -> int:
        return self._room


@dataclass
class _Definition:
    path: tuple[str, ...]
    begin: int  # lines, from 0
    end: int
    inner: list[_Definition] = field(default_factory=list)


@dataclass(frozen=True)
class _Span:
    path: tuple[str, ...]
    begin: int
    end: int
    between: bool = False  # what a class, or the file, has beside its definitions


def _definitions(parent: Node, around: _Definition, depth: int) -> list[_Definition]:
    """Those directly in `parent`, in order; of two on one line, the second belongs to the first."""
    result: list[_Definition] = []
    siblings = parent.named_children
    for place, node in enumerate(siblings):
        if node.type in TRANSPARENT and depth < _DEEPEST:
            result += _after(result, _definitions(node, around, depth + 1))
            continue
        found = definition_in(node)
        if found is None or not (name := name_of(found)):
            continue
        body = body_of(found) if found.type in CONTAINERS else None
        if found.type in CONTAINERS and body is None:
            continue  # `struct point origin;`, `module.exports`, a forward declaration
        definition = _Definition((*around.path, name), _begin(siblings, place), _end(node))
        if body is not None and depth < _DEEPEST:
            definition.inner = _definitions(body, definition, depth + 1)
        result += _after(result, [definition])
    return result


def _after(before: Sequence[_Definition], definitions: Sequence[_Definition]) -> list[_Definition]:
    line = before[-1].end if before else 0
    result = []
    for each in definitions:
        each.begin = max(each.begin, line)
        if each.begin < each.end:
            each.inner = _after([], [inner for inner in each.inner if inner.begin >= each.begin])
            result.append(each)
            line = each.end
    return result


def _begin(siblings: Sequence[Node], place: int) -> int:
    """The first line of the comments and attributes directly above a node, or its own."""
    begin = siblings[place].start_point.row
    for above in range(place - 1, -1, -1):
        node = siblings[above]
        if node.type not in LEADING or _end(node) < begin:
            break
        if above and _end(siblings[above - 1]) > node.start_point.row:
            break  # it ends the line of something else
        begin = min(begin, node.start_point.row)
    return begin


def _end(node: Node) -> int:
    """The line after its last."""
    return node.end_point.row + (node.end_point.column > 0)


def _taken_apart(definition: _Definition, sums: Sequence[int], room: int) -> Iterator[_Span]:
    fits = sums[definition.end] - sums[definition.begin] <= room
    if not definition.inner or (fits and definition.path):
        yield _Span(definition.path, definition.begin, definition.end)
        return
    line = definition.begin
    for inner in definition.inner:
        if line < inner.begin:
            yield _Span(definition.path, line, inner.begin, between=True)
        yield from _taken_apart(inner, sums, room)
        line = inner.end
    if line < definition.end:
        yield _Span(definition.path, line, definition.end, between=True)


def _joined(spans: Sequence[_Span], lines: Sequence[str], sums: Sequence[int], room: int, tiny: int) -> list[_Span]:
    """A closing brace goes with what it closes, and `class X {` with the first of what it opens."""
    result: list[_Span] = []
    for span in spans:
        last = result[-1] if result else None
        if last is None:
            result.append(span)
        elif span.between and not any(_SAYS_SOMETHING.search(line) for line in lines[span.begin : span.end]):
            result[-1] = replace(last, end=span.end)
        elif (
            last.between
            and last.path
            and last.path == span.path[: len(last.path)]
            and sums[last.end] - sums[last.begin] < tiny
            and sums[span.end] - sums[last.begin] <= room
        ):
            result[-1] = replace(span, begin=last.begin)
        else:
            result.append(span)
    return result
