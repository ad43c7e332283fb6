"""What an operator decides about the people who want to talk, and the codes by which they name them.

Somebody unknown is shown a code (bot.access) and gives it to the operator, who approves it: in a shell, or as an admin
on a channel. Both call these functions, which block. A person can also be named by their identity, a channel and
the channel's own id of them ("telegram:123456789"), whether they have written yet or not.

Each decision says all there is to say: `approve` makes an admin of a user only when told so, and a user of an admin
when not; `block` takes the role away as well, so that nobody comes back as an admin unnoticed. People whom config.toml
names as admins are above this table (see bot.access).

Raises ChatError for what is not a code or an identity, StoreError for a store that does not answer.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Collection

from bot.errors import ChatError
from store import access
from store.session import Store
from store.tables import Access

# What an id looks like on each channel that anybody can reach. A row for "@ada" would let nobody in, without a word.
IDENTITIES = {"telegram": re.compile(r"-?[1-9][0-9]{0,18}")}

# Without signs that look like others (0 O, 1 I L, 2 Z, 5 S, 8 B, U V), and without vowels, so that no code is a word.
ALPHABET = "CDFGHJKMNPQRTVWXY34679"
GROUP = 4  # a code is two of them, with a dash between

LONGEST_SHOWN = 64  # characters of what was given, in the text that refuses it


def new_code() -> str:
    """A code like K7QX-M3PW, one of 5·10¹⁰."""
    return _grouped("".join(secrets.choice(ALPHABET) for _ in range(2 * GROUP)))


def approve(store: Store, given: str, *, admin: bool = False) -> Access:
    """Let in whoever waits with this code, or has this identity; also somebody who was blocked."""
    channel, external_id = _named(store, given)
    return access.decide(store, channel, external_id, state="allowed", role="admin" if admin else "user")


def block(store: Store, given: str, *, admins: Collection[str] = ()) -> Access:
    """Let nothing more of them in, whatever the mode. Also by the code with which they wait.

    `admins` are those of config.toml: they would stay in, so that is refused with ChatError("cannot_block_admin").
    """
    channel, external_id = _named(store, given)
    if f"{channel}:{external_id}" in admins:
        raise ChatError("cannot_block_admin", given=f"{channel}:{external_id}")
    return access.decide(store, channel, external_id, state="blocked", role="user")


def unblock(store: Store, identity: str) -> Access:
    """Let somebody in again, as a user. Raises ChatError("not_blocked") when they are not blocked."""
    channel, external_id = identity_of(identity)
    row = access.standing(store, channel, external_id)
    if row is None or row.state != "blocked":
        raise ChatError("not_blocked", given=f"{channel}:{external_id}")
    return access.decide(store, channel, external_id, state="allowed")


def listing(store: Store) -> list[Access]:
    """Everybody who asked or was decided about: who waits, then who is let in, then the rest; the newest first."""
    order = ["pending", "allowed", "blocked"]
    newest_first = sorted(access.listing(store), key=lambda row: row.requested_at, reverse=True)
    return sorted(newest_first, key=lambda row: order.index(row.state))


def identity_of(text: str) -> tuple[str, str]:
    """The channel and the id on it. Raises ChatError("not_an_identity")."""
    channel, _, external_id = _plain(text).partition(":")
    channel, external_id = channel.strip().lower(), external_id.strip()
    pattern = IDENTITIES.get(channel)
    if pattern is None or not pattern.fullmatch(external_id):
        raise ChatError("not_an_identity", given=_shown(text))
    return channel, external_id


def _named(store: Store, given: str) -> tuple[str, str]:
    """The channel and the id of whom a code or an identity names."""
    if ":" in _plain(given):
        return identity_of(given)
    signs = "".join(sign for sign in _plain(given) if sign.isalnum())
    row = access.by_code(store, _grouped(signs)) if len(signs) == 2 * GROUP else None
    if row is None:
        raise ChatError("no_such_code", given=_shown(given))
    return row.channel, row.external_id


def _plain(text: str) -> str:
    """As it would be typed on an English keyboard: a Chinese one makes wide letters, digits and colons."""
    return unicodedata.normalize("NFKC", text)


def _grouped(signs: str) -> str:
    return f"{signs[:GROUP]}-{signs[GROUP:]}"


def _shown(given: str) -> str:
    given = " ".join(given.split())
    return given if len(given) <= LONGEST_SHOWN else f"{given[: LONGEST_SHOWN - 1]}…"
