"""Conversations and their messages.

Messages form a tree: a second reply to the same message, or an edited message, is a sibling of the first, and nothing
is ever overwritten. A conversation's head is the newest message of the branch that is being continued.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import ColumnElement
from sqlalchemy.orm import aliased, defer
from sqlmodel import Session, col, func, literal, or_, select, update
from sqlmodel import delete as delete_from
from sqlmodel.sql.expression import SelectOfScalar

from store.errors import NotFound
from store.lineage import mark_forgotten
from store.locking import locked_conversation, present
from store.sealed import seal as seal_up
from store.session import Store
from store.storable import storable
from store.tables import Conversation, Inbox, Message, Quotation, TrainedOn, now

TITLE_CHARACTERS = 60
EXCERPT_CHARACTERS = 80


@dataclass(frozen=True)
class Listed:
    """A conversation as a line of a list."""

    id: int
    title: str
    messages: int  # of every branch, the person's and the replies
    updated_at: datetime


@dataclass(frozen=True)
class Hit:
    """A message that `search` found."""

    conversation_id: int
    message_id: int
    title: str  # of the conversation
    excerpt: str  # the text around the first word found, on one line


def start(store: Store, person_id: int, channel: str, persona: str, place: str = "") -> Conversation:
    """A new, empty conversation; `place` is where on the channel, "" in private. Raises NotFound: no such person."""
    with store.writing() as session:
        conversation = Conversation(person_id=person_id, channel=channel, persona=persona, place=place)
        session.add(conversation)
        return conversation


def get(store: Store, conversation_id: int, person_id: int) -> Conversation:
    """Raises NotFound, also when the conversation is somebody else's."""
    with store.reading() as session:
        return _owned(session, conversation_id, person_id)


def latest(store: Store, person_id: int, channel: str, place: str = "") -> Conversation | None:
    """The conversation that this person last wrote in at this place of this channel."""
    theirs = select(Conversation).where(Conversation.person_id == person_id, Conversation.channel == channel)
    with store.reading() as session:
        return session.exec(_newest_first(theirs.where(Conversation.place == place)).limit(1)).first()


def listing(store: Store, person_id: int, limit: int = 20) -> list[Listed]:
    """A person's conversations, the one last written in first."""
    with store.reading() as session:
        theirs = _newest_first(select(Conversation).where(Conversation.person_id == person_id))
        shown = session.exec(theirs.limit(limit)).all()
        counted = dict(
            session.exec(
                select(Message.conversation_id, func.count())
                .where(col(Message.conversation_id).in_([each.id for each in shown]))
                .group_by(col(Message.conversation_id))
            ).all()
        )
        return [
            Listed(each.id, each.title, counted.get(each.id, 0), each.updated_at)
            for each in shown
            if each.id is not None
        ]


def message(store: Store, message_id: int, person_id: int) -> Message:
    """Raises NotFound, also when the message stands in somebody else's conversation."""
    with store.reading() as session:
        return owned_message(session, message_id, person_id)


def path(store: Store, leaf_id: int, *, prompts: bool = True) -> list[Message]:
    """The branch that ends in `leaf_id`, from its first message on. Raises NotFound.

    Every reply carries the prompt it answered, so a branch with its prompts grows with the square of its length.
    Without `prompts` they are not read, and asking a returned row for its `prompt` is an error.
    """
    leaf = select(Message.id, Message.parent_id, literal(0).label("height")).where(Message.id == leaf_id)
    branch = leaf.cte("branch", recursive=True)
    parent = aliased(Message)
    branch = branch.union_all(
        select(parent.id, parent.parent_id, branch.c.height + 1).join(branch, col(parent.id) == branch.c.parent_id)
    )
    messages = select(Message).join(branch, col(Message.id) == branch.c.id).order_by(branch.c.height.desc())
    if not prompts:
        messages = messages.options(defer(Message.prompt))  # type: ignore[arg-type]
    with store.reading() as session:
        found = list(session.exec(messages))
    if not found:
        raise NotFound(f"There is no message {leaf_id}.")
    return found


def siblings(store: Store, message_id: int) -> list[Message]:
    """The message and every other with the same parent, the oldest first. Raises NotFound."""
    with store.reading() as session:
        one = session.get(Message, message_id)
        if one is None:
            raise NotFound(f"There is no message {message_id}.")
        same_parent = select(Message).where(
            Message.conversation_id == one.conversation_id, Message.parent_id == one.parent_id
        )
        return list(session.exec(same_parent.order_by(col(Message.id))))


