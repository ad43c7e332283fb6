"""`familiar users`: who may talk on the channels that anybody can reach."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated

import typer

from cli.running import out, run, store_of

if TYPE_CHECKING:
    from rich.table import Table

    from settings import Settings
    from store.people import Known
    from store.tables import Access

app = typer.Typer(help="Who may talk on Telegram, and who waits to be let in.", no_args_is_help=True)

CodeOrIdentity = Annotated[
    str, typer.Argument(help="The code that they were shown, or who they are, e.g. telegram:123456789.")
]
Identity = Annotated[str, typer.Argument(help="Who they are, e.g. telegram:123456789.")]


@app.command("list")
def listing() -> None:
    """Who waits and with which code, who is let in, who is blocked, and how much they wrote."""

    async def command(settings: Settings) -> int:
        from bot import pairing
        from store import people

        async with store_of(settings) as store:
            rows = await asyncio.to_thread(pairing.listing, store)
            known = await asyncio.to_thread(people.everybody, store)
        out().print(f"Who may talk: {_MODES[settings.access.mode]}")
        table = _table(settings, rows, known)
        if table.row_count:
            out().print(table)
        else:
            out().print("Nobody has written yet.")
        return 0

    run(command)


@app.command()
def approve(
    who: CodeOrIdentity,
    admin: Annotated[bool, typer.Option("--admin", help="They may use the admin commands, too.")] = False,
) -> None:
    """Let somebody in. Without --admin they are a user, also if they were an admin."""

    async def command(settings: Settings) -> int:
        from bot import pairing

        async with store_of(settings) as store:
            row = await asyncio.to_thread(pairing.approve, store, who, admin=admin)
        out().print(f"{_named(row)} is let in{' as an admin' if admin else ''}.", markup=False)
        return 0

    run(command)


@app.command()
def block(who: CodeOrIdentity) -> None:
    """Shut somebody out, whatever access.mode says."""

    async def command(settings: Settings) -> int:
        from bot import pairing

        async with store_of(settings) as store:
            row = await asyncio.to_thread(pairing.block, store, who, admins=settings.access.admins)
        out().print(f"{_named(row)} is blocked.", markup=False)
        return 0

    run(command)


@app.command()
def unblock(who: Identity) -> None:
    """Let somebody who was blocked in again."""

    async def command(settings: Settings) -> int:
        from bot import pairing

        async with store_of(settings) as store:
            row = await asyncio.to_thread(pairing.unblock, store, who)
        out().print(f"{_named(row)} is let in again.", markup=False)
        return 0

    run(command)


_MODES = {
    "pairing": "whom you approve (access.mode is pairing).",
    "allowlist": "who is on the list access.allow, or approved by you (access.mode is allowlist).",
    "open": "everybody who is not blocked (access.mode is open).",
}


def _table(settings: Settings, rows: list[Access], known: list[Known]) -> Table:
    """One line for each identity: those that something was decided about, then the others who have written."""
    from rich.markup import escape
    from rich.table import Table

    wrote = {f"{channel}:{external_id}": each for each in known for channel, external_id in each.identities}
    decided = {f"{row.channel}:{row.external_id}": row for row in rows}
    table = Table("who", "name", "access", "code", "messages", "last")
    for identity in [*decided, *(each for each in wrote if each not in decided)]:
        row, person = decided.get(identity), wrote.get(identity)
        name = (row.name if row else "") or (person.name if person else "")
        table.add_row(
            identity,
            escape(name),
            _access(settings, identity, row),
            row.code if row else "",
            str(person.messages) if person else "0",
            f"{person.last_at.astimezone():%Y-%m-%d %H:%M}" if person and person.last_at else "",
        )
    return table


def _access(settings: Settings, identity: str, row: Access | None) -> str:
    if identity in settings.access.admins:
        return "admin, by config.toml"
    if row is None or (row.state == "pending" and identity in settings.access.allow):
        return "by config.toml" if identity in settings.access.allow else ""
    return "admin" if row.state == "allowed" and row.role == "admin" else row.state


def _named(row: Access) -> str:
    identity = f"{row.channel}:{row.external_id}"
    return f"{row.name} ({identity})" if row.name else identity
