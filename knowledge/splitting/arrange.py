"""A document -> runs: what may share chunks, under which heading, with how much room.

This is where the decisions about structure are made: which tiny sections go together, which table or block of code
stays whole, and which code is taken apart by its classes and functions.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest

from knowledge.parsed import Block, ParsedDocument
from knowledge.splitting.code import parts_of
from knowledge.splitting.counting import Tokens, storable
from knowledge.splitting.fit import Run
from knowledge.splitting.header import SEPARATOR, header_of
from knowledge.splitting.sections import Group, Path, Section, groups_of, sections_of
from knowledge.splitting.units import AFTER_COLON, BLOCK, NEVER, Unit, units_of

_TINY_SHARE = 8  # a section of less than an eighth of a chunk is tiny


class Headings:
    """What the headers of one document weigh, and so what room they leave in a chunk."""

    def __init__(self, title: str, tokens: Tokens, chunk_tokens: int) -> None:
        self._title = title
        self._tokens = tokens
        self.chunk_tokens = chunk_tokens
        self.rooms: dict[Path, int] = {}  # of the paths that leave at least half a chunk; () always does
        self._left: dict[Path, int] = {}

    def learn(self, paths: Iterable[Path]) -> None:
        new = list(dict.fromkeys(path for path in paths if path not in self._left))
        for path, weight in zip(new, self._tokens.weigh([self.header(path) for path in new]), strict=True):
            self._left[path] = self.chunk_tokens - weight
            if self._left[path] >= self.chunk_tokens // 2 or not path:
                self.rooms[path] = max(1, self._left[path])

    def fitting(self, path: Path) -> Path:
        """The path, or as much of its end as leaves half of the chunk to the text."""
        return next((end for end in _ends(path) if end in self.rooms), ())

    def header(self, path: Path) -> str:
        return header_of(self._title, SEPARATOR.join(path), self.chunk_tokens)

    def run(self, path: Path, units: Sequence[Unit]) -> Run:
        return Run(SEPARATOR.join(path), self.header(path), self.rooms[path], units)


def _ends(path: Path) -> list[Path]:
    return [path, path[-1:], ()]


@dataclass
class _Held:
    """A section with its units, one list a block."""

    section: Section
    units: list[list[Unit]]
    path: Path  # the section's, as far as it fits
    in_text: bool  # its heading must stand in the text: its path does not say it


def runs_of(document: ParsedDocument, tokens: Tokens, chunk_tokens: int) -> list[Run]:
    sections = sections_of(replace(block, text=storable(block.text)) for block in document.blocks)
    headings = Headings(document.title, tokens, chunk_tokens)
    headings.learn(end for section in sections for path in (section.path, section.parent) for end in _ends(path))
    headings.learn([()])
    held = _held(sections, headings)
    tokens.learn(unit.text for each in held for unit in _all_units(each))
    weights = [sum(tokens.weight(unit.text) for unit in _all_units(each)) for each in held]
    groups = groups_of([each.section.path for each in held], weights, chunk_tokens // _TINY_SHARE, headings.rooms)
    return [run for group in groups for run in _runs(group, held, headings, tokens)]


def _held(sections: list[Section], headings: Headings) -> list[_Held]:
    """Those that have something in them, or a heading that would otherwise stand nowhere."""
    held: list[_Held] = []
    for section, following in zip_longest(sections, sections[1:]):
        path = headings.fitting(section.path)
        in_text = not section.in_path or path != section.path
        if section.blocks:
            units = [units for block in section.blocks if (units := units_of(block))]
            held.append(_Held(section, units, path, in_text))
        elif in_text or following is None or not _says(following, section.path, headings):
            held.append(_Held(section, [], headings.fitting(section.parent), True))
    return held


def _says(following: Section, path: Path, headings: Headings) -> bool:
    return following.path[: len(path)] == path != following.path and following.path in headings.rooms


def _all_units(held: _Held) -> list[Unit]:
    heading = [Unit(held.section.heading.text, BLOCK)] if held.section.heading else []
    return heading + [unit for units in held.units for unit in units]


def _runs(group: Group, held: Sequence[_Held], headings: Headings, tokens: Tokens) -> list[Run]:
    members = [held[place] for place in group.members]
    if len(members) == 1:
        return _runs_of_section(members[0], members[0].path, headings, tokens, in_text=members[0].in_text)
    shared = [
        unit
        for each in members
        for run in _runs_of_section(
            each, group.path, headings, tokens, in_text=each.in_text or each.section.path != group.path
        )
        for unit in run.units
    ]
    return [headings.run(group.path, shared)]


def _runs_of_section(held: _Held, path: Path, headings: Headings, tokens: Tokens, *, in_text: bool) -> list[Run]:
    runs: list[Run] = []
    units: list[Unit] = []
    if in_text and held.section.heading:
        units = units_of(held.section.heading)
        tokens.learn(unit.text for unit in units)
    glued = bool(units)
    for block_units, block in zip(held.units, _with_text(held.section.blocks), strict=True):
        whole = "".join(unit.text for unit in block_units)
        first = block_units[0]
        if glued:
            first = replace(first, strain=NEVER, glue="\n")
        elif units and units[-1].text.rstrip().endswith((":", "：")):
            first = replace(first, strain=AFTER_COLON)
        glued = False
        if block.kind in ("code", "table"):
            if sum(tokens.weight(unit.text) for unit in block_units) <= headings.rooms[path]:
                units.append(replace(first, text=whole))
                continue
            if block.kind == "code" and (parts := _code(whole, block, path, headings, tokens)):
                runs += [headings.run(path, units)] if units else []
                runs += parts
                units = []
                continue
        units += [first, *block_units[1:]]
    return [*runs, headings.run(path, units)] if units else runs


def _with_text(blocks: Sequence[Block]) -> list[Block]:
    return [block for block in blocks if block.text.strip()]


def _code(text: str, block: Block, path: Path, headings: Headings, tokens: Tokens) -> list[Run]:
    """The code by classes and functions, each with its qualified name at the end of the path; [] when it has none."""
    parts = parts_of(text, block.language, tokens, headings.rooms[path], headings.chunk_tokens // _TINY_SHARE)
    named = [(*path, part.name) if part.name else path for part in parts]
    headings.learn(named)
    return [
        headings.run(each if each in headings.rooms else path, units_of(replace(block, text=part.text)))
        for part, each in zip(parts, named, strict=True)
    ]
