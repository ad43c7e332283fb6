from __future__ import annotations

from collections.abc import Callable
from datetime import date, timedelta
from typing import Any

from sqlmodel import select

from store import usage
from store.session import Store
from store.tables import Usage

TODAY = date(2026, 3, 1)


def used(store: Store, external_id: str = "42", day: date = TODAY) -> tuple[int, int]:
    found = usage.used(store, "telegram", external_id, day)
    return found.messages, found.tokens


def days_kept(store: Store, external_id: str) -> list[date]:
    with store.reading() as session:
        return sorted(session.exec(select(Usage.day).where(Usage.external_id == external_id)))


def test_nothing_is_used_at_first(store: Store) -> None:
    found = usage.used(store, "telegram", "42", TODAY)
    assert (found.messages, found.tokens, found.day) == (0, 0, TODAY)
    assert days_kept(store, "42") == [], "asking leaves nothing behind"


def test_what_is_used_adds_up(store: Store) -> None:
    usage.add(store, "telegram", "42", TODAY, messages=1)
    usage.add(store, "telegram", "42", TODAY, tokens=120)
    usage.add(store, "telegram", "42", TODAY, messages=1, tokens=30)
    assert used(store) == (2, 150)


def test_each_identity_and_each_day_is_counted_for_itself(store: Store) -> None:
    usage.add(store, "telegram", "42", TODAY, tokens=1)
    usage.add(store, "telegram", "43", TODAY, tokens=2)
    usage.add(store, "api", "42", TODAY, tokens=4)
    usage.add(store, "telegram", "42", TODAY + timedelta(days=1), tokens=8)
    assert (used(store), used(store, "43"), used(store, day=TODAY + timedelta(days=1))) == ((0, 1), (0, 2), (0, 8))
    assert usage.used(store, "api", "42", TODAY).tokens == 4


def test_days_before_yesterday_go_and_other_peoples_stay(store: Store) -> None:
    usage.add(store, "telegram", "43", TODAY - timedelta(days=9), tokens=1)
    for back in (9, 2, 1, 0):
        usage.add(store, "telegram", "42", TODAY - timedelta(days=back), tokens=1)
    assert days_kept(store, "42") == [TODAY - timedelta(days=1), TODAY]
    assert days_kept(store, "43") == [TODAY - timedelta(days=9)]


def test_nothing_is_lost_when_many_add_at_once(store: Store, at_once: Callable[..., list[Any]]) -> None:
    add = [lambda: usage.add(store, "telegram", "42", TODAY, messages=1, tokens=10)] * 12
    assert at_once(*add) == [None] * 12
    assert used(store) == (12, 120)
