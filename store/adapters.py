"""The registered adapters: versions of a name, of which at most one is active, the one its name stands for."""

from __future__ import annotations

from typing import Literal

from sqlmodel import col, func, select

from store.errors import NotFound
from store.session import Store
from store.tables import Adapter

Kind = Literal["lora", "model"]


def register(
    store: Store,
    name: str,
    version: int,
    folder: str,
    base: str,
    base_fingerprint: str,
    rank: int,
    *,
    kind: Kind = "lora",
) -> Adapter:
    """Add a version, neither loaded nor active. Raises AlreadyThere."""
    with store.writing() as session:
        adapter = Adapter(
            name=name,
            version=version,
            folder=folder,
            base=base,
            base_fingerprint=base_fingerprint,
            rank=rank,
            kind=kind,
        )
        session.add(adapter)
        return adapter


def next_version(store: Store, name: str) -> int:
    """One more than the newest version of this name; 1 for a new name."""
    with store.reading() as session:
        newest = session.exec(select(func.max(Adapter.version)).where(Adapter.name == name)).one()
    return (newest or 0) + 1


def get(store: Store, name: str, version: int) -> Adapter:
    """Raises NotFound."""
    with store.reading() as session:
        adapter = session.exec(select(Adapter).where(Adapter.name == name, Adapter.version == version)).first()
    if adapter is None:
        raise NotFound(f"There is no adapter {name}@{version}.")
    return adapter


def all_adapters(store: Store) -> list[Adapter]:
    """Every version of every name, by name, the oldest version first."""
    with store.reading() as session:
        return list(session.exec(select(Adapter).order_by(col(Adapter.name), col(Adapter.version))))


def active(store: Store, name: str) -> Adapter | None:
    """The version that `name` stands for now; None when it stands for the base model."""
    with store.reading() as session:
        return session.exec(select(Adapter).where(Adapter.name == name, col(Adapter.active))).first()


def activate(store: Store, name: str, version: int | None) -> None:
    """Let `name` stand for this version, or (None) for no version. At no moment do two count as active.

    Raises NotFound, and then leaves the active one as it was.
    """
    with store.writing() as session:
        versions = session.exec(select(Adapter).where(Adapter.name == name).order_by(col(Adapter.id)).with_for_update())
        found = list(versions)
        if version is not None and version not in {each.version for each in found}:
            raise NotFound(f"There is no adapter {name}@{version}.")
        for each in found:
            each.active = each.version == version


def mark_loaded(store: Store, adapter_id: int, loaded: bool) -> None:
    """Note whether the engine is to load this adapter whenever it starts. Raises NotFound."""
    with store.writing() as session:
        adapter = session.get(Adapter, adapter_id)
        if adapter is None:
            raise NotFound(f"There is no adapter number {adapter_id}.")
        adapter.loaded = loaded
