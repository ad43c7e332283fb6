"""What was acknowledged is kept, whatever happens next; what could not be kept is not half there."""

from __future__ import annotations

import errno
import os
import signal
import threading
from collections.abc import Callable, Iterator
from subprocess import Popen

import pytest
from sqlalchemy import Connection, Engine, event, text

from store import conversations, inbox, people
from store.errors import NotFound, StoreError, StoreFull, StoreLocked, StoreUnreachable
from store.session import Store
from store.tables import Conversation, Message, Person

WRITE_AND_SAY_SO = """
import sys, time
from store.session import Store
from store import conversations, people
store = Store(sys.argv[1]).open()
ada = people.person_for(store, "terminal", "ada")
talk = conversations.start(store, ada.id, "terminal", "familiar")
print(conversations.add_user(store, talk.id, None, "remember me").id, ada.id, flush=True)
time.sleep(60)
"""


def test_an_acknowledged_message_survives_the_killing_of_the_process(
    url: str, another_process: Callable[..., Popen[str]]
) -> None:
    writer = another_process(WRITE_AND_SAY_SO, url)
    message_id, person_id = map(int, writer.stdout.readline().split())
    writer.send_signal(signal.SIGKILL)
    writer.wait()
    with Store(url) as store:
        assert conversations.message(store, message_id, person_id).content == "remember me"


HOLD_THE_LOCK = """
import sys
from store.session import Store
from store.tables import Person
with Store(sys.argv[1]).open() as store, store.writing() as session:
    session.get(Person, int(sys.argv[2]), with_for_update=True)
    print("locked", flush=True)
    sys.stdin.readline()
"""


def test_a_writer_locked_out_for_too_long_is_told_so_and_nothing_is_lost(
    url: str, store: Store, ada: Person, another_process: Callable[..., Popen[str]]
) -> None:
    other = another_process(HOLD_THE_LOCK, url, str(ada.id))
    assert other.stdout.readline() == "locked\n"
    with Store(url, busy_timeout_s=0.2) as impatient:
        with pytest.raises(StoreLocked, match="in use by another program"):
            people.set_name(impatient, ada.id, "Countess")
        assert people.export(impatient, ada.id)["person"]["name"] == "Ada", "reading must go on meanwhile"
        other.communicate("\n", timeout=30)
        people.set_name(impatient, ada.id, "Countess")
        assert people.export(impatient, ada.id)["person"]["name"] == "Countess"


def test_a_writer_waits_for_another_that_finishes_in_time(
    url: str, store: Store, ada: Person, another_process: Callable[..., Popen[str]]
) -> None:
    other = another_process(HOLD_THE_LOCK, url, str(ada.id))
    assert other.stdout.readline() == "locked\n"
    waiting = threading.Thread(target=people.set_name, args=(store, ada.id, "Countess"))
    waiting.start()
    waiting.join(timeout=0.3)
    assert waiting.is_alive()
    other.communicate("\n", timeout=30)
    waiting.join(timeout=10)
    assert people.export(store, ada.id)["person"]["name"] == "Countess"


def test_many_threads_may_write_at_once(store: Store, ada: Person, talk: Conversation) -> None:
    failed: list[Exception] = []

    def write(name: str) -> None:
        try:
            for number in range(10):
                conversations.add_user(store, talk.id, None, f"{name} {number}")
        except StoreError as error:
            failed.append(error)

    threads = [threading.Thread(target=write, args=(f"thread {n}",)) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert conversations.listing(store, ada.id)[0].messages == 200


def test_two_writers_that_read_first_queue_instead_of_failing(store: Store, ada: Person) -> None:
    """On SQLite, a transaction that upgrades itself from reading to writing would fail at once with SQLITE_BUSY."""
    both_have_begun = threading.Barrier(2)
    failed: list[Exception] = []

    def read_then_write(digit: str) -> None:
        try:
            both_have_begun.wait()
            with store.writing() as session:
                person = session.get(Person, ada.id, with_for_update=True)
                person.name = person.name + digit
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=read_then_write, args=(digit,)) for digit in "12"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert people.export(store, ada.id)["person"]["name"] in {"Ada12", "Ada21"}


