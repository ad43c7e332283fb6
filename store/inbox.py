"""What has arrived on a channel, from before it is acknowledged until it is handled.

    waiting ── take ──> taken ── done ──> done
       ^                  │
       └─── give_back ────┘   at the start, for what a crash left half done

A key that was handled stays, so that a redelivery is recognised. The payload goes when it is done, because by then
the message that it became holds it; through that message `forget` finds what arrived from somebody not known yet.
"""

from __future__ import annotations

from typing import Any

from sqlmodel import col, select, update

from store.errors import AlreadyThere, NotFound
from store.session import Store
from store.tables import Inbox


def receive(store: Store, channel: str, key: str, payload: dict[str, Any], person_id: int | None = None) -> bool:
    """Write down what arrived. `key` is the channel's own id of it. False: it was received before, nothing changed.

    Once this has returned, the arrival may be acknowledged: it survives a crash. Raises StoreError.
    """
    try:
        with store.writing() as session:
            session.add(Inbox(channel=channel, key=key, payload=payload, person_id=person_id))
    except AlreadyThere:
        return False
    return True


def take(store: Store, channel: str) -> Inbox | None:
    """The arrival that has waited longest, now taken; None when nothing waits. No two callers get the same one."""
    oldest = select(Inbox).where(Inbox.channel == channel, Inbox.state == "waiting").order_by(col(Inbox.id)).limit(1)
    with store.writing() as session:
        arrival = session.exec(oldest.with_for_update(skip_locked=True)).first()
        if arrival is not None:
            arrival.state = "taken"
        return arrival


def done(store: Store, inbox_id: int, message_id: int | None = None) -> None:
    """The arrival is handled; `message_id` is the user's message that it became, if any. Raises NotFound."""
    with store.writing() as session:
        arrival = session.get(Inbox, inbox_id)
        if arrival is None:
            raise NotFound(f"There is no arrival {inbox_id} in the inbox.")
        arrival.state, arrival.message_id, arrival.payload = "done", message_id, {}


def give_back(store: Store, channel: str) -> int:
    """Let everything that is taken wait again, in its old order, and say how much it was.

    For the start of a channel, when nobody works on what is taken.
    """
    taken = (col(Inbox.channel) == channel, col(Inbox.state) == "taken")
    with store.writing() as session:
        return session.exec(update(Inbox).where(*taken).values(state="waiting")).rowcount


def waiting(store: Store, channel: str) -> list[Inbox]:
    """What waits, the oldest first."""
    with store.reading() as session:
        rows = select(Inbox).where(Inbox.channel == channel, Inbox.state == "waiting").order_by(col(Inbox.id))
        return list(session.exec(rows))
