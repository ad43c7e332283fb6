from __future__ import annotations

from collections.abc import Callable
from typing import Any

from store import places
from store.session import Store


def test_a_new_place_is_enabled_and_has_the_default_persona(store: Store) -> None:
    found = places.place(store, "telegram", "-100", "Team")
    assert (found.title, found.enabled, found.persona) == ("Team", True, "")


def test_a_place_is_known_again_and_keeps_what_was_set(store: Store) -> None:
    first = places.place(store, "telegram", "-100", "Team")
    places.configure(store, "telegram", "-100", enabled=False, persona="poet")
    again = places.place(store, "telegram", "-100")
    assert (again.id, again.title, again.enabled, again.persona) == (first.id, "Team", False, "poet")


def test_a_place_that_was_renamed_has_its_new_title(store: Store) -> None:
    places.place(store, "telegram", "-100", "Team")
    assert places.place(store, "telegram", "-100", "团队 🦆").title == "团队 🦆"
    assert places.place(store, "telegram", "-100").title == "团队 🦆"


def test_only_what_is_given_is_changed(store: Store) -> None:
    places.configure(store, "telegram", "-100", persona="poet")
    off = places.configure(store, "telegram", "-100", enabled=False)
    assert (off.enabled, off.persona) == (False, "poet")
    back = places.configure(store, "telegram", "-100", enabled=True, persona="")
    assert (back.enabled, back.persona) == (True, "")


def test_each_place_is_set_for_itself(store: Store) -> None:
    places.configure(store, "telegram", "-100", enabled=False)
    assert places.place(store, "telegram", "-200").enabled
    assert places.place(store, "api", "-100").enabled


def test_a_place_seen_many_times_at_once_is_one(store: Store, at_once: Callable[..., list[Any]]) -> None:
    seen = at_once(*[lambda: places.place(store, "telegram", "-100", "Team").id] * 8)
    assert seen == [places.place(store, "telegram", "-100").id] * 8