class Disk:
    """How many pages any SQLite file may have."""

    def __init__(self) -> None:
        self._pages = 2**30

    def fill(self, store: Store, spare_pages: int) -> None:
        with store.reading() as session:
            self._pages = session.connection().exec_driver_sql("PRAGMA page_count").scalar() + spare_pages

    def make_room(self) -> None:
        self._pages = 2**30

    def limit(self, connection: Connection) -> None:
        connection.exec_driver_sql(f"PRAGMA max_page_count={self._pages}")


@pytest.fixture
def disk() -> Iterator[Disk]:
    disk = Disk()
    event.listen(Engine, "begin", disk.limit)
    yield disk
    event.remove(Engine, "begin", disk.limit)


def test_a_full_disk_is_told_and_everything_before_it_is_kept(sqlite_url: str, disk: Disk) -> None:
    with Store(sqlite_url) as store:
        ada = people.person_for(store, "terminal", "ada")
        talk = conversations.start(store, ada.id, "terminal", "familiar")
        kept = conversations.add_user(store, talk.id, None, "before")
        disk.fill(store, spare_pages=3)
        with pytest.raises(StoreFull, match="no room left") as raised:
            conversations.add_user(store, talk.id, kept.id, "x" * 1_000_000)
        assert "Free some space" in str(raised.value)
        with pytest.raises(StoreFull):
            inbox.receive(store, "telegram", "1", {"text": "x" * 1_000_000})
        assert conversations.get(store, talk.id, ada.id).head_id == kept.id
        assert inbox.waiting(store, "telegram") == []
        disk.make_room()
        after = conversations.add_user(store, talk.id, kept.id, "x" * 1_000_000)
        assert [each.content for each in conversations.path(store, after.id)] == ["before", "x" * 1_000_000]


def test_a_reply_that_found_no_room_can_be_added_again_later(
    store: Store, ada: Person, talk: Conversation, say: Callable[..., Message]
) -> None:
    question = say(talk, "why?")
    reply = Message(conversation_id=talk.id, parent_id=question.id, role="assistant", content="because")
    event.listen(Engine, "commit", _find_no_room)
    try:
        with pytest.raises(StoreFull):
            conversations.add_reply(store, reply)
    finally:
        event.remove(Engine, "commit", _find_no_room)
    meanwhile = say(talk, "hello?")
    added = conversations.add_reply(store, reply)
    assert added.id != meanwhile.id
    assert conversations.message(store, meanwhile.id, ada.id).content == "hello?"
    assert conversations.message(store, added.id, ada.id).content == "because"


def _find_no_room(_: Connection) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


OTHER_CONNECTIONS = """
SELECT pid FROM pg_stat_activity
WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()
"""


def test_a_server_that_drops_the_connections_is_reached_again(postgres_url: str) -> None:
    with Store(postgres_url) as store, Store(postgres_url) as other:
        ada = people.person_for(store, "terminal", "ada")
        with other.writing() as session:
            dropped = session.connection().execute(
                text(f"SELECT pg_terminate_backend(pid) FROM ({OTHER_CONNECTIONS}) a")
            )
            assert dropped.scalars().all() == [True]
        assert people.person_for(store, "terminal", "ada").id == ada.id


def test_a_connection_lost_in_the_middle_is_unreachable_and_nothing_is_half_done(postgres_url: str) -> None:
    def lose_the_connection() -> None:
        with store.writing() as session:
            session.get(Person, ada.id).name = "Countess"
            session.flush()
            session.connection().execute(text("SELECT pg_terminate_backend(pg_backend_pid())"))

    with Store(postgres_url) as store:
        ada = people.person_for(store, "terminal", "ada", name="Ada")
        with pytest.raises(StoreUnreachable):
            lose_the_connection()
        assert people.export(store, ada.id)["person"]["name"] == "Ada"


def test_a_number_that_no_row_can_have_is_not_found(store: Store, ada: Person) -> None:
    with pytest.raises(NotFound):
        conversations.get(store, 10**30, ada.id)
    with pytest.raises(NotFound):
        people.set_name(store, 10**30, "nobody")


def test_an_unforeseen_error_names_neither_the_text_nor_the_statement(store: Store, ada: Person) -> None:
    with pytest.raises(StoreError) as raised, store.writing() as session:
        session.connection().execute(text("INSERT INTO nowhere VALUES (:secret)"), {"secret": "my diary"})
    shown = f"{raised.value} {raised.value.__cause__}"
    assert "nowhere" in str(raised.value)
    assert "my diary" not in shown
