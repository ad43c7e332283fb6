"""Canaries: a new version answers a share of the conversations first, and all when nobody likes it less.

The version before stays the active one meanwhile; the canary's is loaded beside it. A canary that no longer stands
beside the version that it was begun beside has no effect: whoever puts a version in force by hand ends it by that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlmodel import col, select, update
from sqlmodel.sql.expression import SelectOfScalar

from store import notices
from store.errors import NotFound
from store.session import Store
from store.tables import Canary, Conversation, Message, Rating, now

Outcome = Literal["promoted", "rolled_back", "replaced"]


@dataclass(frozen=True)
class Rated:
    """A rating of a reply that was given while a canary was under way."""

    conversation_id: int
    new: bool  # of the canary's version; else of the one before
    value: int  # +1, -1
    at: datetime


def begin(store: Store, name: str, version: int, before_version: int | None, share: float) -> Canary:
    """Let this version answer a share of the conversations. A canary of this name under way is replaced.

    The same version beside the same one again is the canary that it is already.
    """
    with store.writing() as session:
        going = session.exec(_of(name).with_for_update()).first()
        if going is not None and (going.version, going.before_version) == (version, before_version):
            return going
        if going is not None:
            going.ended_at, going.outcome = now(), "replaced"
            session.flush()  # before the next, of which there can be one
        canary = Canary(name=name, version=version, before_version=before_version, share=share)
        session.add(canary)
        return canary


def under_way(store: Store, name: str) -> Canary | None:
    with store.reading() as session:
        return session.exec(_of(name)).first()


def all_under_way(store: Store) -> list[Canary]:
    with store.reading() as session:
        return list(session.exec(select(Canary).where(col(Canary.ended_at).is_(None)).order_by(col(Canary.id))))


def newest(store: Store, name: str) -> Canary | None:
    """The latest one of this name, under way or over."""
    with store.reading() as session:
        return session.exec(select(Canary).where(Canary.name == name).order_by(col(Canary.id).desc())).first()


def end(store: Store, canary_id: int, outcome: Outcome, *, notice: tuple[str, dict[str, Any]] | None = None) -> bool:
    """It is over; `notice` is what the admins are told. False when it was over before. Raises NotFound."""
    over = update(Canary).where(col(Canary.id) == canary_id, col(Canary.ended_at).is_(None))
    with store.writing() as session:
        if session.get(Canary, canary_id) is None:
            raise NotFound(f"There is no canary {canary_id}.")
        if not session.exec(over.values(ended_at=now(), outcome=outcome)).rowcount:
            return False
        if notice is not None:
            notices.added(session, notice[0], **notice[1])
        return True


def takes(canary: Canary, conversation_id: int) -> bool:
    """Whether this conversation is answered by the canary: always the same for the same conversation.

    Each canary draws anew, so that it is not always the same people who try what is new.
    """
    drawn = hashlib.sha256(f"{canary.id}:{conversation_id}".encode()).digest()[:8]
    return int.from_bytes(drawn, "big") / 2**64 < canary.share


def ratings(store: Store, canary: Canary) -> list[Rated]:
    """Of replies that were made since it began, by its version or by the one before.

    Only of conversations in which nobody chose an adapter: who chose one did not get it by lot.
    """
    new = f"{canary.name}@{canary.version}"
    old = f"{canary.name}@{canary.before_version}" if canary.before_version is not None else ""
    wanted = (
        select(Message.conversation_id, Message.adapter, Rating.value, Rating.at)
        .join(Rating, col(Rating.message_id) == col(Message.id))
        .join(Conversation, col(Conversation.id) == col(Message.conversation_id))
        .where(
            col(Message.adapter).in_([new, old]),
            col(Message.model) != "",
            col(Message.created_at) >= canary.started_at,
            col(Conversation.adapter).in_(["", canary.name]),
        )
        .order_by(col(Rating.id))
    )
    with store.reading() as session:
        rows = session.exec(wanted)
        return [Rated(conversation_id, adapter == new, value, at) for conversation_id, adapter, value, at in rows]


def _of(name: str) -> SelectOfScalar[Canary]:
    return select(Canary).where(Canary.name == name, col(Canary.ended_at).is_(None))
