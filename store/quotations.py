"""Words of somebody that stand in another's conversation: that other quoted them to the assistant, or they come from a
document that somebody gave to a group.

They are the writer's to forget, not the quoter's to keep. They stand in the text of the quoting message as it was sent
to the model, and in the logged prompt of every reply that had this message in its history.
"""

from __future__ import annotations

from collections.abc import Collection

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, delete, select, update
from sqlmodel.sql.expression import SelectOfScalar

from store.session import Store
from store.tables import Conversation, Message, Person, Quotation, now
from store.upsert import insert_into


def note(store: Store, message_id: int, person_ids: Collection[int]) -> bool:
    """The prompt of the reply to this message will hold words of these persons; False when one of them is gone."""
    with store.writing() as session:
        there = set(session.exec(select(Person.id).where(col(Person.id).in_(person_ids))).all())
        for person_id in sorted(set(person_ids) & there):
            row = insert_into(session, Quotation).values(message_id=message_id, person_id=person_id)
            session.execute(row.on_conflict_do_nothing())
    return there == set(person_ids)


def conversations_quoting(person_id: int) -> SelectOfScalar[int]:
    """The numbers of the conversations in which somebody quoted this person."""
    return select(Message.conversation_id).join(Quotation).where(Quotation.person_id == person_id)


def take_out(session: Session, person_id: int) -> None:
    """Take a person's words out of everybody's conversations. The caller has locked these.

    A prompt that lost some of its words is emptied, not mended: it must be what the model saw, or nothing. A reply that
    is still being made finds by `unquoted_at` that its prompt is not to be kept.
    """
    quoting = select(Quotation.message_id).where(Quotation.person_id == person_id)
    after = select(Message.id).where(col(Message.id).in_(quoting)).cte("after", recursive=True)
    child = aliased(Message)
    after = after.union(select(child.id).join(after, col(child.parent_id) == after.c.id))
    replies = (col(Message.id).in_(select(after.c.id)), col(Message.role) == "assistant")
    session.exec(update(Message).where(*replies).values(prompt=[]))
    session.exec(update(Message).where(col(Message.id).in_(quoting)).values(sent=""))
    theirs = col(Conversation.id).in_(conversations_quoting(person_id))
    session.exec(update(Conversation).where(theirs).values(unquoted_at=now()))
    session.exec(delete(Quotation).where(col(Quotation.person_id) == person_id))