def newest_after(store: Store, message_id: int) -> Message:
    """Where the conversation went on from this message, to its newest end; itself when it did not. Raises NotFound."""
    after = select(Message.id).where(Message.id == message_id).cte("after", recursive=True)
    child = aliased(Message)
    after = after.union_all(select(child.id).join(after, col(child.parent_id) == after.c.id))
    newest = select(Message).join(after, col(Message.id) == after.c.id).order_by(col(Message.id).desc()).limit(1)
    with store.reading() as session:
        found = session.exec(newest).first()
    if found is None:
        raise NotFound(f"There is no message {message_id}.")
    return found


def count_replies(store: Store, message_id: int) -> int:
    """How many replies a message has; 0 also for one that is not there."""
    with store.reading() as session:
        return session.exec(
            select(func.count()).where(Message.parent_id == message_id, Message.role == "assistant")
        ).one()


def add_user(
    store: Store,
    conversation_id: int,
    parent_id: int | None,
    content: str,
    sent: str = "",
    *,
    quoted: Sequence[int] = (),
    arrivals: Sequence[int] = (),
) -> Message:
    """Add what a person wrote, after `parent_id` (None: at a beginning), and continue from it.

    `quoted` are the other persons whose words stand in `sent`; if one of them was forgotten meanwhile, `sent` is not
    kept. `arrivals` are the rows of the inbox that became this message. The first message gives the conversation its
    title. Raises NotFound, also when the parent is of another conversation.
    """
    with store.writing() as session:
        owner = session.exec(select(Conversation.person_id).where(Conversation.id == conversation_id)).first()
        others = set(quoted) - {owner}
        gone = others - present(session, others if owner is None else others | {owner})
        conversation = locked_conversation(session, conversation_id)
        if parent_id is not None:
            _in_conversation(session, parent_id, conversation_id)
        conversation.title = conversation.title or _title_of(content)
        written = Message(conversation_id=conversation_id, parent_id=parent_id, role="user", content=content)
        written.sent = "" if gone else sent
        _continue_with(session, conversation, written)
        if written.id is not None and not gone:
            session.add_all([Quotation(message_id=written.id, person_id=each) for each in sorted(others)])
        became = {"message_id": written.id, "person_id": conversation.person_id}
        if arrivals:
            session.exec(update(Inbox).where(col(Inbox.id).in_(arrivals)).values(became))
        return written


def add_reply(store: Store, message: Message, *, arrivals: Sequence[int] = ()) -> Message:
    """Add a reply, made by the caller with all that belongs in the log, and continue from it.

    `arrivals` are the rows of the inbox that it answers. Its prompt is not kept when words of somebody who was
    forgotten while it was made may stand in it.

    Raises NotFound when the conversation was deleted meanwhile, ValueError when this is not a reply to a
    user's message.
    """
    if message.role != "assistant" or message.parent_id is None:
        raise ValueError("a reply has the role 'assistant' and a parent")
    with store.writing() as session:
        conversation = locked_conversation(session, message.conversation_id)
        asked = _in_conversation(session, message.parent_id, message.conversation_id)
        if asked.role != "user":
            raise ValueError(f"message {message.parent_id} is not a user's, it cannot be replied to")
        if conversation.unquoted_at is not None and asked.created_at <= conversation.unquoted_at:
            message.prompt = []
        _continue_with(session, conversation, message)
        if arrivals:
            session.exec(update(Inbox).where(col(Inbox.id).in_(arrivals)).values(reply_id=message.id))
        return message


def move_head(store: Store, conversation_id: int, message_id: int | None) -> None:
    """Continue from another message, or (None) from the beginning. Raises NotFound."""
    with store.writing() as session:
        conversation = locked_conversation(session, conversation_id)
        if message_id is not None:
            _in_conversation(session, message_id, conversation_id)
        conversation.head_id = message_id


def touch(store: Store, conversation_id: int, channel: str, place: str = "") -> None:
    """Let it be the one that `latest` finds at this place, wherever it was held before. Raises NotFound."""
    with store.writing() as session:
        conversation = locked_conversation(session, conversation_id)
        conversation.channel, conversation.place, conversation.updated_at = channel, place, now()


def configure(
    store: Store,
    conversation_id: int,
    *,
    title: str | None = None,
    persona: str | None = None,
    adapter: str | None = None,
) -> Conversation:
    """Change what is given; None leaves as it is. Raises NotFound."""
    with store.writing() as session:
        conversation = locked_conversation(session, conversation_id)
        if title is not None:
            conversation.title = title
        if persona is not None:
            conversation.persona = persona
        if adapter is not None:
            conversation.adapter = adapter
        return conversation


