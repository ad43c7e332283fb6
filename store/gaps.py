"""Questions that the documents did not answer, from the log: what an operator should add.

A question is one when documents were searched and none was good enough, or when the reply that rested on them was
rated down. Only of people who agreed that their conversations are learnt from: an operator reads these.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sqlalchemy.orm import aliased
from sqlmodel import col, func, select

from store.session import Store
from store.tables import Consent, Conversation, Message, Rating

Why = Literal["nothing_found", "rated_down"]
Policy = Literal["ask", "all", "none"]


@dataclass(frozen=True)
class Gap:
    question: str
    why: Why
    at: datetime
    person_id: int
    message_id: int  # the question's


@dataclass(frozen=True)
class Gaps:
    found: tuple[Gap, ...]  # newest first, one a question asked
    withheld: int  # of people who have not agreed


def gaps(store: Store, policy: Policy, *, since: datetime | None = None) -> Gaps:
    """What was not answered. `policy` is the operator's own for learning: a person's own no always counts."""
    reply, question = aliased(Message), aliased(Message)
    down = select(Rating.message_id).where(Rating.value < 0)
    wanted = (
        select(reply, question, Conversation.person_id)
        .join(question, col(question.id) == reply.parent_id)
        .join(Conversation, col(Conversation.id) == reply.conversation_id)
        .where(col(reply.relevance).is_not(None))
        .order_by(col(reply.id).desc())
    )
    if since is not None:
        wanted = wanted.where(reply.created_at >= since)
    newest = select(func.max(Consent.id)).where(col(Consent.choice).in_(["yes", "no"])).group_by(col(Consent.person_id))
    with store.reading() as session:
        rows = session.exec(wanted).all()
        rated_down = set(session.exec(down).all())
        choices = dict(session.exec(select(Consent.person_id, Consent.choice).where(col(Consent.id).in_(newest))).all())
    found: dict[int, Gap] = {}
    withheld: set[int] = set()
    for replied, asked, person_id in rows:
        why: Why | None = "nothing_found" if not replied.passages else None
        why = "rated_down" if replied.id in rated_down else why
        if why is None or asked.id is None or asked.id in found:
            continue
        if not _agreed(policy, choices.get(person_id)):
            withheld.add(asked.id)
            continue
        found[asked.id] = Gap(asked.content, why, replied.created_at, person_id, asked.id)
    return Gaps(tuple(found.values()), len(withheld))


def people_of(found: Iterable[Gap]) -> int:
    return len({gap.person_id for gap in found})


def _agreed(policy: Policy, choice: str | None) -> bool:
    return (policy == "all" and choice != "no") or (policy == "ask" and choice == "yes")
