from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import Popen

import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, inspect, make_url, text
from sqlmodel import SQLModel

from store import conversations, migrations, people, sqlite
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
