"""What has arrived on a channel, from before it is acknowledged until it is handled.

A channel receives, works on what it received, and says when it is done. At its start it works again on everything
that a stop or a crash left waiting; `progress` and the messages that an arrival became tell it how far it had come.

A key that was handled stays, so that a redelivery is recognised, until it is pruned. Payload and progress go when it
is done, because by then the message that it became holds it. Who wrote it is filled in as soon as that is known, so
that `people.forget` finds it.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlmodel import col, delete, select, update

from store.errors import AlreadyThere, NotFound
from store.locking import present
from store.session import Store
from store.tables import Identity, Inbox, Person


def receive(store: Store, channel: str, key: str, payload: dict[str, Any], *, external_id: str = "") -> int | None:
    """Write down what arrived and return its number. None: it was received before, and nothing was changed.

    `key` is the channel's own id of it, `external_id` the channel's own number of who sent it. Once this has returned,
    the arrival may be acknowledged: it survives a crash. Raises StoreError.
    """
    identity = select(Person.id).join(Identity).where(Identity.channel == channel, Identity.external_id == external_id)
    sender = identity.with_for_update(of=Person, read=True, key_share=True)  # nobody forgets them meanwhile
    try:
        with store.writing() as session:
            person_id = session.exec(sender).first() if external_id else None
            arrival = Inbox(channel=channel, key=key, payload=payload, person_id=person_id)
            session.add(arrival)
    except AlreadyThere:
        return None
    return arrival.id


def waiting(store: Store, channel: str) -> list[Inbox]:
    """What is not done, the oldest first."""
    with store.reading() as session:
        rows = select(Inbox).where(Inbox.channel == channel, Inbox.state == "waiting").order_by(col(Inbox.id))
        return list(session.exec(rows))


def attach(store: Store, inbox_ids: Sequence[int], person_id: int) -> None:
    """These arrivals are this person's, who was not known yet when they came. Raises NotFound for an unknown person."""
    nobodys = (col(Inbox.id).in_(inbox_ids), col(Inbox.person_id).is_(None))
    with store.writing() as session:
        if not present(session, [person_id]):
            raise NotFound(f"There is no person {person_id}.")
        session.exec(update(Inbox).where(*nobodys).values(person_id=person_id))


def note(store: Store, inbox_id: int, /, **progress: Any) -> None:
    """Add to the channel's own notes on an arrival that waits; on one that is done or forgotten there are none."""
    with store.writing() as session:
        arrival = session.get(Inbox, inbox_id, with_for_update=True)
        if arrival is not None and arrival.state == "waiting":
            arrival.progress = arrival.progress | progress


def done(store: Store, inbox_ids: Sequence[int]) -> None:
    """These arrivals are handled. Those that are not there any more were forgotten, which is fine."""
    theirs = update(Inbox).where(col(Inbox.id).in_(inbox_ids))
    with store.writing() as session:
        session.exec(theirs.values(state="done", payload={}, progress={}))


def prune(store: Store, channel: str, older_than: datetime) -> int:
    """Delete what was received before `older_than` and is done, and say how much it was. What waits is kept."""
    old = (col(Inbox.channel) == channel, col(Inbox.state) == "done", col(Inbox.received_at) < older_than)
    with store.writing() as session:
        return session.exec(delete(Inbox).where(*old)).rowcount
