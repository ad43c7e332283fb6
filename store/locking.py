"""Which rows a transaction locks, and in which order: persons, conversations, messages, everything else.

On PostgreSQL two transactions that lock the same rows in different orders end in a deadlock, of which one is undone.
Within a table the smaller number comes first. SQLite has one writer at a time and ignores all this.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlmodel import Session, col, select

from store.errors import NotFound
from store.tables import Conversation, Person


def present(session: Session, person_ids: Iterable[int]) -> set[int]:
    """Which of these persons are there. They stay until this transaction ends; others may change them meanwhile."""
    known = select(Person.id).where(col(Person.id).in_(set(person_ids))).order_by(col(Person.id))
    found = session.exec(known.with_for_update(read=True, key_share=True))
    return {person_id for person_id in found if person_id is not None}


def locked_conversation(session: Session, conversation_id: int) -> Conversation:
    """The conversation, which nobody else adds to or deletes until this transaction ends. Raises NotFound."""
    conversation = session.get(Conversation, conversation_id, with_for_update=True)
    if conversation is None:
        raise NotFound(f"There is no conversation {conversation_id}; it may have been deleted.")
    return conversation
