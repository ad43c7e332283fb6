"""How tests look at the messages that were rendered."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise

from telegram import MessageEntity

from bot.telegram.rendering import MAX_ENTITIES, MAX_UNITS, Part, render

STYLES = {"bold", "italic", "underline", "strikethrough"}
QUOTES = {"blockquote", "expandable_blockquote"}
BLANK = " \n"


def marked(parts: Sequence[Part]) -> str:
    """The text with its entities as tags, and "=====" between two messages."""
    return "\n=====\n".join(_marked(part) for part in parts)


def shown(markdown: str, *, unfinished: bool = False) -> str:
    return marked(render(markdown, unfinished=unfinished))


def texts(parts: Sequence[Part]) -> list[str]:
    return [part.text for part in parts]


def covered(part: Part, entity: MessageEntity) -> str:
    return part.text.encode("utf-16-le")[2 * entity.offset : 2 * (entity.offset + entity.length)].decode("utf-16-le")


def faults(part: Part, max_units: int = MAX_UNITS, max_entities: int = MAX_ENTITIES) -> list[str]:
    """What the server would refuse in this message, or change in a way that the reader would see.

    After the Bot API's rules for message entities, and what tdlib does with them.
    """
    return [*_faults_of_text(part, max_units), *_faults_of_entities(part, max_entities)]


def _marked(part: Part) -> str:
    units = part.text.encode("utf-16-le")
    tags: list[tuple[int, int, int, str]] = []
    for order, entity in enumerate(part.entities):
        end = entity.offset + entity.length
        detail = entity.url or entity.language
        opening = f"<{entity.type} {detail}>" if detail else f"<{entity.type}>"
        tags.append((entity.offset, 1, order, opening))
        tags.append((end, 0, -order, f"</{entity.type}>"))
    pieces, done = [], 0
    for at, _, _, tag in sorted(tags):
        pieces += [units[2 * done : 2 * at].decode("utf-16-le"), tag]
        done = at
    return "".join([*pieces, units[2 * done :].decode("utf-16-le")])


def _faults_of_text(part: Part, max_units: int) -> Iterator[str]:
    units = len(part.text.encode("utf-16-le")) // 2
    if not part.text.strip():
        yield "message text is empty"
    if units > max_units:
        yield f"{units} units are more than {max_units}"
    if part.text[-1:] in BLANK:
        yield "ends with a blank, which is cut off"
    kept = any(entity.type == "pre" and entity.offset == 0 for entity in part.entities)
    if part.text[:1] in BLANK and not kept:
        yield "begins with a blank, which is cut off"
    if any(ord(character) < 32 and character != "\n" for character in part.text):
        yield "has a control character, which becomes a space"


def _faults_of_entities(part: Part, max_entities: int) -> Iterator[str]:
    data = part.text.encode("utf-16-le")
    if len(part.entities) > max_entities:
        yield f"{len(part.entities)} entities are more than {max_entities}"
    for entity in part.entities:
        name = f"{entity.type} at {entity.offset}"
        end = entity.offset + entity.length
        if entity.offset < 0 or entity.length <= 0 or 2 * end > len(data):
            yield f"{name} is empty or outside of the text"
            continue
        if any(0xDC00 <= int.from_bytes(data[2 * at : 2 * at + 2], "little") < 0xE000 for at in (entity.offset, end)):
            yield f"{name} begins or ends within a character"
            continue
        text = covered(part, entity)
        if text[-1] in BLANK or (text[0] in BLANK and entity.type not in {"pre", *QUOTES}):
            yield f"{name} begins or ends with a blank"
        if (entity.type == "text_link") != bool(entity.url):
            yield f"{name} has the wrong url"
    if any((one.offset, -one.length) > (other.offset, -other.length) for one, other in pairwise(part.entities)):
        yield "not in order"
    yield from _faults_of_nesting(part.entities)


def _faults_of_nesting(entities: Sequence[MessageEntity]) -> Iterator[str]:
    around: list[MessageEntity] = []
    for entity in entities:
        while around and around[-1].offset + around[-1].length <= entity.offset:
            around.pop()
        name = f"{entity.type} at {entity.offset}"
        types = {each.type for each in around}
        if around and around[-1].offset + around[-1].length < entity.offset + entity.length:
            yield f"{name} ends outside of the {around[-1].type} that it begins in"
        if entity.type in types:
            yield f"{name} is within another {entity.type}"
        if types & {"pre", "code"}:
            yield f"{name} is within code"
        if entity.type in {"pre", "code", "text_link"} and types - QUOTES:
            yield f"{name} is within {types}"
        if entity.type in QUOTES and types:
            yield f"{name} is within {types}"
        if entity.type not in {"pre", "code", "text_link"} | QUOTES | STYLES:
            yield f"{name} is of a type that was not asked for"
        around.append(entity)
