"""Files of other trainers: read, so that other data can be learnt from, and written, so that the log can go there.

openai        JSONL, one {"messages": [{"role", "content"}, ...]} a line; "weight": 0 on a reply that is not learnt
sharegpt      JSONL or one JSON list, {"conversations": [{"from": "human" | "gpt" | "system", "value"}, ...]};
              "train": false on a turn that is not learnt, as axolotl's message_field_training reads it
preferences   JSONL as TRL has it: {"prompt", "chosen", "rejected"}, each a text or a list of messages; without
              "prompt" it is what the two begin with. Also {"prompt", "completion", "label"}, a reply with a verdict

Which of these a line is, it says itself. Every reply of an imported conversation is learnt, unless it says otherwise. A
log may hold the same early replies in many examples; each example says which of its replies it is about.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, get_args

from engine.tokenizer import ChatMessage
from finetune.errors import DataRefused
from finetune.examples import Example, Judged, Preference, Source
from finetune.files import write_lines
from store.storable import storable

Form = Literal["openai", "sharegpt", "preferences"]

LONGEST_LINE = 64 * 1024 * 1024  # bytes; a file without line ends is not read into memory whole
LONGEST_LIST = 1024 * 1024 * 1024  # bytes of a file that is one JSON list, which is

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "bot": "assistant",
    "model": "assistant",
}
_KNOWN = (
    '{"messages": [...]}, {"conversations": [...]}, {"prompt", "chosen", "rejected"} or '
    '{"prompt", "completion", "label"}'
)


@dataclass(frozen=True)
class Malformed:
    line: int  # of the file, from 1; of a JSON list, which of its items
    reason: str


@dataclass(frozen=True)
class Imported:
    examples: tuple[Example, ...]
    preferences: tuple[Preference, ...]
    judged: tuple[Judged, ...]
    malformed: tuple[Malformed, ...]


class _Fault(ValueError):
    """A line cannot be used; says why."""


def read(path: Path, *, strict: bool) -> Imported:
    """Everything in the file. `strict`: the first malformed line refuses the file, otherwise it is passed over.

    Raises DataRefused, also when nothing in the file can be used.
    """
    found: list[Example | Preference | Judged] = []
    malformed: list[Malformed] = []
    try:
        for number, row in _rows(path):
            try:
                found.append(_item(row, f"file:{path.name}:{number}"))
            except _Fault as fault:
                if strict:
                    raise DataRefused(f"{path}, line {number}: {fault}.") from None
                malformed.append(Malformed(number, str(fault)))
    except OSError as error:
        raise DataRefused(f"{path} cannot be read: {error.strerror or error}.") from error
    if not found:
        first = f" Line {malformed[0].line}: {malformed[0].reason}." if malformed else " It is empty."
        raise DataRefused(f"{path} holds nothing to learn from.{first} A line is one of {_KNOWN}.")
    return Imported(
        tuple(each for each in found if isinstance(each, Example)),
        tuple(each for each in found if isinstance(each, Preference)),
        tuple(each for each in found if isinstance(each, Judged)),
        tuple(malformed),
    )


def write(path: Path, form: Form, examples: Iterable[Example], preferences: Iterable[Preference]) -> int:
    """Write a file of this form, whole or not at all; how many rows it has.

    A form holds either examples or preferences; the other ones are not written. Raises DataRefused, OSError.
    """
    if form not in get_args(Form):
        raise DataRefused(f"There is no form {form!r}; there are {', '.join(get_args(Form))}.")
    if form == "openai":
        return write_lines(path, (_as_openai(each) for each in examples))
    if form == "sharegpt":
        return write_lines(path, (_as_sharegpt(each) for each in examples))
    return write_lines(path, (_as_preference(each) for each in preferences))


# Reading


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """The lines of a file that hold something, or the items of its list; a fault in the place of what is no JSON."""
    with path.open("rb") as file:
        start = file.read(4096).removeprefix(b"\xef\xbb\xbf").lstrip()
        if start.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise DataRefused(f"{path} is UTF-16. Save it as UTF-8.")
        file.seek(0)
        if start.startswith(b"["):
            yield from enumerate(_list(path, file), 1)
            return
        number = 0
        while line := file.readline(LONGEST_LINE):
            number += 1
            if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
                raise DataRefused(f"{path}, line {number}, is longer than {LONGEST_LINE >> 20} MB.")
            line = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
            if line:
                yield number, _parsed(line)


def _list(path: Path, file: BinaryIO) -> list[Any]:
    content = file.read(LONGEST_LIST + 1)
    if len(content) > LONGEST_LIST:
        raise DataRefused(f"{path} is one JSON list of more than {LONGEST_LIST >> 20} MB. Save it as JSONL.")
    items = _parsed(content.removeprefix(b"\xef\xbb\xbf"))
    if isinstance(items, _Fault):
        raise DataRefused(f"{path} begins as a JSON list, and is none: {items}.")
    assert isinstance(items, list)
    return items


def _parsed(line: bytes) -> Any:
    try:
        return storable(json.loads(line.decode()))
    except UnicodeDecodeError as error:
        return _Fault(f"it is not UTF-8 (byte {error.start + 1})")
    except json.JSONDecodeError as error:
        return _Fault(f"it is not JSON ({error.msg}, character {error.pos + 1})")
    except RecursionError:
        return _Fault("it is not JSON that can be read: too deeply nested")
    except ValueError as error:  # a number of thousands of digits
        return _Fault(f"it is not JSON that can be read: {error}")


def _item(row: Any, conversation: str) -> Example | Preference | Judged:
    if isinstance(row, _Fault):
        raise row
    if not isinstance(row, dict):
        raise _Fault(f"it is no object, which one of {_KNOWN} is")
    source = Source(conversation)
    if "chosen" in row and "rejected" in row:
        return _preference(row, source)
    if "messages" in row:
        return _example(row["messages"], row, source)
    if "conversations" in row:
        return _example(row["conversations"], row, source)
    if "prompt" in row and "completion" in row:
        return _completion(row, source)
    raise _Fault(f"it has {', '.join(map(repr, sorted(row)[:6])) or 'nothing'}, and is none of {_KNOWN}")


def _example(turns: Any, row: Mapping[str, Any], source: Source) -> Example:
    messages, weights = _conversation(turns)
    system = row.get("system")
    if isinstance(system, str) and system.strip() and messages[0]["role"] != "system":
        messages, weights = [{"role": "system", "content": system}, *messages], [0.0, *weights]
    while messages and messages[-1]["role"] != "assistant":  # asked, and not answered
        messages, weights = messages[:-1], weights[:-1]
    _refuse_disorder(messages)
    if not messages:
        raise _Fault("it has no reply")
    if not any(weights):
        raise _Fault("none of its replies is to be learnt")
    while not weights[-1]:  # what nobody learns, and nothing that is learnt follows
        messages, weights = messages[:-1], weights[:-1]
    return Example(tuple(messages), tuple(weights), "imported", source)


def _preference(row: Mapping[str, Any], source: Source) -> Preference:
    chosen, rejected = _messages(row["chosen"], "assistant"), _messages(row["rejected"], "assistant")
    if "prompt" in row:
        prompt = _messages(row["prompt"], "user")
    else:
        same = 0
        while same < min(len(chosen), len(rejected)) - 1 and chosen[same] == rejected[same]:
            same += 1
        prompt, chosen, rejected = chosen[:same], chosen[same:], rejected[same:]
    _refuse_no_prompt(prompt)
    better, worse = _reply(chosen, "chosen"), _reply(rejected, "rejected")
    if better == worse:
        raise _Fault("what was chosen and what was rejected are the same")
    return Preference(tuple(prompt), better, worse, "imported", source)


def _completion(row: Mapping[str, Any], source: Source) -> Example | Judged:
    prompt = _messages(row["prompt"], "user")
    _refuse_no_prompt(prompt)
    reply = _reply(_messages(row["completion"], "assistant"), "completion")
    if "label" not in row:
        weights = (*[0.0] * len(prompt), 1.0)
        return Example((*prompt, {"role": "assistant", "content": reply}), weights, "imported", source)
    if not isinstance(row["label"], bool):
        raise _Fault(f"its label is {_shown(row['label'])}, not true or false")
    return Judged(tuple(prompt), reply, row["label"], source)


def _messages(value: Any, role: str) -> list[ChatMessage]:
    """A text is one message of this role."""
    return [{"role": role, "content": _text(value)}] if isinstance(value, str) else _conversation(value)[0]


def _conversation(turns: Any) -> tuple[list[ChatMessage], list[float]]:
    """Messages and what each counts; neighbours of one role together, as in the prompts of a chat."""
    if not isinstance(turns, list) or not turns:
        raise _Fault("its conversation is no list of messages")
    messages: list[ChatMessage] = []
    weights: list[float] = []
    for turn in turns:
        role, content, weight = _turn(turn)
        if messages and messages[-1]["role"] == role:
            messages[-1] = {"role": role, "content": f"{messages[-1]['content']}\n\n{content}"}
            weights[-1] = min(weights[-1], weight)
        else:
            messages.append({"role": role, "content": content})
            weights.append(weight)
    return messages, weights


def _turn(turn: Any) -> tuple[str, str, float]:
    if not isinstance(turn, dict):
        raise _Fault(f"a message is {_shown(turn)}, not an object")
    if turn.get("tool_calls") or turn.get("function_call"):
        raise _Fault("it calls tools, which is not learnt here")
    name = turn.get("role", turn.get("from"))
    role = _ROLES.get(name.lower()) if isinstance(name, str) else None
    if role is None:
        raise _Fault(f"a message is of the role {_shown(name)}; there are system, user and assistant")
    content = _text(turn.get("content", turn.get("value")))
    if role != "assistant":
        return role, content, 0.0
    return role, content, _weight(turn)


def _weight(turn: Mapping[str, Any]) -> float:
    weight = turn.get("weight", turn.get("train"))
    if weight is None:
        return 1.0
    if not isinstance(weight, bool | int | float) or not 0 <= weight <= 100:
        raise _Fault(f"a reply has the weight {_shown(weight)}; it is 0 or more")
    return float(weight)


def _text(content: Any) -> str:
    if isinstance(content, list):  # in parts, as for models that see
        parts = [
            each.get("text") if isinstance(each, dict) and each.get("type") == "text" else None for each in content
        ]
        if not all(isinstance(each, str) for each in parts):
            raise _Fault("a message holds something that is no text")
        content = "".join(str(each) for each in parts)
    if not isinstance(content, str):
        raise _Fault(f"a message's text is {_shown(content)}")
    if not content.strip():
        raise _Fault("a message is empty")
    return content


def _reply(messages: Sequence[ChatMessage], name: str) -> str:
    if len(messages) != 1 or messages[0]["role"] != "assistant":
        raise _Fault(f'its "{name}" is not one reply')
    return messages[0]["content"]


def _refuse_no_prompt(prompt: Sequence[ChatMessage]) -> None:
    if not prompt or prompt[-1]["role"] != "user":
        raise _Fault("its prompt does not end with a user's message")
    _refuse_disorder(prompt)


def _refuse_disorder(messages: Sequence[ChatMessage]) -> None:
    spoken = messages[1:] if messages and messages[0]["role"] == "system" else messages
    if any(each["role"] == "system" for each in spoken):
        raise _Fault("a system message stands in the middle")
    if spoken and spoken[0]["role"] != "user":
        raise _Fault("it begins with a reply")


def _shown(value: Any) -> str:
    text = "missing" if value is None else json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else text[:39] + "…"


# Writing


def _as_openai(example: Example) -> dict[str, Any]:
    return {
        "messages": [
            message | ({"weight": int(weight > 0)} if message["role"] == "assistant" else {})
            for message, weight in zip(example.messages, example.weights, strict=True)
        ]
    }


def _as_sharegpt(example: Example) -> dict[str, Any]:
    names = {"system": "system", "user": "human", "assistant": "gpt"}
    return {
        "conversations": [
            {"from": names[message["role"]], "value": message["content"], "train": weight > 0}
            for message, weight in zip(example.messages, example.weights, strict=True)
        ]
    }


def _as_preference(preference: Preference) -> dict[str, Any]:
    return {
        "prompt": list(preference.prompt),
        "chosen": [{"role": "assistant", "content": preference.chosen}],
        "rejected": [{"role": "assistant", "content": preference.rejected}],
    }
