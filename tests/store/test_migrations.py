from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, Engine, MetaData, Table, insert, inspect, make_url, select, text
from sqlmodel import SQLModel

from store import conversations, inbox, migrations, people, sqlite
from store.errors import StoreError
from store.session import Store
from store.tables import Conversation, Message, Person


def test_the_migrations_make_exactly_the_tables_that_the_code_describes(url: str, store: Store) -> None:
    with store.reading() as session:
        # Alembic takes an empty default for a changed one on SQLite.
        opts = {"compare_type": True, "compare_server_default": not url.startswith("sqlite")}
        context = MigrationContext.configure(session.connection(), opts=opts)
        assert compare_metadata(context, SQLModel.metadata) == []


def test_every_constraint_has_its_name(store: Store) -> None:
    with store.reading() as session:
        seen = inspect(session.connection())
        for table in SQLModel.metadata.sorted_tables:
            named = {constraint["name"] for constraint in seen.get_unique_constraints(table.name)}
            named |= {constraint["name"] for constraint in seen.get_foreign_keys(table.name)}
            declared = {each.name for each in table.constraints if not str(each.name).startswith("pk_")}
            assert named == declared
            assert None not in named


def test_head_is_the_newest_revision_and_there_is_one_line_of_them() -> None:
    scripts = ScriptDirectory(str(Path(migrations.__file__).parent))
    assert scripts.get_heads() == [migrations.HEAD]
    assert len(scripts.get_bases()) == 1


