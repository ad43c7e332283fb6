"""What a person thinks of a reply: thumbs up or down, and the answer that should have been given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sqlmodel import Session, col, delete, select
from sqlmodel.sql.expression import SelectOfScalar

from store.conversations import owned_message
from store.errors import NotAReply
from store.locking import present
from store.session import Store
from store.tables import Correction, Message, Rating, now


@dataclass(frozen=True)
class Feedback:
    """One person's feedback on one message."""

    rating: int | None  # +1, -1
    correction: str | None


def rate(store: Store, message_id: int, person_id: int, value: Literal[1, -1]) -> None:
    """Rate a reply; a second rating replaces the first. Raises NotFound, NotAReply, ValueError."""
    if value not in {1, -1}:
        raise ValueError(f"a rating is 1 or -1, not {value!r}")
    with store.writing() as session:
        _reply(session, message_id, person_id)
        rating = session.exec(_rating(message_id, person_id)).first()
        rating = rating or Rating(message_id=message_id, person_id=person_id, value=value)
        rating.value, rating.at = value, now()
        session.add(rating)


def unrate(store: Store, message_id: int, person_id: int) -> None:
    """Take the rating back, if there is one. Raises NotFound, NotAReply."""
    with store.writing() as session:
        _reply(session, message_id, person_id)
        theirs = (col(Rating.message_id) == message_id, col(Rating.person_id) == person_id)
        session.exec(delete(Rating).where(*theirs))


def correct(store: Store, message_id: int, person_id: int, text: str) -> None:
    """Say what a reply should have been; a second correction replaces the first. Raises NotFound, NotAReply."""
    with store.writing() as session:
        _reply(session, message_id, person_id)
        correction = session.exec(_correction(message_id, person_id)).first()
        correction = correction or Correction(message_id=message_id, person_id=person_id, text=text)
        correction.text, correction.at = text, now()
        session.add(correction)


def feedback(store: Store, message_id: int, person_id: int) -> Feedback:
    """The person's feedback on a message. Raises NotFound."""
    with store.reading() as session:
        owned_message(session, message_id, person_id)
        rating = session.exec(_rating(message_id, person_id)).first()
        correction = session.exec(_correction(message_id, person_id)).first()
    return Feedback(rating.value if rating else None, correction.text if correction else None)


def rating_of(store: Store, message_id: int, person_id: int) -> Literal[1, -1] | None:
    """The person's rating of a message; None when there is none, also when there is no such message."""
    with store.reading() as session:
        rating = session.exec(_rating(message_id, person_id)).first()
    if rating is None:
        return None
    return 1 if rating.value > 0 else -1


def _reply(session: Session, message_id: int, person_id: int) -> Message:
    """The reply, locked, so that of two ratings at once one replaces the other."""
    present(session, [person_id])
    message = owned_message(session, message_id, person_id, lock=True)
    if message.role != "assistant":
        raise NotAReply(f"Message {message_id} is not a reply; only replies can be rated and corrected.")
    return message


def _rating(message_id: int, person_id: int) -> SelectOfScalar[Rating]:
    return select(Rating).where(Rating.message_id == message_id, Rating.person_id == person_id)


def _correction(message_id: int, person_id: int) -> SelectOfScalar[Correction]:
    return select(Correction).where(Correction.message_id == message_id, Correction.person_id == person_id)
