"""Files of other trainers are read as they mean it, and malformed lines are named."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finetune.errors import DataRefused
from finetune.examples import Example, Preference, Source
from finetune.formats import Imported, read, write
from tests.finetune.made_log import contents, example

CHAT = {"messages": [{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}]}


@pytest.fixture
def given_file(tmp_path: Path) -> Any:
    """given_file(row, ...): a JSONL file of these; a text or bytes is a line as it is."""

    def make(*rows: Any, name: str = "data.jsonl") -> Path:
        lines = [row if isinstance(row, bytes) else _line(row) for row in rows]
        (tmp_path / name).write_bytes(b"\n".join(lines))
        return tmp_path / name

    return make


def _line(row: Any) -> bytes:
    return (row if isinstance(row, str) else json.dumps(row, ensure_ascii=False)).encode()


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


# What is read


def test_openai_chat_is_read_with_every_reply_to_be_learnt(given_file: Any) -> None:
    system = {"role": "system", "content": "Be kind."}
    got = read(given_file({"messages": [system, *turns("你好", "您好", "再见", "再见 👋")]}, CHAT), strict=True)
    assert contents(got.examples[0].messages) == ["Be kind.", "你好", "您好", "再见", "再见 👋"]
    assert got.examples[0].weights == (0.0, 0.0, 1.0, 0.0, 1.0)
    assert [each.why for each in got.examples] == ["imported", "imported"]
    assert [each.source.conversation for each in got.examples] == ["file:data.jsonl:1", "file:data.jsonl:2"]
    assert (got.preferences, got.judged, got.malformed) == ((), (), ())


def test_a_reply_of_weight_nought_is_not_learnt_and_what_follows_the_last_learnt_one_is_dropped(
    given_file: Any,
) -> None:
    messages = turns("a", "b", "c", "d", "e", "f", "g")
    messages[1]["weight"], messages[5]["weight"] = 0, 0  # type: ignore[assignment]
    (got,) = read(given_file({"messages": messages}), strict=True).examples
    assert (contents(got.messages), got.weights) == (["a", "b", "c", "d"], (0.0, 0.0, 0.0, 1.0))


def test_sharegpt_is_read_as_lines_and_as_one_list(given_file: Any, tmp_path: Path) -> None:
    row = {
        "id": "x",
        "system": "Be kind.",
        "conversations": [{"from": "human", "value": "Hello"}, {"from": "gpt", "value": "Hi"}],
    }
    lines = read(given_file(row, row), strict=True)
    (tmp_path / "list.json").write_text(json.dumps([row, row], indent=2))
    whole = read(tmp_path / "list.json", strict=True)
    for got in (lines, whole):
        assert [contents(each.messages) for each in got.examples] == [["Be kind.", "Hello", "Hi"]] * 2
    assert whole.examples[1].source.conversation == "file:list.json:2"


def test_preferences_are_read_plain_as_conversations_and_with_the_prompt_in_both(given_file: Any) -> None:
    reply = {"role": "assistant", "content": "Blue"}
    other = {"role": "assistant", "content": "Green"}
    asked = turns("Sky?")
    got = read(
        given_file(
            {"prompt": "Sky?", "chosen": "Blue", "rejected": "Green"},
            {"prompt": asked, "chosen": [reply], "rejected": [other]},
            {"chosen": [*asked, reply], "rejected": [*asked, other]},
            {"prompt": asked, "completion": [reply], "label": True},
            {"prompt": "Sky?", "completion": "Green", "label": False},
            {"prompt": "Sky?", "completion": "Blue"},
        ),
        strict=True,
    )
    assert [(contents(each.prompt), each.chosen, each.rejected) for each in got.preferences] == [
        (["Sky?"], "Blue", "Green")
    ] * 3
    assert [(each.reply, each.good) for each in got.judged] == [("Blue", True), ("Green", False)]
    assert [contents(each.messages) for each in got.examples] == [["Sky?", "Blue"]]


def test_neighbours_of_one_role_become_one_message_and_text_in_parts_is_joined(given_file: Any) -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two"}]
    row = {"messages": [{"role": "user", "content": "a"}, {"role": "user", "content": parts}, *turns("", "b")[1:]]}
    (got,) = read(given_file(row), strict=True).examples
    assert contents(got.messages) == ["a\n\none two", "b"]


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_obstacle(given_file: Any) -> None:
    line = _line(CHAT)
    got = read(given_file(b"\xef\xbb\xbf" + line + b"\r", b"", b"   ", line), strict=True)
    assert [each.source.conversation for each in got.examples] == ["file:data.jsonl:1", "file:data.jsonl:4"]


def test_characters_that_no_file_can_hold_are_replaced(given_file: Any) -> None:
    row = r'{"messages": [{"role": "user", "content": "a\u0000\ud83d"}, {"role": "assistant", "content": "b"}]}'
    (got,) = read(given_file(row), strict=True).examples
    assert got.question == "a\ufffd\ufffd"


# What is not


MALFORMED = [
    ("not json", "not JSON"),
    ('{"messages": [{"role": "user", "content": "cut', "not JSON"),
    (b'{"messages": "\xff\xfe\x00"}', "not UTF-8"),
    ('{"a": ' + "[" * 100_000, "too deeply nested"),
    ("3", "no object"),
    ("null", "no object"),
    ({}, "nothing"),
    ({"text": "a"}, "'text'"),
    ({"messages": []}, "no list of messages"),
    ({"messages": "Hello"}, "no list of messages"),
    ({"messages": ["Hello"]}, "not an object"),
    ({"messages": [{"role": "wizard", "content": "x"}]}, '"wizard"'),
    ({"messages": [{"content": "x"}]}, "role missing"),
    ({"messages": [{"role": "user", "content": None}]}, "text is missing"),
    ({"messages": [{"role": "user", "content": 5}]}, "text is 5"),
    ({"messages": [{"role": "user", "content": "  "}]}, "empty"),
    ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}]}, "no text"),
    ({"messages": turns("Hello")}, "no reply"),
    ({"messages": turns("Hello", "Hi")[1:]}, "begins with a reply"),
    ({"messages": [*turns("a", "b"), {"role": "system", "content": "x"}, *turns("c", "d")]}, "in the middle"),
    ({"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": 0}]}, "none of"),
    (
        {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "weight": -1}]},
        "weight -1",
    ),
    ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "tools"),
    ({"messages": [{"role": "tool", "content": "x"}]}, '"tool"'),
    ({"conversations": [{"from": "human", "value": {}}]}, "text is {}"),
    ({"prompt": "a", "chosen": "b", "rejected": "b"}, "the same"),
    ({"prompt": turns("a", "b"), "chosen": "c", "rejected": "d"}, "does not end with a user's"),
    ({"prompt": "a", "chosen": turns("x"), "rejected": "d"}, '"chosen" is not one reply'),
    ({"chosen": "b", "rejected": "c"}, "does not end with a user's"),
    ({"prompt": "a", "completion": "b", "label": "yes"}, "true or false"),
]


@pytest.mark.parametrize(("row", "reason"), MALFORMED, ids=lambda value: str(value)[:40])
def test_a_malformed_line_is_passed_over_and_named_with_its_number_or_refuses_the_file(
    given_file: Any, row: Any, reason: str
) -> None:
    file = given_file(CHAT, "", row, CHAT)
    got = read(file, strict=False)
    assert len(got.examples) == 2
    (fault,) = got.malformed
    assert (fault.line, reason in fault.reason) == (3, True), fault.reason
    with pytest.raises(DataRefused, match=r"data\.jsonl, line 3: "):
        read(file, strict=True)


def test_a_file_in_which_nothing_can_be_used_is_refused_with_the_first_reason(given_file: Any, tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="It is empty"):
        read(given_file(), strict=False)
    with pytest.raises(DataRefused, match=r"Line 1: it is not JSON.*messages"):
        read(given_file("question,answer", "a,b"), strict=False)
    with pytest.raises(DataRefused, match="UTF-16"):
        (tmp_path / "wide.jsonl").write_text(json.dumps(CHAT), "utf-16")
        read(tmp_path / "wide.jsonl", strict=False)
    with pytest.raises(DataRefused, match="begins as a JSON list"):
        read(given_file('[{"messages": ['), strict=False)
    with pytest.raises(DataRefused, match="cannot be read"):
        read(tmp_path / "none.jsonl", strict=False)
    with pytest.raises(DataRefused, match="cannot be read"):
        read(tmp_path, strict=False)


def test_a_file_without_line_ends_is_not_read_into_memory(given_file: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finetune.formats.LONGEST_LINE", 1000)
    with pytest.raises(DataRefused, match="line 2, is longer"):
        read(given_file(CHAT, "x" * 5000), strict=False)
    monkeypatch.setattr("finetune.formats.LONGEST_LIST", 1000)
    with pytest.raises(DataRefused, match="Save it as JSONL"):
        read(given_file("[" + " " * 5000 + "]"), strict=False)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
def test_whatever_the_bytes_are_they_are_read_or_refused(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    file = tmp_path_factory.getbasetemp() / "any.jsonl"
    file.write_bytes(content)
    for strict in (True, False):
        with contextlib.suppress(DataRefused):
            assert isinstance(read(file, strict=strict), Imported)


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.sampled_from(["", "user", "assistant", "hi", "text"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["messages", "conversations", "role", "from", "content", "value", "prompt", "chosen", "rejected"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(JSON)
def test_whatever_the_json_is_a_line_is_used_or_named(tmp_path_factory: pytest.TempPathFactory, row: Any) -> None:
    file = tmp_path_factory.getbasetemp() / "any-json.jsonl"
    file.write_text(json.dumps(CHAT) + "\n" + json.dumps(row))
    got = read(file, strict=False)
    assert len(got.examples) + len(got.preferences) + len(got.judged) + len(got.malformed) == 2


# What is written


TEXT = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"), min_size=1, max_size=30).filter(
    lambda text: bool(text.strip())
)
CONVERSATION = st.tuples(st.none() | TEXT, st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=3))


def _example(system: str | None, said: list[tuple[str, str]]) -> Example:
    messages = [{"role": "system", "content": system}] if system else []
    for question, reply in said:
        messages += turns(question, reply)
    return Example(tuple(messages), (*[0.0] * (len(messages) - 1), 0.3), "unremarked", Source("log:1"))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(CONVERSATION.map(lambda parts: _example(*parts)), min_size=1, max_size=4),
    st.sampled_from(["openai", "sharegpt"]),
)
def test_what_is_written_is_read_again_as_it_was(
    tmp_path_factory: pytest.TempPathFactory, examples: list[Example], form: Any
) -> None:
    file = tmp_path_factory.getbasetemp() / f"{form}.jsonl"
    assert write(file, form, examples, ()) == len(examples)
    got = read(file, strict=True).examples
    assert [each.messages for each in got] == [each.messages for each in examples]
    assert [[weight > 0 for weight in each.weights] for each in got] == [
        [weight > 0 for weight in each.weights] for each in examples
    ]


def test_the_forms_are_written_as_their_trainers_read_them(tmp_path: Path) -> None:
    one = Example((*turns("a", "b"), *turns("c", "d")), (0.0, 0.0, 0.0, 2.0), "corrected", Source("log:1"))
    write(tmp_path / "o", "openai", [one], ())
    write(tmp_path / "s", "sharegpt", [one], ())
    pair = Preference(({"role": "user", "content": "天空?"},), "蓝", "绿", "rated", Source("log:1"))
    write(tmp_path / "p", "preferences", [one], [pair])
    openai, sharegpt, preferences = (json.loads((tmp_path / name).read_text("utf-8")) for name in "osp")
    assert [each.get("weight") for each in openai["messages"]] == [None, 0, None, 1]
    assert sharegpt["conversations"][2:] == [
        {"from": "human", "value": "c", "train": False},
        {"from": "gpt", "value": "d", "train": True},
    ]
    assert preferences == {
        "prompt": [{"role": "user", "content": "天空?"}],
        "chosen": [{"role": "assistant", "content": "蓝"}],
        "rejected": [{"role": "assistant", "content": "绿"}],
    }
    (got,) = read(tmp_path / "p", strict=True).preferences
    assert (got.prompt, got.chosen, got.rejected) == (pair.prompt, pair.chosen, pair.rejected)


def test_an_unknown_form_is_refused_and_nothing_is_written(tmp_path: Path) -> None:
    with pytest.raises(DataRefused, match="'csv'; there are openai, sharegpt, preferences"):
        write(tmp_path / "x", "csv", [example("a", "b")], ())  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
