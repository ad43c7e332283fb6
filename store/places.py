"""The groups that Familiar is in, and what is set there."""

from __future__ import annotations

from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from store.session import Store
from store.tables import Place
from store.upsert import insert_into


def place(store: Store, channel: str, external_id: str, title: str = "") -> Place:
    """The place that `channel` knows as `external_id`, made when first seen; a title that is given is its title now."""
    with store.reading() as session:
        known = session.exec(_at(channel, external_id)).first()
    if known is not None and title in ("", known.title):
        return known
    with store.writing() as session:
        found = _row(session, channel, external_id)
        found.title = title or found.title
        return found


def listing(store: Store) -> list[Place]:
    """Every place that was seen, the first first."""
    with store.reading() as session:
        return list(session.exec(select(Place).order_by(col(Place.id))))


def configure(
    store: Store, channel: str, external_id: str, *, enabled: bool | None = None, persona: str | None = None
) -> Place:
    """Change what is given, also of a place not seen yet; None leaves as it is."""
    with store.writing() as session:
        found = _row(session, channel, external_id)
        if enabled is not None:
            found.enabled = enabled
        if persona is not None:
            found.persona = persona
        return found


def _at(channel: str, external_id: str) -> SelectOfScalar[Place]:
    return select(Place).where(Place.channel == channel, Place.external_id == external_id)


def _row(session: Session, channel: str, external_id: str) -> Place:
    """The place, made if it is new, and nobody else's to change until this transaction ends."""
    made = insert_into(session, Place).values(
        Place(channel=channel, external_id=external_id).model_dump(exclude={"id"})
    )
    session.connection().execute(made.on_conflict_do_nothing(index_elements=["channel", "external_id"]))
    return session.exec(_at(channel, external_id).with_for_update()).one()