def delete(store: Store, conversation_id: int, person_id: int, *, seal: bool = False) -> None:
    """Delete a conversation with its messages and their feedback, for good. Raises NotFound.

    The adapters that learned from it are marked, and what arrived of it is done, also where its turn was not over.
    `seal`: what an adapter in force learned of it is kept for some days (store.sealed); else nothing is.
    Scraps of its text may remain in unused parts of the database's files until they are reused, or until the next
    `people.forget`, which is thorough and takes its time.
    """
    with store.writing() as session:
        _owned(session, conversation_id, person_id)
        locked_conversation(session, conversation_id)
        written = select(Message.id).where(Message.conversation_id == conversation_id)
        arrived = or_(col(Inbox.message_id).in_(written), col(Inbox.reply_id).in_(written))
        session.exec(update(Inbox).where(arrived).values(state="done", payload={}, progress={}))
        if seal:
            seal_up(session, col(Conversation.id) == conversation_id)
        delete_all(session, col(Conversation.id) == conversation_id)
    store.erase_traces(thoroughly=False)


def search(store: Store, person_id: int, words: str, limit: int = 20) -> list[Hit]:
    """The person's messages and replies that hold all of `words`, in any case, the newest conversation first.

    Words are separated by white space and found anywhere, so that Chinese, which has none, is found too. The
    comparison is made here: the databases' own (LIKE, lower) differ in which letters beyond ASCII they fold.
    """
    wanted = [word.casefold() for word in storable(words).split()]
    if not wanted or limit < 1:
        return []
    texts = (
        select(Conversation.id, Message.id, Conversation.title, Message.content)
        .join(Message)
        .where(Conversation.person_id == person_id)
        .order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc(), col(Message.id).desc())
        .execution_options(yield_per=200)
    )
    hits: list[Hit] = []
    with store.reading() as session:
        for conversation_id, message_id, title, content in session.exec(texts):
            folded = content.casefold()
            if conversation_id is None or message_id is None or not all(word in folded for word in wanted):
                continue
            hits.append(Hit(conversation_id, message_id, title, _excerpt_of(content, folded, wanted[0])))
            if len(hits) == limit:
                break
    return hits


def owned_message(session: Session, message_id: int, person_id: int, *, lock: bool = False) -> Message:
    """For the other files of this package: a message of this person's, else NotFound."""
    theirs = select(Message).join(Conversation).where(Message.id == message_id, Conversation.person_id == person_id)
    if lock:
        theirs = theirs.with_for_update(of=Message)
    found = session.exec(theirs).first()
    if found is None:
        raise NotFound(f"There is no message {message_id}.")
    return found


def delete_all(session: Session, which: ColumnElement[bool]) -> None:
    """For the other files of this package: delete the conversations that `which` selects and all that hangs on them.

    The tree is taken apart first: deleted from its root, a branch of more than a thousand messages would cascade deeper
    than SQLite allows. The caller has locked the conversations.
    """
    mark_forgotten(session, col(TrainedOn.conversation_id).in_(select(Conversation.id).where(which)))
    theirs = col(Message.conversation_id).in_(select(Conversation.id).where(which))
    session.exec(update(Message).where(theirs, col(Message.parent_id).is_not(None)).values(parent_id=None))
    session.exec(delete_from(Message).where(theirs))
    session.exec(delete_from(Conversation).where(which))


def _newest_first(conversations: SelectOfScalar[Conversation]) -> SelectOfScalar[Conversation]:
    return conversations.order_by(col(Conversation.updated_at).desc(), col(Conversation.id).desc())


def _owned(session: Session, conversation_id: int, person_id: int) -> Conversation:
    conversation = session.get(Conversation, conversation_id)
    if conversation is None or conversation.person_id != person_id:
        raise NotFound(f"There is no conversation {conversation_id}.")
    return conversation


def _in_conversation(session: Session, message_id: int, conversation_id: int) -> Message:
    message = session.get(Message, message_id)
    if message is None or message.conversation_id != conversation_id:
        raise NotFound(f"There is no message {message_id} in conversation {conversation_id}.")
    return message


def _continue_with(session: Session, conversation: Conversation, message: Message) -> None:
    message.id = None  # it has one when its commit failed and the caller tries again; somebody else's may have it now
    session.add(message)
    session.flush()
    conversation.head_id = message.id
    conversation.updated_at = now()


def _title_of(content: str) -> str:
    """The first line that is not blank, cut."""
    lines = content.strip().splitlines()
    return lines[0][:TITLE_CHARACTERS].rstrip() if lines else ""


def _excerpt_of(content: str, folded: str, word: str) -> str:
    """The part of `content` around the first `word` of its case-folded form, on one line."""
    position = found_at = folded.index(word)
    if len(folded) != len(content):  # folding lengthens some letters: ß becomes ss
        position = folded_length = 0
        while folded_length < found_at:
            folded_length += len(content[position].casefold())
            position += 1
    begin = max(0, position - EXCERPT_CHARACTERS // 4)
    end = begin + EXCERPT_CHARACTERS
    shown = " ".join(content[begin:end].split())
    return ("…" if begin > 0 else "") + shown + ("…" if end < len(content) else "")
