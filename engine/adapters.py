"""Versions of what was learnt: register them, and load, swap, roll back and unload adapters in the running server.

A registered version is a folder of its own below the data folder's adapters/, NAME/VERSION, that never changes; vLLM
serves it as NAME@VERSION. Both matter: vLLM reads an adapter's files again whenever it had no room for it, and its
prefix cache knows an adapter by name and path. A name without a version is an alias on our side: it stands for the
version that the store calls active, so that a swap is one row's change and replies under way are not touched.

vLLM takes some unfit adapters without a word, and weights with NaN spoil every later reply of the whole server. So an
adapter is checked before it is loaded (engine.adapter_check) and asked for a token before it is put in force.

What no adapter can hold is a whole model (engine.whole_model), a version like any other. It can only be registered
here; the engine has to be started onto it (engine.in_force, engine.supervisor), and serves nothing beside it.

Nothing here deletes a version: the engine dies when it reaches for the files of an adapter that are gone.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from collections.abc import Callable, Container, Sequence
from pathlib import Path
from typing import Literal

import aiohttp
from filelock import FileLock

from engine import lora_server, probe, whole_model
from engine.adapter_check import adapter_files, base_fingerprint, check
from engine.adapter_folder import copied, keep, same_files
from engine.errors import AdapterRefused, EngineLost, UnknownModel
from engine.lora_server import Loaded
from engine.state import Address
from store import adapters as table
from store import canaries, places, runs
from store.errors import NotFound
from store.session import Store
from store.tables import Adapter

DEFAULT = "familiar"  # the name whose active version answers where nobody chose
BASE = "base"  # what people call the model without an adapter
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")
WANTED = re.compile(rf"(?P<name>{NAME.pattern})(@(?P<version>[1-9][0-9]{{0,8}}))?")


def served_name(adapter: Adapter) -> str:
    """The name under which vLLM serves this version, e.g. familiar@3."""
    return f"{adapter.name}@{adapter.version}"


def resolve(store: Store, wanted: str, *, sticky: int | None = None, place: str = "") -> str:
    """What to ask the engine for when a person or persona wants `wanted`; "" is the base model.

    "" stands for the active version of `familiar` where one is in force, "base" for the base model, "name" for that
    adapter's active version, "name@2" for itself. Raises UnknownModel for one that is not registered or not loaded.

    `sticky` is the number of the conversation: while a canary is under way, some conversations get its version instead
    of the active one, each always the same. In a `place` (a group, as "channel:id") that has an adapter of its own in
    force, "" stands for that; the adapter of another group is not to be had there, nor in private.
    """
    if wanted == BASE:
        return ""
    if not wanted:
        own = apart_name(place) if place else DEFAULT
        answers = _answering(store, own, sticky)
        if answers is None and own != DEFAULT:
            answers = _answering(store, DEFAULT, sticky)
        return served_name(answers) if answers is not None and answers.loaded else ""
    parts = WANTED.fullmatch(wanted)
    if parts is None:
        raise UnknownModel(f"{wanted!r} is not the name of an adapter. {_choice(store)}")
    name, version = parts["name"], parts["version"]
    if name in elsewhere(store, place):
        raise UnknownModel(f"The adapter {name} answers in its own group alone. Choose another one.")
    adapter = _row(store, name, int(version)) if version else _answering(store, name, sticky)
    if adapter is None:
        raise UnknownModel(f"No version of an adapter {name!r} is in force. {_choice(store)}")
    if not adapter.loaded:
        raise UnknownModel(f"The adapter {served_name(adapter)} is not loaded. Load it, or choose another one.")
    return served_name(adapter)


def _answering(store: Store, name: str, sticky: int | None) -> Adapter | None:
    """The active version of `name`, or the canary's where the lot fell on this conversation; None: the base model."""
    active = table.active(store, name)
    canary = canaries.under_way(store, name) if sticky is not None else None
    if sticky is None or canary is None or not canaries.takes(canary, sticky):
        return active
    if canary.before_version != (active.version if active else None):  # somebody has put another version in force
        return active
    with contextlib.suppress(NotFound):
        new = table.get(store, name, canary.version)
        if new.loaded:
            return new
    return active


