"""The people who talk to Familiar: who they are on each channel, what they allow, and all that is kept of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import ColumnElement
from sqlmodel import Session, col, delete, exists, func, or_, select, update
from sqlmodel.sql.expression import SelectOfScalar

from store.conversations import delete_all
from store.errors import AlreadyThere, NotFound
from store.lineage import mark_forgotten, trained
from store.quotations import conversations_quoting, take_out
from store.sealed import break_open
from store.sealed import seal as seal_up
from store.session import Store
from store.tables import (
    Access,
    Consent,
    Conversation,
    Correction,
    Identity,
    Inbox,
    Message,
    Person,
    Post,
    Quotation,
    Rating,
    Sealed,
    TrainedOn,
    Usage,
)

Choice = Literal["yes", "no"]
_ANSWERS = ("yes", "no")
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True)
class Forgotten:
    """How many rows `forget` deleted."""

    conversations: int
    messages: int
    ratings: int
    corrections: int
    inbox: int
    adapters: tuple[str, ...]  # name@version of those that learned from what is forgotten
    sealed: int = 0  # conversations of which what an adapter learned is kept for some days (store.sealed)


@dataclass(frozen=True)
class Known:
    """A person as a line of the operator's list."""

    person_id: int
    name: str
    language: str
    identities: tuple[tuple[str, str], ...]  # channel and the channel's own number
    messages: int  # that the person wrote
    last_at: datetime | None  # when they wrote last; None for somebody who never did


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


@dataclass(frozen=True)
class Totals:
    """What there is of all people together, as in Stats."""

    people: int
    conversations: int
    messages: int
    replies: int
    rated_up: int
    rated_down: int
    corrected: int
    consented: int  # people whose newest answer about learning is yes
    prompt_tokens: int
    completion_tokens: int


def person_for(store: Store, channel: str, external_id: str, name: str = "", language: str = "") -> Person:
    """The person whom `channel` knows as `external_id`; made, with this name and language, when first seen.

    Safe when two messages of a new person arrive at once. Raises StoreError.
    """
    known = with_identity(store, channel, external_id)
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
        known = with_identity(store, channel, external_id)
        if known is None:
            raise
        return known


def with_identity(store: Store, channel: str, external_id: str) -> Person | None:
    """The person whom `channel` knows as `external_id`; None for somebody not seen yet."""
    identity = select(Person).join(Identity).where(Identity.channel == channel)
    with store.reading() as session:
        return session.exec(identity.where(Identity.external_id == external_id)).first()


def everybody(store: Store) -> list[Known]:
    """Everybody there is, who wrote last first; then those who never wrote, the newest first."""
    written = (
        select(Conversation.person_id, func.count(), func.max(Message.created_at))
        .join(Message)
        .where(Message.role == "user")
        .group_by(col(Conversation.person_id))
    )
    with store.reading() as session:
        wrote: dict[int, tuple[int, datetime | None]] = {each: (count, at) for each, count, at in session.exec(written)}
        identities: dict[int, list[tuple[str, str]]] = {}
        for each in session.exec(select(Identity).order_by(col(Identity.id))):
            identities.setdefault(each.person_id, []).append((each.channel, each.external_id))
        known = [
            Known(each.id, each.name, each.language, tuple(identities.get(each.id, ())), *wrote.get(each.id, (0, None)))
            for each in session.exec(select(Person))
            if each.id is not None
        ]
    return sorted(known, key=lambda each: (each.last_at or _NEVER, each.person_id), reverse=True)


def consent(store: Store, person_id: int) -> Choice | None:
    """The person's newest answer to whether adapters may learn from the conversations; None before the first."""
    answers = select(Consent.choice).where(Consent.person_id == person_id, col(Consent.choice).in_(_ANSWERS))
    with store.reading() as session:
        choice = session.exec(answers.order_by(col(Consent.id).desc()).limit(1)).first()
    return "yes" if choice == "yes" else "no" if choice == "no" else None


def give_consent(store: Store, person_id: int, choice: Choice) -> None:
    """Add an answer; earlier ones are kept. Raises NotFound, ValueError."""
    if choice not in _ANSWERS:
        raise ValueError(f"consent is 'yes' or 'no', not {choice!r}")
    with store.writing() as session:
        session.add(Consent(person_id=person_id, choice=choice))


