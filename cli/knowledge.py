"""`familiar knowledge`: the documents that replies rest on."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from cli.running import err, knowledge_of, out, run, short, store_of

if TYPE_CHECKING:
    from rich.progress import Progress

    from knowledge.evaluate import Evaluation
    from knowledge.ingest import Outcome, ToAdd
    from knowledge.knowledge import Knowledge
    from knowledge.passages import Passage
    from knowledge.sync import SyncProgress, SyncReport
    from settings import Settings
    from store.catalogue.catalogue import Document

app = typer.Typer(help="The documents that replies rest on.", no_args_is_help=True)

Question = Annotated[str, typer.Argument(help="What to look for.")]
Result = TypeVar("Result")
LONGEST_SHOWN = 600  # characters of a passage


@app.command()
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
            report = await _in_thread(lambda: _synced(knowledge, allow_empty))
            _tell(report)
            if watch:
                await _watched(knowledge)
        return 1 if report.refused and not watch else 0

    run(command)


@app.command()
def add(
    what: Annotated[list[str], typer.Argument(help="Files, folders, or addresses of web pages.")],
) -> None:
    """Take in files or web pages for everybody to be answered from. They are kept: the files may go."""

    async def command(settings: Settings) -> int:
        async with knowledge_of(settings) as knowledge:
            return await _in_thread(lambda: _added(knowledge, what))

    run(command)


@app.command("list")
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


@app.command()
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
            await _in_thread(knowledge.settle)
        return int(failed)

    run(command)


@app.command()
def search(
    question: Question,
    limit: Annotated[int, typer.Option(help="How many passages at most.")] = 10,
) -> None:
    """Show the passages for a question with their scores, also those that are not good enough to be used."""

    async def command(settings: Settings) -> int:
        from store.catalogue.owners import SHARED

        async with knowledge_of(settings) as knowledge:
            found = await _in_thread(lambda: knowledge.search(question, [SHARED], limit=limit, floor=0.0))
            floor = knowledge.searcher.floor
        for number, passage in enumerate(found.passages, 1):
            _show(number, passage, used=passage.score >= floor)
        if not found.passages:
            out().print("There are no documents." if not found.best else "Nothing was found.")
        seconds = ", ".join(f"{part} {1000 * took:.0f} ms" for part, took in found.timings.items())
        err().print(f"· used from {floor:.2f} on; {seconds}", markup=False)
        return 0

    run(command)


@app.command()
def ask(question: Question) -> None:
    """Ask the assistant, and show the passages that it was given, with their scores, before the reply."""

    async def command(settings: Settings) -> int:
        from bot.terminal import ask as terminal
        from cli.running import assistant_of
        from store.catalogue.owners import SHARED

        async with knowledge_of(settings) as knowledge:
            found = await _in_thread(lambda: knowledge.search(question, [SHARED]))
            for number, passage in enumerate(found.passages, 1):
                _show(number, passage, used=True)
            if not found.passages:
                out().print(f"No document answers this; the best passage scores {found.best:.2f}.\n")
            async with assistant_of(settings, knowledge) as assistant:
                return await terminal.run(assistant, settings, question)

    run(command)


@app.command("eval")
def evaluate(
    questions: Annotated[
        Path | None,
        typer.Argument(
            help='Lines such as {"question": "…", "document": "tides.md"}; left out: made from the documents.'
        ),
    ] = None,
) -> None:
    """Measure how well questions find their documents, and set the floor below which a passage is not used."""

    async def command(settings: Settings) -> int:
        from knowledge.evaluate import calibrate, read_questions
        from store.catalogue.owners import SHARED

        asked = None
        if questions is not None:
            try:
                asked, malformed = await asyncio.to_thread(read_questions, questions)
            except OSError as error:
                err().print(f"{questions} cannot be read: {error.strerror}.", style="red", markup=False)
                return 1
            for each in malformed:
                err().print(f"line {each.line} is left out: {each.reason}", style="red", markup=False)
        async with knowledge_of(settings) as knowledge:
            found = await _in_thread(lambda: calibrate(knowledge.searcher, [SHARED], asked))
        _report(found)
        return 0

    run(command)


@app.command()
def gaps(
    days: Annotated[int, typer.Option(min=1, help="Of the last so many days.")] = 30,
    limit: Annotated[int, typer.Option(min=1, help="The most often asked ones.")] = 30,
) -> None:
    """Questions that no document answered, or whose replies from documents were rated down, alike ones together."""

    async def command(settings: Settings) -> int:
        from datetime import timedelta

        from rich.table import Table

        from knowledge.gaps import grouped
        from store.gaps import gaps as gaps_of
        from store.gaps import people_of
        from store.tables import now

        async with store_of(settings) as store:
            missing = await asyncio.to_thread(
                gaps_of, store, settings.learning.consent, since=now() - timedelta(days=days)
            )
        screen = out()
        if missing.found:
            async with knowledge_of(settings) as knowledge:
                groups = await _in_thread(lambda: grouped([gap.question for gap in missing.found], knowledge.embedder))
            table = Table("asked", "by", "question", "why", "last")
            for group in groups[:limit]:
                members = [missing.found[index] for index in group.members]
                why = ", ".join(sorted({_WHY[gap.why] for gap in members}))
                question = " ".join(members[0].question.split())[:200]
                last = max(gap.at for gap in members)
                table.add_row(str(len(members)), str(people_of(members)), question, why, f"{last:%Y-%m-%d}")
            screen.print(table)
        else:
            screen.print(f"No gaps in the last {days} days.")
        if missing.withheld:
            screen.print(f"Not shown: {missing.withheld} of people who have not agreed that they are learnt from.")
        return 0

    run(command)


@app.command()
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


@app.command()
def status() -> None:
    """How much is indexed, by which model, and whether anything is damaged or still to be done."""

    async def command(settings: Settings) -> int:
        async with knowledge_of(settings) as knowledge:
            lines, sound = await _in_thread(knowledge.status)
        for line in lines:
            out().print(line, markup=False)
        return 0 if sound else 1

    run(command)


_WHY = {"nothing_found": "nothing found", "rated_down": "rated down"}


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
        items, failed = _items(what, Path(folder))
        task = shown.add_task("reading", total=len(items))

        def outcomes() -> Iterator[Outcome]:
            yield from knowledge.ingest.add_many(items)

        for outcome in outcomes():
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


def _items(what: Iterable[str], folder: Path) -> tuple[list[ToAdd], bool]:
    """What to take in, web pages fetched into `folder`; whether any of it could not be had."""
    from knowledge.errors import PageRefused
    from knowledge.ingest import ToAdd
    from knowledge.reading.web import fetch
    from settings import load
    from store.catalogue.owners import SHARED

    items: list[ToAdd] = []
    failed = False
    for each in what:
        if each.startswith(("http://", "https://")):
            try:
                page = fetch(each, load().knowledge)
            except PageRefused as error:
                err().print(str(error), style="red", markup=False)
                failed = True
                continue
            path = folder / f"{len(items)}{Path(page.name).suffix}"
            path.write_bytes(page.content)
            items.append(ToAdd(SHARED, f"url:{page.url}", page.name, path, page.mime))
            continue
        path = Path(each).expanduser()
        if not path.exists():
            err().print(f"{each}: there is no such file or folder.", style="red", markup=False)
            failed = True
        files = sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]
        items += [ToAdd(SHARED, "file:", file.name, file) for file in files if file.exists()]
    return items, failed


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


def _report(found: Evaluation) -> None:
    screen = out()
    if found.estimate:
        screen.print("The questions were made from the documents themselves, so this is an estimate.")
    recall = ", ".join(f"{share:.2f} at {at}" for at, share in found.recall.items())
    screen.print(f"{found.questions} questions with an answer: recall {recall}; MRR@10 {found.mrr:.2f}")
    screen.print(f"{found.without_answer} questions without one; relevance tells the two apart: AUC {found.auc:.2f}")
    unmoved = "" if found.moved else " as before: there are too few questions to set it"
    screen.print(f"The floor is {found.floor:.2f}{unmoved}.")
    screen.print(
        f"Above it: {found.answered:.0%} of the first find what answers, {found.misled:.0%} of the others anything."
    )


def _show(number: int, passage: Passage, *, used: bool) -> None:
    from bot.passages import label

    text = passage.text if len(passage.text) <= LONGEST_SHOWN else f"{passage.text[:LONGEST_SHOWN]}…"
    scores = f"{passage.score:.2f} (meaning {passage.dense:.2f}, words {passage.lexical:.1f})"
    screen = out()
    screen.print(f"[{number}] {label(passage)} — {scores}", style="bold" if used else "dim", markup=False)
    screen.print(f"{text}\n", style="" if used else "dim", markup=False)


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


async def _in_thread(function: Callable[[], Result]) -> Result:
    return await asyncio.to_thread(function)
