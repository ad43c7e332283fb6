"""Who sits at this terminal, and in which language."""

from __future__ import annotations

import getpass
import os
from collections.abc import Mapping

from bot.texts import Texts, texts_for
from settings import Settings


def os_user() -> str:
    """The name of the operating system's user; the number where the system knows no name for it."""
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):
        return f"uid-{os.getuid()}"


def locale_language(environment: Mapping[str, str] = os.environ) -> str:
    """The language tag that the locale asks for messages, e.g. zh_CN; "" when it asks for none."""
    for variable in ("LC_ALL", "LC_MESSAGES", "LANG"):
        if value := environment.get(variable, ""):
            tag = value.partition(".")[0].partition("@")[0]
            return "" if tag in {"C", "POSIX"} else tag
    return ""


def own_texts(settings: Settings) -> Texts:
    """Familiar's own words for somebody of whom nothing is known but this terminal."""
    fixed = settings.assistant.language
    return texts_for(locale_language() if fixed == "auto" else fixed)
