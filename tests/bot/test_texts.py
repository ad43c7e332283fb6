"""Familiar's own words: the same in every language, and there for every key that the code uses."""

from __future__ import annotations

import re
import string
from pathlib import Path
from typing import get_args

import pytest

from bot.commands import COMMANDS
from bot.errors import KINDS, ChatError
from bot.events import Failed, Waiting
from bot.texts import LANGUAGES, texts_for
from engine.state import Phase

BOT = Path(__file__).resolve().parents[2] / "bot"
SOURCE = "\n".join(file.read_text(encoding="utf-8") for file in sorted(BOT.rglob("*.py")))

USED_BY_NAME = set(re.findall(r"""\bt\(\s*["']([a-z_]+\.[a-z_]+)["']""", SOURCE))
CHAT_ERRORS = set(re.findall(r"""(?:ChatError\(\s*|self\._last\("\w+", )["']([a-z_]+)["']""", SOURCE))
FAILURES = set(re.findall(r"""Failed\(\s*["']([a-z_]+)["']""", SOURCE))


def placeholders(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name is not None}


def test_both_languages_have_the_same_keys():
    english, chinese = (set(texts_for(language).by_key) for language in LANGUAGES)
    assert english == chinese


@pytest.mark.parametrize("key", sorted(texts_for("en").by_key))
def test_a_text_has_the_same_placeholders_in_both_languages(key):
    english, chinese = (texts_for(language).by_key[key] for language in LANGUAGES)
    assert placeholders(english) == placeholders(chinese)
    assert english.strip()
    assert chinese.strip()


def test_the_search_for_used_keys_finds_some():
    assert len(USED_BY_NAME) > 5
    assert {"nothing_to_retry", "no_such_persona", "text_too_long"} <= CHAT_ERRORS
    assert {"unexpected", "reply_not_saved"} <= FAILURES


@pytest.mark.parametrize("key", sorted(USED_BY_NAME))
def test_a_key_that_the_code_uses_exists(key):
    assert key in texts_for("en").by_key


@pytest.mark.parametrize("kind", sorted({*CHAT_ERRORS, *FAILURES, *KINDS.values()}))
def test_whatever_goes_wrong_has_a_text(kind):
    assert f"problem.{kind}" in texts_for("en").by_key


@pytest.mark.parametrize("kind", sorted({*FAILURES, *KINDS.values()}))
@pytest.mark.parametrize("language", LANGUAGES)
def test_a_failed_turn_is_told_with_its_incident(language, kind):
    told = texts_for(language).problem(Failed(kind, "{its own words}", "00c0ffee"))
    assert told.splitlines()[-1].endswith("00c0ffee")
    assert "\n\n" not in told


def test_the_causes_own_words_are_told_where_they_help():
    told = texts_for("en").problem(Failed("engine_refused", "temperature must be {positive}", ""))
    assert told.splitlines()[1:] == ["temperature must be {positive}"]
    assert len(texts_for("en").problem(Failed("engine_refused", "", "")).splitlines()) == 1


def test_an_error_of_a_command_is_told_with_its_values():
    told = texts_for("en").problem(ChatError("no_such_persona", name="{pirate}", known="familiar, classifier"))
    assert "{pirate}" in told
    assert "familiar, classifier" in told


@pytest.mark.parametrize("phase", get_args(Phase))
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_phase_of_the_engine_can_be_waited_in(language, phase):
    assert texts_for(language).waiting(Waiting(phase, 12.7, "why"))


def test_the_seconds_of_waiting_are_whole():
    assert "12 s" in texts_for("en").waiting(Waiting("loading", 12.7))


@pytest.mark.parametrize("command", COMMANDS, ids=lambda command: command.name)
def test_every_command_has_its_help_and_its_hint(command):
    for language in LANGUAGES:
        assert texts_for(language).t(command.help)
        assert (command.hint == "") == (command.arguments == "none")
        assert not command.hint or texts_for(language).t(command.hint)


def test_a_hint_shows_whether_the_argument_may_be_left_out():
    for command in COMMANDS:
        opens = {"optional": "[", "required": "<"}.get(command.arguments)
        assert opens is None or all(texts_for(language).t(command.hint)[0] == opens for language in LANGUAGES)


@pytest.mark.parametrize(
    ("tag", "language"),
    [("zh", "zh"), ("zh-CN", "zh"), ("zh_TW.UTF-8", "zh"), ("en_GB", "en"), ("EN", "en"), ("de", "en"), ("", "en")],
)
def test_a_language_tag_finds_its_texts_and_english_is_for_everybody_else(tag, language):
    assert texts_for(tag).language == language


def test_a_key_or_value_that_is_missing_is_an_error():
    with pytest.raises(KeyError):
        texts_for("en").t("help.no_such_thing")
    with pytest.raises(KeyError):
        texts_for("en").t("problem.incident")
