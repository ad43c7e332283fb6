"""Blocks -> sections: what stands under one heading, with the path of headings that leads to it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from knowledge.parsed import Block

Path = tuple[str, ...]

_DEEPEST = 8
_LONGEST = 160  # characters; what is longer was no heading, or stands in the text too


@dataclass
class Section:
    path: Path = ()
    heading: Block | None = None  # None: what stands before the first heading
    blocks: list[Block] = field(default_factory=list)

    @property
    def parent(self) -> Path:
        return self.path[:-1]

    @property
    def in_path(self) -> bool:
        """Whether the path alone says all that the heading says."""
        return self.heading is None or _name(self.heading) == _flat(self.heading)


def sections_of(blocks: Iterable[Block]) -> list[Section]:
    """Every heading begins a section, also one with nothing in it."""
    sections = [Section()]
    above: list[tuple[int, str]] = []
    for block in blocks:
        if not block.text.strip():
            continue
        if block.kind != "heading":
            sections[-1].blocks.append(block)
            continue
        level = min(max(block.level, 1), _DEEPEST)
        above = [each for each in above if each[0] < level] + [(level, _name(block))]
        sections.append(Section(tuple(name for _, name in above), block))
    return sections if sections[0].blocks else sections[1:]


@dataclass
class Group:
    """Neighbours that share chunks; `members` are their places."""

    path: Path
    members: list[int]


def groups_of(paths: Sequence[Path], weights: Sequence[int], tiny: int, rooms: dict[Path, int]) -> list[Group]:
    """Tiny neighbours with the same parent, or a tiny parent and its children, as far as they fit into one chunk.

    Everything else is a group of its own. `rooms` gives what a chunk under a path has room for; a path that is not in
    it cannot be shared.
    """
    groups: list[Group] = []
    total = 0
    for place, (path, weight) in enumerate(zip(paths, weights, strict=True)):
        last = groups[-1] if groups else None
        shared = _shared(last, paths, path) if last and weight < tiny and weights[last.members[-1]] < tiny else None
        if last is not None and shared is not None and total + weight <= rooms.get(shared, 0):
            last.path = shared
            last.members.append(place)
            total += weight
        else:
            groups.append(Group(path, [place]))
            total = weight
    return groups


def _shared(group: Group, paths: Sequence[Path], path: Path) -> Path | None:
    if path[:-1] == group.path and path:
        return group.path
    if len(group.members) > 1 or not path:
        return group.path if path == group.path else None
    before = paths[group.members[0]]
    return path[:-1] if before and before[:-1] == path[:-1] else None


def _flat(heading: Block) -> str:
    return " ".join(heading.text.split())


def _name(heading: Block) -> str:
    flat = _flat(heading)
    return flat if len(flat) <= _LONGEST else flat[:_LONGEST].rstrip() + "…"
