"""How much somebody used a channel on a day, for the quotas.

By the channel's own number and not by person, so that forgetting does not refill a quota. Only today and yesterday
are kept.
"""

from __future__ import annotations

from datetime import date, timedelta

from sqlmodel import col, delete, select

from store.session import Store
from store.tables import Usage
from store.upsert import insert_into


def add(store: Store, channel: str, external_id: str, day: date, *, messages: int = 0, tokens: int = 0) -> None:
    """Add to what was used on `day`. Nothing is lost when several add at once."""
    row = {"channel": channel, "external_id": external_id, "day": day, "messages": messages, "tokens": tokens}
    theirs = (col(Usage.channel) == channel, col(Usage.external_id) == external_id)
    with store.writing() as session:
        used = insert_into(session, Usage).values(row)
        sums = {
            "messages": col(Usage.messages) + used.excluded.messages,
            "tokens": col(Usage.tokens) + used.excluded.tokens,
        }
        session.connection().execute(
            used.on_conflict_do_update(index_elements=["channel", "external_id", "day"], set_=sums)
        )
        session.exec(delete(Usage).where(*theirs, col(Usage.day) < day - timedelta(days=1)))


def used(store: Store, channel: str, external_id: str, day: date) -> Usage:
    """What was used on `day`; zeros when nothing was."""
    theirs = select(Usage).where(Usage.channel == channel, Usage.external_id == external_id, Usage.day == day)
    with store.reading() as session:
        return session.exec(theirs).first() or Usage(channel=channel, external_id=external_id, day=day)
