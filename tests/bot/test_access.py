"""Who may talk on a channel that anybody can reach, as whom, and how much."""

from __future__ import annotations

import asyncio
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime

import pytest

from bot import pairing
from bot.access import LONGEST_NAME, Access, Standing
from bot.errors import ChatError
from bot.texts import LANGUAGES, texts_for
from settings import Access as AccessSettings
from store import usage
from store.session import Store

ALLOWED = Standing("allowed")
ADMIN = Standing("allowed", admin=True)
NOON = datetime(2025, 3, 10, 12, 0)
PENDING_KEPT = 200  # as store.access has it


class Clock:
    """A clock and a calendar that stand still until they are moved."""

    def __init__(self) -> None:
        self.seconds = 1000.0
        self.now = NOON

    def read(self) -> float:
        return self.seconds

    def local_time(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def access_with(store: Store, clock: Clock | None = None, **given: object) -> Access:
    clock = clock or Clock()
    return Access(store, AccessSettings(**given), clock=clock.read, local_time=clock.local_time)


@pytest.fixture
def access(store: Store, clock: Clock) -> Access:
    return access_with(store, clock)


async def refusal(access: Access, who: str = "1") -> ChatError:
    with pytest.raises(ChatError) as refused:
        await access.charge("telegram", who)
    return refused.value


def in_words(error: ChatError) -> list[str]:
    return [texts_for(language).problem(error) for language in LANGUAGES]


# Who may talk


async def test_in_pairing_mode_a_stranger_gets_a_code_and_keeps_it_until_it_is_approved(access, store):
    first = await access.standing("telegram", "1", "Ada")
    assert first.state == "pending"
    assert re.fullmatch(r"[A-Z0-9]{4}-[A-Z0-9]{4}", first.code)
    assert await access.standing("telegram", "1", "Ada") == first
    assert (await access.standing("telegram", "2", "Bob")).code != first.code

    pairing.approve(store, first.code)
    assert await access.standing("telegram", "1", "Ada") == ALLOWED
    assert (await access.standing("telegram", "2", "Bob")).state == "pending"


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_stranger_is_told_what_to_do_with_the_code(language):
    told = texts_for(language).t("access.pairing", code="K7QX-M3PW")
    assert "familiar users approve K7QX-M3PW" in told


async def test_a_decision_made_by_another_process_holds_from_the_next_message_on(access, store, database):
    code = (await access.standing("telegram", "1", "Ada")).code
    with Store(f"sqlite:///{database}") as operators:
        pairing.approve(operators, code)
        assert await access.standing("telegram", "1", "Ada") == ALLOWED
        pairing.block(operators, "telegram:1")
        assert (await access.standing("telegram", "1", "Ada")).state == "blocked"


async def test_a_code_survives_a_restart(access, store):
    code = (await access.standing("telegram", "1", "Ada")).code
    assert (await access_with(store).standing("telegram", "1", "Ada")).code == code


async def test_who_waits_is_shown_the_code_also_while_another_program_holds_the_database(access, database):
    code = (await access.standing("telegram", "1", "Ada")).code
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert (await access.standing("telegram", "1", "Ada")).code == code
        with pytest.raises(ChatError, match="store_locked"):
            await access.standing("telegram", "2", "Bob")


async def test_first_messages_that_come_at_once_get_one_code(access, store):
    standings = await asyncio.gather(*(access.standing("telegram", "1", "Ada") for _ in range(8)))
    assert len({standing.code for standing in standings}) == 1
    assert len(pairing.listing(store)) == 1


async def test_two_strangers_never_share_a_code(access, monkeypatch):
    codes = iter(["CCCC-CCCC", "CCCC-CCCC", "DDDD-DDDD"])
    monkeypatch.setattr("bot.access.new_code", lambda: next(codes))
    assert (await access.standing("telegram", "1")).code == "CCCC-CCCC"
    assert (await access.standing("telegram", "2")).code == "DDDD-DDDD"


async def test_in_allowlist_mode_only_those_on_the_list_may_talk_and_strangers_leave_no_trace(store):
    access = access_with(store, mode="allowlist", allow=("telegram:1",))
    assert await access.standing("telegram", "1") == ALLOWED
    assert await access.standing("telegram", "2", "Bob") == Standing("unknown")
    assert await access.standing("api", "1") == Standing("unknown")
    assert pairing.listing(store) == []


async def test_in_allowlist_mode_the_operator_can_let_somebody_in_without_touching_the_list(store):
    access = access_with(store, mode="allowlist")
    pairing.approve(store, "telegram:2")
    assert await access.standing("telegram", "2") == ALLOWED


async def test_in_open_mode_everybody_may_talk_who_is_not_blocked(store):
    access = access_with(store, mode="open")
    assert await access.standing("telegram", "1", "Ada") == ALLOWED
    assert pairing.listing(store) == []
    pairing.block(store, "telegram:1")
    assert await access.standing("telegram", "1") == Standing("blocked")


async def test_who_is_on_the_list_needs_no_code_in_pairing_mode(store):
    access = access_with(store, allow=("telegram:1",))
    assert await access.standing("telegram", "1") == ALLOWED


async def test_whoever_waited_is_let_in_when_the_operator_opens_the_mode(access, store):
    await access.standing("telegram", "1", "Ada")
    assert await access_with(store, mode="open").standing("telegram", "1") == ALLOWED
    assert await access_with(store, mode="allowlist").standing("telegram", "1") == Standing("unknown")


async def test_a_block_counts_more_than_the_list(store):
    access = access_with(store, allow=("telegram:1",))
    pairing.block(store, "telegram:1")
    assert await access.standing("telegram", "1") == Standing("blocked")


async def test_an_admin_of_the_configuration_cannot_be_blocked(store):
    access = access_with(store, mode="allowlist", admins=("telegram:1",))
    pairing.block(store, "telegram:1")
    assert await access.standing("telegram", "1") == ADMIN


async def test_somebody_can_be_approved_as_an_admin(access, store):
    code = (await access.standing("telegram", "1")).code
    pairing.approve(store, code, admin=True)
    assert await access.standing("telegram", "1") == ADMIN


async def test_an_admin_who_is_on_the_list_too_is_an_admin(store):
    pairing.approve(store, "telegram:1", admin=True)
    assert await access_with(store, allow=("telegram:1",)).standing("telegram", "1") == ADMIN


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("", ""),
        ("  Ada \n Lovelace\t", "Ada Lovelace"),
        ("\x1b[2J\x07Ada\u202e", "[2J Ada"),
        ("小明👩‍💻", "小明👩‍💻"),
        ("名" * 1000, "名" * LONGEST_NAME),
        ("x\ud800y\x00z", "x y z"),
    ],
)
async def test_a_strangers_name_can_be_shown_in_the_operators_terminal(access, store, given, kept):
    await access.standing("telegram", "1", given)
    assert [row.name for row in pairing.listing(store)] == [kept]