def elsewhere(store: Store, place: str) -> set[str]:
    """The names of the adapters that groups have for themselves, and that are not to be had in this place."""
    return _apart_names(store) - {apart_name(place)}


def stands_in(store: Store, name: str) -> Adapter | None:
    """What answers where `name` would: its version in force, or everybody's while a group has none. None: the base."""
    own = table.active(store, name)
    if own is None and name in _apart_names(store):
        return table.active(store, DEFAULT)
    return own


def _apart_names(store: Store) -> set[str]:
    """Of the groups that Familiar is in, and of those that it has learned from."""
    known = {f"{each.channel}:{each.external_id}" for each in places.listing(store)} | runs.places(store)
    return {apart_name(place) for place in known} - {DEFAULT}


def apart_name(place: str) -> str:
    """The name of the adapter that a group ("channel:id", or a thread in it, "channel:id/thread") has for itself.

    A thread in a private chat ("channel:/thread") is private.
    """
    group = place.partition("/")[0].lower()
    if group.endswith(":"):
        return DEFAULT
    return re.sub(r"[^a-z0-9]+", "-", group).strip("-")[:32].rstrip("-") or DEFAULT


class Adapters:
    """The adapters below `root`, their rows in `store`, and the server at whichever address a method is given.

    `max_cpu_loras` is the setting of that name: how many loads the engine keeps from one start to the next.
    """

    def __init__(self, store: Store, root: Path, *, max_cpu_loras: int = 16) -> None:
        self.store = store
        self.root = root.resolve()
        self.max_cpu_loras = max_cpu_loras

    def register(self, name: str, folder: Path, model_folder: Path, *, max_rank: int) -> Adapter:
        """Check the adapter in `folder` against the base model and keep a copy of it as the next version of `name`.

        The same files for the same base model again are the version that they are already. Blocks: call it in a thread.
        Raises AdapterRefused.
        """
        if not NAME.fullmatch(name) or name == BASE:
            raise AdapterRefused(
                f"{name!r} cannot name an adapter: a name has up to 32 of a-z, 0-9, - and _, begins with a letter or "
                f"digit, and is not 'base'."
            )

        def looked_at(copy: Path) -> tuple[str, int]:
            info = check(copy, model_folder, max_rank=max_rank)
            return info.base_fingerprint, info.rank

        return self._keep(name, adapter_files(folder), model_folder, "lora", looked_at)

    def register_model(self, name: str, folder: Path, model_folder: Path) -> Adapter:
        """Check the whole model in `folder` against the base model and keep a copy of it as the next version of `name`.

        The same files again are the version that they are already. Blocks: call it in a thread. Raises AdapterRefused.
        """
        if name != DEFAULT:
            raise AdapterRefused(
                f"A whole model answers everybody, since nothing can be served beside it; so it can only be a version "
                f"of {DEFAULT}, not of {name!r}. Train an adapter for {name!r} instead, e.g. with LoRA."
            )
        looked_at = lambda copy: (whole_model.check(copy, model_folder), 0)  # noqa: E731
        return self._keep(name, whole_model.model_files(folder), model_folder, "model", looked_at)

    def _keep(
        self,
        name: str,
        files: Sequence[Path],
        model_folder: Path,
        kind: Literal["lora", "model"],
        looked_at: Callable[[Path], tuple[str, int]],
    ) -> Adapter:
        """`looked_at` checks a folder and returns its base's fingerprint and its rank."""
        self.root.mkdir(parents=True, exist_ok=True)
        # What is checked is the copy, so that nothing which changes in the original meanwhile can slip in.
        with FileLock(self.root / ".lock"), copied(files, self.root / name) as copy:
            fingerprint, rank = looked_at(copy)
            for known in table.all_adapters(self.store):
                same_base = known.name == name and known.base_fingerprint == fingerprint
                if same_base and same_files(copy, self.root / known.folder):
                    return known
            version = table.next_version(self.store, name)
            while (self.root / name / str(version)).exists():  # left by a crash, or of another database
                version += 1
            place = Path(name) / str(version)
            keep(copy, self.root / place)
            base = model_folder.resolve().name
            return table.register(self.store, name, version, str(place), base, fingerprint, rank, kind=kind)

    def row(self, name: str, version: int) -> Adapter:
        """Raises UnknownModel."""
        return _row(self.store, name, version)

    def refuse_beside(self, whole: Adapter) -> None:
        """Raise AdapterRefused while a version of another name is in force: it could not be served beside this one."""
        beside = [row for row in table.all_adapters(self.store) if row.active and row.name != whole.name]
        if beside:
            raise AdapterRefused(
                f"{served_name(beside[0])} is in force, and nothing can be served beside the whole model "
                f"{served_name(whole)}. Roll {beside[0].name} back first."
            )

    def before(self, name: str) -> Adapter | None:
        """The version that a rollback puts in force; None for the base model. Raises AdapterRefused when none is.

        The store does not keep which version was active before. A version that was, and has not been unloaded since,
        is still marked as loaded; so it is the highest lower one of those, else the highest lower one there is.
        """
        in_force = table.active(self.store, name)
        if in_force is None:
            raise AdapterRefused(f"No version of {name} is in force, so there is nothing to roll back.")
        earlier = [row for row in table.all_adapters(self.store) if row.name == name and row.version < in_force.version]
        return max(earlier, key=lambda row: (row.loaded, row.version), default=None)

    def mark_for_loading(self, name: str, version: int) -> None:
        """Have it loaded when the engine starts next, which then starts with LoRA. Raises UnknownModel."""
        table.mark_loaded(self.store, _id(_row(self.store, name, version)), True)

    async def load(self, address: Address, name: str, version: int) -> None:
        """Have the server ready to answer as `name@version`. If it is already, it is only asked for a token.

        Raises AdapterRefused (with `engine_poisoned` when the engine must be restarted), UnknownModel, EngineLost,
        WrongKey.
        """
        await self._bring_in(address, await asyncio.to_thread(_row, self.store, name, version))

    async def unload(self, address: Address, name: str, version: int) -> None:
        """Take it out of the server. Replies under way go on. Raises AdapterRefused while it is in force."""
        adapter = await asyncio.to_thread(_row, self.store, name, version)
        if adapter.active:
            raise AdapterRefused(
                f"{served_name(adapter)} is in force. Put another version in force first, or roll back."
            )
        await asyncio.to_thread(table.mark_loaded, self.store, _id(adapter), False)
        if adapter.kind == "model":
            return  # one that is not in force is not served
        async with lora_server.session() as session:
            status, said = await lora_server.post(
                session, address, "/v1/unload_lora_adapter", {"lora_name": served_name(adapter)}
            )
        if status not in (200, 404):  # 404: it was not there
            raise AdapterRefused(f"The engine did not unload {served_name(adapter)}: {said}")

    async def loaded(self, address: Address) -> list[Loaded]:
        """What the server says it has. Raises EngineLost, WrongKey."""
        async with lora_server.session() as session:
            return await lora_server.loaded(session, address)

    async def swap(self, address: Address, name: str, version: int) -> str:
        """Put `name@version` in force once it is loaded and answers; the version before stays loaded. Returns its name.

        Raises what `load` raises; then the version before is still in force.
        """
        await self.load(address, name, version)
        await asyncio.to_thread(table.activate, self.store, name, version)
        return f"{name}@{version}"

    async def rollback(self, address: Address, name: str) -> str:
        """Put the version `before` the active one in force. Returns its name, "" for the base model."""
        before = await asyncio.to_thread(self.before, name)
        if before is None:
            await asyncio.to_thread(table.activate, self.store, name, None)
            return ""
        return await self.swap(address, name, before.version)

    async def restore(self, address: Address) -> dict[str, AdapterRefused]:
        """Load everything that was loaded or in force, after a start of the engine. Returns what failed, and why.

        One that fails does not hinder the others, unless the engine must be restarted: then its `engine_poisoned` is
        set, and the next start goes without it.
        """
        rows = await asyncio.to_thread(table.all_adapters, self.store)
        refused: dict[str, AdapterRefused] = {}
        for adapter in sorted(rows, key=lambda row: (not row.active, row.name, -row.version)):
            if adapter.kind == "model" or not (adapter.loaded or adapter.active):
                continue
            try:
                await self._bring_in(address, adapter)
            except AdapterRefused as refusal:
                refused[served_name(adapter)] = refusal
                if refusal.engine_poisoned:
                    break
            except EngineLost as lost:
                refused[served_name(adapter)] = AdapterRefused(str(lost), engine_poisoned=True)
                break
        return refused

    # How one gets in

    async def _bring_in(self, address: Address, adapter: Adapter) -> None:
        name = served_name(adapter)
        if adapter.kind == "model":
            raise AdapterRefused(f"{name} is a whole model, which is not loaded beside another. Put it in force.")
        if address.whole:
            raise AdapterRefused(
                f"The engine serves the whole model {address.whole}, and {name} was made for the base model. Put "
                f"{name} in force, or roll back; the engine is started anew for it."
            )
        if not address.lora:
            raise AdapterRefused(
                f"The engine runs without LoRA, so {name} cannot be loaded. It must be restarted with LoRA: "
                f"engine.lora is 'off', or there was no adapter to load when it started."
            )
        async with lora_server.session() as session:
            await self._refuse_a_sick_engine(session, address, name)
            paths = {each.name: each.path for each in await lora_server.loaded(session, address)}
            if name not in paths:
                await self._refuse_one_too_many(session, address, name, len(paths))
                await self._check(session, address, adapter)
                await self._load(session, address, adapter)
            elif paths[name] != str(self.root / adapter.folder):
                raise AdapterRefused(f"The engine has another adapter under the name {name}. Restart the engine.")
            await self._try_out(session, address, adapter)
        await asyncio.to_thread(table.mark_loaded, self.store, _id(adapter), True)

    async def _refuse_a_sick_engine(self, session: aiohttp.ClientSession, address: Address, name: str) -> None:
        """So that no adapter is blamed for what was wrong before."""
        try:
            await probe.canary(session, address)
        except probe.Sick as sick:
            raise AdapterRefused(
                f"The engine did not answer rightly before {name} was loaded: {sick}. Restart the engine and try "
                f"again.",
                engine_poisoned=True,
            ) from sick

    async def _refuse_one_too_many(
        self, session: aiohttp.ClientSession, address: Address, name: str, at_least: int
    ) -> None:
        loads = max(at_least, await lora_server.loads_since_start(session, address))
        if loads >= self.max_cpu_loras:
            raise AdapterRefused(
                f"The engine has taken {loads} adapters since it started and keeps no more, so {name} was not loaded. "
                f"Restart the engine, or raise engine.max_cpu_loras."
            )

    async def _check(self, session: aiohttp.ClientSession, address: Address, adapter: Adapter) -> None:
        """Once more before every load: a file may have been damaged since, or the base model changed."""
        name = served_name(adapter)
        folder = self.root / adapter.folder
        try:
            if folder.resolve() != folder or not folder.is_relative_to(self.root) or folder == self.root:
                raise AdapterRefused(
                    f"{name} lies in {folder}, not below {self.root}; nothing is loaded from elsewhere."
                )
            if address.model_folder is None:
                await self._compare_names(session, address, adapter)
                return
            if await asyncio.to_thread(base_fingerprint, address.model_folder) != adapter.base_fingerprint:
                raise AdapterRefused(
                    f"{name} was made for the base model {adapter.base}; the engine serves another one, "
                    f"{address.model}. Choose that base model in engine.model, or an adapter of this one."
                )
            await asyncio.to_thread(check, folder, address.model_folder, max_rank=adapter.rank)
        except AdapterRefused:
            await self._leave_out(adapter)
            raise

    async def _compare_names(self, session: aiohttp.ClientSession, address: Address, adapter: Adapter) -> None:
        """All that can be compared with an engine whose base model does not lie on this machine."""
        entries = await lora_server.served(session, address)
        known = {str(entry.get(key)) for entry in entries if entry["id"] == address.model for key in ("id", "root")}
        if adapter.base not in {name for each in known for name in (Path(each).name, each.replace("/", "--"))}:
            raise AdapterRefused(
                f"{served_name(adapter)} was made for the base model {adapter.base}, and the server says it serves "
                f"{address.model}. Serve that base model, or register the adapter for this one."
            )

    async def _load(self, session: aiohttp.ClientSession, address: Address, adapter: Adapter) -> None:
        name = served_name(adapter)
        body = {"lora_name": name, "lora_path": str(self.root / adapter.folder)}
        try:
            status, said = await lora_server.post(session, address, "/v1/load_lora_adapter", body)
        except EngineLost as lost:
            await self._leave_out(adapter, in_force_too=True)
            raise AdapterRefused(
                f"The engine was lost while it loaded {name}, which is left out from now on: {lost}",
                engine_poisoned=True,
            ) from lost
        if status == 404 and said == "Not Found":
            raise AdapterRefused(
                "The server does not let adapters be loaded. It must be started with --enable-lora and the environment "
                "variable VLLM_ALLOW_RUNTIME_LORA_UPDATING=True."
            )
        if status != 200 and "already been loaded" not in said:  # somebody else was faster
            await self._leave_out(adapter)
            raise AdapterRefused(f"The engine did not take {name}: {said}")

    async def _try_out(self, session: aiohttp.ClientSession, address: Address, adapter: Adapter) -> None:
        """One token with its probability. NaN shows here, and before anybody's reply."""
        name = served_name(adapter)
        try:
            await probe.canary(session, address, name)
            return
        except probe.Sick as sick:
            fault = sick
        await self._leave_out(adapter, in_force_too=True)
        try:
            await lora_server.post(session, address, "/v1/unload_lora_adapter", {"lora_name": name})
            await probe.canary(session, address)
        except (probe.Sick, EngineLost) as sick:
            raise AdapterRefused(
                f"{name} spoilt the engine ({fault}), and the base model no longer answers either ({sick}). It "
                f"is left out from now on; the engine must be restarted.",
                engine_poisoned=True,
            ) from sick
        raise AdapterRefused(f"{name} does not answer rightly and was unloaded: {fault}") from fault

    async def _leave_out(self, adapter: Adapter, *, in_force_too: bool = False) -> None:
        """Not at the next start, and not in replies: the base model answers where it was in force."""
        await asyncio.to_thread(table.mark_loaded, self.store, _id(adapter), False)
        in_force = await asyncio.to_thread(table.active, self.store, adapter.name)
        if in_force_too and in_force is not None and in_force.version == adapter.version:
            await asyncio.to_thread(table.activate, self.store, adapter.name, None)


# The store


def _row(store: Store, name: str, version: int) -> Adapter:
    """Raises UnknownModel."""
    try:
        return table.get(store, name, version)
    except NotFound:
        raise UnknownModel(f"There is no adapter {name}@{version}. {_choice(store)}") from None


def wanted_whole(store: Store, asked: str, but: Container[str]) -> Adapter | None:
    """The whole model to start the engine onto: the one asked for, else the one in force, none of `but`.

    None: the base model.
    """
    wholes = {served_name(row): row for row in table.all_adapters(store) if row.kind == "model"}
    fit = [row for name, row in wholes.items() if name not in but and (name == asked or row.active)]
    return min(fit, key=lambda row: served_name(row) != asked, default=None)


def _choice(store: Store) -> str:
    names = [served_name(adapter) for adapter in table.all_adapters(store)]
    return f"Registered: {', '.join(names)}." if names else "No adapter is registered."


def _id(adapter: Adapter) -> int:
    assert adapter.id is not None  # every row that came from the store has one
    return adapter.id
