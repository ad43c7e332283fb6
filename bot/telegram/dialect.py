"""The markdown that models write: CommonMark with tables, task lists, strikethrough, footnotes and formulas."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import pyromark
from pyromark.event import Range

Where = Range  # what of the source it stands for: "start" and "end", in bytes
Event = Any  # pyromark's: {"Text": "hi"}, {"Start": "Strong"}, {"End": "Strong"}, "SoftBreak", …

_OPTIONS = (
    pyromark.Options.ENABLE_TABLES
    | pyromark.Options.ENABLE_STRIKETHROUGH
    | pyromark.Options.ENABLE_TASKLISTS
    | pyromark.Options.ENABLE_FOOTNOTES
)


def parse(source: str, *, formulas: bool = True) -> list[tuple[Event, Where]]:
    options = _OPTIONS | pyromark.Options.ENABLE_MATH if formulas else _OPTIONS
    return list(pyromark.events_with_range(source, options=options))


def unused_definitions(source: str, events: Iterable[tuple[Event, Where]]) -> list[tuple[str, Where]]:
    """Each "[label]: address" that no link refers to, for which there is no event."""
    if "]:" not in source:
        return []
    links = (event["Start"] for event, _ in events if isinstance(event, dict) and isinstance(event.get("Start"), dict))
    used = {link["id"].casefold() for tag in links for key, link in tag.items() if key in ("Link", "Image")}
    definitions = pyromark.reference_definitions(source, options=_OPTIONS).items()
    return [
        (f"[{label}]: {each['dest']}" + (f' "{each["title"]}"' if each["title"] else ""), each["span"])
        for label, each in definitions
        if label.casefold() not in used
    ]


def prose(source: str) -> Iterator[tuple[int, int]]:
    """What of the source is not code, from where to where, in characters."""
    data = source.encode()
    done = at = 0
    for event, where in parse(source, formulas=False):
        match event:
            case {"Code": _} | {"Start": {"CodeBlock": _}}:
                start = at + len(data[done : where["start"]].decode())
                yield at, start
                at, done = start + len(data[where["start"] : where["end"]].decode()), where["end"]
    yield at, len(source)


def rewritten(source: str, changes: Iterable[tuple[int, int, str]]) -> str:
    """The source with other text in these places: start, end, and what to write there."""
    pieces: list[str] = []
    done = 0
    for start, end, text in sorted(changes):
        pieces += [source[done:start], text]
        done = end
    return "".join([*pieces, source[done:]])