async def test_a_crowd_of_strangers_pushes_out_the_oldest_requests_and_nobody_who_was_decided_about(access, store):
    pairing.approve(store, "telegram:1")
    pairing.block(store, "telegram:2")
    first = await access.standing("telegram", "10")
    second = await access.standing("telegram", "11")
    for number in range(12, 11 + PENDING_KEPT):
        await access.standing("telegram", str(number))

    assert [row.state for row in pairing.listing(store)].count("pending") == PENDING_KEPT
    assert await access.standing("telegram", "1") == ALLOWED
    assert (await access.standing("telegram", "2")).state == "blocked"
    with pytest.raises(ChatError, match="no_such_code"):
        pairing.approve(store, first.code)
    pairing.approve(store, second.code)

    again = await access.standing("telegram", "10")
    assert again.state == "pending"
    assert again.code not in {"", first.code}


async def test_a_store_that_does_not_answer_lets_nobody_in_but_the_admins_of_the_configuration(store):
    access = access_with(store, mode="open", admins=("telegram:1",))
    store.close()
    assert await access.standing("telegram", "1") == ADMIN
    with pytest.raises(ChatError, match="store_unreachable"):
        await access.standing("telegram", "2")


# Messages a minute


async def test_over_the_quota_of_a_minute_a_message_is_refused_until_the_oldest_is_a_minute_old(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=3)
    for second in (0, 10, 20):
        clock.seconds = 1000 + second
        await access.charge("telegram", "1")
    error = await refusal(access)
    assert (error.key, error.values) == ("quota_messages", {"limit": 3, "seconds": 40})
    assert all("3" in words and "40" in words for words in in_words(error))

    clock.seconds = 1059.5
    assert (await refusal(access)).values["seconds"] == 1
    clock.seconds = 1060
    await access.charge("telegram", "1")
    assert (await refusal(access)).values["seconds"] == 10


async def test_a_refused_message_does_not_count(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=1)
    await access.charge("telegram", "1")
    clock.seconds += 59
    for _ in range(5):
        await refusal(access)
    clock.seconds += 1
    await access.charge("telegram", "1")
    assert usage.used(store, "telegram", "1", NOON.date()).messages == 2


