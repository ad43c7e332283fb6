"""The commands that a person can give, for all channels, and how a line is read on the terminal.

Telegram reads lines itself. A line that begins with a slash and a word is a command; everything else is a message.
`//x` is the message `/x`, and `/usr/bin is a path` is a message too, for its first word holds a second slash.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Literal

Arguments = Literal["none", "optional", "required"]
Channel = Literal["terminal", "telegram"]

EVERYWHERE: tuple[Channel, ...] = ("terminal", "telegram")
TERMINAL: tuple[Channel, ...] = ("terminal",)
TELEGRAM: tuple[Channel, ...] = ("telegram",)


@dataclass(frozen=True)
class Command:
    name: str
    arguments: Arguments = "none"
    channels: tuple[Channel, ...] = EVERYWHERE
    for_admins: bool = False

    @property
    def help(self) -> str:
        """The key of its line in the list of commands."""
        return f"help.{self.name}"

    @property
    def hint(self) -> str:
        """The key of the word that stands for its argument, e.g. "[name]"; "" when it takes none."""
        return "" if self.arguments == "none" else f"hint.{self.name}"


COMMANDS: tuple[Command, ...] = (
    Command("start", "optional", TELEGRAM),
    Command("new", "optional"),
    Command("retry"),
    Command("stop", "none", TELEGRAM),
    Command("other", "optional", TERMINAL),
    Command("undo"),
    Command("edit", "required"),
    Command("list"),
    Command("open", "required"),
    Command("search", "required"),
    Command("persona", "optional"),
    Command("model", "optional"),
    Command("rate", "required", TERMINAL),
    Command("correct", "required"),
    Command("about"),
    Command("docs", "optional"),
    Command("stats"),
    Command("privacy", "optional"),
    Command("export", "optional", TERMINAL),
    Command("export", "none", TELEGRAM),
    Command("forget", "optional"),
    Command("language", "optional", TELEGRAM),
    Command("group", "optional", TELEGRAM),
    Command("users", "none", TELEGRAM, for_admins=True),
    Command("approve", "required", TELEGRAM, for_admins=True),
    Command("block", "required", TELEGRAM, for_admins=True),
    Command("unblock", "required", TELEGRAM, for_admins=True),
    Command("broadcast", "required", TELEGRAM, for_admins=True),
    Command("adapter", "optional", TELEGRAM, for_admins=True),
    Command("help"),
    Command("quit", "none", TERMINAL),
)


def commands_of(channel: Channel, *, admin: bool = False) -> tuple[Command, ...]:
    """The commands that there are on a channel, those for admins only when asked for."""
    return tuple(each for each in COMMANDS if channel in each.channels and (admin or not each.for_admins))


_BY_NAME = {command.name: command for command in commands_of("terminal")}
_SLASHES = ("/", "／")  # a Chinese keyboard types the second


@dataclass(frozen=True)
class Invocation:
    """A command as it was given."""

    command: Command
    argument: str  # "" when none was given; line breaks are kept

    @property
    def fits(self) -> bool:
        """False when an argument is missing, or one was given to a command that takes none."""
        if self.command.arguments == "none":
            return not self.argument
        return self.command.arguments == "optional" or bool(self.argument)


@dataclass(frozen=True)
class UnknownCommand:
    name: str
    nearest: str | None  # the command that was probably meant


def parse(line: str) -> Invocation | UnknownCommand | None:
    """What `line` asks for; None when it is a message, whose text `message_text` gives."""
    line = line.strip()
    if not line.startswith(_SLASHES) or line[1:2].isspace():
        return None
    word, *rest = line[1:].split(maxsplit=1) or [""]
    if any(slash in word for slash in _SLASHES):
        return None
    name = word.lower()
    if not name:
        return UnknownCommand("", "help")
    if name in _BY_NAME:
        return Invocation(_BY_NAME[name], rest[0] if rest else "")
    return UnknownCommand(name, next(iter(difflib.get_close_matches(name, _BY_NAME, 1)), None))


def message_text(line: str) -> str:
    """The message in a line that `parse` says is one: itself, less the first slash of two."""
    text = line.strip()
    return text[1:] if text.startswith(("//", "／／")) else text


def rating_in(argument: str) -> Literal[1, -1] | None:
    """The argument of /rate; None when it is neither praise nor blame."""
    word = argument.strip().lower()
    if word in {"up", "+", "+1", "1", "good", "👍", "好", "赞"}:
        return 1
    return -1 if word in {"down", "-", "-1", "bad", "👎", "差", "踩"} else None


def consent_in(argument: str) -> Literal["yes", "no"] | None:
    """The argument of /privacy; None when it is neither a yes nor a no."""
    word = argument.strip().lower()
    if word in {"yes", "y", "是", "好", "同意"}:
        return "yes"
    return "no" if word in {"no", "n", "否", "不", "不同意"} else None


def means_everything(argument: str) -> bool:
    """Does the argument of /forget ask for more than this conversation?"""
    return argument.strip().lower() in {"all", "everything", "全部", "所有"}
