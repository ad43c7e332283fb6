"""The documents themselves, and the index that is made of them: what is taken in, what there is, what goes."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.running import err, knowledge_of, out, run, short

if TYPE_CHECKING:
    from rich.progress import Progress

    from knowledge.ingest import ToAdd
    from knowledge.knowledge import Knowledge
    from knowledge.sync import SyncProgress, SyncReport
    from settings import Knowledge as KnowledgeSettings
    from settings import Settings
    from store.catalogue.catalogue import Document


def sync(
    watch: Annotated[bool, typer.Option("--watch", help="Go on, and take in what changes, until Ctrl-C.")] = False,
    allow_empty: Annotated[
        bool, typer.Option("--allow-empty", help="An empty folder is meant: forget its documents.")
    ] = False,
) -> None:
    """Take in what is new or changed in the folder of documents, and forget what is gone."""

    async def command(settings: Settings) -> int:
        folder = settings.knowledge.folder
        if not folder.exists() and folder == _default_folder():
            folder.mkdir(parents=True)
            err().print(f"· made the folder {short(folder)}: what you put there, everybody can be answered from")
        async with knowledge_of(settings) as knowledge:
            report = await asyncio.to_thread(_synced, knowledge, allow_empty)
            _tell(report)
            if watch:
                await _watched(knowledge)
        return 1 if report.refused and not watch else 0

    run(command)


def add(
    what: Annotated[list[str], typer.Argument(help="Files, folders, or addresses of web pages.")],
) -> None:
    """Take in files or web pages for everybody to be answered from. They are kept: the files may go."""

    async def command(settings: Settings) -> int:
        async with knowledge_of(settings) as knowledge:
            return await asyncio.to_thread(_added, knowledge, what)

    run(command)


def listing(
    everybody: Annotated[bool, typer.Option("--all", help="Also those of persons and groups.")] = False,
) -> None:
    """The documents, how many passages each has, and what could not be taken in and why."""

    async def command(settings: Settings) -> int:
        from rich.table import Table

        from store.catalogue.owners import SHARED

        async with knowledge_of(settings) as knowledge:
            owners = await asyncio.to_thread(knowledge.catalogue.owners) if everybody else [SHARED]
            documents = await asyncio.to_thread(knowledge.documents, owners)
            refusals = await asyncio.to_thread(knowledge.catalogue.refusals, SHARED)
        screen = out()
        if not documents and not refusals:
            screen.print(f"There are no documents. Put some into {short(settings.knowledge.folder)}, then: make ingest")
            return 0
        table = Table("number", "document", "kind", "pages", "chunks", *(["whose"] if everybody else []), "changed")
        for each in documents:
            whose = [each.owner] if everybody else []
            pages = "" if each.pages is None else str(each.pages)
            table.add_row(
                str(each.id), _named(each), each.kind, pages, str(each.chunks), *whose, f"{each.updated_at:%Y-%m-%d}"
            )
        screen.print(table)
        for each in documents:
            for note in each.notes:
                screen.print(f"{each.name}: {note}", style="yellow", markup=False)
        for refusal in refusals.values():
            screen.print(f"not taken in: {refusal.name}: {refusal.reason}", style="red", markup=False)
        return 0

    run(command)


def remove(
    numbers: Annotated[list[int], typer.Argument(help="As `familiar knowledge list --all` shows them.")],
) -> None:
    """Delete documents, and all that was made of them."""

    async def command(settings: Settings) -> int:
        from knowledge.ingest import FOLDER
        from store.errors import NotFound

        failed = False
        async with knowledge_of(settings) as knowledge:
            for number in numbers:
                try:
                    document = await asyncio.to_thread(knowledge.catalogue.document, number)
                    await asyncio.to_thread(knowledge.remove, number, document.owner)
                except NotFound:
                    err().print(f"There is no document {number}.", style="red")
                    failed = True
                    continue
                out().print(f"{document.name} is removed.", markup=False)
                if document.source.startswith(FOLDER):
                    err().print("· its file is still in the folder: the next sync takes it in again", markup=False)
            await asyncio.to_thread(knowledge.settle)
        return int(failed)

    run(command)


def rebuild(
    everything: Annotated[
        bool, typer.Option("--everything", help="Also the catalogue: every document is read again.")
    ] = False,
) -> None:
    """Make the index anew: after damage, or for another embedding model."""

    async def command(settings: Settings) -> int:
        from knowledge.knowledge import Knowledge

        knowledge = Knowledge(settings)
        with _progress() as shown:
            task = shown.add_task("rebuilding", total=None)

            def tell(what: str, done: int, total: int | None) -> None:
                shown.update(task, description=what, completed=done, total=total)

            try:
                report = await asyncio.to_thread(knowledge.rebuild, everything=everything, on_progress=tell)
            finally:
                await asyncio.to_thread(knowledge.close)
        out().print(report, markup=False)
        return 0

    run(command)


def status() -> None:
    """How much is indexed, by which model, and whether anything is damaged or still to be done."""

    async def command(settings: Settings) -> int:
        async with knowledge_of(settings) as knowledge:
            lines, sound = await asyncio.to_thread(knowledge.status)
        for line in lines:
            out().print(line, markup=False)
        return 0 if sound else 1

    run(command)


def _default_folder() -> Path:
    from settings import REPOSITORY

    return REPOSITORY / "documents"


def _synced(knowledge: Knowledge, allow_empty: bool) -> SyncReport:
    with _progress() as shown:
        task = shown.add_task("looking", total=None)

        def tell(progress: SyncProgress) -> None:
            left = "" if progress.seconds_left is None else f", {_duration(progress.seconds_left)} left"
            what = f"{progress.chunks} chunks, {progress.chunks_per_s:.1f}/s{left}"
            shown.update(task, description=what, completed=progress.documents_done, total=progress.documents_total)

        knowledge.ingest.tidy()
        report = knowledge.sync.sync(on_progress=tell, allow_empty=allow_empty)
        shown.update(task, description="bringing the vectors up to date", total=None)
        knowledge.settle()
    return report


async def _watched(knowledge: Knowledge) -> None:
    """Until Ctrl-C."""
    import threading

    from knowledge.watch import watch

    stop = threading.Event()
    err().print(f"· following {short(knowledge.settings.knowledge.folder)}; Ctrl-C to leave")
    knowledge.follow()
    watching = asyncio.create_task(asyncio.to_thread(watch, knowledge.sync, stop, on_report=_tell))
    try:
        await asyncio.shield(watching)
    finally:
        stop.set()
        await asyncio.gather(watching, return_exceptions=True)


def _added(knowledge: Knowledge, what: Iterable[str]) -> int:
    """The exit code: 1 when anything was refused."""
    import tempfile

    from knowledge.ingest import Added, Known

    refused = 0
    with tempfile.TemporaryDirectory(prefix="familiar-") as folder, _progress() as shown:
        items, failed = _items(what, Path(folder), knowledge.settings.knowledge)
        task = shown.add_task("reading", total=len(items))
        for outcome in knowledge.ingest.add_many(items):
            shown.advance(task)
            if isinstance(outcome, Added):
                shown.console.print(f"{outcome.document.name}: {outcome.document.chunks} chunks", markup=False)
            elif isinstance(outcome, Known):
                shown.console.print(f"{outcome.document.name}: nothing new", markup=False)
            else:
                refused += 1
                err().print(str(outcome.error), style="red", markup=False)
        knowledge.settle()
    return int(bool(refused or failed))


def _items(what: Iterable[str], folder: Path, settings: KnowledgeSettings) -> tuple[list[ToAdd], bool]:
    """What to take in, web pages fetched into `folder`; whether any of it could not be had."""
    from knowledge.errors import PageRefused
    from knowledge.ingest import ToAdd
    from knowledge.reading.web import fetch
    from store.catalogue.owners import SHARED

    items: list[ToAdd] = []
    failed = False
    for each in what:
        if each.startswith(("http://", "https://")):
            try:
                page = fetch(each, settings)
            except PageRefused as error:
                err().print(str(error), style="red", markup=False)
                failed = True
                continue
            path = folder / f"{len(items)}{Path(page.name).suffix}"
            path.write_bytes(page.content)
            items.append(ToAdd(SHARED, f"url:{page.url}", page.name, path, page.mime))
            continue
        files = _files_at(each)
        if files is None:
            err().print(f"{each}: there is no such file or folder.", style="red", markup=False)
            failed = True
        items += [ToAdd(SHARED, "file:", file.name, file) for file in files or ()]
    return items, failed


def _files_at(place: str) -> list[Path] | None:
    """A file itself, or the files in a folder and below it; None where there is nothing."""
    try:
        path = Path(place).expanduser()
        if path.is_dir():
            return sorted(file for file in path.rglob("*") if file.is_file())
        return [path] if path.exists() else None
    except (OSError, RuntimeError):  # a name that is too long, or the home of somebody who is not known here
        return None


def _tell(report: SyncReport) -> None:
    counts = {
        "added": report.added,
        "changed": report.changed,
        "renamed": report.renamed,
        "removed": report.removed,
        "unchanged": report.unchanged,
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count) or "no documents"
    out().print(
        f"{said}; {report.chunks} chunks, {report.embedded} embedded, in {_duration(report.seconds)}", markup=False
    )
    for name, reason in report.refused:
        err().print(f"not taken in: {name}: {reason}", style="red", markup=False)


def _named(document: Document) -> str:
    from rich.markup import escape

    return escape(document.name if document.title in document.name else f"{document.name} — {document.title}")


def _duration(seconds: float) -> str:
    return f"{seconds:.1f} s" if seconds < 60 else f"{seconds / 60:.0f} min"


@contextlib.contextmanager
def _progress() -> Iterator[Progress]:
    """A bar on a terminal; nothing but the results elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=err(), transient=True, disable=not sys.stderr.isatty()) as shown:
        yield shown
