"""What lies in safetensors files, read without torch and never whole.

A safetensors file is 8 bytes that give the header's length, the header (JSON: each tensor's name, type, shape and
place), and the tensors' bytes. See https://huggingface.co/docs/safetensors.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from engine.errors import AdapterRefused

CHUNK = 16 << 20  # bytes that are in memory at once


@dataclass(frozen=True)
class Tensor:
    """Where a tensor lies in its file."""

    dtype: str  # in the file's words: F32, BF16, ...
    shape: tuple[int, ...]
    file: Path
    begin: int  # bytes from the file's begin
    end: int

    def chunks(self) -> Iterator[bytes]:
        """Its bytes, in order."""
        with self.file.open("rb") as file:
            file.seek(self.begin)
            for at in range(self.begin, self.end, CHUNK):
                yield file.read(min(CHUNK, self.end - at))


def tensors_in(file: Path) -> dict[str, Tensor]:
    """The tensors of one file by name. Raises AdapterRefused when the file is damaged or was cut short."""
    try:
        with safe_open(file, framework="np"):  # verifies that the header is sane and the tensors fill the file
            pass
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
    except (SafetensorError, OSError, ValueError) as error:
        raise AdapterRefused(f"{file.name} is damaged or was cut short ({error}). Copy or save it anew.") from None
    header.pop("__metadata__", None)
    return {
        name: Tensor(entry["dtype"], tuple(entry["shape"]), file, *(8 + length + at for at in entry["data_offsets"]))
        for name, entry in header.items()
    }


def json_object(file: Path) -> dict[str, Any]:
    """The object in a JSON file. Raises AdapterRefused."""
    try:
        content = json.loads(file.read_bytes())
    except FileNotFoundError:
        raise AdapterRefused(f"{file.parent} has no {file.name}.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise AdapterRefused(f"{file.name} is not readable JSON: {error}.") from None
    if not isinstance(content, dict):
        raise AdapterRefused(f"{file.name} must hold a JSON object.")
    return content
