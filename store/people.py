"""The people who talk to Familiar: who they are on each channel, what they allow, and all that is kept of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Literal

from sqlmodel import Session, col, delete, func, or_, select

from store.conversations import delete_all
from store.errors import AlreadyThere, NotFound
from store.session import Store
from store.tables import Consent, Conversation, Correction, Identity, Inbox, Message, Person, Rating

Choice = Literal["yes", "no"]


@dataclass(frozen=True)
class Forgotten:
    """How many rows `forget` deleted."""

    conversations: int
    messages: int
    ratings: int
    corrections: int
    inbox: int


@dataclass(frozen=True)
class Stats:
    """What there is of one person. Tokens are those of all replies, as the engine counted them."""

    conversations: int
    messages: int  # that the person wrote
    replies: int
    rated_up: int
    rated_down: int
    corrected: int
    prompt_tokens: int
    completion_tokens: int


def person_for(store: Store, channel: str, external_id: str, name: str = "", language: str = "") -> Person:
    """The person whom `channel` knows as `external_id`; made, with this name and language, when first seen.

    Safe when two messages of a new person arrive at once. Raises StoreError.
    """
    known = _known(store, channel, external_id)
    if known is not None:
        return known
    try:
        with store.writing() as session:
            person = Person(name=name, language=language)
            session.add(person)
            session.flush()
            assert person.id is not None
            session.add(Identity(person_id=person.id, channel=channel, external_id=external_id))
            return person
    except AlreadyThere:
        known = _known(store, channel, external_id)
        if known is None:
            raise
        return known


def consent(store: Store, person_id: int) -> Choice | None:
    """The person's newest answer to whether adapters may learn from the conversations; None before the first."""
    newest = select(Consent.choice).where(Consent.person_id == person_id).order_by(col(Consent.id).desc()).limit(1)
    with store.reading() as session:
        choice = session.exec(newest).first()
    return "yes" if choice == "yes" else "no" if choice == "no" else None


def give_consent(store: Store, person_id: int, choice: Choice) -> None:
    """Add an answer; earlier ones are kept. Raises NotFound, ValueError."""
    if choice not in {"yes", "no"}:
        raise ValueError(f"consent is 'yes' or 'no', not {choice!r}")
    with store.writing() as session:
        session.add(Consent(person_id=person_id, choice=choice))


def set_language(store: Store, person_id: int, language: str) -> None:
    """Set the language of Familiar's own words to this person: "en", "zh", or "" for unknown. Raises NotFound."""
    with store.writing() as session:
        _person(session, person_id).language = language


def set_name(store: Store, person_id: int, name: str) -> None:
    """Raises NotFound."""
    with store.writing() as session:
        _person(session, person_id).name = name


def stats(store: Store, person_id: int) -> Stats:
    """Counts of what is kept of a person; all zero for somebody unknown."""
    theirs = col(Conversation.person_id) == person_id
    messages = select(func.count()).select_from(Message).join(Conversation).where(theirs)
    tokens = (
        select(func.sum(col(Message.prompt_tokens)), func.sum(col(Message.completion_tokens)))
        .join(Conversation)
        .where(theirs)
    )
    ratings = select(func.count()).select_from(Rating).where(Rating.person_id == person_id)
    with store.reading() as session:
        prompt_tokens, completion_tokens = session.exec(tokens).one()
        return Stats(
            conversations=session.exec(select(func.count()).select_from(Conversation).where(theirs)).one(),
            messages=session.exec(messages.where(Message.role == "user")).one(),
            replies=session.exec(messages.where(Message.role == "assistant")).one(),
            rated_up=session.exec(ratings.where(Rating.value == 1)).one(),
            rated_down=session.exec(ratings.where(Rating.value == -1)).one(),
            corrected=session.exec(
                select(func.count()).select_from(Correction).where(Correction.person_id == person_id)
            ).one(),
            prompt_tokens=prompt_tokens or 0,
            completion_tokens=completion_tokens or 0,
        )


def export(store: Store, person_id: int) -> dict[str, Any]:
    """Everything kept of a person, ready for JSON: every column of every row, times in ISO 8601, UTC.

    Conversations hold their messages, messages their ratings and corrections. Raises NotFound.
    """
    with store.reading() as session:
        person = _person(session, person_id)
        ratings = _by_message(session.exec(select(Rating).where(Rating.person_id == person_id)).all())
        corrections = _by_message(session.exec(select(Correction).where(Correction.person_id == person_id)).all())
        messages: dict[int, list[dict[str, Any]]] = {}
        theirs = select(Message).join(Conversation).where(Conversation.person_id == person_id)
        for message in session.exec(theirs.order_by(col(Message.id))):
            row = message.model_dump(mode="json")
            row |= {"ratings": ratings.get(row["id"], []), "corrections": corrections.get(row["id"], [])}
            messages.setdefault(message.conversation_id, []).append(row)
        return {
            "person": person.model_dump(mode="json"),
            "identities": _rows(session, Identity, person_id),
            "consents": _rows(session, Consent, person_id),
            "conversations": [
                row | {"messages": messages.get(row["id"], [])} for row in _rows(session, Conversation, person_id)
            ],
            "inbox": _rows(session, Inbox, person_id),
        }


def forget(store: Store, person_id: int, keep_person: bool = False) -> Forgotten:
    """Delete everything kept of a person, for good, and say how much it was.

    `keep_person` leaves who they are (name, channels, their answers about learning), so that they are not asked anew.
    On SQLite the text is gone from the files, too, when this returns; PostgreSQL clears its files later, by itself.
    Raises NotFound, StoreError.
    """
    theirs = select(Conversation.id).where(Conversation.person_id == person_id)
    written = select(Message.id).where(col(Message.conversation_id).in_(theirs))
    arrived = or_(col(Inbox.person_id) == person_id, col(Inbox.message_id).in_(written))
    with store.writing() as session:
        person = session.get(Person, person_id, with_for_update=True)  # nobody adds to what is being deleted
        if person is None:
            raise NotFound(f"There is no person {person_id}.")
        messages = session.exec(select(func.count()).select_from(written.subquery())).one()
        inbox = session.exec(delete(Inbox).where(arrived)).rowcount
        ratings = session.exec(delete(Rating).where(col(Rating.person_id) == person_id)).rowcount
        corrections = session.exec(delete(Correction).where(col(Correction.person_id) == person_id)).rowcount
        conversations = session.exec(select(func.count()).select_from(theirs.subquery())).one()
        delete_all(session, col(Conversation.person_id) == person_id)
        if not keep_person:
            session.delete(person)
    store.erase_traces(thoroughly=True)
    return Forgotten(conversations, messages, ratings, corrections, inbox)


def _known(store: Store, channel: str, external_id: str) -> Person | None:
    identity = select(Person).join(Identity).where(Identity.channel == channel)
    with store.reading() as session:
        return session.exec(identity.where(Identity.external_id == external_id)).first()


def _person(session: Session, person_id: int) -> Person:
    person = session.get(Person, person_id)
    if person is None:
        raise NotFound(f"There is no person {person_id}.")
    return person


def _rows(
    session: Session, table: type[Identity | Consent | Conversation | Inbox], person_id: int
) -> list[dict[str, Any]]:
    theirs = select(table).where(col(table.person_id) == person_id).order_by(col(table.id))
    return [row.model_dump(mode="json") for row in session.exec(theirs)]


def _by_message(rows: Iterable[Rating] | Iterable[Correction]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.message_id, []).append(row.model_dump(mode="json"))
    return found
