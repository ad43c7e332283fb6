"""Messages as they stand in the chats of a channel.

What a person presses, answers, edits or reacts to is a message of the channel, with the channel's own number; here
stands which of ours it is. A long message stands in a chat as several, and one place in a chat shows one message after
another when a person leafs through the replies.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlmodel import col, delete, or_, select

from store.errors import NotFound
from store.session import Store
from store.tables import Conversation, Message, Post
from store.upsert import insert_into


def record(store: Store, channel: str, chat: str, message_id: int, external_ids: Sequence[str]) -> None:
    """From now on the message's posts in this chat are exactly these, in this order. Raises NotFound.

    What showed another message shows this one now.
    """
    parts = list(dict.fromkeys(external_ids))
    here = (col(Post.channel) == channel, col(Post.chat) == chat)
    replaced_here = or_(col(Post.message_id) == message_id, col(Post.external_id).in_(parts))
    message = select(Message.id).where(Message.id == message_id).with_for_update(read=True, key_share=True)
    with store.writing() as session:
        if session.exec(message).first() is None:
            raise NotFound(f"There is no message {message_id}.")
        session.exec(delete(Post).where(*here, replaced_here))
        if not parts:
            return
        post = insert_into(session, Post)
        replaced = {"message_id": post.excluded.message_id, "part": post.excluded.part}
        session.connection().execute(
            # Not a plain insert: somebody may record the same places at the same moment.
            post.on_conflict_do_update(index_elements=["channel", "chat", "external_id"], set_=replaced),
            [
                {"channel": channel, "chat": chat, "external_id": external_id, "message_id": message_id, "part": part}
                for part, external_id in enumerate(parts)
            ],
        )


def message_at(store: Store, channel: str, chat: str, external_id: str, person_id: int | None = None) -> Message | None:
    """The message that stands there; None when it is none of ours or, given `person_id`, somebody else's."""
    there = (
        select(Message).join(Post).where(Post.channel == channel, Post.chat == chat, Post.external_id == external_id)
    )
    if person_id is not None:
        there = there.join(Conversation).where(Conversation.person_id == person_id)
    with store.reading() as session:
        return session.exec(there).first()


def owner_at(store: Store, channel: str, chat: str, external_id: str) -> int | None:
    """The number of the person in whose conversation stands what is there; None when it is none of ours."""
    there = (Post.channel == channel, Post.chat == chat, Post.external_id == external_id)
    with store.reading() as session:
        return session.exec(select(Conversation.person_id).join(Message).join(Post).where(*there)).first()


def posts_of(store: Store, channel: str, message_id: int) -> list[Post]:
    """Where a message stands on a channel, chat by chat, its first part first."""
    posts = select(Post).where(Post.channel == channel, Post.message_id == message_id)
    with store.reading() as session:
        return list(session.exec(posts.order_by(col(Post.chat), col(Post.part))))
