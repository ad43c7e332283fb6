"""What the documents answer and what not: passages for a question, how well they are found, which are missing."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.running import err, knowledge_of, out, run, store_of

if TYPE_CHECKING:
    from knowledge.evaluate import Evaluation
    from knowledge.passages import Passage
    from knowledge.search import Found
    from settings import Settings

Question = Annotated[str, typer.Argument(help="What to look for.")]
LONGEST_SHOWN = 600  # characters of a passage
_WHY = {"nothing_found": "nothing found", "rated_down": "rated down"}


def search(
    question: Question,
    limit: Annotated[int, typer.Option(help="How many passages at most.")] = 10,
) -> None:
    """Show the passages for a question with their scores, also those that are not good enough to be used."""

    async def command(settings: Settings) -> int:
        from store.catalogue.owners import SHARED

        async with knowledge_of(settings) as knowledge:
            found = await asyncio.to_thread(knowledge.search, question, [SHARED], limit=limit, floor=0.0)
            floor = knowledge.searcher.floor
        for number, passage in enumerate(found.passages, 1):
            _show(number, passage, used=passage.score >= floor)
        if not found.passages:
            out().print("There are no documents." if not found.best else "Nothing was found.")
        _tell_if_degraded(found)
        seconds = ", ".join(f"{part} {1000 * took:.0f} ms" for part, took in found.timings.items())
        err().print(f"· used from {floor:.2f} on; {seconds}", markup=False)
        return 0

    run(command)


def ask(question: Question) -> None:
    """Ask the assistant, and show the passages that it was given, with their scores, before the reply."""

    async def command(settings: Settings) -> int:
        from bot.terminal import ask as terminal
        from cli.running import assistant_of
        from store.catalogue.owners import SHARED

        async with knowledge_of(settings) as knowledge:
            found = await asyncio.to_thread(knowledge.search, question, [SHARED])
            for number, passage in enumerate(found.passages, 1):
                _show(number, passage, used=True)
            _tell_if_degraded(found)
            if not found.passages:
                out().print(f"No document answers this; the best passage scores {found.best:.2f}.\n")
            async with assistant_of(settings, knowledge) as assistant:
                return await terminal.run(assistant, settings, question)

    run(command)


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
            found = await asyncio.to_thread(calibrate, knowledge.searcher, [SHARED], asked)
        _report(found)
        return 0

    run(command)


def gaps(
    days: Annotated[int, typer.Option(min=1, help="Of the last so many days.")] = 30,
    limit: Annotated[int, typer.Option(min=1, help="The most often asked ones.")] = 30,
) -> None:
    """Questions that no document answered, or whose replies from documents were rated down, alike ones together."""

    async def command(settings: Settings) -> int:
        from datetime import timedelta

        from rich.markup import escape
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
                groups = await asyncio.to_thread(grouped, [gap.question for gap in missing.found], knowledge.embedder)
            table = Table("asked", "by", "question", "why", "last")
            for group in groups[:limit]:
                members = [missing.found[index] for index in group.members]
                why = ", ".join(sorted({_WHY[gap.why] for gap in members}))
                question = escape(" ".join(members[0].question.split())[:200])
                last = max(gap.at for gap in members)
                table.add_row(str(len(members)), str(people_of(members)), question, why, f"{last:%Y-%m-%d}")
            screen.print(table)
        else:
            screen.print(f"No gaps in the last {days} days.")
        if missing.withheld:
            screen.print(f"Not shown: {missing.withheld} of people who have not agreed that they are learnt from.")
        return 0

    run(command)


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


def _tell_if_degraded(found: Found) -> None:
    if found.degraded:
        err().print(f"· searched by words alone: {found.degraded}", style="yellow", markup=False)


def _show(number: int, passage: Passage, *, used: bool) -> None:
    from bot.passages import label

    text = passage.text if len(passage.text) <= LONGEST_SHOWN else f"{passage.text[:LONGEST_SHOWN]}…"
    scores = f"{passage.score:.2f} (meaning {passage.dense:.2f}, words {passage.lexical:.1f})"
    screen = out()
    screen.print(f"[{number}] {label(passage)} — {scores}", style="bold" if used else "dim", markup=False)
    screen.print(f"{text}\n", style="" if used else "dim", markup=False)
