from __future__ import annotations

import logging
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path
from subprocess import Popen

import pytest
from sqlalchemy import make_url, text

from store import people
from store.errors import StoreDamaged, StoreTooNew, StoreUnreachable
from store.session import Store
from store.tables import Person


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_was_stored_is_there_after_opening_again(url: str) -> None:
    with Store(url) as store:
        ada = people.person_for(store, "terminal", "ada", name="Ada")
    with Store(url) as store:
        assert people.person_for(store, "terminal", "ada").id == ada.id


def test_opening_twice_is_opening_once(url: str) -> None:
    store = Store(url).open()
    assert store.open() is store
    store.close()
    store.close()


def test_a_closed_store_says_that_it_is_closed(url: str) -> None:
    store = Store(url).open()
    store.close()
    with pytest.raises(StoreUnreachable, match="not open"):
        people.person_for(store, "terminal", "ada")


def test_the_folder_and_the_database_are_for_their_owner_only(sqlite_file: Path, sqlite_url: str) -> None:
    before = os.umask(0)
    try:
        with Store(sqlite_url) as store:
            people.person_for(store, "terminal", "ada")
            files = list(sqlite_file.parent.iterdir())
            assert {file.name for file in files} >= {"familiar.db", "familiar.db-wal", "familiar.db-shm"}
            assert {mode_of(file) for file in files} == {0o600}
    finally:
        os.umask(before)
    assert mode_of(sqlite_file.parent) == 0o700


def test_an_existing_folder_keeps_its_mode(sqlite_file: Path, sqlite_url: str) -> None:
    sqlite_file.parent.mkdir()
    sqlite_file.parent.chmod(0o750)
    Store(sqlite_url).open().close()
    assert mode_of(sqlite_file.parent) == 0o750


def test_sqlite_is_set_up_to_lose_nothing(sqlite_url: str) -> None:
    expected = {"journal_mode": "wal", "synchronous": 2, "foreign_keys": 1, "secure_delete": 1, "busy_timeout": 10_000}
    with Store(sqlite_url) as store, store.reading() as first, store.reading() as second:
        for session in (first, second):
            actual = {name: session.connection().exec_driver_sql(f"PRAGMA {name}").scalar() for name in expected}
            assert actual == expected


def test_an_up_to_date_database_opens_at_once_and_without_alembic(
    sqlite_url: str, another_process: Callable[..., Popen[str]]
) -> None:
    Store(sqlite_url).open().close()
    script = """
import sys, time
from store.session import Store
begin = time.perf_counter()
Store(sys.argv[1]).open().close()
print(time.perf_counter() - begin, "alembic" in sys.modules)
"""
    best = 1.0
    for _ in range(3):
        out, err = another_process(script, sqlite_url).communicate(timeout=60)
        seconds, alembic_was_loaded = out.split()
        assert (alembic_was_loaded, err) == ("False", "")
        best = min(best, float(seconds))
    assert best < 0.2


def test_the_first_opening_prints_and_logs_nothing(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    Store(url).open().close()
    assert caplog.records == []
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+psycopg"])
def test_a_server_that_is_not_there_is_unreachable_and_its_password_stays_hidden(scheme: str) -> None:
    begin = time.monotonic()
    with pytest.raises(StoreUnreachable) as raised:
        Store(f"{scheme}://ada:hunter2@127.0.0.1:1/familiar").open()
    assert "127.0.0.1" in str(raised.value)
    assert "refused" in str(raised.value)
    assert "hunter2" not in str(raised.value)
    assert time.monotonic() - begin < 10


def test_a_server_without_such_a_database_is_unreachable(postgres_url: str) -> None:
    with pytest.raises(StoreUnreachable, match="does not exist"):
        Store(make_url(postgres_url).set(database="no_such").render_as_string(hide_password=False)).open()


@pytest.mark.parametrize("scheme", ["postgres", "postgresql"])
def test_a_plain_postgresql_url_is_taken(postgres_url: str, scheme: str) -> None:
    with Store(postgres_url.replace("postgresql+psycopg", scheme)) as store:
        assert people.person_for(store, "terminal", "ada").id


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("", "not a database URL"),
        ("familiar.db", "not a database URL"),
        ("postgresql://host:port/name", "not a database URL"),
        ("mysql://host/name", "'mysql'"),
        ("postgresql+psycopg2://host/name", r"'postgresql\+psycopg2'"),
        ("sqlite://", "names no file"),
        ("sqlite:///:memory:", "names no file"),
    ],
)
def test_a_url_that_is_none_of_ours_says_which_ones_are(url: str, words: str) -> None:
    with pytest.raises(StoreUnreachable, match=words) as raised:
        Store(url).open()
    assert "sqlite:///" in str(raised.value)
    assert "postgresql+psycopg://" in str(raised.value)


def test_a_folder_that_cannot_be_made_is_unreachable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreUnreachable, match=r"data\.folder"):
        Store(f"sqlite:///{tmp_path}/file/familiar.db").open()


def test_a_folder_in_place_of_the_database_is_unreachable(tmp_path: Path) -> None:
    with pytest.raises(StoreUnreachable, match="directory"):
        Store(f"sqlite:///{tmp_path}").open()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_an_unreadable_file_is_unreachable(sqlite_file: Path, sqlite_url: str) -> None:
    Store(sqlite_url).open().close()
    sqlite_file.chmod(0)
    with pytest.raises(StoreUnreachable):
        Store(sqlite_url).open()


def test_a_file_that_is_no_database_is_damaged_and_left_alone(sqlite_file: Path, sqlite_url: str) -> None:
    sqlite_file.parent.mkdir()
    sqlite_file.write_bytes(b"Dear diary, " * 1000)
    with pytest.raises(StoreDamaged, match="not a database"):
        Store(sqlite_url).open()
    assert sqlite_file.read_bytes() == b"Dear diary, " * 1000


def test_a_database_with_overwritten_pages_is_damaged(sqlite_file: Path, sqlite_url: str) -> None:
    with Store(sqlite_url) as store, store.writing() as session:
        session.add_all([Person(name="x" * 200) for _ in range(500)])
    content = bytearray(sqlite_file.read_bytes())
    content[8192:] = b"\xff" * (len(content) - 8192)
    sqlite_file.write_bytes(content)
    with pytest.raises(StoreDamaged), Store(sqlite_url) as store:
        people.set_name(store, 400, "Ada")


def test_a_database_of_another_program_is_left_alone(sqlite_file: Path, sqlite_url: str) -> None:
    sqlite_file.parent.mkdir()
    with sqlite3.connect(sqlite_file) as other:
        other.execute("CREATE TABLE message (body TEXT)")
    other.close()
    with pytest.raises(StoreDamaged, match="another program"):
        Store(sqlite_url).open()
    with sqlite3.connect(sqlite_file) as other:
        assert other.execute("SELECT name FROM sqlite_master").fetchall() == [("message",)]
    other.close()


def test_a_database_of_a_newer_version_is_refused_and_left_alone(url: str) -> None:
    with Store(url) as store, store.writing() as session:
        session.connection().execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(StoreTooNew, match="9999"):
        Store(url).open()
    with pytest.raises(StoreTooNew, match="Update Familiar"):
        Store(url).open()
