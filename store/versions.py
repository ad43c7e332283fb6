"""What people may know of the adapters that answer them: where each version comes from, and whether it is in force."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlmodel import Session, col, func, select, update

from store.session import Store
from store.tables import Adapter, Canary, Correction, Message, Person, Run, TrainedOn, now


@dataclass(frozen=True)
class Version:
    name: str
    version: int
    made_at: datetime
    run: int | None  # that made it; None: it was not made here, or that is not known any more
    loaded: bool  # can it be asked for?
    in_force: bool
    share: float | None  # of the conversations that it answers while it is on trial; None: it is not
    whole: bool = False  # a whole model: while it is in force, nothing else answers anybody

    @property
    def served_name(self) -> str:
        return f"{self.name}@{self.version}"


def versions(store: Store) -> list[Version]:
    """All of them, by name and version."""
    made = select(Run.name, Run.version, func.min(Run.id)).where(col(Run.version).is_not(None))
    with store.reading() as session:
        rows = session.exec(select(Adapter).order_by(col(Adapter.name), col(Adapter.version))).all()
        runs = {
            (name, number): run for name, number, run in session.exec(made.group_by(col(Run.name), col(Run.version)))
        }
        on_trial = session.exec(select(Canary).where(col(Canary.ended_at).is_(None)))
        shares = {(each.name, each.version): each.share for each in on_trial}
    return [
        Version(
            row.name,
            row.version,
            row.created_at,
            runs.get((row.name, row.version)),
            row.loaded,
            row.active,
            shares.get((row.name, row.version)),
            row.kind == "model",
        )
        for row in rows
    ]


def version(store: Store, served_name: str) -> Version | None:
    """That of name@version; None for one that is not known."""
    return next((each for each in versions(store) if each.served_name == served_name), None)


def tell_once(store: Store, person_id: int, served_name: str) -> int | None:
    """The number of this version, name@version, if it learned from what this person corrected and they do not know yet.

    From then on they do: it is said once a person. What was corrected when its run had already begun does not count,
    nor what is not there any more.
    """
    found = version(store, served_name)
    if found is None:
        return None
    with store.reading() as session:
        if not _knows_not(session, person_id) or not _learned_from(session, person_id, found):
            return None
    telling = update(Person).where(col(Person.id) == person_id, col(Person.told_of_learning_at).is_(None))
    with store.writing() as session:
        return found.version if session.exec(telling.values(told_of_learning_at=now())).rowcount else None


def _knows_not(session: Session, person_id: int) -> bool:
    person = session.get(Person, person_id)
    return person is not None and person.told_of_learning_at is None


def _learned_from(session: Session, person_id: int, found: Version) -> bool:
    run = session.get(Run, found.run) if found.run is not None else None
    corrected = (
        select(Correction.id)
        .join(Message, col(Message.id) == col(Correction.message_id))
        .join(TrainedOn, col(TrainedOn.conversation_id) == col(Message.conversation_id))
        .join(Adapter, col(Adapter.id) == col(TrainedOn.adapter_id))
        .where(Adapter.name == found.name, Adapter.version == found.version)
        .where(Correction.person_id == person_id, Correction.at < (run.started_at if run else found.made_at))
    )
    return session.exec(corrected.limit(1)).first() is not None
