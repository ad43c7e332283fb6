"""`familiar finetune`: from the log to a better adapter, and back."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, get_args

import typer

from cli.learnt import followed, in_force, last_progress, left_in_force, listed, show, tell, verdict_of
from cli.running import Phases, err, out, service_log, short, store_of
from cli.running import run as run_command

if TYPE_CHECKING:
    from finetune.apart import Target
    from settings import Settings
    from store.session import Store
    from store.tables import Run

app = typer.Typer(help="From the log to a better adapter, proven, and back.", no_args_is_help=True)

Form = Literal["openai", "sharegpt", "preferences"]
SHOWN = 15  # runs in a list


@app.command()
def run(
    data: Annotated[Path | None, typer.Option(help="Learn from this file (JSONL) instead of the log.")] = None,
    strict: Annotated[bool, typer.Option(help="A malformed line of the file refuses it.")] = False,
    resume: Annotated[int | None, typer.Option(help="Go on with the run of this number.")] = None,
    override: Annotated[str, typer.Option(help="Promote it even if rejected or not proven: why. It is logged.")] = "",
    method: Annotated[str, typer.Option(help="Instead of finetune.method, e.g. dora.")] = "",
    group: Annotated[str, typer.Option(help="Only the adapter of this group's own: telegram:-100123 | private.")] = "",
    offline: Annotated[bool, typer.Option(help="Train and measure only; nothing is put in force.")] = False,
    scheduled: Annotated[bool, typer.Option(hidden=True)] = False,
) -> None:
    """Learn from the log, measure before and after, and put what was learnt in force if it is better."""
    _refuse_unknown_method(method)

    async def command(settings: Settings, store: Store) -> int:
        from finetune.run import run as learn

        targets, too_few = await _targets(settings, store, one=group if group or data or resume is not None else None)
        if override and len(targets) > 1:
            raise typer.BadParameter("--override is for one adapter. Say which with --group, or --group private.")
        for each in too_few:
            said = f"{each.title}: {each.examples} examples, and a run takes {settings.finetune.min_new_examples}."
            out().print(said, markup=False)
        failed = 0
        for target in targets:
            if len(targets) + len(too_few) > 1:
                out().print(f"{target.title}: the adapter {target.name}", style="bold", markup=False)
            with followed() as told:
                record = await learn(
                    settings,
                    store,
                    name=target.name,
                    place=target.place,
                    file=data,
                    strict=strict,
                    offline=offline,
                    trigger="schedule" if scheduled else "by hand",
                    resume=resume,
                    method=method or None,  # type: ignore[arg-type]
                    override=override,
                    told=told,
                )
            tell(settings, record, quoting=not scheduled)
            failed += record.verdict == "failed"
        return 1 if failed else 0

    _run(command, tidy=False, log=service_log if scheduled else None)


@app.command()
def status() -> None:
    """The runs, the canary, what is in force, and when the next run is due. Nothing is started."""

    async def command(settings: Settings, store: Store) -> int:
        from finetune.run import under_way
        from finetune.schedule import first_time
        from store import canaries, runs
        from store.tables import now

        rows = await asyncio.to_thread(runs.listing, store, SHOWN)
        going = await asyncio.to_thread(under_way, settings)
        screen = out()
        if not rows:
            screen.print("Nothing has been learnt yet. `familiar finetune run` (or `make finetune`) begins.")
        else:
            screen.print(listed(rows, going))
        if going and rows and (line := await asyncio.to_thread(last_progress, settings, rows[0].id)):
            screen.print(line, markup=False)
        for canary in await asyncio.to_thread(canaries.all_under_way, store):
            said = f"{canary.name}@{canary.version} answers {canary.share:.0%} of the conversations"
            screen.print(f"{said} since {canary.started_at.astimezone():%Y-%m-%d %H:%M}.")
        screen.print(await asyncio.to_thread(in_force, store))
        due = await asyncio.to_thread(first_time, settings, store, now())
        screen.print(
            f"The next run is due {due:%Y-%m-%d %H:%M}." if due else "No run is scheduled (finetune.schedule)."
        )
        return 0

    _run(command)


@app.command()
def report(
    number: Annotated[
        int | None, typer.Argument(help="Of the run; left out: the newest that came to a verdict.")
    ] = None,
    open_it: Annotated[bool, typer.Option("--open", help="In the browser, too.")] = False,
) -> None:
    """What came of a run: the verdict, the numbers, replies side by side."""

    async def command(settings: Settings, store: Store) -> int:
        import webbrowser

        from finetune import folders

        row = await asyncio.to_thread(_chosen, store, number)
        folder = folders.folder_of(settings, row.id or 0)
        record = await asyncio.to_thread(folders.load, folder)
        if record is None:
            out().print(f"Run {row.id}: {verdict_of(row)}. {row.said}", markup=False)
            out().print("Of a run that is old, or had nothing to learn, no more is kept.")
            return 0
        show(record)
        file = folder / folders.REPORT
        if not file.exists():
            return 0
        out().print(short(file), markup=False, soft_wrap=True)
        if open_it and not await asyncio.to_thread(webbrowser.open, file.resolve().as_uri()):
            err().print("There is no browser here; open the file by hand.")
        return 0

    _run(command)


@app.command()
def promote(version: Annotated[str, typer.Argument(help="A version: 7, or name@7.")]) -> None:
    """Put a version in force for everybody, whatever was proven of it. It is logged."""
    name, number = _name_and_version(version)

    async def command(settings: Settings, store: Store) -> int:
        from engine.process import connect
        from finetune import promote as promotion

        now = await promotion.promote(settings, store, connect(settings), name, number, Phases())
        out().print(f"{now} is in force.")
        return 0

    _run(command)


@app.command()
def rollback(name: Annotated[str, typer.Argument(help="The adapter's name.")] = "familiar") -> None:
    """One step back, at once: a canary ends; else the version before the one in force answers again."""

    async def command(settings: Settings, store: Store) -> int:
        from engine.process import connect
        from finetune import promote as promotion

        now = await promotion.rollback(settings, store, connect(settings), name, Phases())
        out().print(await asyncio.to_thread(left_in_force, store, name, now))
        return 0

    _run(command)


@app.command()
def schedule() -> None:
    """Run at the times of finetune.schedule until Ctrl-C. `familiar telegram` does so by itself."""

    async def command(settings: Settings, store: Store) -> int:
        from finetune.schedule import first_time, follow, valid
        from settings import SettingsError
        from store.tables import now

        if not valid(settings.finetune.schedule):
            raise SettingsError(
                f"finetune.schedule is {settings.finetune.schedule!r}, which is no time in cron's form, "
                f"e.g. '0 3 * * *' for every night at three."
            )
        due = await asyncio.to_thread(first_time, settings, store, now())
        out().print(f"The next run is due {due:%Y-%m-%d %H:%M}. Ctrl-C to leave.")
        await follow(settings, store)
        return 0

    _run(command, log=service_log)


@app.command()
def export(
    file: Annotated[Path, typer.Argument(help="To be written.")],
    form: Annotated[str, typer.Option(help="openai | sharegpt | preferences")] = "openai",
) -> None:
    """Write what can be learnt from the log for other trainers, without personal data."""
    if form not in get_args(Form):
        raise typer.BadParameter(f"{form!r} is none of {', '.join(get_args(Form))}")

    async def command(settings: Settings, store: Store) -> int:
        from finetune.export import export as write

        with followed() as told:
            done = await asyncio.to_thread(write, settings, store, file, form, told)  # type: ignore[arg-type]
        out().print(f"{done.rows} rows of {done.people} people are in {short(file)}.", markup=False)
        if done.redactions:
            kinds = ", ".join(f"{many} {kind}" for kind, many in done.redactions.items())
            out().print(f"Placeholders stand in the place of {kinds}.", markup=False)
        if done.left_out:
            reasons = ", ".join(f"{many} {reason.replace('_', ' ')}" for reason, many in done.left_out.items())
            out().print(f"Left out: {reasons}.", markup=False)
        return 0

    _run(command)


# How a command runs


def _run(
    command: Callable[[Settings, Store], Awaitable[int]],
    *,
    tidy: bool = True,
    log: Callable[[Settings], None] | None = None,
) -> None:
    """With the store open. What is forgotten leaves old runs first."""

    async def with_store(settings: Settings) -> int:
        from finetune.errors import FinetuneError
        from finetune.run import tidy as clear_forgotten
        from finetune.wiring import REAL

        try:
            async with store_of(settings) as store:
                if tidy:
                    await asyncio.to_thread(clear_forgotten, settings, store, REAL.render)
                return await command(settings, store)
        except (FinetuneError, OSError) as error:
            err().print(str(error), style="red", markup=False, soft_wrap=True)
            return 1
        except asyncio.CancelledError:
            err().print("Cut short. The same command goes on from there.")
            raise

    if log is None:
        run_command(with_store)
    else:
        run_command(with_store, log=log)


# What is given


def _chosen(store: Store, number: int | None) -> Run:
    """Raises RunNotFound."""
    from finetune.errors import RunNotFound
    from store import runs
    from store.errors import NotFound

    if number is not None:
        try:
            return runs.get(store, number)
        except NotFound:
            raise RunNotFound(f"There is no run {number}. `familiar finetune status` lists them.") from None
    over = [row for row in runs.ended(store) if row.verdict != "nothing_to_learn"] or runs.ended(store)
    if not over:
        raise RunNotFound("No run has come to its end yet. `familiar finetune status` shows what there is.")
    return over[-1]


def _name_and_version(version: str) -> tuple[str, int]:
    from engine.adapters import DEFAULT

    name, _, number = version.rpartition("@")
    if not (number.isascii() and number.isdecimal()):
        raise typer.BadParameter(f"{version!r} is not a version, e.g. 7 or familiar@7")
    return name or DEFAULT, int(number)


def _refuse_unknown_method(method: str) -> None:
    from settings import Method

    if method and method not in get_args(Method):
        raise typer.BadParameter(f"{method!r} is none of {', '.join(get_args(Method))}")


async def _targets(settings: Settings, store: Store, one: str | None) -> tuple[tuple[Target, ...], tuple[Target, ...]]:
    """The adapters to be learnt, and the groups that have too few examples; of `one` place alone, where it is given."""
    from finetune import apart

    if one is not None:
        return (apart.of(one),), ()
    return await asyncio.to_thread(apart.targets, settings, store)


@contextlib.asynccontextmanager
async def learning(settings: Settings, store: Store) -> AsyncIterator[None]:
    """For a command that serves people: beside it runs begin at their times, and canaries are decided about."""
    from finetune.schedule import following

    async with following(settings, store):
        yield
