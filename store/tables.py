"""The tables. Only this package writes them; migrations/ holds their history.

    Person ─┬─ Identity       one person, several channel identities (terminal, telegram, ...)
            ├─ Consent        every yes and no to learning, the newest counts, and that they were asked
            └─ Conversation ── Message   a tree: an edited message or a regenerated reply is a sibling
                                 ├─ Rating      +1 or -1, one a person and reply
                                 ├─ Correction  the better answer, one a person and reply
                                 ├─ Post        the message as it stands in a chat of a channel
                                 └─ Quotation   whose words besides the writer's its prompt text holds
    Inbox     what a channel received, written before it is acknowledged, handled once
    Access    whether somebody may use a channel        ┐ by the channel's own number, not by person:
    Usage     what somebody used of a channel on a day  ┘ neither a block nor a quota ends by being forgotten
    Place     a group, and what is set there
    Adapter   every registered adapter and version, and every model that was trained whole
        └─ TrainedOn   a conversation that it learned from, also after the conversation is gone
    Sealed    a reply of a conversation that is gone, for the proof that the next adapter does not know it
    Run       every way from the log to an adapter, how far it came and what became of it
    Canary    a version that answers a share of the conversations until it is clear that nobody likes it less
    Notice    what the admins are to be told

Why the exact prompt is kept with each reply: an adapter must be trained on what the model saw, not on what a later
version of the prompt code would make of the same history.
"""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from sqlalchemy import JSON, Column, DateTime, Dialect, ForeignKey, Index, Text, TypeDecorator, UniqueConstraint, text
from sqlmodel import Field, SQLModel

# Every constraint has a name, so that a later migration can change it on both databases.
SQLModel.metadata.naming_convention = {
    "pk": "pk_%(table_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """An aware datetime in UTC, also on SQLite, which forgets the zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        return None if value is None else value.replace(tzinfo=value.tzinfo or UTC).astimezone(UTC)


def now() -> datetime:
    return datetime.now(UTC)


# Not `list` and `dict` themselves: pydantic looks at a factory's signature each time, which of a builtin takes long.
def _no_items() -> list[Any]:
    return []


def _nothing() -> dict[str, Any]:
    return {}


def _key_of(parent: str, *, index: bool = True, nullable: bool = False) -> Column[int]:
    """A foreign key whose row goes when the parent goes: forgetting a person leaves nothing behind."""
    return Column(ForeignKey(parent, ondelete="CASCADE"), index=index, nullable=nullable)


class Person(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    name: str = ""
    language: str = ""  # en, zh; "" while unknown
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    # When they were told that an adapter uses what they corrected; None: not yet.
    told_of_learning_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Identity(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("channel", "external_id"),)

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(sa_column=_key_of("person.id"))
    channel: str
    external_id: str


class Consent(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(sa_column=_key_of("person.id"))
    choice: str  # yes, no; asked: the question was put, and is not to be put again
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Conversation(SQLModel, table=True):
    __table_args__ = (Index(None, "person_id", "updated_at"),)  # a person's conversations, the newest first

    id: int | None = Field(default=None, primary_key=True)
    person_id: int = Field(sa_column=_key_of("person.id", index=False))
    channel: str
    # Where on the channel: "" is a private chat, else a group or a thread in one, in the channel's own words.
    place: str = Field(default="", sa_column_kwargs={"server_default": ""})
    title: str = ""
    persona: str = ""
    adapter: str = ""  # "" is the adapter in force, "base" none, else name@version
    head_id: int | None = None  # the newest message of the branch being continued; a key would be a loop of tables
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    # When words of somebody forgotten were last taken out of it: a prompt that was begun before may hold them.
    unquoted_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Message(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    conversation_id: int = Field(sa_column=_key_of("conversation.id"))
    parent_id: int | None = Field(default=None, sa_column=_key_of("message.id", nullable=True))
    role: str  # user, assistant
    content: str = Field(sa_column=Column(Text, nullable=False))
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)

    # Of a user's message: its text as later prompts hold it, where that is not `content`; without passages.
    sent: str = Field(default="", sa_column=Column(Text, nullable=False, server_default=""))

    # Of a reply.
    prompt: list[dict[str, str]] = Field(default_factory=_no_items, sa_type=JSON)  # the messages exactly as sent
    window_start_id: int | None = None  # the oldest message of the history that the prompt still held
    passages: list[str] = Field(default_factory=_no_items, sa_type=JSON)  # ids, in the order of their numbers
    relevance: float | None = None  # of the best passage, 0 to 1; None: nothing was searched, or nothing found had room
    model: str = ""
    adapter: str = ""  # name@version, "" for the base model
    sampling: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)
    timings: dict[str, float] = Field(default_factory=_nothing, sa_type=JSON)  # seconds: queue, ttft, total
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    finish: str = ""  # stop, length, stopped, error
    error: str = ""  # what ended it; of a reply without documents, that they could not be searched


class Rating(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("message_id", "person_id"),)

    id: int | None = Field(default=None, primary_key=True)
    message_id: int = Field(sa_column=_key_of("message.id"))
    person_id: int = Field(sa_column=_key_of("person.id"))
    value: int  # +1, -1
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Correction(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("message_id", "person_id"),)

    id: int | None = Field(default=None, primary_key=True)
    message_id: int = Field(sa_column=_key_of("message.id"))
    person_id: int = Field(sa_column=_key_of("person.id"))
    text: str = Field(sa_column=Column(Text, nullable=False))
    at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Inbox(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("channel", "key"),)

    id: int | None = Field(default=None, primary_key=True)
    channel: str
    key: str  # the channel's own id of what arrived
    payload: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)
    person_id: int | None = Field(default=None, sa_column=_key_of("person.id", nullable=True))
    state: str = Field(default="waiting", index=True)  # waiting, done
    received_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    message_id: int | None = None  # the user's message that it became
    reply_id: int | None = None  # the reply that it led to
    progress: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)  # the channel's own notes


