"""Texts as the Bot API takes them: cleaned, trimmed, and with entities counted in UTF-16 code units.

One thing is stricter than the real server: an entity of an unknown type is refused, where the real one leaves it out
without a word. A test shall see the mistake.
"""

from __future__ import annotations

import html
import re
from dataclasses import dataclass
from typing import Any

from tests.telegram_server.refusal import Refused, bad_request

MAX_TEXT = 4096  # UTF-16 code units of a message
MAX_CAPTION = 1024
MAX_ENTITIES = 100  # the real server leaves out what is beyond, without a word

TYPES = frozenset(
    [
        "mention",
        "hashtag",
        "cashtag",
        "bot_command",
        "url",
        "email",
        "phone_number",
        "bold",
        "italic",
        "underline",
        "strikethrough",
        "spoiler",
        "blockquote",
        "expandable_blockquote",
        "code",
        "pre",
        "text_link",
        "text_mention",
        "custom_emoji",
        "date_time",
    ]
)
HTML_TAGS = {
    "b": "bold",
    "strong": "bold",
    "i": "italic",
    "em": "italic",
    "u": "underline",
    "ins": "underline",
    "s": "strikethrough",
    "strike": "strikethrough",
    "del": "strikethrough",
    "tg-spoiler": "spoiler",
    "span": "spoiler",
    "code": "code",
    "pre": "pre",
    "a": "text_link",
    "blockquote": "blockquote",
    "tg-emoji": "custom_emoji",
}

_REMOVED = re.compile("[\r\u2028-\u202e\u0333\u033f\u030a]")
_CONTROL = {code: " " for code in range(32) if chr(code) not in "\t\n\r"}
_BLANK = " \n\t\u00a0\u200b\u200c\u200d\u200e\u200f\u2060\u3000\ufeff"
_AUTOMATIC = re.compile(
    r"(?P<bot_command>(?<![\w/@])/[A-Za-z0-9_]{1,64}(?:@\w{3,32})?(?![\w/]))"
    r"|(?P<mention>(?<![\w@])@\w{3,32}\b)"
    r"|(?P<url>https?://[^\s<>\"]+)"
)
_TAG = re.compile(r"<(/?)([A-Za-z][\w-]*)([^<>]*)>|<")
_MARKS = re.compile(r"\\(.)|(```|`|\*|__|_|~|\|\|)|([\[\](){}>#+\-=|.!])", re.DOTALL)


@dataclass(frozen=True)
class Formatted:
    """A text that the server took, and how many of its entities it left out."""

    text: str
    entities: tuple[dict[str, Any], ...] = ()
    entities_cut: int = 0


def units(text: str) -> int:
    """The length in UTF-16 code units."""
    return len(text.encode("utf-16-le", "surrogatepass")) // 2


def automatic(text: str) -> list[dict[str, Any]]:
    """The entities that Telegram itself finds in what a person writes: commands, mentions, addresses."""
    found = []
    for match in _AUTOMATIC.finditer(text):
        kind = str(match.lastgroup)
        found.append({"type": kind, "offset": units(text[: match.start()]), "length": units(match.group())})
    return found


def formatted(text: Any, entities: Any, parse_mode: Any, limit: int, too_long: str) -> Formatted:
    """The text as people get to see it. Raises Refused as sendMessage does; whether empty will do, the caller knows."""
    text = "" if text is None else str(text)
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise bad_request("strings must be encoded in UTF-8")
    if parse_mode:
        text, entities = _parsed(text, str(parse_mode))
    checked = _checked(text, entities)
    text, checked = _trimmed(*_cleaned(text, checked))
    if units(text) > limit:
        raise bad_request(too_long)
    return Formatted(text, tuple(checked[:MAX_ENTITIES]), max(0, len(checked) - MAX_ENTITIES))


def _checked(text: str, entities: Any) -> list[dict[str, Any]]:
    if not entities:
        return []
    if not isinstance(entities, list) or not all(isinstance(entity, dict) for entity in entities):
        raise bad_request("can't parse entities: expected an Array of MessageEntity")
    encoded = text.encode("utf-16-le")
    size = len(encoded) // 2
    for entity in entities:
        kind, offset, length = entity.get("type"), entity.get("offset"), entity.get("length")
        if kind not in TYPES:
            raise bad_request(f"can't parse entities: unsupported entity type {kind!r}")
        if not isinstance(offset, int) or not isinstance(length, int) or offset < 0 or length < 0:
            raise bad_request("can't parse entities: receive an entity with incorrect offset or length")
        if offset + length > size:
            raise bad_request(
                f"entity beginning at UTF-16 offset {offset} ends after the end of the text at UTF-16 offset "
                f"{offset + length}"
            )
        if _inside_a_character(encoded, offset):
            raise bad_request(f"entity begins in a middle of a UTF-16 symbol at byte offset {offset}")
        if _inside_a_character(encoded, offset + length):
            raise bad_request(
                f"entity beginning at UTF-16 offset {offset} ends in a middle of a UTF-16 symbol at byte offset "
                f"{offset + length}"
            )
        if kind == "text_link" and not entity.get("url"):
            raise bad_request("can't parse entities: text_link without url")
    return sorted((entity for entity in entities if entity["length"]), key=lambda e: (e["offset"], -e["length"]))


