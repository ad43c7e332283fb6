from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from store import access
from store.errors import AlreadyThere
from store.session import Store


def test_nothing_is_known_of_a_stranger(store: Store) -> None:
    assert access.standing(store, "telegram", "42") is None
    assert access.listing(store) == []


def test_who_asks_waits_with_a_code(store: Store) -> None:
    asked = access.request(store, "telegram", "42", "Ada", "K7QX-M3PA")
    assert (asked.state, asked.role, asked.code, asked.name) == ("pending", "user", "K7QX-M3PA", "Ada")
    assert asked.decided_at is None
    assert abs(asked.requested_at - datetime.now(UTC)) < timedelta(minutes=1)
    assert access.standing(store, "telegram", "42") == asked
    assert access.standing(store, "api", "42") is None


def test_who_asks_again_keeps_the_first_code(store: Store) -> None:
    access.request(store, "telegram", "42", "Ada", "FIRST")
    assert access.request(store, "telegram", "42", "Ada", "SECOND").code == "FIRST"
    assert access.by_code(store, "SECOND") is None
    assert len(access.listing(store)) == 1


@pytest.mark.parametrize("state", ["allowed", "blocked"])
def test_a_decision_uses_the_code_up_and_stays_when_they_ask_again(store: Store, state: str) -> None:
    access.request(store, "telegram", "42", "Ada", "FIRST")
    decided = access.decide(store, "telegram", "42", state)
    assert (decided.state, decided.code, decided.name) == (state, "", "Ada")
    assert decided.decided_at is not None
    again = access.request(store, "telegram", "42", "Somebody", "SECOND")
    assert again == decided == access.standing(store, "telegram", "42")
    assert access.by_code(store, "FIRST") is None
    assert access.by_code(store, "SECOND") is None


def test_a_request_is_found_by_its_code_in_any_case(store: Store) -> None:
    access.request(store, "telegram", "41", "Bob", "AAAA-BBBB")
    access.request(store, "telegram", "42", "Ada", "K7QX-M3PA")
    for given in ("K7QX-M3PA", "k7qx-m3pa"):
        assert access.by_code(store, given).external_id == "42"
    for given in ("K7QX", "", "%"):
        assert access.by_code(store, given) is None


def test_nobody_decided_about_is_found_by_having_no_code(store: Store) -> None:
    access.decide(store, "telegram", "42", role="admin")
    assert access.standing(store, "telegram", "42").state == "pending"
    assert access.by_code(store, "") is None


def test_two_who_wait_never_have_the_same_code(store: Store) -> None:
    access.request(store, "telegram", "42", "Ada", "SAME")
    for given in ("SAME", "same"):
        with pytest.raises(AlreadyThere):
            access.request(store, "telegram", "43", "Bob", given)
    assert access.standing(store, "telegram", "43") is None
    assert access.request(store, "telegram", "42", "Ada", "SAME").code == "SAME", "one's own is no obstacle"
    access.decide(store, "telegram", "42", "allowed")
    assert access.request(store, "telegram", "43", "Bob", "SAME").code == "SAME", "a code that was used up is free"


def test_many_may_be_decided_about_without_a_code(store: Store) -> None:
    for number in range(3):
        access.decide(store, "telegram", str(number), "allowed")
    assert [each.state for each in access.listing(store)] == ["allowed"] * 3


def test_somebody_who_never_asked_can_be_decided_about(store: Store) -> None:
    access.decide(store, "telegram", "42", "blocked", name="Mallory")
    found = access.standing(store, "telegram", "42")
    assert (found.state, found.role, found.name) == ("blocked", "user", "Mallory")


def test_only_what_is_given_is_changed(store: Store) -> None:
    access.request(store, "telegram", "42", "Ada", "FIRST")
    promoted = access.decide(store, "telegram", "42", role="admin")
    assert (promoted.state, promoted.role, promoted.code, promoted.name) == ("pending", "admin", "FIRST", "Ada")
    assert promoted.decided_at is None
    allowed = access.decide(store, "telegram", "42", state="allowed", name="Countess")
    assert (allowed.state, allowed.role, allowed.name) == ("allowed", "admin", "Countess")


def test_a_role_given_before_the_first_request_does_not_take_the_code_away(store: Store) -> None:
    access.decide(store, "telegram", "42", role="admin")
    asked = access.request(store, "telegram", "42", "Ada", "FIRST")
    assert (asked.state, asked.role, asked.code, asked.name) == ("pending", "admin", "FIRST", "Ada")


def test_everybody_is_listed_in_the_order_in_which_they_came(store: Store) -> None:
    access.request(store, "telegram", "9", "Ada", "A")
    access.decide(store, "api", "1", "blocked")
    access.request(store, "telegram", "5", "Bob", "B")
    access.decide(store, "telegram", "9", "allowed")
    assert [(each.channel, each.external_id) for each in access.listing(store)] == [
        ("telegram", "9"),
        ("api", "1"),
        ("telegram", "5"),
    ]


def test_who_asks_many_times_at_once_gets_one_code(store: Store, at_once: Callable[..., list[Any]]) -> None:
    codes = at_once(*[lambda n=n: access.request(store, "telegram", "42", "Ada", f"CODE{n}").code for n in range(8)])
    assert codes == [access.standing(store, "telegram", "42").code] * 8
    assert len(access.listing(store)) == 1


def test_one_code_given_to_many_at_once_is_one_persons(store: Store, at_once: Callable[..., list[Any]]) -> None:
    outcomes = at_once(*[lambda n=n: access.request(store, "telegram", str(n), "Ada", "SAME") for n in range(8)])
    assert sum(isinstance(each, AlreadyThere) for each in outcomes) == 7
    assert [each.code for each in access.listing(store)] == ["SAME"]


def test_two_decisions_at_once_are_both_taken(store: Store, at_once: Callable[..., list[Any]]) -> None:
    for number in range(5):
        at_once(
            lambda number=number: access.decide(store, "telegram", str(number), "allowed"),
            lambda number=number: access.decide(store, "telegram", str(number), role="admin"),
        )
        found = access.standing(store, "telegram", str(number))
        assert (found.state, found.role) == ("allowed", "admin")
