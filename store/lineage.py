"""Which conversations each adapter learned from, and which of these have been forgotten since.

What is forgotten leaves the log at once, but not an adapter that learned from it before. The adapter is marked, so
that the operator sees it and the next one is trained without.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, func, select, update

from store.session import Store
from store.tables import Adapter, Conversation, TrainedOn, now
from store.upsert import insert_into

_AT_ONCE = 500  # numbers in one statement; databases limit them


@dataclass(frozen=True)
class LeaveOut:
    """An adapter that learned from something that has been forgotten since."""

    adapter: str  # name@version
    conversations: int  # how many of those it learned from are forgotten
    forgotten_at: datetime  # the latest


def trained_on(store: Store, adapter_id: int, conversation_ids: Iterable[int]) -> None:
    """Note what an adapter learned from; noting it twice changes nothing. Raises NotFound.

    A conversation that was deleted while the adapter was being trained is noted as forgotten.
    """
    ids = sorted(set(conversation_ids))
    with store.writing() as session:
        for first in range(0, len(ids), _AT_ONCE):
            some = ids[first : first + _AT_ONCE]
            there = select(Conversation.id, Conversation.person_id).where(col(Conversation.id).in_(some))
            kept = there.order_by(col(Conversation.id)).with_for_update(read=True, key_share=True)
            owners = dict(session.exec(kept).all())
            rows = [
                {
                    "adapter_id": adapter_id,
                    "conversation_id": each,
                    "person_id": owners.get(each),
                    "forgotten_at": None if each in owners else now(),
                }
                for each in some
            ]
            session.connection().execute(insert_into(session, TrainedOn).on_conflict_do_nothing(), rows)


def learned_from(store: Store, adapter_id: int) -> set[int]:
    """The conversations that an adapter learned from, those that are forgotten included."""
    with store.reading() as session:
        return set(session.exec(select(TrainedOn.conversation_id).where(TrainedOn.adapter_id == adapter_id)))


def to_leave_out(store: Store) -> list[LeaveOut]:
    """The adapters that learned from something forgotten since, by name and version."""
    forgotten = (
        select(Adapter.name, Adapter.version, func.count(), func.max(TrainedOn.forgotten_at))
        .join(TrainedOn)
        .where(col(TrainedOn.forgotten_at).is_not(None))
        .group_by(col(Adapter.name), col(Adapter.version))
        .order_by(col(Adapter.name), col(Adapter.version))
    )
    with store.reading() as session:
        return [
            LeaveOut(f"{name}@{version}", conversations, at)
            for name, version, conversations, at in session.exec(forgotten)
            if at is not None
        ]


def mark_forgotten(session: Session, which: ColumnElement[bool]) -> None:
    """For the other files of this package: the conversations of the rows that `which` selects are forgotten."""
    session.exec(update(TrainedOn).where(which, col(TrainedOn.forgotten_at).is_(None)).values(forgotten_at=now()))


def trained(session: Session, which: ColumnElement[bool]) -> tuple[str, ...]:
    """For the other files of this package: the adapters with a row that `which` selects, as name@version."""
    adapters = select(Adapter.name, Adapter.version).join(TrainedOn).where(which).distinct()
    found = session.exec(adapters.order_by(col(Adapter.name), col(Adapter.version)))
    return tuple(f"{name}@{version}" for name, version in found)
