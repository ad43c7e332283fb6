"""Words of somebody that stand in another's conversation, because that other quoted them to the assistant.

They are the writer's to forget, not the quoter's to keep. They stand in the text of the quoting message as it was sent
to the model, and in the logged prompt of every reply that had this message in its history.
"""

from __future__ import annotations

from sqlalchemy.orm import aliased
from sqlmodel import Session, col, delete, select, update
from sqlmodel.sql.expression import SelectOfScalar

from store.tables import Conversation, Message, Quotation, now


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
