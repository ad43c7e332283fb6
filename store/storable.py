"""Text as every database takes it.

PostgreSQL refuses the character NUL, and UTF-8 has no form for a lone surrogate (what is left of an emoji cut in
half, or of bytes that a terminal could not decode). Both become U+FFFD, the replacement character, on either
database: nothing typed can make a write fail, and a conversation can be moved between the two.
"""

from __future__ import annotations

import re
from typing import TypeVar

Value = TypeVar("Value")

_UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


def storable(value: Value) -> Value:
    """`value` with every unstorable character replaced; lists, tuples and dicts are searched through."""
    cleaned: object = value
    if isinstance(value, str):
        cleaned = _UNSTORABLE.sub("\ufffd", value)
    elif isinstance(value, list):
        cleaned = [storable(each) for each in value]
    elif isinstance(value, tuple):
        cleaned = tuple(storable(each) for each in value)
    elif isinstance(value, dict):
        cleaned = {storable(key): storable(each) for key, each in value.items()}
    return cleaned  # type: ignore[return-value]
