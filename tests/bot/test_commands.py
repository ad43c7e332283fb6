"""How a line is read: as a command, as a slip of the finger, or as a message."""

from __future__ import annotations

import pytest

from bot.commands import (
    Invocation,
    UnknownCommand,
    commands_of,
    consent_in,
    means_everything,
    message_text,
    parse,
    rating_in,
)


def invoked(line: str) -> tuple[str, str]:
    found = parse(line)
    assert isinstance(found, Invocation)
    return found.command.name, found.argument


@pytest.mark.parametrize("command", commands_of("terminal"), ids=lambda command: command.name)
def test_every_command_is_understood(command):
    assert invoked(f"/{command.name}") == (command.name, "")


@pytest.mark.parametrize(
    ("line", "name", "argument"),
    [
        ("/persona classifier", "persona", "classifier"),
        ("  /Persona   classifier  ", "persona", "classifier"),
        ("/edit first line\n  second line", "edit", "first line\n  second line"),
        ("/edit\nonly line", "edit", "only line"),
        ("／search 天气 北京", "search", "天气 北京"),
        ("/correct see /usr/bin", "correct", "see /usr/bin"),
    ],
)
def test_a_command_is_its_first_word_and_the_rest_its_argument(line, name, argument):
    assert invoked(line) == (name, argument)


@pytest.mark.parametrize(
    "line",
    ["", "   ", "hello", "hello /new", "/usr/bin is a path", "/usr/bin", "//new", "/ new", "1/2", "和/或"],
)
def test_everything_else_is_a_message(line):
    assert parse(line) is None


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("//new is a command", "/new is a command"),
        ("／／new", "／new"),
        ("/usr/bin is a path", "/usr/bin is a path"),
        (" hello ", "hello"),
    ],
)
def test_two_slashes_send_a_message_that_begins_with_one(line, text):
    assert message_text(line) == text


@pytest.mark.parametrize(("line", "name", "nearest"), [("/retyr", "retyr", "retry"), ("/serach x", "serach", "search")])
def test_a_slip_names_the_command_that_was_meant(line, name, nearest):
    assert parse(line) == UnknownCommand(name, nearest)


def test_a_word_like_no_command_names_none():
    assert parse("/xyzzy") == UnknownCommand("xyzzy", None)


def test_a_slash_alone_points_to_the_help():
    assert parse("/") == UnknownCommand("", "help")


@pytest.mark.parametrize(
    ("line", "fits"),
    [
        ("/undo", True),
        ("/quit smoking is hard", False),
        ("/edit", False),
        ("/edit better", True),
        ("/model", True),
        ("/model base", True),
    ],
)
def test_a_missing_or_superfluous_argument_is_noticed(line, fits):
    found = parse(line)
    assert isinstance(found, Invocation)
    assert found.fits is fits


def test_a_rating_can_be_given_in_several_ways():
    assert [rating_in(word) for word in ("up", "+", " Good ", "👍", "好")] == [1] * 5
    assert [rating_in(word) for word in ("down", "-", "BAD", "👎", "差")] == [-1] * 5
    assert rating_in("upwards") is None
    assert rating_in("") is None


def test_a_consent_can_be_given_in_two_languages_and_nothing_else_counts_as_one():
    assert [consent_in(word) for word in ("yes", " Y", "同意")] == ["yes"] * 3
    assert [consent_in(word) for word in ("no", "N", "不同意")] == ["no"] * 3
    assert [consent_in(word) for word in ("", "maybe", "yes please", "不是")] == [None] * 4


def test_only_plain_words_ask_to_forget_everything():
    assert means_everything("all")
    assert means_everything("全部")
    assert not means_everything("")
    assert not means_everything("all of it?")
