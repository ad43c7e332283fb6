"""A fresh store for each test: on SQLite, and on PostgreSQL too where FAMILIAR_TEST_POSTGRES names a server.

tests/postgres.sh starts a throw-away server and sets the variable for the command that it runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import NullPool, create_engine, insert, make_url, text

from store import conversations, people
from store.session import Store
from store.tables import Conversation, Message, Person, now

POSTGRES = os.environ.get("FAMILIAR_TEST_POSTGRES", "")
DATABASES = ["sqlite", "postgres"] if POSTGRES else ["sqlite"]
TESTED = (
    "store: tested on SQLite and PostgreSQL"
    if POSTGRES
    else "store: tested on SQLite only; for PostgreSQL: tests/postgres.sh pytest tests/store"
)
REPOSITORY = Path(__file__).parents[2]


def pytest_report_header() -> str:
    return TESTED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """-q hides the header, and a run of all tests loads this file too late for it."""
    terminalreporter.write_line(TESTED)


@pytest.fixture
def sqlite_file(tmp_path: Path) -> Path:
    return tmp_path / "data" / "familiar.db"


@pytest.fixture
def sqlite_url(sqlite_file: Path) -> str:
    return f"sqlite:///{sqlite_file}"


@pytest.fixture
def postgres_url() -> Iterator[str]:
    if not POSTGRES:
        pytest.skip("FAMILIAR_TEST_POSTGRES names no server")
    name = f"familiar_test_{uuid4().hex}"  # a schema of its own: a database would take ten times as long to make
    server = create_engine(make_url(POSTGRES), isolation_level="AUTOCOMMIT", poolclass=NullPool)
    with server.connect() as connection:
        connection.execute(text(f"CREATE SCHEMA {name}"))
    ours = {"options": f"-csearch_path={name}", "application_name": name}
    yield make_url(POSTGRES).update_query_dict(ours).render_as_string(hide_password=False)
    with server.connect() as connection:
        connection.execute(text(f"DROP SCHEMA {name} CASCADE"))


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest) -> str:
    """The URL of a database that nobody has opened yet."""
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    with Store(url) as store:
        yield store


@pytest.fixture
def ada(store: Store) -> Person:
    return people.person_for(store, "terminal", "ada", name="Ada")


@pytest.fixture
def bob(store: Store) -> Person:
    return people.person_for(store, "terminal", "bob", name="Bob")


@pytest.fixture
def talk(store: Store, ada: Person) -> Conversation:
    """An empty conversation of Ada's."""
    return conversations.start(store, ada.id, "terminal", "familiar")


@pytest.fixture
def say(store: Store) -> Callable[..., Message]:
    """say(conversation, text): what a person writes, after the conversation's head or after `parent`."""

    def add(conversation: Conversation, content: str, parent: Message | None = None) -> Message:
        head = parent.id if parent else conversations.get(store, conversation.id, conversation.person_id).head_id
        return conversations.add_user(store, conversation.id, head, content)

    return add


@pytest.fixture
def answer(store: Store) -> Callable[..., Message]:
    """answer(message, text): a reply to a message."""

    def add(message: Message, content: str = "Certainly.", **logged: object) -> Message:
        reply = Message(
            conversation_id=message.conversation_id, parent_id=message.id, role="assistant", content=content, **logged
        )
        return conversations.add_reply(store, reply)

    return add


@pytest.fixture
def long_branch(store: Store, talk: Conversation) -> list[Message]:
    """A branch of 2500 messages in Ada's conversation, longer than SQLite lets a deletion cascade."""
    fields = {"role": "user", "created_at": now(), "model": "", "adapter": "", "finish": "", "error": ""}
    counts = {"prompt_tokens": 0, "cached_tokens": 0, "completion_tokens": 0}
    logged = {"prompt": [], "passages": [], "sampling": {}, "timings": {}}
    rows = [
        {"id": number, "conversation_id": talk.id, "parent_id": number - 1 or None, "content": str(number)}
        for number in range(1, 2501)
    ]
    with store.writing() as session:
        session.connection().execute(insert(Message), [row | fields | counts | logged for row in rows])
    return conversations.path(store, 2500)


@pytest.fixture
def at_once() -> Callable[..., list[Any]]:
    """at_once(this, that, ...): what each returns, or the exception it raised, when all are begun at the same time."""

    def run(*actions: Callable[[], Any]) -> list[Any]:
        ready = threading.Barrier(len(actions))
        outcomes: list[Any] = [None] * len(actions)

        def act(number: int, action: Callable[[], Any]) -> None:
            ready.wait()
            try:
                outcomes[number] = action()
            except Exception as error:
                outcomes[number] = error

        threads = [threading.Thread(target=act, args=numbered) for numbered in enumerate(actions)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        return outcomes

    return run


@pytest.fixture
def another_process() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """another_process(script, *arguments): a running Python that has the packages at hand; killed after the test."""
    running: list[subprocess.Popen[str]] = []

    def start(script: str, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-c", script, *arguments],
            cwd=REPOSITORY,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        running.append(process)
        return process

    yield start
    for process in running:
        process.kill()
        process.communicate()
