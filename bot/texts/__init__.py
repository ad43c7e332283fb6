"""Familiar's own words, in English and Chinese.

One TOML file a language, the same keys and placeholders in each (a test holds them to it). A key is written with its
section, e.g. `help.new`. Model replies are never touched by this: these are the words around them.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bot.errors import ChatError
from bot.events import Failed, Waiting

LANGUAGES = ("en", "zh")


@dataclass(frozen=True)
class Texts:
    """The words in one language. A key or value that is missing raises KeyError: it is a bug, and a test finds it."""

    language: str
    by_key: Mapping[str, str]

    def t(self, key: str, **values: object) -> str:
        return self.by_key[key].format(**values)

    def problem(self, what: Failed | ChatError) -> str:
        """What went wrong and what to do; below it the cause's own words where they help, and the incident, if any."""
        if isinstance(what, ChatError):
            return self.t(f"problem.{what.key}", **what.values).strip()
        text = self.t(f"problem.{what.kind}", detail=what.detail).strip()
        return f"{text}\n{self.t('problem.incident', id=what.incident)}" if what.incident else text

    def waiting(self, state: Waiting) -> str:
        """One line on what the engine is busy with, e.g. "Loading the model… 12 s"."""
        return self.t(f"waiting.{state.phase}", seconds=int(state.seconds), detail=state.detail)


@cache
def texts_for(language: str) -> Texts:
    """The texts for a language tag such as "zh", "zh-CN" or "en_GB"; English for one that we do not have."""
    known = language.lower().replace("_", "-").partition("-")[0]
    known = known if known in LANGUAGES else LANGUAGES[0]
    written = tomllib.loads(Path(__file__).with_name(f"{known}.toml").read_text(encoding="utf-8"))
    return Texts(known, {f"{section}.{key}": text for section, keys in written.items() for key, text in keys.items()})
