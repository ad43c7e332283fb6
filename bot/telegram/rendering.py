"""Model markdown as messages that Telegram takes: text and entities, cut to its limits.

Pure: no network, nothing kept. `markdown` reads the source, `spans` knows what Telegram accepts, `cutting` cuts.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from telegram import MessageEntity

from bot.telegram.cutting import Units, cut, shows_nothing, units_in
from bot.telegram.markdown import converted
from bot.telegram.spans import Span, accepted

MAX_UNITS = 4096  # UTF-16 code units of a message
MAX_ENTITIES = 100  # of a message
GAP = "\n\n"

_LINE_END = re.compile("\r\n?|[\u2028\u2029]")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CONTROL = re.compile("[\x00-\x08\x0b-\x1f]")
_DIRECTION = re.compile("[\u202a-\u202e]")  # Telegram takes these out


@dataclass(frozen=True)
class Part:
    """What one message shows."""

    text: str
    entities: tuple[MessageEntity, ...]


def render(
    markdown: str, *, unfinished: bool = False, max_units: int = MAX_UNITS, max_entities: int = MAX_ENTITIES
) -> list[Part]:
    """The markdown as the messages to send, in order; [] when there is nothing in it to see.

    `unfinished`: the text is still growing. What its end will mean is not known yet, and it is left out where it would
    be shown in two ways; messages before the last stay as they are while it grows, as far as its markdown lets them.
    Markdown that shows nothing, like a fence with no code, is shown as it is written.

    At least 2 units a message, as some characters take two.
    """
    source = cleaned(markdown)
    if shows_nothing(source):
        return []
    text, spans = converted(source, unfinished=unfinished)
    return _parts(text, accepted(text, spans), max_units, max_entities) or plain(markdown, max_units=max_units)


def plain(text: str, *, max_units: int = MAX_UNITS) -> list[Part]:
    """The text as it is, only cut."""
    return _parts(cleaned(text).replace("\t", "    "), [], max_units, 0)


def followed_by(parts: Sequence[Part], more: Part) -> list[Part]:
    """The messages with `more` at the end of the last one; where it has no room, in a message of its own."""
    *before, last = parts
    begin = units_in(last.text + GAP)
    if begin + units_in(more.text) > MAX_UNITS or len(last.entities) + len(more.entities) > MAX_ENTITIES:
        return [*parts, more]
    entities = (*last.entities, *MessageEntity.shift_entities(begin, more.entities))
    return [*before, Part(f"{last.text}{GAP}{more.text}", entities)]


def _parts(text: str, spans: Sequence[Span], max_units: int, max_entities: int) -> list[Part]:
    return [Part(piece, _entities(Units(piece), inside)) for piece, inside in cut(text, spans, max_units, max_entities)]


def _entities(units: Units, spans: Sequence[Span]) -> tuple[MessageEntity, ...]:
    return tuple(
        MessageEntity(
            span.type,
            offset=units.before(span.start),
            length=units.before(span.end) - units.before(span.start),
            url=span.url,
            language=span.language,
        )
        for span in spans
    )


def cleaned(text: str) -> str:
    """Without what cannot be sent, or what Telegram would change after the entities were counted."""
    text = _SURROGATE.sub("\ufffd", _LINE_END.sub("\n", text))
    return _DIRECTION.sub("", _CONTROL.sub(" ", text))
