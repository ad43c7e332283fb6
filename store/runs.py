"""The runs: every way from the log to an adapter, how far it came and what became of it.

A run that is not ended and that no process works on was cut short, and can go on from its state. Whether a process
works on it is told by a lock in the data folder, not by the row: a killed process changes no row.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Literal

from sqlmodel import Session, col, or_, select

from store import notices
from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Run, now

State = Literal["preparing", "training", "evaluating", "deciding", "promoting", "ended"]
Trigger = Literal["by hand", "schedule"]

_AT_ONCE = 500  # numbers in one statement; databases limit them


def begin(store: Store, name: str, trigger: Trigger, settings: Mapping[str, Any], *, place: str = "") -> Run:
    """A new run of the adapter `name`, in its first state."""
    with store.writing() as session:
        run = Run(name=name, place=place, trigger=trigger, settings=dict(settings))
        session.add(run)
        return run


def get(store: Store, number: int) -> Run:
    """Raises NotFound."""
    with store.reading() as session:
        return _run(session, number)


def listing(store: Store, limit: int = 20) -> list[Run]:
    """The newest runs, the newest first."""
    with store.reading() as session:
        return list(session.exec(select(Run).order_by(col(Run.id).desc()).limit(limit)))


def ended(store: Store, name: str | None = None) -> list[Run]:
    """All that are over, the oldest first."""
    wanted = select(Run).where(Run.state == "ended").order_by(col(Run.id))
    if name is not None:
        wanted = wanted.where(Run.name == name)
    with store.reading() as session:
        return list(session.exec(wanted))


def unfinished(store: Store, name: str | None = None) -> list[Run]:
    """Those that go on, or were cut short; the newest first."""
    wanted = select(Run).where(Run.state != "ended").order_by(col(Run.id).desc())
    if name is not None:
        wanted = wanted.where(Run.name == name)
    with store.reading() as session:
        return list(session.exec(wanted))


def places(store: Store) -> set[str]:
    """The groups, as "channel:id", that had runs of their own."""
    with store.reading() as session:
        return set(session.exec(select(Run.place).where(Run.place != "").distinct()))


def last_scheduled(store: Store) -> Run | None:
    with store.reading() as session:
        newest = select(Run).where(Run.trigger == "schedule").order_by(col(Run.id).desc()).limit(1)
        return session.exec(newest).first()


def note(
    store: Store,
    number: int,
    *,
    state: State | None = None,
    fingerprint: str | None = None,
    base: str | None = None,
    version: int | None = None,
    numbers: Mapping[str, Any] | None = None,
) -> Run:
    """How far it came. What is not given stays; `numbers` are added to those that are there. Raises NotFound.

    A state opens a run that was over again: it is resumed, and what was said of it no longer holds.
    """
    with store.writing() as session:
        run = _run(session, number, lock=True)
        if state is not None and state != "ended":
            run.state, run.verdict, run.said, run.finished_at = state, "", "", None
        run.fingerprint = run.fingerprint if fingerprint is None else fingerprint
        run.base = run.base if base is None else base
        run.version = run.version if version is None else version
        run.numbers = run.numbers | dict(numbers or {})
        run.updated_at = now()
        return run


def end(
    store: Store,
    number: int,
    verdict: str,
    said: str,
    *,
    numbers: Mapping[str, Any] | None = None,
    notice: tuple[str, Mapping[str, Any]] | None = None,
) -> Run:
    """It is over; `notice` is what the admins are told of it, key and arguments. Raises NotFound.

    Ended twice, it stays as it was, and nobody is told again.
    """
    with store.writing() as session:
        run = _run(session, number, lock=True)
        if run.state == "ended":
            return run
        run.state, run.verdict, run.said = "ended", verdict, said
        run.numbers = run.numbers | dict(numbers or {})
        run.finished_at = run.updated_at = now()
        if notice is not None:
            key, args = notice
            notices.added(session, key, **args)
        return run


def gone(store: Store, conversation_ids: Iterable[int], since: datetime) -> set[int]:
    """Which of these conversations may no longer be quoted from a copy made at `since`.

    They were deleted; or they lost words of somebody who is forgotten, which the copy may still hold.
    """
    ids = sorted(set(conversation_ids))
    found: set[int] = set()
    with store.reading() as session:
        for first in range(0, len(ids), _AT_ONCE):
            unquoted = or_(col(Conversation.unquoted_at).is_(None), col(Conversation.unquoted_at) < since)
            some = col(Conversation.id).in_(ids[first : first + _AT_ONCE])
            found.update(each for each in session.exec(select(Conversation.id).where(some, unquoted)) if each)
    return set(ids) - found


def _run(session: Session, number: int, *, lock: bool = False) -> Run:
    run = session.get(Run, number, with_for_update=lock or None)
    if run is None:
        raise NotFound(f"There is no run {number}.")
    return run
