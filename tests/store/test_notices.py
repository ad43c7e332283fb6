from __future__ import annotations

from datetime import timedelta

import pytest

from store import notices
from store.errors import NotFound
from store.session import Store
from store.tables import now


def test_a_notice_waits_until_everybody_has_it(store: Store) -> None:
    first = notices.add(store, "learning.failed", run=3, said="No memory. 没有内存 😀")
    second = notices.add(store, "learning.promoted", run=4)
    assert [(each.key, each.args) for each in notices.waiting(store)] == [
        ("learning.failed", {"run": 3, "said": "No memory. 没有内存 😀"}),
        ("learning.promoted", {"run": 4}),
    ]
    notices.sent(store, first.id)
    notices.sent(store, first.id)
    assert [each.id for each in notices.waiting(store)] == [second.id]


def test_who_has_it_is_written_down_once(store: Store) -> None:
    notice = notices.add(store, "learning.failed")
    for admin in ("telegram:1", "telegram:2", "telegram:1"):
        notices.told(store, notice.id, admin)
    (waiting,) = notices.waiting(store)
    assert waiting.told == ["telegram:1", "telegram:2"]


def test_old_news_can_be_passed_over(store: Store) -> None:
    notices.add(store, "learning.failed")
    assert notices.waiting(store, since=now() + timedelta(seconds=1)) == []
    assert len(notices.waiting(store, since=now() - timedelta(days=1))) == 1


def test_an_unknown_notice_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound):
        notices.sent(store, 9)
    with pytest.raises(NotFound):
        notices.told(store, 9, "telegram:1")
