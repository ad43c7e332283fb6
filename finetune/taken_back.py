"""What people took back that the adapter in force has learned: to be measured, so that it shows when it is unlearned.

A person says no after having said yes: their conversations still stand in the log. Or a conversation is forgotten:
what was learned of it is kept for some days where the operator has it so (store.sealed), else there is nothing.
Nothing of this is learnt, validated on or tested on.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from finetune.collect import taught
from finetune.examples import Example
from finetune.near_duplicates import across, said
from finetune.redacting import Redaction, redacted
from settings import Learning
from store import learning as log
from store import lineage, sealed
from store.learning import LoggedReply
from store.session import Store
from store.tables import Adapter

CONVERSATIONS = 50  # that are measured, the newest; more would say the same


@dataclass(frozen=True)
class TakenBack:
    example: Example
    by: frozenset[int]  # people
    owner: int  # whose conversation it was
    name: str  # and what they call themselves


def collected(store: Store, learning: Learning, in_force: Adapter) -> Iterator[TakenBack]:
    """Conversation by conversation, what is forgotten first, and of that the newest. Raises StoreError."""
    assert in_force.id is not None, "a stored row has an id"
    learned = lineage.learned_from(store, in_force.id)
    for reply, example in taught(sealed.replies(store, learned), learning):
        if reply.at <= in_force.created_at:
            yield TakenBack(example, frozenset({reply.person_id}), reply.person_id, reply.person_name)
    by: dict[int, frozenset[int]] = {}

    def withdrawn() -> Iterator[LoggedReply]:
        for reply, persons in log.withdrawn(store, learning.consent, learned, in_force.created_at):
            by[reply.message_id] = persons
            yield reply

    for reply, example in taught(withdrawn(), learning):
        yield TakenBack(example, by[reply.message_id], reply.person_id, reply.person_name)


def without_names(store: Store, items: Sequence[TakenBack], redactor: Redaction) -> list[TakenBack]:
    """With placeholders in the place of personal data, as in everything that is learnt."""
    names = log.names(store, {person for each in items for person in each.example.source.person_ids})
    names |= {each.owner: each.name for each in items if each.name.strip()}  # who is forgotten is in the store no more
    placed, _ = redacted([each.example for each in items], names, redactor)
    return [replace(each, example=hidden) for each, hidden in zip(items, placed, strict=True)]  # type: ignore[arg-type]


def counted(items: Sequence[TakenBack], learnt: Collection[Example], near_duplicate: float) -> dict[str, int]:
    """How much it is; `taught_by_others`: of how many the same is learnt from others, who agree."""
    if not items:
        return {}
    theirs = [said(each.example) for each in items]
    also = {number for _, number in across([said(each) for each in learnt], theirs, near_duplicate or 1.0)}
    return {
        "people": len({person for each in items for person in each.by}),
        "conversations": len({each.example.source.conversation for each in items}),
        "examples": len(items),
        "taught_by_others": len(also),
    }