class Post(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("channel", "chat", "external_id"),)

    id: int | None = Field(default=None, primary_key=True)
    channel: str
    chat: str
    external_id: str  # the channel's own id of the message
    message_id: int = Field(sa_column=_key_of("message.id"))
    part: int  # 0 is the first: a long message stands in a chat as several


class Quotation(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("message_id", "person_id"),)

    id: int | None = Field(default=None, primary_key=True)
    message_id: int = Field(sa_column=_key_of("message.id"))
    person_id: int = Field(sa_column=_key_of("person.id"))  # whose words stand in the message's `sent`


class Access(SQLModel, table=True):
    __table_args__ = (
        UniqueConstraint("channel", "external_id"),
        # Of the codes that wait to be approved, no two are alike.
        Index(None, "code", unique=True, sqlite_where=text("code <> ''"), postgresql_where=text("code <> ''")),
    )

    id: int | None = Field(default=None, primary_key=True)
    channel: str
    external_id: str
    state: str = "pending"  # pending, allowed, blocked
    role: str = "user"  # user, admin
    code: str = ""  # in capitals; "" when there is nothing to approve
    name: str = ""
    requested_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    decided_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Usage(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("channel", "external_id", "day"),)

    id: int | None = Field(default=None, primary_key=True)
    channel: str
    external_id: str
    day: date
    messages: int = 0
    tokens: int = 0


class Place(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("channel", "external_id"),)

    id: int | None = Field(default=None, primary_key=True)
    channel: str
    external_id: str
    title: str = ""
    enabled: bool = True
    persona: str = ""  # "" is the default one


class Adapter(SQLModel, table=True):
    __table_args__ = (UniqueConstraint("name", "version"),)

    id: int | None = Field(default=None, primary_key=True)
    name: str
    version: int
    folder: str  # relative to the adapters' root
    base: str  # the base model's name
    base_fingerprint: str
    rank: int
    # lora: the engine loads it beside the base model; model: a whole model, onto which the engine is started anew.
    kind: str = Field(default="lora", sa_column_kwargs={"server_default": "lora"})
    loaded: bool = False  # to be loaded whenever the engine starts
    active: bool = False  # the version that its name stands for now; at most one a name
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class TrainedOn(SQLModel, table=True):
    __tablename__ = "trained_on"
    __table_args__ = (UniqueConstraint("adapter_id", "conversation_id"),)

    id: int | None = Field(default=None, primary_key=True)
    adapter_id: int = Field(sa_column=_key_of("adapter.id"))
    # No keys: that an adapter learned from it must be known after it is gone. Neither number is given out again.
    conversation_id: int = Field(index=True)
    person_id: int | None = Field(default=None, index=True)  # None: gone before it was noted
    forgotten_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Sealed(SQLModel, table=True):
    """Only where the operator has it so, and for some days (store.sealed)."""

    id: int | None = Field(default=None, primary_key=True)
    # No keys: the conversation is gone, and the person may be.
    conversation_id: int = Field(index=True)
    person_id: int = Field(index=True)  # whose conversation it was
    quoted: list[int] = Field(default_factory=_no_items, sa_type=JSON)  # persons whose words stand in it besides
    reply: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)  # a store.learning.LoggedReply
    sealed_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)


class Run(SQLModel, table=True):
    """Its number is `id`; its folder holds what is too large for a row, and goes when it is old."""

    id: int | None = Field(default=None, primary_key=True)
    name: str  # of the adapter
    place: str = ""  # of the conversations that it learns from: "" all, else one group, as "channel:id"
    trigger: str  # by hand, schedule
    state: str = "preparing"  # preparing, training, evaluating, deciding, promoting, ended
    verdict: str = ""  # promoted, rejected, not_proven, nothing_to_learn, failed; "" under way
    said: str = Field(default="", sa_column=Column(Text, nullable=False))  # the verdict in one sentence
    fingerprint: str = ""  # of its data
    base: str = ""  # the base model's name
    version: int | None = None  # that was registered
    settings: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)  # as they were in force
    numbers: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)  # counts, losses, seconds by stage
    started_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    updated_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class Canary(SQLModel, table=True):
    __table_args__ = (
        # Of a name, one at a time is under way.
        Index(
            None, "name", unique=True, sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL")
        ),
    )

    id: int | None = Field(default=None, primary_key=True)
    name: str
    version: int
    before_version: int | None = None  # that answers everybody else; None: the base model
    share: float  # of the conversations, 0 to 1
    started_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    ended_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    outcome: str = ""  # promoted, rolled_back, replaced; "" under way


class Notice(SQLModel, table=True):
    id: int | None = Field(default=None, primary_key=True)
    key: str  # of the texts
    args: dict[str, Any] = Field(default_factory=_nothing, sa_type=JSON)
    told: list[str] = Field(default_factory=_no_items, sa_type=JSON)  # admins who have it, as "channel:id"
    created_at: datetime = Field(default_factory=now, sa_type=UtcDateTime)
    sent_at: datetime | None = Field(default=None, sa_type=UtcDateTime)  # to all of them
