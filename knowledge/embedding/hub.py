"""A model of sentence-transformers, from a folder or the Hugging Face hub's cache, downloaded if it is not there."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from knowledge.errors import EmbeddingsFailed

log = logging.getLogger("familiar")

Model = TypeVar("Model")


def load(make: Callable[..., Model], name: str, setting: str) -> Model:
    """`make(name)`, which the operator has named in `setting`. Raises EmbeddingsFailed."""
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    folder = Path(name).expanduser()
    if folder.is_dir():
        try:
            return make(str(folder), local_files_only=True)
        except Exception as error:  # whatever is wrong in the folder comes as anything
            raise EmbeddingsFailed(f"The model in {folder} ({setting}) cannot be loaded: {_short(error)}") from error
    if not re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name):
        raise EmbeddingsFailed(f"{setting} is {name!r}: there is no such folder, and it is no Hugging Face id.")
    try:
        return make(name, local_files_only=True)
    except Exception:
        log.info("downloading %s from the Hugging Face hub, unless it is there already", name)
    try:
        return make(name)
    except Exception as error:
        raise EmbeddingsFailed(
            f"The model {name} ({setting}) is not on this machine and could not be downloaded: {_short(error)}\n"
            f"Is the hub in reach and the name right? Or name a folder in {setting}."
        ) from error


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0][:300]}"
