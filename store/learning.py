"""What adapters may learn from: the log's replies, with all that became of each, of people who allow it.

Whose words a prompt holds must all allow it: who wrote the conversation, and everybody who is quoted in any message
that the reply follows. The newest answer of a person counts, and a no counts whatever the operator's policy is.

Read in pieces, each in a short transaction of its own: a log may be larger than the memory, and a run that learns from
it must not hold back the writes of the people who talk meanwhile. Within a conversation every prompt repeats the one
before it, so that equal texts are handed out as one object.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import datetime
from functools import partial
from typing import Literal

import sqlalchemy
from sqlmodel import Session, col, func, select

from store.session import Store
from store.tables import Consent, Conversation, Correction, Message, Person, Quotation, Rating

Policy = Literal["ask", "all", "none"]
Prompts = Mapping[int, Sequence[Mapping[str, str]]]  # by message

_CONVERSATIONS_AT_ONCE = 50
_PROMPTS_AT_ONCE = 100
_NUMBERS_AT_ONCE = 500  # in one statement; databases limit them


@dataclass(frozen=True)
class LoggedReply:
    """A reply as the log holds it. All replies of a conversation come one after the other."""

    message_id: int
    parent_id: int  # of the message that it answers: the same for its siblings
    conversation_id: int
    person_id: int
    person_name: str
    language: str  # the person's: en, zh; "" while unknown
    place: str  # "" in private, else the group, as "channel:id"
    at: datetime
    prompt: tuple[dict[str, str], ...]  # the messages exactly as sent
    question: str  # what it answers as a later prompt holds it: with what was quoted, without passages
    unanswered: tuple[str, ...]  # what the person wrote before that and got no reply to; the prompt has them together
    text: str
    finish: str  # stop, length, stopped, error
    error: str
    model: str
    adapter: str
    passages: tuple[str, ...]
    rating: int | None  # +1, -1
    correction: str | None
    corrected_at: datetime | None
    on_branch: bool  # the branch that is being continued goes through it or ends in it
    went_on: bool  # a message of the person's follows it
    siblings: tuple[int, ...]  # the other replies to the same message
    quoted_persons: tuple[int, ...]  # whose words besides the writer's may stand in it


@dataclass(frozen=True)
class _Noted:
    """What is known of one conversation before any prompt is read."""

    conversation: Conversation
    person: Person
    messages: Mapping[int, _Light]
    quoted: Mapping[int, frozenset[int]]  # by message: everybody quoted in it or before it
    branch: frozenset[int]
    children: Mapping[int | None, list[int]]
    ratings: Mapping[int, int]
    corrections: Mapping[int, tuple[str, datetime]]


@dataclass(frozen=True)
class _Light:
    """A message without its prompt."""

    id: int
    conversation_id: int
    parent_id: int | None
    role: str
    content: str
    sent: str
    created_at: datetime
    finish: str
    error: str
    model: str
    adapter: str
    passages: list[str]


_LIGHT = tuple(Message.__table__.c[each.name] for each in fields(_Light))  # type: ignore[attr-defined]


def logged(store: Store, consent: Policy, left_out: Counter[str] | None = None) -> Iterator[LoggedReply]:
    """The replies that may be learnt from, by conversation and age. `consent` is the operator's policy.

    `left_out` is told how many replies are not among them, and why: no_consent, quoted_without_consent, not_the_model
    (Familiar's own words, written without the engine), prompt_not_kept (it held words of somebody forgotten since).
    Raises StoreError.
    """
    left_out = Counter() if left_out is None else left_out
    with store.reading() as session:
        ids = [each for each in session.exec(select(Conversation.id).order_by(col(Conversation.id))) if each]
    for first in range(0, len(ids), _CONVERSATIONS_AT_ONCE):
        with store.reading() as session:
            conversations = _noted(session, ids[first : first + _CONVERSATIONS_AT_ONCE])
            persons = {each for noted in conversations for each in _everybody(noted)}
            choices = _choices(session, persons)
        for noted in conversations:
            yield from _replies(store, noted, consent, choices, left_out)


def withdrawn(
    store: Store, consent: Policy, conversation_ids: Iterable[int], before: datetime
) -> Iterator[tuple[LoggedReply, frozenset[int]]]:
    """What stands in these conversations since `before` or longer, and may not be learnt from: with who does not agree.

    Whoever learned from it while they agreed can be shown not to know it any more. The newest conversation comes first.
    Raises StoreError.
    """
    ids = sorted(set(conversation_ids), reverse=True)
    for first in range(0, len(ids), _CONVERSATIONS_AT_ONCE):
        with store.reading() as session:
            conversations = _noted(session, ids[first : first + _CONVERSATIONS_AT_ONCE])
            choices = _choices(session, {each for noted in conversations for each in _everybody(noted)})
        for noted in reversed(conversations):
            refusing = {
                each.id: _refusing(noted, each, consent, choices)
                for each in _of_the_model(noted, Counter())
                if each.created_at <= before
            }
            refused = [noted.messages[each] for each, persons in refusing.items() if persons]
            for reply in _with_prompts(noted, refused, partial(_read_prompts, store), Counter()):
                yield reply, refusing[reply.message_id]


def replies_of(session: Session, conversation_ids: Sequence[int]) -> Iterator[LoggedReply]:
    """For the other files of this package: all replies of these conversations, whoever agrees that they are learnt."""
    for first in range(0, len(conversation_ids), _CONVERSATIONS_AT_ONCE):
        for noted in _noted(session, conversation_ids[first : first + _CONVERSATIONS_AT_ONCE]):
            yield from _with_prompts(
                noted, list(_of_the_model(noted, Counter())), partial(_prompts, session), Counter()
            )


def consents(store: Store) -> Counter[str]:
    """How many people said yes and no to learning, and how many were never asked or have not answered (unasked)."""
    with store.reading() as session:
        people = session.exec(select(func.count()).select_from(Person)).one()
        counted = Counter(_choices(session, None).values())
    counted["unasked"] = people - counted["yes"] - counted["no"]
    return +counted


def names(store: Store, person_ids: Collection[int]) -> dict[int, str]:
    """What these people call themselves, of those who do."""
    ids, found = sorted(set(person_ids)), dict[int, str]()
    with store.reading() as session:
        for first in range(0, len(ids), _NUMBERS_AT_ONCE):
            theirs = select(Person.id, Person.name).where(col(Person.id).in_(ids[first : first + _NUMBERS_AT_ONCE]))
            found |= {each: name for each, name in session.exec(theirs) if each is not None and name.strip()}
    return found


def agreed(consent: Policy, choice: str | None) -> bool:
    """May be learnt from somebody with this newest answer?"""
    return (consent == "all" and choice != "no") or (consent == "ask" and choice == "yes")


def _replies(
    store: Store, noted: _Noted, consent: Policy, choices: Mapping[int, str], left_out: Counter[str]
) -> Iterator[LoggedReply]:
    owner = noted.conversation.person_id
    allowed: list[_Light] = []
    for message in _of_the_model(noted, left_out):
        refusing = _refusing(noted, message, consent, choices)
        if owner in refusing:
            left_out["no_consent"] += 1
        elif refusing:
            left_out["quoted_without_consent"] += 1
        else:
            allowed.append(message)
    yield from _with_prompts(noted, allowed, partial(_read_prompts, store), left_out)


def _of_the_model(noted: _Noted, left_out: Counter[str]) -> Iterator[_Light]:
    for message in noted.messages.values():
        if message.role != "assistant" or message.parent_id not in noted.messages:
            continue
        if message.model:
            yield message
        else:
            left_out["not_the_model"] += 1


def _refusing(noted: _Noted, message: _Light, consent: Policy, choices: Mapping[int, str]) -> frozenset[int]:
    """Who of those whose words it holds does not agree that it is learnt from."""
    everybody = noted.quoted[message.id] | {noted.conversation.person_id}
    return frozenset(each for each in everybody if not agreed(consent, choices.get(each)))


def _with_prompts(
    noted: _Noted, replies: Sequence[_Light], read: Callable[[Sequence[int]], Prompts], left_out: Counter[str]
) -> Iterator[LoggedReply]:
    same: dict[str, str] = {}
    for first in range(0, len(replies), _PROMPTS_AT_ONCE):
        some = replies[first : first + _PROMPTS_AT_ONCE]
        prompts = read([each.id for each in some])
        for message in some:
            if message.id not in prompts:  # deleted meanwhile
                continue
            if not prompts[message.id]:
                left_out["prompt_not_kept"] += 1
                continue
            prompt = tuple(
                {name: same.setdefault(text, text) for name, text in each.items()} for each in prompts[message.id]
            )
            yield _logged(noted, message, prompt)


def _read_prompts(store: Store, ids: Sequence[int]) -> Prompts:
    with store.reading() as session:
        return _prompts(session, ids)


def _prompts(session: Session, ids: Sequence[int]) -> Prompts:
    found = session.exec(select(Message.id, Message.prompt).where(col(Message.id).in_(ids)))
    return {each: prompt for each, prompt in found if each is not None}


def _logged(noted: _Noted, reply: _Light, prompt: tuple[dict[str, str], ...]) -> LoggedReply:
    assert reply.parent_id is not None
    asked = noted.messages[reply.parent_id]
    correction, corrected_at = noted.corrections.get(reply.id, (None, None))
    siblings = [each for each in noted.children[asked.id] if each != reply.id]
    group = noted.conversation.place.partition("/")[0]
    return LoggedReply(
        message_id=reply.id,
        parent_id=asked.id,
        conversation_id=reply.conversation_id,
        person_id=noted.conversation.person_id,
        person_name=noted.person.name,
        language=noted.person.language,
        place=f"{noted.conversation.channel}:{group}" if group else "",
        at=reply.created_at,
        prompt=prompt,
        question=asked.sent or asked.content,
        unanswered=_unanswered(noted.messages, asked),
        text=reply.content,
        finish=reply.finish,
        error=reply.error,
        model=reply.model,
        adapter=reply.adapter,
        passages=tuple(reply.passages),
        rating=noted.ratings.get(reply.id),
        correction=correction,
        corrected_at=corrected_at,
        on_branch=reply.id in noted.branch,
        went_on=any(noted.messages[each].role == "user" for each in noted.children.get(reply.id, [])),
        siblings=tuple(each for each in siblings if noted.messages[each].role == "assistant"),
        quoted_persons=tuple(sorted(noted.quoted[reply.id] - {noted.conversation.person_id})),
    )


def _noted(session: Session, ids: Sequence[int]) -> list[_Noted]:
    """These conversations, of those that are still there."""
    owned = select(Conversation, Person).join(Person).where(col(Conversation.id).in_(ids))
    pairs = session.exec(owned.order_by(col(Conversation.id))).all()
    here = col(Message.conversation_id).in_(ids)
    messages: dict[int, dict[int, _Light]] = defaultdict(dict)
    light = sqlalchemy.select(*_LIGHT).where(here).order_by(col(Message.id))
    for row in session.connection().execute(light):
        message = _Light(*row)
        messages[message.conversation_id][message.id] = message
    quoting: dict[int, set[int]] = defaultdict(set)
    quotations = select(Quotation.message_id, Quotation.person_id).join(Message).where(here)
    for message_id, person_id in session.exec(quotations):
        quoting[message_id].add(person_id)
    ratings = {
        (each.message_id, each.person_id): each.value for each in session.exec(select(Rating).join(Message).where(here))
    }
    corrections = {
        (each.message_id, each.person_id): (each.text, each.at)
        for each in session.exec(select(Correction).join(Message).where(here))
    }
    return [
        _note(conversation, person, messages[conversation.id], quoting, ratings, corrections)
        for conversation, person in pairs
        if conversation.id is not None
    ]


def _note(
    conversation: Conversation,
    person: Person,
    messages: Mapping[int, _Light],
    quoting: Mapping[int, set[int]],
    ratings: Mapping[tuple[int, int], int],
    corrections: Mapping[tuple[int, int], tuple[str, datetime]],
) -> _Noted:
    children: dict[int | None, list[int]] = defaultdict(list)
    for message in messages.values():
        children[message.parent_id].append(message.id)
    owner = conversation.person_id
    return _Noted(
        conversation,
        person,
        messages,
        _quoted_up_to(messages, children, quoting),
        _branch_to(conversation.head_id, messages),
        children,
        {each: ratings[each, owner] for each in messages if (each, owner) in ratings},
        {each: corrections[each, owner] for each in messages if (each, owner) in corrections},
    )


def _quoted_up_to(
    messages: Mapping[int, _Light], children: Mapping[int | None, list[int]], quoting: Mapping[int, set[int]]
) -> dict[int, frozenset[int]]:
    quoted: dict[int, frozenset[int]] = {}
    waiting = [(each, frozenset[int]()) for each in children.get(None, [])]
    while waiting:
        message_id, before = waiting.pop()
        here = quoting.get(message_id)
        quoted[message_id] = before | here if here else before
        waiting += [(each, quoted[message_id]) for each in children.get(message_id, [])]
    return quoted


def _branch_to(head_id: int | None, messages: Mapping[int, _Light]) -> frozenset[int]:
    branch: set[int] = set()
    while head_id is not None and head_id in messages:
        branch.add(head_id)
        head_id = messages[head_id].parent_id
    return frozenset(branch)


def _unanswered(messages: Mapping[int, _Light], asked: _Light) -> tuple[str, ...]:
    """Oldest first. An empty reply is none: no prompt holds it."""
    before: list[str] = []
    message = messages.get(asked.parent_id) if asked.parent_id is not None else None
    while message is not None and (message.role == "user" or not message.content):
        if message.role == "user":
            before.append(message.sent or message.content)
        message = messages.get(message.parent_id) if message.parent_id is not None else None
    return tuple(reversed(before))


def _everybody(noted: _Noted) -> set[int]:
    return {noted.conversation.person_id}.union(*noted.quoted.values())


def _choices(session: Session, persons: Collection[int] | None) -> dict[int, str]:
    """The newest yes or no of each of these people who gave one, or (None) of everybody."""
    answers = select(func.max(Consent.id)).where(col(Consent.choice).in_(["yes", "no"]))
    newest = answers.group_by(col(Consent.person_id))
    if persons is None:
        newest_of = select(Consent.person_id, Consent.choice).where(col(Consent.id).in_(newest))
        return dict(session.exec(newest_of).all())
    ids, found = sorted(persons), dict[int, str]()
    for first in range(0, len(ids), _NUMBERS_AT_ONCE):
        theirs = newest.where(col(Consent.person_id).in_(ids[first : first + _NUMBERS_AT_ONCE]))
        found |= dict(session.exec(select(Consent.person_id, Consent.choice).where(col(Consent.id).in_(theirs))).all())
    return found
