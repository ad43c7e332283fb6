"""Whether somebody may use a channel: who asked, with which pairing code, and what the operator decided.

The rows go by the channel's own number of somebody, not by person: who is blocked stays blocked after /forget, and
somebody who only asked to be let in is not a person of ours yet.
"""

from __future__ import annotations

from typing import Literal

from sqlmodel import Session, col, delete, select

from store.session import Store
from store.tables import Access, now
from store.upsert import insert_into

State = Literal["pending", "allowed", "blocked"]
Role = Literal["user", "admin"]

PENDING_KEPT = 200  # requests; anybody at all can make one


def standing(store: Store, channel: str, external_id: str) -> Access | None:
    """What is known of this identity's access; None when they never asked and nothing was decided."""
    with store.reading() as session:
        return session.exec(select(Access).where(Access.channel == channel, Access.external_id == external_id)).first()


def request(store: Store, channel: str, external_id: str, name: str, code: str) -> Access:
    """Ask for access with a pairing code; who asks again keeps the first code, and a decision stays as it is.

    The newest PENDING_KEPT requests are kept: who is pushed out may ask again, and no crowd of strangers keeps others
    from asking. Safe when the same asks twice at once. Raises AlreadyThere when another's request has this code: try
    another code.
    """
    with store.writing() as session:
        access = _row(session, channel, external_id)
        if access.state == "pending" and not access.code:
            access.code, access.name = code.upper(), name or access.name
            others = (col(Access.state) == "pending", col(Access.id) != access.id)
            oldest = select(Access.id).where(*others).order_by(col(Access.id).desc()).offset(PENDING_KEPT - 1)
            session.exec(delete(Access).where(*others, col(Access.id).in_(oldest)))
        return access


def decide(
    store: Store, channel: str, external_id: str, state: State | None = None, role: Role | None = None, name: str = ""
) -> Access:
    """Set what is given, also for somebody who never asked. A new `state` is a decision: the code is used up."""
    with store.writing() as session:
        access = _row(session, channel, external_id)
        if state is not None:
            access.state, access.code, access.decided_at = state, "", now()
        if role is not None:
            access.role = role
        access.name = name or access.name
        return access


def by_code(store: Store, code: str) -> Access | None:
    """The request that waits with this pairing code, in capitals or not."""
    if not code:
        return None
    with store.reading() as session:
        return session.exec(select(Access).where(Access.code == code.upper())).first()


def listing(store: Store) -> list[Access]:
    """Everybody who asked or was decided about, the oldest first."""
    with store.reading() as session:
        return list(session.exec(select(Access).order_by(col(Access.id))))


def _row(session: Session, channel: str, external_id: str) -> Access:
    """The row of this identity, made if there is none, and nobody else's to change until this transaction ends."""
    new = Access(channel=channel, external_id=external_id)
    made = insert_into(session, Access).values(new.model_dump(exclude={"id"}))
    session.connection().execute(made.on_conflict_do_nothing(index_elements=["channel", "external_id"]))
    found = select(Access).where(Access.channel == channel, Access.external_id == external_id)
    return session.exec(found.with_for_update()).one()