def note_asked(store: Store, person_id: int) -> None:
    """Note that the question about learning was put to this person. Raises NotFound."""
    with store.writing() as session:
        session.add(Consent(person_id=person_id, choice="asked"))


def was_asked(store: Store, person_id: int) -> bool:
    """Whether the question was ever put to this person, or answered without being put."""
    with store.reading() as session:
        return session.exec(select(Consent.id).where(Consent.person_id == person_id).limit(1)).first() is not None


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
    with store.reading() as session:
        return _counted(session, person_id)


def totals(store: Store) -> Totals:
    """Counts of what is kept of everybody."""
    newest = select(func.max(Consent.id)).where(col(Consent.choice).in_(_ANSWERS)).group_by(col(Consent.person_id))
    consented = select(func.count()).select_from(Consent).where(col(Consent.id).in_(newest), Consent.choice == "yes")
    with store.reading() as session:
        return Totals(
            people=session.exec(select(func.count()).select_from(Person)).one(),
            consented=session.exec(consented).one(),
            **asdict(_counted(session, None)),
        )


def export(store: Store, person_id: int) -> dict[str, Any]:
    """Everything kept of a person, ready for JSON: every column of every row, times in ISO 8601, UTC.

    Conversations hold their messages, messages their ratings, corrections and posts. Raises NotFound.
    """
    with store.reading() as session:
        person = _person(session, person_id)
        ratings = _by_message(session.exec(select(Rating).where(Rating.person_id == person_id)).all())
        corrections = _by_message(session.exec(select(Correction).where(Correction.person_id == person_id)).all())
        posted = select(Post).join(Message).join(Conversation).where(Conversation.person_id == person_id)
        posts = _by_message(session.exec(posted.order_by(col(Post.id))).all())
        messages: dict[int, list[dict[str, Any]]] = {}
        theirs = select(Message).join(Conversation).where(Conversation.person_id == person_id)
        for message in session.exec(theirs.order_by(col(Message.id))):
            row = message.model_dump(mode="json")
            row |= {"ratings": ratings.get(row["id"], []), "corrections": corrections.get(row["id"], [])}
            row |= {"posts": posts.get(row["id"], [])}
            messages.setdefault(message.conversation_id, []).append(row)
        return {
            "person": person.model_dump(mode="json"),
            "identities": _rows(session, Identity, person_id),
            "consents": _rows(session, Consent, person_id),
            "conversations": [
                row | {"messages": messages.get(row["id"], [])} for row in _rows(session, Conversation, person_id)
            ],
            "inbox": _rows(session, Inbox, person_id),
            "quotations": _rows(session, Quotation, person_id),
            "access": _of_their_identities(session, Access, person_id),
            "usage": _of_their_identities(session, Usage, person_id),
            "trained_on": _rows(session, TrainedOn, person_id),
            "sealed": _rows(session, Sealed, person_id),
        }


def forget(store: Store, person_id: int, keep_person: bool = False, *, seal: bool = False) -> Forgotten:
    """Delete everything kept of a person, for good, and say how much it was.

    `keep_person` leaves who they are (name, channels, their answers about learning), so that they are not asked anew.
    Their words are taken out of the prompts of others who quoted them, and adapters that learned from any of this are
    marked. Whether they may use a channel and what they used of their quota stays, by the channel's number and without
    a name: forgetting neither unblocks nor refills. On SQLite the text is gone from the files, too, when this returns;
    PostgreSQL clears its files later, by itself.

    `seal`: what an adapter in force learned of their conversations is kept for some days (store.sealed); else nothing
    is, and what was sealed of them before goes, too.

    Raises NotFound, StoreError.
    """
    theirs = select(Conversation.id).where(Conversation.person_id == person_id)
    written = select(Message.id).where(col(Message.conversation_id).in_(theirs))
    arrived = or_(
        col(Inbox.person_id) == person_id, col(Inbox.message_id).in_(written), col(Inbox.reply_id).in_(written)
    )
    quoting = conversations_quoting(person_id)
    learned = or_(col(TrainedOn.person_id) == person_id, col(TrainedOn.conversation_id).in_(quoting))
    with store.writing() as session:
        person = _locked_with_all_theirs(session, person_id, quoting)
        sealed = seal_up(session, col(Conversation.person_id) == person_id) if seal else 0
        adapters = trained(session, learned)
        mark_forgotten(session, learned)
        take_out(session, person_id)
        messages = session.exec(select(func.count()).select_from(written.subquery())).one()
        inbox = session.exec(delete(Inbox).where(arrived)).rowcount
        ratings = session.exec(delete(Rating).where(col(Rating.person_id) == person_id)).rowcount
        corrections = session.exec(delete(Correction).where(col(Correction.person_id) == person_id)).rowcount
        conversations = session.exec(select(func.count()).select_from(theirs.subquery())).one()
        delete_all(session, col(Conversation.person_id) == person_id)
        break_open(session, person_id, also_theirs=not seal)
        if not keep_person:
            session.exec(update(Access).where(_of_an_identity(Access, person_id)).values(name=""))
            session.delete(person)
    store.erase_traces(thoroughly=True)
    return Forgotten(conversations, messages, ratings, corrections, inbox, adapters, sealed)


