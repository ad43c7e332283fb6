"""What the terminal chat learns from the system: who, in which language, what was typed before, what is piped in."""

from __future__ import annotations

import asyncio
import getpass
import os
import stat
from pathlib import Path

import pytest

from bot.terminal.history import TypedHistory
from bot.terminal.identity import locale_language, os_user
from bot.terminal.piped import NotText, read_all, read_lines


@pytest.mark.parametrize(
    ("environment", "language"),
    [
        ({"LANG": "zh_CN.UTF-8"}, "zh_CN"),
        ({"LC_ALL": "de_DE@euro", "LANG": "zh_CN.UTF-8"}, "de_DE"),
        ({"LC_ALL": "", "LC_MESSAGES": "zh_TW", "LANG": "en_GB"}, "zh_TW"),
        ({"LC_ALL": "C.UTF-8"}, ""),
        ({"LANG": "POSIX"}, ""),
        ({}, ""),
    ],
)
def test_the_language_is_that_of_the_locales_messages(environment, language):
    assert locale_language(environment) == language


def test_a_user_without_a_name_is_known_by_number(monkeypatch):
    assert os_user() == getpass.getuser()

    def nameless() -> str:
        raise KeyError("getpwuid(): uid not found")

    monkeypatch.setattr(getpass, "getuser", nameless)
    assert os_user() == f"uid-{os.getuid()}"


def test_what_was_typed_is_kept_for_the_owner_alone(tmp_path: Path):
    file = tmp_path / "var" / "terminal-history"
    TypedHistory(file).store_string("one\ntwo")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    file.chmod(0o644)
    assert list(TypedHistory(file).load_history_strings()) == ["one\ntwo"]
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_forgotten_texts_leave_the_file_however_they_were_sent(tmp_path: Path):
    history = TypedHistory(tmp_path / "history")
    for entry in ("secret", "/edit secret", "keep me", "//secret", "/correct secret", "/list"):
        history.store_string(entry)
    history.forget({"secret", "/secret"})
    assert list(TypedHistory(tmp_path / "history").load_history_strings()) == ["/list", "keep me"]
    history.forget()
    assert (tmp_path / "history").read_bytes() == b""


def test_a_history_that_cannot_be_kept_ends_nothing(tmp_path: Path):
    (tmp_path / "history").mkdir()
    history = TypedHistory(tmp_path / "history")
    history.append_string("hello")
    assert history.get_strings() == ["hello"]


def piped(data: bytes) -> int:
    read, write = os.pipe()
    os.write(write, data)
    os.close(write)
    return read


async def test_lines_are_read_one_by_one_whatever_ends_them():
    assert [line async for line in read_lines(piped("a\r\n\n中\nlast".encode()))] == ["a", "", "中", "last"]


async def test_a_line_is_there_before_the_next_one_is_written():
    read, write = os.pipe()
    os.write(write, b"first\nsec")
    lines = read_lines(read)
    assert await anext(lines) == "first"
    os.write(write, b"ond\n")
    assert await anext(lines) == "second"
    os.close(write)
    assert [line async for line in lines] == []


@pytest.mark.parametrize("data", [b"\xff\xfeh\0i\0", "grüße".encode("latin-1"), b"a\0b"])
async def test_what_is_not_text_is_refused(data):
    with pytest.raises(NotText):
        await read_all(piped(data), 1000)


async def test_more_than_the_limit_is_not_read():
    read, write = os.pipe()
    writing = asyncio.create_task(asyncio.to_thread(_write_until_closed, write))
    assert 1000 < len(await read_all(read, 1000)) < 1_000_000
    os.close(read)
    await writing


def _write_until_closed(descriptor: int) -> None:
    try:
        while True:
            os.write(descriptor, b"x" * 10_000)
    except BrokenPipeError:
        os.close(descriptor)


async def test_a_mark_of_byte_order_is_no_part_of_the_text():
    assert await read_all(piped(b"\xef\xbb\xbfhello"), 1000) == "hello"
