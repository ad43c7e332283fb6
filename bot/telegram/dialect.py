"""The markdown that models write: CommonMark with tables, task lists, strikethrough, footnotes and formulas."""

from __future__ import annotations

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


def link_definitions(source: str) -> list[tuple[str, str, str]]:
    """Label, address and title of each "[label]: address 'title'", in their order."""
    if "]:" not in source:
        return []
    found = pyromark.reference_definitions(source, options=_OPTIONS)
    return [(label, definition["dest"], definition["title"] or "") for label, definition in found.items()]