async def test_of_messages_at_once_no_more_pass_than_the_quota_allows(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=3)
    outcomes = await asyncio.gather(*(access.charge("telegram", "1") for _ in range(10)), return_exceptions=True)
    assert [type(outcome) for outcome in outcomes].count(ChatError) == 7
    assert usage.used(store, "telegram", "1", NOON.date()).messages == 3


async def test_one_persons_messages_do_not_count_for_another(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=1)
    await access.charge("telegram", "1")
    await access.charge("telegram", "2")
    await access.charge("api", "1")
    await refusal(access, "1")


async def test_a_message_that_the_store_could_not_count_takes_no_place(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=1)
    store.close()
    assert (await refusal(access)).key == "store_unreachable"
    store.open()
    await access.charge("telegram", "1")


@pytest.mark.parametrize("by", ["the configuration", "the operator"])
async def test_admins_have_no_quota_but_what_they_use_is_counted(store, clock, by):
    quotas = {"messages_per_minute": 1, "tokens_per_day": 1}
    if by == "the operator":
        access = access_with(store, clock, **quotas)
        pairing.approve(store, "telegram:1", admin=True)
    else:
        access = access_with(store, clock, admins=("telegram:1",), **quotas)
    for _ in range(4):
        await access.charge("telegram", "1")
        await access.spent("telegram", "1", 100)
    used = usage.used(store, "telegram", "1", NOON.date())
    assert (used.messages, used.tokens) == (4, 400)


async def test_a_quota_of_zero_is_no_quota(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=0, tokens_per_day=0)
    await access.spent("telegram", "1", 10**9)
    for _ in range(50):
        await access.charge("telegram", "1")


async def test_who_is_silent_takes_up_no_memory(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=2)
    for number in range(30):
        await access.charge("telegram", str(number))
    assert len(access._last_minute) == 30
    clock.seconds += 40
    await access.charge("telegram", "0")
    clock.seconds += 40
    await access.charge("telegram", "new")
    assert len(access._last_minute) == 2


# Tokens a day


async def test_over_the_quota_of_a_day_the_next_message_is_refused_until_midnight(store, clock):
    access = access_with(store, clock, mode="open", tokens_per_day=1000)
    await access.charge("telegram", "1")
    await access.spent("telegram", "1", 999)
    await access.charge("telegram", "1")
    await access.spent("telegram", "1", 500)
    error = await refusal(access)
    assert (error.key, error.values) == ("quota_tokens", {"limit": 1000, "hours": 12})
    assert all("1000" in words and "12" in words for words in in_words(error))
    await access.charge("telegram", "2")

    clock.now = datetime(2025, 3, 10, 23, 59, 59)
    assert (await refusal(access)).values["hours"] == 1
    clock.now = datetime(2025, 3, 11)
    await access.charge("telegram", "1")


async def test_the_quota_of_a_day_survives_a_restart(store, clock):
    await access_with(store, clock, tokens_per_day=10).spent("telegram", "1", 10)
    assert (await refusal(access_with(store, clock, mode="open", tokens_per_day=10))).key == "quota_tokens"


async def test_a_message_refused_for_the_day_takes_no_place_in_the_minute(store, clock):
    access = access_with(store, clock, mode="open", messages_per_minute=2, tokens_per_day=10)
    await access.spent("telegram", "1", 10)
    for _ in range(3):
        assert (await refusal(access)).key == "quota_tokens"
    clock.now = datetime(2025, 3, 11)
    await access.charge("telegram", "1")
    await access.charge("telegram", "1")
    assert (await refusal(access)).key == "quota_messages"


async def test_tokens_of_turns_that_end_at_once_are_all_counted(access, store):
    await asyncio.gather(*(access.spent("telegram", "1", 7) for _ in range(20)))
    await access.spent("telegram", "1", 0)
    assert usage.used(store, "telegram", "1", NOON.date()).tokens == 140


@pytest.fixture
def berlin(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local time whose clock is put forward on the last Sunday of March, at 2."""
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
        time.tzset()
        yield
    time.tzset()


async def test_on_the_day_of_23_hours_midnight_comes_earlier(store, clock, berlin):
    access = access_with(store, clock, mode="open", tokens_per_day=1)
    clock.now = datetime(2025, 3, 30, 0, 30)
    await access.spent("telegram", "1", 1)
    assert (await refusal(access)).values["hours"] == 23  # 22.5, and not 23.5
