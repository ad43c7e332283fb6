"""What a parser may spend, handed to the process that parses."""

from __future__ import annotations

from dataclasses import asdict, dataclass, fields
from typing import Any

MEGABYTE = 1_000_000


@dataclass(frozen=True)
class Limits:
    max_bytes: int  # of the file
    timeout_s: float
    memory_mb: int
    ocr_pages: int
    unpacked_bytes: int = 200 * MEGABYTE  # of everything in an archive
    characters: int = 20 * MEGABYTE  # of text that is kept; more is cut off, and noted

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Limits:
        return cls(**{field.name: data[field.name] for field in fields(cls)})
