"""Keys and passwords, and what is explained about them."""

from __future__ import annotations

import random
import string

import pytest

from finetune.redact.secrets import looks_random
from tests.finetune.redact.conftest import Redact


@pytest.mark.parametrize(
    "text",
    [
        "Send `Authorization: Bearer YOUR_ACCESS_TOKEN` with it",
        "Authorization: Basic <credentials>",
        "https://example.com/?token=YOUR_TOKEN&page=2",
        "token = tokens[i + 1]",
        "password = getpass.getpass()",
        "password: ${DB_PASSWORD}",
        'api_key = "your-api-key-here"',
        "PASSWORD=changeme",
        "The password is incorrect.",
        "the bearer responsibilities-of-office",
        "basic Authentication-failures are logged",
        "sk-fading-circle-of-dots-and-lines",
        "What is a secret key? A secret key is a number.",
        "our password to success",
        "密码是什么",
        "密码2024",
        "私钥和公钥有什么区别",
        "The token was invalid or expired",
        "pin 1234 of the chip is ground",
        "spinning: 4711",
    ],
)
def test_explaining_secrets_tells_none(redact: Redact, text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("password=Qx7!plum.", "password=<SECRET_1>."),
        ('password = "Qx7!plum"', 'password = "<SECRET_1>"'),
        ("(password: Qx7-plum)", "(password: <SECRET_1>)"),
        ("Password for the wifi: Qx7-plum", "Password for the wifi: <SECRET_1>"),
        ("**Password:** `Qx7-plum`", "**Password:** `<SECRET_1>`"),
        ("the PIN is 4711", "the PIN is <SECRET_1>"),
        ("密码：１２３４５６", "密码：<SECRET_1>"),
        ("ftp://bob:pw@ftp.example.com", "ftp://<SECRET_1>@ftp.example.com"),
    ],
)
def test_a_password_goes_and_what_is_around_it_stays(redact: Redact, text: str, redacted: str) -> None:
    assert redact(text) == redacted


def test_a_private_key_goes_whole_and_so_does_one_that_is_cut_off(redact: Redact) -> None:
    begin, end = "-----BEGIN " + "PRIVATE KEY-----", "-----END " + "PRIVATE KEY-----"
    body = "\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC\nBKcwggSjAgEAAoIBAQC7\n"
    assert redact(f"Mine: {begin}{body}{end} see?") == "Mine: <SECRET_1> see?"
    assert redact(f"Mine: {begin}{body}") == "Mine: <SECRET_1>"


def test_of_a_thousand_random_keys_nearly_all_look_random() -> None:
    dice = random.Random(0)
    keys = ["".join(dice.choices(string.ascii_letters + string.digits, k=32)) for _ in range(1000)]
    assert sum(map(looks_random, keys)) >= 950


@pytest.mark.parametrize(
    "value",
    [
        "9fceb02d0ae598e95dc970b74767f19372d61af8",
        "123e4567-e89b-12d3-a456-426614174000",
        "AbstractSingletonProxyFactoryBean2Provider3",
        "usr/local/lib/python3.11/Site2/Packages4/Xy",
        "thisisaverylongwordwithoutanydigits",
        "Test-Driven-Development-By-Example-2nd-Edition-2003",
        "0123456789012345678901234567890123456789",
        "",
    ],
)
def test_hashes_names_and_paths_do_not_look_random(value: str) -> None:
    assert not looks_random(value)
