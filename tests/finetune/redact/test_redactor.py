"""Whole conversations: the same value is the same placeholder, twice is once, and what is not personal stays."""

from __future__ import annotations

import socket
import unicodedata
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bench.redaction import corpus
from finetune.redact import Redactor
from finetune.redact.findings import Finding, resolved
from finetune.redact.placeholders import PLACEHOLDER
from tests.finetune.redact.conftest import Redact

ITEMS = corpus()


def test_the_same_value_has_the_same_placeholder_in_all_texts_of_a_conversation(redactor: Redactor) -> None:
    texts = ["I am at bob@example.com", "Noted: BOB@example.com", "And ann@example.com?", "bob@example.com it is"]
    redacted, counts = redactor.conversation(texts)
    assert redacted == ["I am at <EMAIL_1>", "Noted: <EMAIL_1>", "And <EMAIL_2>?", "<EMAIL_1> it is"]
    assert counts == {"EMAIL": 4}


@pytest.mark.parametrize(
    ("kind", "ways"),
    [
        ("PHONE", ["(212) 555-0123", "+1 212 555 0123", "212-555-0123"]),
        ("PHONE", ["13800100500", "+86 138 0010 0500", "138-0010-0500"]),
        ("CARD", ["4242 4242 4242 4242", "4242-4242-4242-4242", "4242424242424242"]),
        ("IBAN", ["GB82 WEST 1234 5698 7654 32", "GB82WEST12345698765432"]),
        ("MAC", ["00:00:5E:00:53:AF", "00-00-5e-00-53-af"]),
        ("EMAIL", ["bob@example.com", "Bob@Example.com", "ｂｏｂ＠ｅｘａｍｐｌｅ．ｃｏｍ"]),
    ],
)
def test_a_value_written_in_several_ways_has_one_placeholder(redactor: Redactor, kind: str, ways: list[str]) -> None:
    redacted, _ = redactor.conversation(ways)
    assert redacted == [f"<{kind}_1>"] * len(ways)


def test_another_conversation_begins_with_one_again(redactor: Redactor) -> None:
    for text in ("a@example.com", "b@example.com"):
        assert redactor.conversation([text])[0] == ["<EMAIL_1>"]


def test_a_password_that_was_told_as_such_is_hidden_where_it_is_only_repeated(redactor: Redactor) -> None:
    texts = ["qX7-plum works?", "my password is qX7-plum", "Do not share qX7-plum with others.", "qX7-plums is a word"]
    redacted, counts = redactor.conversation(texts)
    assert redacted[:3] == ["<SECRET_1> works?", "my password is <SECRET_1>", "Do not share <SECRET_1> with others."]
    assert redacted[3] == texts[3]
    assert counts["SECRET"] == 3


def test_placeholders_that_stand_there_already_stay_and_their_numbers_are_not_given_again(redactor: Redactor) -> None:
    redacted, counts = redactor.conversation(["<EMAIL_3> and c@example.com", "<NAME_1> of <IP_1>"], ["Name Email"])
    assert redacted == ["<EMAIL_3> and <EMAIL_4>", "<NAME_1> of <IP_1>"]
    assert counts == {"EMAIL": 1}


def test_nothing_is_found_inside_a_placeholder(redact: Redact) -> None:
    assert redact("<EMAIL_1> of email_1 and <NAME_1>", "email_1") == "<EMAIL_1> of <NAME_2> and <NAME_1>"


def test_what_only_looks_like_a_placeholder_is_not_protected(redact: Redact) -> None:
    assert redact("<EMAIL_x@example.com>") == "<<EMAIL_1>>"
    assert redact("<EMAIL_0> bob@example.com") == "<EMAIL_0> <EMAIL_1>"