def _inside_a_character(encoded: bytes, offset: int) -> bool:
    """Whether a second half of a surrogate pair stands at this offset."""
    return encoded[2 * offset + 1 : 2 * offset + 2] != b"" and 0xDC <= encoded[2 * offset + 1] <= 0xDF


def _cleaned(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    text = text.translate(_CONTROL)
    removed = [units(text[: match.start()]) for match in _REMOVED.finditer(text)]
    if not removed:
        return text, entities

    def moved(offset: int) -> int:
        return offset - sum(position < offset for position in removed)

    shifted = []
    for entity in entities:
        start, end = moved(entity["offset"]), moved(entity["offset"] + entity["length"])
        shifted.append({**entity, "offset": start, "length": end - start})
    return _REMOVED.sub("", text), [entity for entity in shifted if entity["length"]]


def _trimmed(text: str, entities: list[dict[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """White space at the end goes; white space at the start goes as far as no entity covers it."""
    if not text.strip(_BLANK):
        return "", []
    text = text.rstrip(" \n\t")
    blank = len(text) - len(text.lstrip(" \n\t"))
    start = min(blank, entities[0]["offset"]) if entities else blank
    text = text[start:]
    size = units(text)
    kept = []
    for entity in entities:
        offset = entity["offset"] - start
        length = min(entity["length"], size - offset)
        if length > 0:
            kept.append({**entity, "offset": offset, "length": length})
    return text, kept


def _parsed(text: str, parse_mode: str) -> tuple[str, list[dict[str, Any]]]:
    mode = parse_mode.lower()
    if mode == "html":
        return _parsed_html(text)
    if mode in ("markdown", "markdownv2"):
        return _parsed_markdown(text), []
    raise bad_request("unsupported parse_mode")


def _parsed_html(text: str) -> tuple[str, list[dict[str, Any]]]:
    shown = ""
    entities: list[dict[str, Any]] = []
    open_tags: list[tuple[str, int, str]] = []
    position = 0
    for match in _TAG.finditer(text):
        shown += html.unescape(text[position : match.start()])
        position = match.end()
        closing, tag, attributes = match.group(1), (match.group(2) or "").lower(), match.group(3) or ""
        if not tag:
            raise _unparsable(f"Unclosed start tag at byte offset {match.start()}")
        if tag not in HTML_TAGS:
            raise _unparsable(f'Unsupported start tag "{tag}" at byte offset {match.start()}')
        if not closing:
            open_tags.append((tag, units(shown), attributes))
            continue
        if not open_tags or open_tags[-1][0] != tag:
            raise _unparsable(f'Unmatched end tag at byte offset {match.start()}, found "</{tag}>"')
        _, start, attributes = open_tags.pop()
        entity: dict[str, Any] = {"type": HTML_TAGS[tag], "offset": start, "length": units(shown) - start}
        if tag == "a":
            address = re.search(r'href="([^"]*)"', attributes)
            entity["url"] = html.unescape(address.group(1)) if address else shown
        entities.append(entity)
    if open_tags:
        raise _unparsable(f'Can\'t find end tag corresponding to start tag "{open_tags[-1][0]}"')
    return shown + html.unescape(text[position:]), entities


def _parsed_markdown(text: str) -> str:
    """The marks taken out, with an error for those that do not pair; no test needs their entities."""
    marks: dict[str, int] = {}
    code = ""

    def taken(match: re.Match[str]) -> str:
        nonlocal code
        escaped, mark, reserved = match.groups()
        if escaped is not None:
            return str(escaped)
        if mark is not None and (not code or mark == code):
            marks[mark] = marks.get(mark, 0) + 1
            if mark in ("`", "```"):
                code = "" if code else mark
            return ""
        if reserved is not None and reserved not in "[]()" and not code:
            raise _unparsable(f"Character '{reserved}' is reserved and must be escaped with the preceding '\\'")
        return match.group()

    shown = _MARKS.sub(taken, text)
    for mark, count in marks.items():
        if count % 2:
            raise _unparsable(f"Can't find end of the entity starting with {mark}")
    return shown


def _unparsable(reason: str) -> Refused:
    return bad_request(f"can't parse entities: {reason}")