def _locked_with_all_theirs(session: Session, person_id: int, quoting: SelectOfScalar[int]) -> Person:
    """The person, to whom nobody adds what is being deleted, and the conversations it stands in. Raises NotFound.

    Who quoted them is locked too: two who quoted each other may be forgotten at once.
    """
    quoters = select(Conversation.person_id).where(col(Conversation.id).in_(quoting))
    people = select(Person).where(or_(col(Person.id) == person_id, col(Person.id).in_(quoters)))
    found = {each.id: each for each in session.exec(people.order_by(col(Person.id)).with_for_update())}
    if person_id not in found:
        raise NotFound(f"There is no person {person_id}.")
    touched = or_(col(Conversation.person_id) == person_id, col(Conversation.id).in_(quoting))
    session.exec(select(Conversation.id).where(touched).order_by(col(Conversation.id)).with_for_update()).all()
    return found[person_id]


def _person(session: Session, person_id: int) -> Person:
    person = session.get(Person, person_id)
    if person is None:
        raise NotFound(f"There is no person {person_id}.")
    return person


def _rows(
    session: Session,
    table: type[Identity | Consent | Conversation | Inbox | Quotation | Sealed | TrainedOn],
    person_id: int,
) -> list[dict[str, Any]]:
    theirs = select(table).where(col(table.person_id) == person_id).order_by(col(table.id))
    return [row.model_dump(mode="json") for row in session.exec(theirs)]


def _of_their_identities(session: Session, table: type[Access | Usage], person_id: int) -> list[dict[str, Any]]:
    rows = select(table).where(_of_an_identity(table, person_id)).order_by(col(table.id))
    return [row.model_dump(mode="json") for row in session.exec(rows)]


def _of_an_identity(table: type[Access | Usage], person_id: int) -> ColumnElement[bool]:
    return exists().where(
        col(Identity.person_id) == person_id,
        col(Identity.channel) == table.channel,
        col(Identity.external_id) == table.external_id,
    )


def _counted(session: Session, person_id: int | None) -> Stats:
    """Of one person, or (None) of everybody."""
    conversations = select(func.count()).select_from(Conversation)
    messages = select(func.count()).select_from(Message)
    tokens = select(func.sum(col(Message.prompt_tokens)), func.sum(col(Message.completion_tokens)))
    ratings = select(func.count()).select_from(Rating)
    corrections = select(func.count()).select_from(Correction)
    if person_id is not None:
        theirs = col(Conversation.person_id) == person_id
        conversations, messages = conversations.where(theirs), messages.join(Conversation).where(theirs)
        tokens = tokens.join(Conversation).where(theirs)
        ratings = ratings.where(Rating.person_id == person_id)
        corrections = corrections.where(Correction.person_id == person_id)
    prompt_tokens, completion_tokens = session.exec(tokens).one()
    return Stats(
        conversations=session.exec(conversations).one(),
        messages=session.exec(messages.where(Message.role == "user")).one(),
        replies=session.exec(messages.where(Message.role == "assistant")).one(),
        rated_up=session.exec(ratings.where(Rating.value == 1)).one(),
        rated_down=session.exec(ratings.where(Rating.value == -1)).one(),
        corrected=session.exec(corrections).one(),
        prompt_tokens=prompt_tokens or 0,
        completion_tokens=completion_tokens or 0,
    )


def _by_message(rows: Iterable[Rating] | Iterable[Correction] | Iterable[Post]) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row.message_id, []).append(row.model_dump(mode="json"))
    return found
