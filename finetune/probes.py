"""Fixed questions that a new adapter must not unlearn: probes.toml, each with a check that its reply passes or not.

No check asks another model, so that a pass means the same on every machine and in every year. A small model fails many;
what counts is what was passed before and is not any more.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, get_args

from engine.tokenizer import ChatMessage
from finetune.degenerate import empty, looping, refusal
from finetune.measurements import ProbeKind

FILE = Path(__file__).with_name("probes.toml")


@dataclass(frozen=True)
class Quoted:
    """A passage in the prompt: the line that says where it stands, and its text."""

    label: str
    text: str


@dataclass(frozen=True)
class Asked:
    """A fixed question. Its check: every condition that is set must hold."""

    key: str
    kind: ProbeKind
    question: str
    language: str = "en"  # of the frame around passages
    passages: tuple[Quoted, ...] = ()
    tokens: int = 48  # of the reply, at most
    refuses: bool | None = None
    contains: tuple[str, ...] = ()  # one of these, in whatever case
    matches: str = ""  # a regular expression that is found in the reply
    words: int = 0  # at most so many; 0: any
    is_json: bool = False
    chinese: bool | None = None  # whether most of its words are, a character being one

    def passed_by(self, reply: str) -> bool:
        """Empty and looping replies pass nothing."""
        if empty(reply) or looping(reply):
            return False
        plain = reply.casefold()
        conditions = [
            self.refuses is None or refusal(reply) == self.refuses,
            not self.contains or any(each.casefold() in plain for each in self.contains),
            not self.matches or re.search(self.matches, reply) is not None,
            not self.words or len(reply.split()) <= self.words,
            not self.is_json or _is_object(reply),
            self.chinese is None or _is_chinese(reply) == self.chinese,
        ]
        return all(conditions)


@cache
def asked() -> tuple[Asked, ...]:
    """All of them, in the file's order."""
    return tuple(_asked(row) for row in _file()["probe"])


def messages(probe: Asked) -> tuple[ChatMessage, ...]:
    """What the model is sent: the passages, if there are any, stand as bot.passages puts them."""
    question = framed(probe.passages, probe.question, probe.language) if probe.passages else probe.question
    return ({"role": "system", "content": _file()["system"]}, {"role": "user", "content": question})


def framed(passages: Sequence[Quoted], question: str, language: str) -> str:
    frame = _file()["frame"][language]
    quoted = [
        f"[{number}] {each.label}\n" + "\n".join(f"> {line}".rstrip() for line in each.text.splitlines())
        for number, each in enumerate(passages, 1)
    ]
    return "\n\n".join([frame["before"], *quoted, frame["after"], f"{frame['question']}{question}"])


@cache
def _file() -> dict[str, Any]:
    return tomllib.loads(FILE.read_text(encoding="utf-8"))


def _asked(row: dict[str, Any]) -> Asked:
    row = {name: tuple(value) if isinstance(value, list) else value for name, value in row.items()}
    passages = tuple(Quoted(**each) for each in row.pop("passages", ()))
    if row["kind"] not in get_args(ProbeKind):
        raise ValueError(f"{row['key']}: there is no kind {row['kind']!r}")
    return Asked(**row, passages=passages)


def _is_object(reply: str) -> bool:
    """JSON, in a fence or not, and nothing else."""
    bare = re.sub(r"\A```(?:json)?\s*|\s*```\Z", "", reply.strip())
    try:
        return isinstance(json.loads(bare), dict | list)
    except (ValueError, RecursionError):
        return False


def _is_chinese(reply: str) -> bool:
    others = re.findall(r"[^\W\d\u4e00-\u9fff]+", reply)
    return len(re.findall(r"[\u4e00-\u9fff]", reply)) > len(others)
