from __future__ import annotations

import threading

import pytest

from store import adapters
from store.errors import AlreadyThere, NotFound
from store.session import Store
from store.tables import Adapter


def add(store: Store, name: str, version: int) -> Adapter:
    return adapters.register(store, name, version, f"{name}/{version}", "small", "f00", 8)


def test_a_registered_adapter_is_neither_loaded_nor_active(store: Store) -> None:
    adapters.register(store, "house", 1, "house/1", "SmolLM2-135M-Instruct", "f00", 16)
    adapter = adapters.get(store, "house", 1)
    assert (adapter.folder, adapter.base, adapter.base_fingerprint, adapter.rank) == (
        "house/1",
        "SmolLM2-135M-Instruct",
        "f00",
        16,
    )
    assert (adapter.loaded, adapter.active) == (False, False)
    assert adapters.active(store, "house") is None


def test_a_version_can_be_registered_once(store: Store) -> None:
    add(store, "house", 1)
    with pytest.raises(AlreadyThere):
        adapters.register(store, "house", 1, "elsewhere", "large", "bad", 8)
    assert adapters.get(store, "house", 1).folder == "house/1"


def test_versions_are_counted_for_each_name(store: Store) -> None:
    assert adapters.next_version(store, "house") == 1
    add(store, "house", 1)
    add(store, "house", 7)
    add(store, "ada", 1)
    assert adapters.next_version(store, "house") == 8
    assert adapters.next_version(store, "ada") == 2


def test_all_adapters_are_listed_by_name_and_version(store: Store) -> None:
    for name, version in (("house", 10), ("house", 9), ("ada", 1)):
        add(store, name, version)
    listed = [(each.name, each.version) for each in adapters.all_adapters(store)]
    assert listed == [("ada", 1), ("house", 9), ("house", 10)]


def test_activating_a_version_replaces_the_active_one(store: Store) -> None:
    for version in (1, 2):
        add(store, "house", version)
    add(store, "ada", 1)
    adapters.activate(store, "ada", 1)
    adapters.activate(store, "house", 1)
    adapters.activate(store, "house", 2)
    assert adapters.active(store, "house").version == 2
    assert adapters.active(store, "ada").version == 1
    assert [each.active for each in adapters.all_adapters(store)] == [True, False, True]


def test_activating_none_leaves_the_base_model(store: Store) -> None:
    add(store, "house", 1)
    adapters.activate(store, "house", 1)
    adapters.activate(store, "house", None)
    assert adapters.active(store, "house") is None


def test_activating_what_is_not_there_changes_nothing(store: Store) -> None:
    add(store, "house", 1)
    adapters.activate(store, "house", 1)
    with pytest.raises(NotFound, match="house@2"):
        adapters.activate(store, "house", 2)
    with pytest.raises(NotFound):
        adapters.activate(store, "nobody", 1)
    assert adapters.active(store, "house").version == 1


def test_activations_at_once_leave_one_active(store: Store) -> None:
    for version in range(1, 7):
        add(store, "house", version)
    at_once = threading.Barrier(6)

    def activate(version: int) -> None:
        at_once.wait()
        adapters.activate(store, "house", version)

    threads = [threading.Thread(target=activate, args=(version,)) for version in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(each.active for each in adapters.all_adapters(store)) == 1


def test_what_is_to_be_loaded_is_remembered(url: str) -> None:
    with Store(url) as store:
        adapter = add(store, "house", 1)
        adapters.mark_loaded(store, adapter.id, True)
    with Store(url) as store:
        assert adapters.get(store, "house", 1).loaded
        adapters.mark_loaded(store, adapter.id, False)
        assert not adapters.get(store, "house", 1).loaded


def test_what_is_not_registered_is_not_found(store: Store) -> None:
    with pytest.raises(NotFound, match="house@1"):
        adapters.get(store, "house", 1)
    with pytest.raises(NotFound):
        adapters.mark_loaded(store, 99, True)
