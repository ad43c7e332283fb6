"""What an adapter in force learned of conversations that people took back, kept for some days after it left the log.

Only where the operator has asked for it (settings: learning.sealed_days); else nothing is kept of what is forgotten.
It is for one thing: to measure that the next adapter does not know it any more. So it goes when no adapter in force
has learned from it, and after those days at the latest.

    conversation forgotten -> sealed, in the same transaction -> measured by runs -> released

What is kept is what the log held of each reply; who learns from the log does not see it.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator
from datetime import timedelta
from functools import cache
from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement
from sqlmodel import Session, and_, col, delete, exists, func, or_, select

from store import learning
from store.learning import LoggedReply
from store.session import Store
from store.tables import Adapter, Canary, Conversation, Sealed, TrainedOn, now

if TYPE_CHECKING:
    from pydantic import TypeAdapter

_AT_ONCE = 500  # numbers in one statement; databases limit them

_log = logging.getLogger(__name__)


def seal(session: Session, which: ColumnElement[bool]) -> int:
    """For the other files of this package: keep what is known of the conversations that `which` selects. How many.

    Called before they are deleted, in the same transaction. An adapter that is not in force answers nobody, so what
    only such a one learned is not kept.
    """
    learned = (
        select(TrainedOn.conversation_id, func.max(Adapter.created_at))
        .join(Adapter)
        .where(_in_force(), col(TrainedOn.conversation_id).in_(select(Conversation.id).where(which)))
        .group_by(col(TrainedOn.conversation_id))
    )
    until = dict(session.exec(learned).all())  # what was said later was not learned
    sealed: set[int] = set()
    for reply in learning.replies_of(session, sorted(until)):
        if reply.at <= until[reply.conversation_id]:
            sealed.add(reply.conversation_id)
            session.add(
                Sealed(
                    conversation_id=reply.conversation_id,
                    person_id=reply.person_id,
                    quoted=list(reply.quoted_persons),
                    reply=_as_json().dump_python(reply, mode="json"),
                )
            )
    return len(sealed)


def break_open(session: Session, person_id: int, *, also_theirs: bool) -> None:
    """For the other files of this package: a person is forgotten, whose words others may have quoted.

    `also_theirs`: what was sealed of the person's own conversations goes as well.
    """
    rows = session.exec(select(Sealed.id, Sealed.person_id, Sealed.quoted)).all()
    gone = [each for each, owner, quoted in rows if person_id in quoted or (also_theirs and owner == person_id)]
    for first in range(0, len(gone), _AT_ONCE):
        session.exec(delete(Sealed).where(col(Sealed.id).in_(gone[first : first + _AT_ONCE])))


def replies(store: Store, conversation_ids: Collection[int]) -> Iterator[LoggedReply]:
    """What is sealed of these conversations, the newest first. Raises StoreError."""
    ids = sorted(set(conversation_ids), reverse=True)
    for first in range(0, len(ids), _AT_ONCE):
        some = select(Sealed).where(col(Sealed.conversation_id).in_(ids[first : first + _AT_ONCE]))
        with store.reading() as session:
            rows = session.exec(some.order_by(col(Sealed.conversation_id).desc(), col(Sealed.id))).all()
        for row in rows:
            try:
                yield _as_json().validate_python(row.reply)
            except ValueError:  # another version of Familiar wrote it; what cannot be read goes with the others
                _log.warning("what is sealed of conversation %s cannot be read", row.conversation_id)


def conversations(store: Store, conversation_ids: Collection[int]) -> set[int]:
    """Of which of these something is sealed."""
    ids, found = sorted(set(conversation_ids)), set[int]()
    with store.reading() as session:
        for first in range(0, len(ids), _AT_ONCE):
            some = col(Sealed.conversation_id).in_(ids[first : first + _AT_ONCE])
            found.update(session.exec(select(Sealed.conversation_id).where(some)))
    return found


def release(store: Store, days: float) -> int:
    """Delete what no adapter in force has learned from, and what has been sealed for so many days. How many rows.

    On SQLite the text is then gone from the file, too. Raises StoreError.
    """
    known = select(TrainedOn.conversation_id).join(Adapter).where(_in_force())
    over = or_(col(Sealed.sealed_at) <= now() - timedelta(days=days), col(Sealed.conversation_id).not_in(known))
    with store.reading() as session:
        if session.exec(select(Sealed.id).where(over).limit(1)).first() is None:
            return 0
    with store.writing() as session:
        released = session.exec(delete(Sealed).where(over)).rowcount
    store.erase_traces(thoroughly=True)
    return released


def _in_force() -> ColumnElement[bool]:
    """Of an adapter: that it answers somebody, and not only those who ask for it by its number."""
    tried = and_(
        col(Canary.name) == Adapter.name, col(Canary.version) == Adapter.version, col(Canary.ended_at).is_(None)
    )
    return or_(col(Adapter.active), exists().where(tried))


@cache
def _as_json() -> TypeAdapter[Any]:
    from pydantic import TypeAdapter

    return TypeAdapter(LoggedReply)
