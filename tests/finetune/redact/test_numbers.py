"""Phones, cards, identity numbers and addresses at their edges; the corpus has the plain ones."""

from __future__ import annotations

import pytest

from tests.finetune.redact.conftest import Redact


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("电话13800100500在线", "电话<PHONE_1>在线"),
        ("(+86)13800100500", "<PHONE_1>"),
        ("Call 2125550123 or 212.555.0199.", "Call <PHONE_1> or <PHONE_2>."),
        ("+12125550123,+12125550124", "<PHONE_1>,<PHONE_2>"),
        ("卡4242 4242 4242 4242。", "卡<CARD_1>。"),
        ("id:11010519491231002X,", "id:<IDENTITY_1>,"),
        ("203.0.113.5:80/x", "<IP_1>:80/x"),
        ("到203.0.113.5。", "到<IP_1>。"),
        ("[2001:db8::5]", "[<IP_1>]"),
        ("a 2001:db8::5/64 net", "a <IP_1>/64 net"),
    ],
)
def test_a_value_goes_and_what_touches_it_stays(redact: Redact, text: str, redacted: str) -> None:
    assert redact(text) == redacted


@pytest.mark.parametrize(
    "text",
    [
        "x13800100500y and 113800100500 and 13800100500.5",
        "order 2125550123 is on its way",
        "1-800-555-0199 and 0800 496 0000 are free of charge",
        "12345 67890 are two numbers",
        "4242424242424242424242424242 is too long",
        "a4242424242424242 is an identifier",
        "9999 9999 9999 9995 is of no network",
        "4242 42424242 4242 is grouped as no card is",
        "110105194912310020",
        "1.2.3 and 1.2.3.4.5 and 256.1.1.1",
        "::1, fe80::1, fd00::1, std::map, 12:34:56",
        "10.1.2.3, 172.16.9.9, 192.168.0.1, 127.0.0.1, 0.0.0.0, 255.255.255.0, 8.8.8.8",
        "version 203.0.113.5, 第203.0.113.5节",
        "git@example.com:me/it.git",
        "bob@localhost, @bob, bob@, a@b, logo@2x.png, name@1.2.3",
    ],
)
def test_what_only_looks_like_a_value_stays(redact: Redact, text: str) -> None:
    if text.startswith("git@"):
        assert redact("clone git@example.com:me/it.git") == "clone git@example.com:me/it.git"
    assert redact(text) == text