def test_a_migration_that_fails_leaves_the_database_as_it_was(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("alembic.command.upgrade", _fail_half_way)
        with pytest.raises(RuntimeError, match="half way"):
            Store(url).open()
    with Store(url) as store:
        assert people.person_for(store, "terminal", "ada").id is not None


def _fail_half_way(config: object, revision: str) -> None:
    config.attributes["connection"].execute(text("CREATE TABLE person (half INTEGER)"))
    raise RuntimeError("half way")


def test_a_database_of_the_first_version_loses_nothing(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("alembic.command.upgrade", _only_to_the_first)
        old = Store(url).open()
    with old, old.writing() as session:
        tables = _tables_of(session.connection())
        for name, rows in FIRST_VERSION.items():
            session.connection().execute(insert(tables[name]), rows)
        session.connection().execute(text("DELETE FROM conversation WHERE id = 9"))
        before = {name: session.connection().execute(select(table)).all() for name, table in tables.items()}
    assert all(before[name] for name in FIRST_VERSION)

    with Store(url) as store:
        with store.reading() as session:
            for name in FIRST_VERSION.keys() - {"inbox"}:
                assert session.connection().execute(select(tables[name])).all() == before[name], name
            in_order = select(tables["inbox"]).order_by(tables["inbox"].c.id)
            arrivals = [each._asdict() for each in session.connection().execute(in_order)]
        assert [each["state"] for each in arrivals] == ["waiting", "waiting", "done"]
        assert arrivals == [before["inbox"][0]._asdict() | {"state": "waiting"}] + [
            each._asdict() for each in before["inbox"][1:]
        ]
        assert [(each.payload, each.progress) for each in inbox.waiting(store, "telegram")] == [
            ({"text": "in the middle"}, {}),
            ({"text": "你好"}, {}),
        ]
        assert conversations.get(store, 3, 2).place == ""
        assert conversations.latest(store, 2, "telegram").id == 3
        assert [each.content for each in conversations.path(store, 6)] == ["hello", "hi 👋"]


def test_numbers_that_were_given_out_before_a_migration_are_not_given_out_after_it(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr("alembic.command.upgrade", _only_to_the_first)
        old = Store(url).open()
    with old, old.writing() as session:
        add_person = text("INSERT INTO person (name, language, created_at) VALUES ('', '', '2026-01-01 00:00:00+00')")
        add_arrival = text(
            "INSERT INTO inbox (channel, key, payload, state, received_at) "
            "VALUES ('telegram', '7', '{}', 'done', '2026-01-01 00:00:00+00')"
        )
        for _ in range(3):
            session.connection().execute(add_person)
            session.connection().execute(add_arrival)
            session.connection().execute(text("DELETE FROM person"))
            session.connection().execute(text("DELETE FROM inbox"))
    with Store(url) as store:
        assert people.person_for(store, "telegram", "42").id > 3
        assert inbox.receive(store, "telegram", "7", {}) > 3


_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_LOGGED = {
    "created_at": _AT,
    "prompt": [],
    "passages": [],
    "model": "",
    "adapter": "",
    "sampling": {},
    "timings": {},
    "prompt_tokens": 0,
    "cached_tokens": 0,
    "completion_tokens": 0,
    "finish": "",
    "error": "",
}
_TALK = {"person_id": 2, "persona": "familiar", "title": "hello", "adapter": "", "created_at": _AT, "updated_at": _AT}
_ARRIVAL = {"channel": "telegram", "person_id": 2, "received_at": _AT}
FIRST_VERSION = {
    "person": [{"id": 2, "name": "Ada 😀", "language": "zh", "created_at": _AT}],
    "identity": [{"id": 1, "person_id": 2, "channel": "telegram", "external_id": "42"}],
    "consent": [{"id": 1, "person_id": 2, "choice": "yes", "at": _AT}],
    "conversation": [
        _TALK | {"id": 3, "channel": "telegram", "head_id": 6},
        _TALK | {"id": 9, "channel": "telegram", "head_id": None},
    ],
    "message": [
        _LOGGED | {"id": 5, "conversation_id": 3, "parent_id": None, "role": "user", "content": "hello", "sent": "x"},
        _LOGGED
        | {"id": 6, "conversation_id": 3, "parent_id": 5, "role": "assistant", "content": "hi 👋", "sent": ""}
        | {"prompt": [{"role": "user", "content": "x"}], "timings": {"ttft": 0.5}},
    ],
    "rating": [{"id": 1, "message_id": 6, "person_id": 2, "value": 1, "at": _AT}],
    "correction": [{"id": 1, "message_id": 6, "person_id": 2, "text": "Hello!", "at": _AT}],
    "inbox": [
        _ARRIVAL | {"id": 1, "key": "1", "payload": {"text": "in the middle"}, "state": "taken", "message_id": None},
        _ARRIVAL | {"id": 2, "key": "2", "payload": {"text": "你好"}, "state": "waiting", "message_id": None},
        _ARRIVAL | {"id": 3, "key": "3", "payload": {}, "state": "done", "message_id": 5},
    ],
    "adapter": [
        {"id": 1, "name": "house", "version": 1, "folder": "house/1", "base": "small", "base_fingerprint": "f00"}
        | {"rank": 8, "loaded": True, "active": True, "created_at": _AT}
    ],
}


_upgrade = command.upgrade  # before a test replaces it


def _only_to_the_first(config: Config, _: str) -> None:
    _upgrade(config, "0001")


def _tables_of(connection: Connection) -> dict[str, Table]:
    metadata = MetaData()
    metadata.reflect(connection)
    return dict(metadata.tables)


OPEN_WHEN_TOLD = """
import sys
from store.session import Store
from store import people
print("ready", flush=True)
sys.stdin.readline()
with Store(sys.argv[1]) as store:
    print(people.person_for(store, "terminal", "ada").id)
"""


def test_several_processes_may_open_a_fresh_database_at_once(
    url: str, another_process: Callable[..., Popen[str]]
) -> None:
    processes = [another_process(OPEN_WHEN_TOLD, url) for _ in range(3)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    outcomes = [process.communicate(timeout=60) for process in processes]
    assert [errors for _, errors in outcomes] == [""] * 3
    assert len({person_id for person_id, _ in outcomes}) == 1


def test_numbers_of_deleted_rows_are_not_given_out_again(
    store: Store, ada: Person, talk: Conversation, say: Callable[..., Message]
) -> None:
    message = say(talk, "hello")
    conversations.delete(store, talk.id, ada.id)
    again = conversations.start(store, ada.id, "terminal", "familiar")
    assert again.id > talk.id
    assert say(again, "hello").id > message.id


@pytest.fixture
def engine(sqlite_url: str) -> Iterator[Engine]:
    engine = sqlite.engine_for(make_url(sqlite_url), busy_timeout_s=10)
    yield engine
    engine.dispose()


def test_a_migration_may_rebuild_a_table_without_losing_the_rows_that_refer_to_it(
    sqlite_url: str, engine: Engine
) -> None:
    with Store(sqlite_url) as store:
        ada = people.person_for(store, "terminal", "ada")
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        with sqlite.migrating(engine) as connection:
            operations = Operations(MigrationContext.configure(connection))
            with operations.batch_alter_table("person", recreate="always"):
                pass
        assert conversations.get(store, talk.id, ada.id).id == talk.id


def test_a_migration_that_loses_rows_is_undone(sqlite_url: str, engine: Engine) -> None:
    with Store(sqlite_url) as store:
        ada = people.person_for(store, "terminal", "ada")
        with pytest.raises(StoreError, match="refer to nothing"), sqlite.migrating(engine) as connection:
            connection.execute(text("DELETE FROM person"))
        assert people.person_for(store, "terminal", "ada").id == ada.id
