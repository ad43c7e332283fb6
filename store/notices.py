"""What the admins are to be told: written down where it happens, sent by whichever channel reaches them.

A notice is a key of the texts and what goes into it, so that each admin reads it in their own language. It is written
in the transaction of what it tells of, so that neither is without the other.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlmodel import Session, col, select

from store.errors import NotFound
from store.session import Store
from store.tables import Notice, now


def add(store: Store, key: str, **args: Any) -> Notice:
    with store.writing() as session:
        return added(session, key, **args)


def added(session: Session, key: str, **args: Any) -> Notice:
    """For the other files of this package: a notice in the transaction of what it tells of."""
    notice = Notice(key=key, args=args)
    session.add(notice)
    return notice


def waiting(store: Store, *, since: datetime | None = None) -> list[Notice]:
    """What not all admins have been told yet, the oldest first."""
    wanted = select(Notice).where(col(Notice.sent_at).is_(None)).order_by(col(Notice.id))
    if since is not None:
        wanted = wanted.where(Notice.created_at >= since)
    with store.reading() as session:
        return list(session.exec(wanted))


def told(store: Store, notice_id: int, admin: str) -> None:
    """Note that this admin ("channel:id") has it. Raises NotFound."""
    with store.writing() as session:
        notice = _notice(session, notice_id)
        if admin not in notice.told:
            notice.told = [*notice.told, admin]


def sent(store: Store, notice_id: int) -> None:
    """Note that everybody has it. Raises NotFound."""
    with store.writing() as session:
        notice = _notice(session, notice_id)
        notice.sent_at = notice.sent_at or now()


def _notice(session: Session, notice_id: int) -> Notice:
    notice = session.get(Notice, notice_id, with_for_update=True)
    if notice is None:
        raise NotFound(f"There is no notice {notice_id}.")
    return notice