@pytest.mark.parametrize("number", range(0, len(ITEMS), 40))
def test_redacting_the_corpus_twice_changes_nothing_more(redactor: Redactor, number: int) -> None:
    part = ITEMS[number : number + 40]
    names = [name for item in part for name in item.names]
    once, _ = redactor.conversation([item.text for item in part], names)
    twice, counts = redactor.conversation(once, names)
    assert twice == once
    assert not counts


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(
        st.one_of(
            st.sampled_from([item.text for item in ITEMS]),
            st.sampled_from(
                ["<EMAIL_2>", "@", "-", ".", ":", "1", "🙂", "e\u0301", "我", "\0", "\ud800", "://", "密码是"]
            ),
            st.text(max_size=12),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_redacting_anything_twice_changes_nothing_more(redactor: Redactor, parts: list[str]) -> None:
    texts = ["".join(parts), "".join(reversed(parts))]
    names = ["Alice Example", "王小明", "José"]
    once, _ = redactor.conversation(texts, names)
    assert redactor.conversation(once, names)[0] == once


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(max_size=40), st.sampled_from([item for item in ITEMS if item.marked]), st.text(max_size=40))
def test_what_stands_around_a_finding_stays_as_it_is(redactor: Redactor, before: str, item: Any, after: str) -> None:
    """Offsets are right whatever characters there are: without its findings, the text is what it was."""
    text = f"{before} {item.text} {after}"
    findings = redactor.found(text, item.names)
    kept, end = [], 0
    for each in findings:
        assert end <= each.start < each.end <= len(text)
        kept.append(text[end : each.start])
        end = each.end
    kept.append(text[end:])
    redacted = redactor.conversation([text], item.names)[0][0]
    assert all(
        part in redacted for part in kept if part.strip() and len(findings) == 1 and not PLACEHOLDER.search(text)
    )


def test_emojis_and_accents_around_a_value_stay_whole(redact: Redact) -> None:
    assert redact("👩🏽‍🚀bob@example.com👍🏽e\u0301 🇩🇪+1 212 555 0123🇨🇳") == "👩🏽‍🚀<EMAIL_1>👍🏽e\u0301 🇩🇪<PHONE_1>🇨🇳"


def test_no_accent_is_left_behind_by_the_letter_it_belongs_to(redact: Redact) -> None:
    text = unicodedata.normalize("NFD", "I'm José, call me Jose.")
    assert redact(text, "Jose") == "I'm <NAME_1>, call me <NAME_1>."


def test_findings_that_overlap_are_one_over_all_their_characters() -> None:
    text = "0123456789"
    assert resolved([Finding(0, 4, "PHONE"), Finding(3, 9, "CARD")], text) == [Finding(0, 9, "CARD")]
    assert resolved([Finding(2, 3, "NAME", "bob"), Finding(0, 9, "EMAIL")], text) == [Finding(0, 9, "EMAIL")]
    assert resolved([Finding(5, 6, "IP"), Finding(0, 5, "IP")], text) == [Finding(0, 5, "IP"), Finding(5, 6, "IP")]


def test_what_is_uncovered_when_its_neighbour_has_gone_is_found_too(redact: Redact) -> None:
    assert redact("203.0.113.5bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4") == "<IP_1><WALLET_1>"


def test_a_name_inside_an_address_is_the_addresss(redact: Redact) -> None:
    assert redact("alice@example.com is Alice's", "Alice") == "<EMAIL_1> is <NAME_1>'s"


@pytest.mark.parametrize("texts", [[], [""], ["", ""], ["\n \t"], ["\0\ud800\uffff"], ["x" * 200_000], ["1 " * 20_000]])
def test_texts_without_anything_come_back_as_they_are(redactor: Redactor, texts: list[str]) -> None:
    assert redactor.conversation(texts, ["Alice"]) == (texts, {})


def test_the_texts_that_are_given_are_not_changed(redactor: Redactor) -> None:
    texts = ("bob@example.com",)
    redactor.conversation(texts)
    assert texts == ("bob@example.com",)


def test_nothing_is_asked_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """tldextract would fetch a list of suffixes, and would say nothing when it cannot."""
    asked: list[object] = []

    def refuse(*args: object, **kwargs: object) -> None:
        asked.append(args)
        raise OSError("there is no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    redacted, _ = Redactor().conversation([item.text for item in ITEMS[:60]])
    assert any("<EMAIL_1>" in text for text in redacted)
    assert not asked


def test_no_value_of_a_conversation_is_left_anywhere_in_it(redactor: Redactor) -> None:
    """A placeholder that can be traced back would be worth little: all texts of the corpus as one conversation."""
    found = [item for item in ITEMS if item.marked]
    redacted, counts = redactor.conversation([item.text for item in found], [n for item in found for n in item.names])
    together = "\n".join(redacted)
    left = [
        value
        for item in found
        for each in item.marked
        if each.kind in ("EMAIL", "IBAN", "CARD", "WALLET") and (value := item.text[each.start : each.end]) in together
    ]
    assert left == ["5200828282828210"]  # it touches a word, and is known as missed
    assert counts["EMAIL"] >= 40
